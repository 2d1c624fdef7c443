"""Runs joined in any order, parts of a whole among them: a policy is one row, with every score it was given, once."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.system.console import duration
from reports import runs
from reports.facts import row_facts
from reports.findings import Cell
from reports.report import Measured
from reports.runs import Run, join, opened
from reports.told import when
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


@law(80)
@given(CHOSEN)
def test_cards_and_profile_have_the_rows_of_the_table_by_the_same_names(which: list[int]) -> None:
    run = joined(which)
    facts = row_facts(run)
    assert {(one.row, one.label) for one in facts} == {*run.rows.items()}
    assert len({(one.row, one.seed) for one in facts}) == len(facts)
    assert all(one.made for one in facts if one.row != "baseline")
    tried = {(one.row, stage.folder.name) for one in facts for stage in one.tried if stage.manifest}
    assert {(cell.row, Path(cell.score).name) for cell in run.cells if cell.done} <= tried


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 0, 1)])
def test_work_that_runs_share_is_told_once(order: tuple[int, ...], tmp_path: Path) -> None:
    """Each run's profile has the baseline's stages, and what it trained itself: 100 s, and 20 s each."""
    given = []
    for number in order:
        folder = POOL[(0, 5, 8)[number]].run.write(tmp_path / f"{number}")
        own = {"stage": "train", "title": "train dpo", "key": f"own {number}", "seconds": 20.0}
        shared = {"stage": "generate", "title": "generate baseline", "key": "shared", "seconds": 100.0}
        (folder / "profile.json").write_text(json.dumps({"stages": [shared, own]}))
        given.append(folder)
    with opened(given) as found:
        assert f", {duration(100 + 20 * len(set(order)))} of work in all stages" in when(
            join(found), row_facts(found[0])
        )


def with_fields(number: int, folder: Path, **fields: Any) -> Path:
    """A run of the pool, written again with other fields in its manifest."""
    return replace(POOL[number].run, spoilt=fields).write(folder)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_pictures_that_any_run_trained_on_are_told(order: tuple[int, int], tmp_path: Path) -> None:
    """One with more seeds has drawn more examples: the other's count is no answer for both."""
    counts = ({"pictures": 12, "files": 1, "coco": 0}, {"pictures": 12, "files": 5, "coco": 2})
    given = [with_fields(n, tmp_path / f"{n}", shared={"sqa": counts[n]}) for n in order]
    with opened(given) as found:
        assert join(found).setting.shared["sqa"].files == 5


def test_why_a_cell_failed_stands_in_the_row_of_its_own_run(tmp_path: Path) -> None:
    """Of two rows called dpo the second has no scores: its reason is not the first one's, nor lost."""
    why = {"label": "GT-DPO", "seed": 0, "stage": "train dpo seed 0", "why": "the loss is NaN"}
    failed = [{"row": "dpo", "benchmark": name, **why} for name in BOTH]
    with opened([POOL[0].run.write(tmp_path / "a"), with_fields(9, tmp_path / "b", failed=failed)]) as found:
        run = join(found)
        assert {(one.row, one.label) for one in run.failed} == {("dpo#2", run.rows["dpo#2"])}
        rows = {row.method: row for row in Measured.of(run).findings.rows}
    assert rows["dpo#2"].failed == "the loss is NaN" and not rows["dpo"].failed


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
