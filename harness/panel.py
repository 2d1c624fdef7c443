"""Scoring with a judge that may be asked several times, and what a stage keeps of its judge or writer."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.benchmark import Benchmark, totals
from harness.judge import Judge, Repeat, answered
from harness.llm import Llm
from harness.types import HarnessError, Item, Response, Score, Unscored, dumps, write_jsonl
from harness.untrusted import DATA, json_object

Scores = list[Score | Unscored]
REPLIES, JUDGE = "replies.jsonl", "judge.json"
MAX_LOST = 0.01  # of a writer's questions: beyond, the examples that are left are other data


def score_runs(
    benchmark: Benchmark, items: Sequence[Item], responses: Mapping[str, Response], judge: Judge | None
) -> list[Scores]:
    """The items' scores in their order, once per run of the judge."""

    def work(asked: Judge | None) -> list[Scores]:
        runs = judge.runs if isinstance(judge, Llm) else 1
        repeats = [Repeat(asked, run) if asked else None for run in range(runs)]
        return [[scored(benchmark, item, responses[item.id], repeat) for item in items] for repeat in repeats]

    return answered(judge, work) if judge else work(None)


def scored(benchmark: Benchmark, item: Item, response: Response, judge: Judge | None) -> Score | Unscored:
    """The item's score; unscored where the model could not be asked at all."""
    if response.unanswered:
        return Unscored(item.id, response.unanswered)
    return benchmark.score(item, response, judge)


def combined(runs: Sequence[Scores]) -> Scores:
    """One score per item: the mean of its parts over the runs; unscored where a run has no verdict."""
    return [_mean(scores) for scores in zip(*runs, strict=True)]


def _mean(scores: Sequence[Score | Unscored]) -> Score | Unscored:
    missing = next((score for score in scores if isinstance(score, Unscored)), None)
    if missing or len(scores) == 1:
        return missing or scores[0]
    given = [score.parts for score in scores if isinstance(score, Score)]
    names = dict.fromkeys(name for parts in given for name in parts)
    return Score(scores[0].id, {name: statistics.fmean(parts.get(name, 0.0) for parts in given) for name in names})


def per_run(benchmark: Benchmark, items: Sequence[Item], runs: Sequence[Scores]) -> dict[str, list[float]]:
    """Every metric in each run, over the items with a verdict in all of them; without those that are not defined."""
    complete = {score.id for score in combined(runs) if isinstance(score, Score)}
    by_id = {item.id: item for item in items}
    values: dict[str, list[float]] = {}
    for run in runs if complete else ():
        mine = [(by_id[s.id], s) for s in run if isinstance(s, Score) and s.id in complete]
        for name, value in benchmark.compute(totals(benchmark.units(mine))).items():
            values.setdefault(name, []).append(float(value))
    return {name: found for name, found in values.items() if not any(map(math.isnan, found))}


def keep_verdicts(
    out: Path, benchmark: Benchmark, items: Sequence[Item], judge: Judge, runs: Sequence[Scores], scores: Scores
) -> None:
    """`judge.json`: who judged, how, and every metric in each run, over the items with a verdict in all of them.

    Of an LLM also `replies.jsonl`, the raw replies. HarnessError where an LLM answered nothing at all.
    """
    verdicts = sum(isinstance(score, Score) for score in scores)
    values = per_run(benchmark, items, runs)
    told = {"name": judge.name, "runs": len(runs), "items": len(items), "verdicts": verdicts, "values": values}
    if isinstance(judge, Llm):
        told |= keep_replies(out, judge)
        if items and not judge.used:
            raise HarnessError(f"no answer to any of {len(items)} questions. The first: {next(iter(judge.lost))}.")
    (out / JUDGE).write_text(dumps(told), encoding="utf-8")


def keep_replies(out: Path, asked: Llm) -> dict[str, Any]:
    """Write the raw replies, in the order of their questions; returns how they came about."""
    replies = [asked.used[name] for name in sorted(asked.used)]
    write_jsonl(out / REPLIES, replies)
    return {
        **asked.chat.model_dump(),
        "snapshots": Counter(f"{reply['model']} {reply['fingerprint']}".strip() for reply in replies),
        "servers": sorted({reply["server"] for reply in replies}),
        "usd": math.fsum(reply["usd"] for reply in replies),
        "unanswered": asked.lost,
    }


def insist(writer: Judge) -> None:
    """HarnessError where an LLM writer left more than `MAX_LOST` of its questions without a reply."""
    if isinstance(writer, Llm) and len(writer.lost) > MAX_LOST * (len(writer.lost) + len(writer.used)):
        raise HarnessError(
            f"{len(writer.lost)} of the writer's questions have no reply ({writer.lost[0]}). "
            "Every reply is kept; the same command asks for the rest."
        )


def unanswered(folder: Path) -> list[str]:
    """Why questions of a finished score or lens stage have no answer, one reason each."""
    file = folder / JUDGE
    return json_object(file, limit=DATA).get("unanswered", []) if file.is_file() else []
