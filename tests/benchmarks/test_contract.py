"""What every benchmark keeps, whatever it measures.

A new file in benchmarks/ needs a small set in layouts.py; one in tests/outside/benchmark/ has its own beside it.
"""

import math
import random
import re
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import OPTIONS, Files, Fixed, laid_out, perfect

from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark, totals
from harness.contracts.records import Item, Response, Score, Unscored
from harness.system.errors import UsageError
from harness.system.jsonl import dumps, loads
from tests.seams.found import found, outside

PHRASES = ("gqa", "textvqa")  # whatever is short is a phrase
BAD = ("", " ", "\n", ".", "\x00", "?" * 1000, "rating: 9", "<|endoftext|>", "ß" * 500, "\\n\t|")


def garbage(seed: int) -> str:
    return "".join(random.Random(seed).choices(string.printable, k=1000))


@pytest.fixture(params=found("benchmark"), ids=plugins.stem)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Benchmark, list[Item]]:
    benchmark: Benchmark = plugins.make("benchmarks", request.param, Benchmark, OPTIONS.get(request.param, {}))
    laid_out(request.param, tmp_path)
    return plugins.stem(request.param), benchmark, list(benchmark.items(tmp_path, Files()))


def sums(benchmark: Benchmark, items: list[Item], said: list[str]) -> dict[str, float]:
    scored = []
    for item, text in zip(items, said, strict=True):
        score = benchmark.score(item, Response(item.id, text, 1), Fixed())
        assert isinstance(score, Score)
        scored.append((item, score))
    return totals(benchmark.units(scored))


def compute(benchmark: Benchmark, items: list[Item], said: list[str]) -> dict[str, Any]:
    return benchmark.compute(sums(benchmark, items, said))


def test_says_what_it_is(made: tuple[str, Benchmark, list[Item]]) -> None:
    name, benchmark, _ = made
    assert benchmark.label
    assert benchmark.group in ("vqa", "comprehension", "hallucination")
    assert benchmark.max_new_tokens >= 128
    assert benchmark.official_n > 0 or benchmark.heldout or name in map(plugins.stem, outside("benchmark"))
    assert benchmark.protocol
    assert len({metric.id for metric in benchmark.metrics}) == len(benchmark.metrics)
    assert all(re.fullmatch(rf"{name}/[\w@+-]+", metric.id) for metric in benchmark.metrics)


def test_a_unit_is_of_one_stratum(made: tuple[str, Benchmark, list[Item]]) -> None:
    """So that `--limit` can draw whole units."""
    _, benchmark, items = made
    strata: dict[str, set[str]] = {}
    for item in items:
        strata.setdefault(item.unit, set()).add(benchmark.stratum(item))
    assert all(len(labels) == 1 for labels in strata.values())


def test_items_are_stable_and_plain(made: tuple[str, Benchmark, list[Item]], tmp_path: Path) -> None:
    _, benchmark, items = made
    assert len({item.id for item in items}) == len(items) > 0
    assert list(benchmark.items(tmp_path, Files())) == items
    assert all(loads(Item, dumps(item)) == item for item in items)
    assert all(str(tmp_path) not in dumps(item.facts) for item in items)


def test_perfect_responses_score_the_full_scale(made: tuple[str, Benchmark, list[Item]]) -> None:
    name, benchmark, items = made
    values = compute(benchmark, items, [perfect(name, item) for item in items])
    expected = {metric.id: metric.scale[1] for metric in benchmark.metrics}
    assert {id: values[id] for id in expected} == pytest.approx(expected)


@pytest.mark.parametrize("text", [*BAD, garbage(1), garbage(2)], ids=range(len(BAD) + 2))
def test_garbage_never_raises_and_beats_no_chance(made: tuple[str, Benchmark, list[Item]], text: str) -> None:
    name, benchmark, items = made
    values = compute(benchmark, items, [text] * len(items))
    metric = benchmark.metrics[0]
    recall = f"{name}/recall@noun"  # of who is silent: what is made up, of nothing said, is no figure
    value = values[recall if recall in values else metric.id]
    worst, best = (0.0, 100.0) if recall in values else metric.scale
    if name == "shr" and math.isnan(value):  # no sentence, so no share of them
        value = worst
    # Saying nothing is "yes" to POPE, whose F1 then is 2/3.
    limit = 200 / 3 if name == "pope" else metric.chance if metric.chance is not None else worst
    assert abs(value - worst) <= abs(limit - worst) + 1e-9 < abs(best - worst)


def test_a_robust_parse_stands_beside_a_share_of_valid_responses(made: tuple[str, Benchmark, list[Item]]) -> None:
    name, benchmark, items = made
    values = compute(benchmark, items, ["?" * 20] * len(items))
    if any(id.endswith("@robust") for id in values):
        assert f"{benchmark.metrics[0].id}@robust" in values
        assert values[f"{name}/valid"] < 100 or name in PHRASES
        assert f"{name}/valid" in [metric.id for metric in benchmark.metrics]


def test_a_thousand_orders_of_completion_give_one_digest(made: tuple[str, Benchmark, list[Item]]) -> None:
    """Thirds are not exact, so a sum in another order would show."""
    _, benchmark, items = made
    scored = []
    for number, item in enumerate(items):
        text = perfect(made[0], item) if number % 3 else "no"
        score = benchmark.score(item, Response(item.id, text, 1), Fixed())
        assert isinstance(score, Score)
        scored.append((item, Score(item.id, {part: value / 3 + number / 7 for part, value in score.parts.items()})))
    rng = random.Random(0)
    digests = set()
    for _ in range(1000):
        rng.shuffle(scored)
        digests.add(dumps(totals(benchmark.units(scored))))
    assert len(digests) == 1


def test_compute_on_arrays_is_compute_on_floats(made: tuple[str, Benchmark, list[Item]]) -> None:
    name, benchmark, items = made
    columns = []
    for seed in range(5):
        rng = random.Random(seed)
        said = [perfect(name, item) if rng.random() < 0.6 else "no idea, perhaps a cat" for item in items]
        columns.append(sums(benchmark, items, said))
    single = [benchmark.compute(column) for column in columns]
    arrays = {part: np.array([column[part] for column in columns]) for part in columns[0]}
    together = benchmark.compute(arrays)
    assert together.keys() == single[0].keys()
    for id, values in together.items():
        expected = [column[id] for column in single]
        assert np.broadcast_to(values, 5) == pytest.approx(expected, nan_ok=True), id


def test_judged_failures_are_unscored(made: tuple[str, Benchmark, list[Item]]) -> None:
    _, benchmark, items = made
    if not benchmark.judged:
        return
    replies = (Fixed(Unscored("x", "refused")), Fixed("I cannot say."), Fixed("7"), Fixed("rating: 1 rating: 2"), None)
    for judge in replies:
        score = benchmark.score(items[0], Response(items[0].id, "Yes, there is a dog.", 1), judge)
        assert isinstance(score, Unscored)
        assert score.id == items[0].id
        assert score.reason


def test_a_missing_file_is_named_with_where_it_comes_from(
    made: tuple[str, Benchmark, list[Item]], tmp_path: Path
) -> None:
    _, benchmark, _ = made
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match=re.escape(str(empty))) as caught:
        list(benchmark.items(empty, Files()))
    assert benchmark.layout in str(caught.value)
