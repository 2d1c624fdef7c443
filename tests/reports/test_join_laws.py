"""Runs joined in any order, parts of a whole among them: a policy is one row, with every score it was given, once."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import runs
from reports.findings import Cell
from reports.report import Measured
from reports.runs import Run, join, opened
from tests.fake_run import FakeRun, drawn
from tests.laws import caught, law

BETAS = {0.1: 0.7, 0.3: 0.62, 0.5: 0.8}  # an option, and how well the row answers that was trained with it
BOTH = ("sqa", "mmhal")


@dataclass(frozen=True)
class Made:
    """One comparison: `beta` of its row dpo, its benchmarks, further rows, and whether dpo's scores are there."""

    beta: float
    benchmarks: tuple[str, ...] = BOTH
    sft: bool = False
    done: bool = True

    @property
    def run(self) -> FakeRun:
        skill = {"baseline": 0.6, "dpo": BETAS[self.beta]} | ({"sft": 0.65} if self.sft else {})
        unfinished = () if self.done else tuple(("dpo", name) for name in self.benchmarks)
        return drawn(
            skill,
            items=12,
            split="lock",
            options={"beta": self.beta},
            benchmarks=self.benchmarks,
            unfinished=unfinished,
        )


POOL = (
    Made(0.1), Made(0.1, ("sqa",)), Made(0.1, ("mmhal",)), Made(0.1, sft=True), Made(0.1, done=False), Made(0.3),
    Made(0.3, ("mmhal",)), Made(0.5, ("sqa",)), Made(0.5), Made(0.5, done=False),
)  # fmt: skip
CHOSEN = st.lists(st.sampled_from(range(len(POOL))), min_size=1, max_size=5, unique=True)


@pytest.fixture(scope="module", autouse=True)
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every run of the pool, read once."""
    home = tmp_path_factory.mktemp("pool")
    folders = [made.run.write(home / str(number)) for number, made in enumerate(POOL)]
    with opened(folders) as found:
        RUNS[:] = found
        yield


RUNS: list[Run] = []


def joined(which: Sequence[int]) -> Run:
    return join([RUNS[number] for number in which])


def by_policy(run: Run) -> dict[str, set[tuple[str, int, str]]]:
    """What each row has scored: benchmark, seed, and the score's stage."""
    found: dict[str, set[tuple[str, int, str]]] = {row: set() for row in run.rows}
    for cell in run.cells:
        if cell.done:
            found[cell.row].add((cell.benchmark, cell.seed, cell.score))
    return found


@law(120)
@given(CHOSEN)
def test_a_policy_is_one_row_whatever_comes_between(which: list[int]) -> None:
    """As many rows of dpo as betas, however often and in which order they come."""
    run = joined(which)
    betas = {POOL[number].beta for number in which}
    assert sum(row.partition("#")[0] == "dpo" for row in run.rows) == len(betas)
    assert len(set(run.rows.values())) == len(run.rows)  # labels tell them apart
    assert len(run.notes) == len(betas) - 1
    scores = Counter(cell.score for cell in run.cells if cell.row != "baseline")
    assert not scores or max(scores.values()) == 1


@law(120)
@given(CHOSEN)
def test_every_score_of_every_run_is_in_the_row_of_its_policy(which: list[int]) -> None:
    rows = by_policy(joined(which))
    for beta in {POOL[number].beta for number in which}:
        wanted = set[tuple[str, int, str]]()
        for number in which:
            if POOL[number].beta == beta:
                wanted |= by_policy(RUNS[number])["dpo"]
        assert wanted in [scored for row, scored in rows.items() if row.startswith("dpo")], beta


@law(60)
@given(CHOSEN, st.randoms(use_true_random=False))
def test_the_order_of_runs_changes_no_row_s_scores(which: list[int], rng: Any) -> None:
    turned = list(which)
    rng.shuffle(turned)
    one, other = (by_policy(joined(order)) for order in (which, turned))
    assert sorted(map(sorted, one.values())) == sorted(map(sorted, other.values()))


def cells(run: Run) -> dict[tuple[str, str], Cell]:
    """The table's cells by row and metric."""
    found = Measured.of(run).findings
    return {
        (row.method, column.metric): cell
        for row in found.rows
        for column, cell in zip(found.columns, row.cells, strict=True)
    }


@pytest.mark.parametrize("parts", [(1, 2), (2, 1), (4, 0), (0, 4), (1, 2, 4)])
def test_a_run_in_parts_is_the_table_of_the_whole(parts: tuple[int, ...]) -> None:
    """Its benchmarks in two runs, or cells that only one of two has finished: the same cells to the last bit."""
    assert cells(joined(parts)) == cells(joined([0]))


def test_the_same_run_twice_tests_nothing_twice() -> None:
    """Each difference is in Holm's family once: a second copy would cost the others their marks."""
    once = Measured.of(joined([0, 5])).findings
    for again in ([0, 5, 0], [0, 5, 5], [0, 5, 1, 6]):
        assert Measured.of(joined(again)).findings.rows == once.rows


def by_name_alone(run: Run, row: str) -> dict[str, str]:
    """A mutant: rows of one name are one policy."""
    return {}


def by_run(run: Run, row: str) -> dict[str, str]:
    """A mutant: what another run trained is another policy."""
    return {"run": run.name} if row == "dpo" else {}


@pytest.mark.parametrize("wrong", [by_name_alone, by_run])
def test_another_idea_of_what_a_policy_is_would_be_caught(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_policy", wrong)
    caught(test_a_policy_is_one_row_whatever_comes_between)


def test_cells_that_go_by_who_came_first_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: a cell that the first run has not scored is missing, whatever another has."""

    def wrong(given: Sequence[Run]) -> Run:
        made, first = join(given), {(cell.row, cell.seed, cell.benchmark): cell for cell in given[0].cells}
        return replace(made, cells=tuple(first.get((c.row, c.seed, c.benchmark), c) for c in made.cells))

    monkeypatch.setitem(globals(), "joined", lambda which: wrong([RUNS[number] for number in which]))
    caught(test_every_score_of_every_run_is_in_the_row_of_its_policy)
