"""lmms-eval's stock tasks as a second opinion on saved responses.

A stock task comes from its own YAML file and scores with its own `process_results` and aggregation. Only what it would
fetch is replaced: its rows are made from our items in its dataset's schema, its judge is never called, and NLTK's data
are those in chair_data/. What a task cannot score here gets a reason in place of a value.
"""

import inspect
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import lmms_eval.api.metrics  # registers them
from lmms_eval.api.model import lmms as Model
from lmms_eval.api.task import ConfigurableTask
from lmms_eval.utils import load_yaml_config
from PIL import ImageFile

from benchmarks._coco_objects import lemma, tagged, tokens
from benchmarks._lmms_guard import Called, no_credentials, quiet, unplugged
from benchmarks._lmms_stock import REPLAYED, Stock, stocks_of
from harness.contracts.benchmark import Benchmark
from harness.contracts.records import Item, Score, Unscored

__all__ = ["Model", "model_manifest", "second_opinion"]

SOURCE = f"lmms-eval {version('lmms-eval')}"
TASKS = Path(lmms_eval.__file__).parent / "tasks"
NO_REPLY = "Failed to obtain answer via API"  # what MMBench's evaluator gets from a judge that cannot be reached
UNCLEAR = "2"  # HallusionBench's verdict where there is none
Scores = Mapping[str, Score | Unscored]


class Task(ConfigurableTask):  # type: ignore[misc]
    """A stock task over rows that we have, with nobody to ask."""

    def __init__(self, stock: Stock, items: Sequence[Item]) -> None:
        self._rows = [{"question": item.prompt, **stock.row(item)} for item in items]
        with no_credentials(), _clientless() if stock.note == REPLAYED else nullcontext():
            super().__init__(config=load_yaml_config(str(TASKS / stock.yaml)))

    def download(self, dataset_kwargs: dict[str, Any] | None = None) -> None:
        """Take the rows for the dataset."""
        rows = datasets.Dataset.from_list(self._rows)
        self.dataset = self.dataset_no_image = {self.config.test_split: rows}


def second_opinion(
    name: str, benchmark: Benchmark, items: Sequence[Item], said: Mapping[str, str], scores: Scores
) -> list[dict[str, Any]]:
    """What the stock tasks of a benchmark say about responses (`said`: item id -> text).

    One dict per metric that both have: "metric" (ours), "source", "task", "task_metric", and "value" on our metric's
    scale with "deviation", the known reason where the two can differ ("" where they should not); or "withheld", the
    reason for no value. `scores` are ours: their verdicts are replayed to a task that needs a judge.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # importing lmms_eval lets the process read half pictures
    found: list[dict[str, Any]] = []
    stocks = stocks_of(name, benchmark)
    for stock in stocks:
        mine = [item for item in items if stock.keep(item)]
        common = {"source": SOURCE, "task": Path(stock.yaml).stem}
        try:
            values = replayed(stock, mine, said, scores)[2] if mine else {}
        except (Exception, Called) as error:  # what others' code raises is its answer to these responses
            for metric, (ours, _, _) in stock.pairs.items():
                found.append({**common, "metric": ours, "task_metric": metric, "withheld": sentence(error)})
            continue
        touched = sum(stock.touched(item, said[item.id], scores[item.id]) for item in mine) if stock.touched else None
        for metric, value in values.items():
            ours, factor, reason = stock.pairs[metric]
            row = {**common, "metric": ours, "task_metric": metric}
            if math.isfinite(value):
                known = {"deviation": _deviation(reason, touched, len(mine)), "note": stock.note}
                found.append(row | {"value": float(value) * factor} | known)
            else:
                found.append(row | {"withheld": f"the stock task's value is {value}"})
    if not stocks:
        row = {"source": SOURCE, "task": "", "metric": benchmark.metrics[0].id, "task_metric": ""}
        found.append(row | {"withheld": "no task of lmms-eval is set beside it"})
    return found


def replayed(
    stock: Stock, items: Sequence[Item], said: Mapping[str, str], scores: Scores
) -> tuple[Task, list[dict[str, Any]], dict[str, float]]:
    """The stock task over items, what it makes of each response, and its metrics that have a counterpart."""
    with quiet(), unplugged(), tempfile.TemporaryDirectory() as folder:
        task, now = Task(stock, items), _Now()
        _cut_off(task, now, scores)
        results = []
        for item, row in zip(items, task.task_docs, strict=True):
            now.score = scores[item.id]
            # without the decorator that tries a failing row five times
            results.append(ConfigurableTask.process_results.__wrapped__(task, row, [said[item.id]]))
        values = {}
        for metric, aggregate in task.aggregation().items():
            got = [result[metric] for result in results if metric in result]
            if got and metric in stock.pairs:
                files = {"args": SimpleNamespace(output_path=folder)}
                values[metric] = aggregate(got, **(files if "args" in inspect.signature(aggregate).parameters else {}))
        return task, results, values


class _Now:
    """Our score of the response that the task is given."""

    score: Score | Unscored

    def part(self, name: str, otherwise: Any = "") -> Any:
        """A part of it; without a verdict `otherwise`."""
        return self.score.parts.get(name, otherwise) if isinstance(self.score, Score) else otherwise


def _cut_off(task: Task, now: _Now, scores: Scores) -> None:
    """Leave nobody to ask: judges say what ours said (MM-Vet's, LLaVA-Bench's, HallusionBench's), MMBench's is gone,
    NLTK's data are ours.
    """

    def reviewed(**_: Any) -> SimpleNamespace:
        two = [now.part("all/first", -1), now.part("all/second", -1)]
        return SimpleNamespace(raw_output="replayed", metadata={"scores": two})

    def checked(rows: list[dict[str, Any]], *, correctness_entry: str, **_: Any) -> list[dict[str, Any]]:
        verdicts = {id: str(int(one.parts["right"])) for id, one in scores.items() if isinstance(one, Score)}
        return [{**row, correctness_entry: verdicts.get(row["item"], UNCLEAR)} for row in rows]

    for function in (task.config.process_results, *task.aggregation().values()):
        names = getattr(function, "__globals__", {})  # of this task's own copy of its module
        if "get_chat_response" in names:
            names["get_chat_response"] = lambda *_, **__: (str(now.part("all/sum")), "replayed")
        if "_get_pipeline" in names:
            names["_get_pipeline"] = lambda: reviewed
        if "evaluate_by_chatgpt" in names:
            names["evaluate_by_chatgpt"] = checked
        if "mmbench_evaluator" in names:
            names["mmbench_evaluator"].get_chat_response = lambda *_, **__: NO_REPLY
        if "wordnet" in names:  # what NLTK would look up in data that it downloads
            names["nltk"] = SimpleNamespace(word_tokenize=tokens, pos_tag=tagged)
            names["wordnet"] = SimpleNamespace(NOUN="noun", VERB="verb", ADJ="adjective", ADV="adverb")
            names["WordNetLemmatizer"] = lambda: SimpleNamespace(lemmatize=lambda word, pos: lemma(word, pos))
            # It makes a set of 530 objects twice for each word; of a frozenset, frozenset makes no copy.
            names["MSCOCO_OBJECTS"], names["set"] = frozenset(names["MSCOCO_OBJECTS"]), frozenset


@contextmanager
def _clientless() -> Iterator[None]:
    """While open, tasks that are imported get no client of a judge: half a second to make, for a judge nobody asks."""
    from lmms_eval import llm_judge  # loads every entry point, ours too, so not while we load

    made = llm_judge.get_server
    llm_judge.get_server = lambda **_: None
    try:
        yield
    finally:
        llm_judge.get_server = made


def sentence(error: BaseException) -> str:
    """An error in one line."""
    return f"the stock task fails: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _deviation(reason: str, touched: int | None, n: int) -> str:
    """Why two values can differ on these responses; empty where they should not."""
    if touched is None or not reason:
        return reason
    return f"{reason} ({touched} of {n} responses)" if touched else ""


def model_manifest(name: str, path: str) -> Any:
    """What lmms-eval's registry of models takes; `path` is "module.Class"."""
    from lmms_eval.models.registry_v2 import ModelManifest  # loads every entry point, ours too, so not while we load

    return ModelManifest(name, simple_class_path=path)
