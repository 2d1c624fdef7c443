"""Responses in the files that `lmms-eval --log_samples` writes: results, and each stock task's samples, a line each.

Written by lmms-eval itself. A sample's `input` is what our model was asked; `doc_id` counts a task's items as the run
had them, and `doc_hash` is of what the task was given of each: they join with other exports of the same items alone.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmms_eval.loggers.evaluation_tracker import EvaluationTracker
from lmms_eval.utils import handle_non_serializable, hash_string

from benchmarks._lmms import Scores, replayed, sentence
from benchmarks._lmms_guard import Called, quiet
from benchmarks._lmms_stock import Stock, stocks_of
from harness.contracts.benchmark import Benchmark
from harness.contracts.records import Item, Response
from harness.system.errors import HarnessError

Sample = dict[str, Any]


@dataclass(frozen=True)
class Answered:
    """A benchmark's items with what was said to them and how we scored that, by id."""

    name: str
    benchmark: Benchmark
    items: Sequence[Item]
    said: Mapping[str, Response]
    scores: Scores


def write_samples(out: Path, model: str, date: str, answered: Sequence[Answered]) -> list[str]:
    """Write MODEL/DATE_results.json and MODEL/DATE_samples_TASK.jsonl; a line about each benchmark.

    A task that fails on these responses, and a benchmark for which lmms-eval has none, are left out and told.
    """
    samples: dict[str, list[Sample]] = {}
    results: dict[str, dict[str, Any]] = {}
    told = []
    for one in answered:
        made, failed = dict[str, list[Sample]](), list[str]()
        for stock in stocks_of(one.name, one.benchmark):
            task = Path(stock.yaml).stem
            try:
                made[task], values = _samples(stock, one)
            except (Exception, Called) as error:  # what others' code raises is its answer to these responses
                failed.append(f"{task}: {sentence(error)}")
                continue
            results[task] = {"alias": task, **{f"{metric},none": float(value) for metric, value in values.items()}}
        samples |= made
        tasks = ", ".join(f"{task} ({len(lines):,})" for task, lines in made.items())
        none = (
            "lmms-eval writes the samples of its own task"
            if ":" in one.name
            else "no task of lmms-eval is set beside it"
        )
        told.append(f"{one.name}: {'; '.join([*([tasks] * bool(tasks)), *failed]) or none}")
    tracker = EvaluationTracker(output_path=str(out))
    config = tracker.general_config_tracker
    config.model_source, config.model_name, config.model_name_sanitized = "harness", model, model
    config.start_time, config.log_end_time = None, lambda: None  # it would take this writing for the evaluation
    sizes = {task: {"original": len(lines), "effective": len(lines)} for task, lines in samples.items()}
    with quiet():
        tracker.save_results_aggregated({"results": results, "n-samples": sizes, "date": date}, samples, date)
        for task, lines in samples.items():
            tracker.save_results_samples(task, lines)
    for name in ("results.json", *(f"samples_{task}.jsonl" for task in samples)):  # it keeps its faults to itself
        if not (file := out / model / f"{date}_{name}").is_file():
            raise HarnessError(f"lmms-eval could not write {file.name}; is the disk full?")
    return told


def _samples(stock: Stock, one: Answered) -> tuple[list[Sample], dict[str, float]]:
    """A line per item as the evaluator logs it, and the metrics that have a counterpart here."""
    items = [item for item in one.items if stock.keep(item)]
    if not items:
        return [], {}
    texts = {id: response.text for id, response in one.said.items()}
    task, metrics, values = replayed(stock, items, texts, one.scores)
    lines = [
        {
            "doc_id": number,
            "doc": row,
            "target": task.doc_to_target(row),
            "arguments": [item.prompt],
            "resps": [[texts[item.id]]],
            "filtered_resps": [texts[item.id]],
            "token_counts": [{"output_tokens": one.said[item.id].tokens}],
            "doc_hash": hash_string(json.dumps(row, indent=2, default=handle_non_serializable, ensure_ascii=False)),
            **found,
        }
        for number, (item, row, found) in enumerate(zip(items, task.task_docs, metrics, strict=True))
    ]
    return lines, {metric: value for metric, value in values.items() if math.isfinite(value)}
