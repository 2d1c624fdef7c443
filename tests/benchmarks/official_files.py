"""Where the real answer files with official scores lie, for those who have them; they are not ours to ship."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.benchmark import Benchmark, Unit, totals
from harness.judge import Ask
from harness.types import Item, Response, Score, Unscored

OFFICIAL = Path(__file__).parents[3] / "shared" / "official"


def official(name: str) -> Path:
    """The folder of one benchmark's real files; skips the test where it is absent."""
    folder = OFFICIAL / name
    if not folder.is_dir():
        pytest.skip(f"no real answer files at {folder}")
    return folder


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


class Script:
    """A judge that replies from a table: ask id -> reply."""

    name = "script"

    def __init__(self, replies: dict[str, str]) -> None:
        self.replies = replies

    def reply(self, ask: Ask) -> str | Unscored:
        return self.replies[ask.id]


def scored(benchmark: Benchmark, said: list[tuple[Item, str]], judge: Script | None = None) -> list[Unit]:
    """The units of responses of which none may stay unscored."""
    scores = []
    for item, text in said:
        score = benchmark.score(item, Response(item.id, text, 1), judge)
        assert isinstance(score, Score), score
        scores.append((item, score))
    return benchmark.units(scores)


def computed(benchmark: Benchmark, said: list[tuple[Item, str]], judge: Script | None = None) -> dict[str, Any]:
    """All metrics of the responses."""
    return benchmark.compute(totals(scored(benchmark, said, judge)))
