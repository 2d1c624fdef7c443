"""Scoring with a judge that may be asked several times, and what a stage keeps of its judge or writer."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.contracts.benchmark import Benchmark, totals
from harness.contracts.judge import Judge, Repeat, answered
from harness.contracts.judge_kind import Hired
from harness.contracts.records import Item, Response, Score, Unscored
from harness.system.errors import HarnessError
from harness.system.jsonl import dumps, write_jsonl
from harness.system.untrusted import DATA, json_object

Scores = list[Score | Unscored]
REPLIES, JUDGE = "replies.jsonl", "judge.json"
MAX_LOST = 0.01  # of a writer's questions: beyond, the examples that are left are other data


def score_runs(
    benchmark: Benchmark, items: Sequence[Item], responses: Mapping[str, Response], judge: Hired | None
) -> list[Scores]:
    """The items' scores in their order, once per run of the judge."""

    def work(asked: Judge | None) -> list[Scores]:
        """The items' scores of each run when `asked` judges."""
        repeats = [Repeat(asked, run) if asked else None for run in range(judge.runs if judge else 1)]
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
    given = [score for score in scores if isinstance(score, Score)]
    return type(given[0]).mean(given)


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
    out: Path, benchmark: Benchmark, items: Sequence[Item], judge: Hired, runs: Sequence[Scores], scores: Scores
) -> None:
    """`judge.json`: who judged, how, and every metric in each run, over the items with a verdict in all of them.

    Of one that keeps its replies also `replies.jsonl`. HarnessError where it lost every question.
    """
    verdicts = sum(isinstance(score, Score) for score in scores)
    values = per_run(benchmark, items, runs)
    told = {"name": judge.name, "runs": len(runs), "items": len(items), "verdicts": verdicts, "values": values}
    told |= keep_replies(out, judge)
    if judge.lost and not judge.replies:
        raise HarnessError(f"no answer to any of {len(items)} questions. The first: {judge.lost[0]}.")
    (out / JUDGE).write_text(dumps(told), encoding="utf-8")


def keep_replies(out: Path, asked: Hired) -> dict[str, Any]:
    """Write the raw replies, where they are kept; returns how they came about: empty where there is nothing to say."""
    account = dict(asked.account())
    if not account and not asked.replies and not asked.lost:
        return {}
    write_jsonl(out / REPLIES, asked.replies)
    return {**account, "unanswered": list(asked.lost)}


def insist(writer: Hired) -> None:
    """HarnessError where a writer left more than `MAX_LOST` of its questions without a reply."""
    if len(writer.lost) > MAX_LOST * (len(writer.lost) + len(writer.replies)):
        raise HarnessError(
            f"{len(writer.lost)} of the writer's questions have no reply ({writer.lost[0]}). "
            "Every reply is kept; the same command asks for the rest."
        )


def unanswered(folder: Path) -> list[str]:
    """Why questions of a finished score or lens stage have no answer, one reason each."""
    file = folder / JUDGE
    return json_object(file, limit=DATA).get("unanswered", []) if file.is_file() else []
