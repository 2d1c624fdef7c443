"""Where the real answer files with official scores lie, for those who have them; they are not ours to ship."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.contracts.benchmark import Benchmark, totals
from harness.contracts.judge import Ask, Judge
from harness.contracts.records import Item, Response, Score, Unscored

OFFICIAL = Path(__file__).parents[3] / "shared" / "official"


def official(name: str) -> Path:
    """The folder of one benchmark's real files; skips the test where it is absent."""
    folder = OFFICIAL / name
    if not folder.is_dir():
        pytest.skip(f"no real answer files at ../shared/official/{name}")
    return folder


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


class Script:
    """A judge that replies from a table: ask id -> reply."""

    name = "script"

    def __init__(self, replies: dict[str, str]) -> None:
        self.replies = replies

    def reply(self, ask: Ask) -> str | Unscored:
        return self.replies[ask.id.removesuffix("/again")]


def computed(benchmark: Benchmark, said: list[tuple[Item, str]], judge: Judge | None = None) -> dict[str, Any]:
    """All metrics of the responses, none of which may stay unscored."""
    scored = []
    for item, text in said:
        score = benchmark.score(item, Response(item.id, text, 1), judge)
        assert isinstance(score, Score), score
        scored.append((item, score))
    return benchmark.compute(totals(benchmark.units(scored)))
