"""The part of `harness check` that tries a judge or writer: what it says of itself, and its verdicts."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness.checking.benchmark import RESPONSES, drawn_items
from harness.checking.promises import asked
from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark
from harness.contracts.judge_kind import Hired, Post
from harness.contracts.records import Item, Response, Score, Unscored
from harness.contracts.settings import Chat, Runtime
from harness.contracts.testbed_file import words_in
from harness.judging.hire import hired, kind_of
from harness.system.errors import UsageError

ITEMS = 3  # of each judged benchmark


def check_judge(words: str, options: Mapping[str, Any], data: Path | None) -> Iterator[str]:
    """A kind of judge or writer: its identity, whom it hires, and verdicts on made-up responses.

    One whose replies cost something is not asked.
    """
    kind = kind_of(words_in(words, Path()), Chat(**options), {})
    told = asked(kind.name, "identity", lambda: plugins.plain(kind.identity(), kind.name))
    if told != asked(kind.name, "identity", lambda: dict(kind.identity())):
        raise UsageError(f"{kind.name}.identity gives another answer the second time; replies are kept under it.")
    yield f"{kind.name}: says what identifies it ({', '.join(told)})"
    if why := asked(kind.name, "unusable", kind.unusable):
        yield f"{kind.name}: not asked, for it cannot answer here: {why}"
        return
    if kind.paid:
        yield f"{kind.name}: not asked, for its replies cost something"
        return
    with TemporaryDirectory(prefix="harness-check-") as scratch:
        who = asked(kind.name, "hire", lambda: hired(kind, Post(Runtime(), Path(scratch))))
        for name in plugins.installed("benchmarks"):
            if not plugins.plugin("benchmarks", name, Benchmark).judged:
                continue
            benchmark, items = drawn_items(name, Path(scratch) / name)
            if not items:
                continue
            said = [(item, Response(item.id, RESPONSES[0], 6)) for item in items[:ITEMS]]
            score = partial(_scores, benchmark, said, who)
            twice = [asked(kind.name, "reply", score) for _ in range(2)]
            if twice[0] != twice[1]:
                raise UsageError(f"{kind.name} replies differently to the same question of {name}, asked again.")
            scored = sum(isinstance(one, Score) for one in twice[0])
            yield f"{kind.name}: {scored} of {len(said)} responses to {name} have a verdict, the same when asked again"
    yield f"{kind.name}: not tried: what it writes, if it is a writer"


def _scores(benchmark: Benchmark, said: Sequence[tuple[Item, Response]], who: Hired) -> list[Score | Unscored]:
    return [benchmark.score(item, response, who) for item, response in said]
