"""What must be said under a table: what it could have seen, what a mark takes, noise, and matters of format."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
from worlds import NINE, SETTING, Accuracy, answers, run

from harness.contracts.benchmark import Metric, Totals, Unit, ratio
from harness.contracts.row_names import NOISE
from reports.files import COMPARISON
from reports.findings import Findings
from reports.outcomes import Outcome
from reports.tabulate import build

METHODS = [("sft", "Cont. SFT", 0.0), ("nsft", "nSFT", 0.15)]


def made(outcomes: Sequence[Outcome], methods: Sequence[str] = ("nsft", "sft")) -> Findings:
    """The table of the nine."""
    return build(outcomes, NINE, list(methods), SETTING, 1000)


def note(table: Findings, start: str) -> str:
    """The one note that begins so."""
    (found,) = (note for note in table.notes if note.startswith(start))
    return found


def test_the_smallest_difference_that_could_have_been_seen_is_said_per_column() -> None:
    """Alone, and with the mark, which takes more; four times the images see half as much."""
    sizes = {}
    for images in (60, 240):
        text = note(made(run(METHODS, images=images)), "minimum detectable difference at 80 % power")
        for label in ("SQA", "CHAIR", "recall", "MMHal"):
            assert f"{label} " in text
        alone, marked = text.split("SQA ")[1].split(",")[0].rstrip(")").split(" (")
        assert float(alone) < float(marked)
        sizes[images] = float(alone)
    assert sizes[240] == pytest.approx(sizes[60] / 2, rel=0.3)


def test_with_one_seed_nothing_is_said_of_seeds() -> None:
    assert not any("base models" in note and "seed" not in note for note in made(run(METHODS)).notes)


def test_with_three_seeds_the_price_of_a_mark_is_said_and_what_holds_for_these_models() -> None:
    """t with 2 degrees of freedom at .05 / 22: 20.9; with 5: 5.7."""
    table = made(run(METHODS, seeds=(0, 1, 2)))
    assert "times 20.9 with 3 seeds, 5.7 with 6 seeds" in note(table, "a mark is for base models in general")
    here = note(table, "resolved for these 3 base models alone")
    assert "nSFT: SQA" in here and "Cont. SFT" not in here


def test_the_noise_floor_is_a_row_and_no_test() -> None:
    """The baseline again with other luck, 300 of 300 units the same here: its differences are shown, not tested."""
    noise = [replace(o, method=NOISE, label="noise floor") for o in run([]) if o.method == "baseline"]
    plain, noisy = made(run(METHODS)), made([*run(METHODS), *noise], (NOISE, "nsft", "sft"))
    row = next(row for row in noisy.rows if row.method == NOISE)
    assert {cell.delta for cell in row.cells} == {0.0}
    assert {cell.verdict for cell in row.cells} == {""}
    assert [r.cells for r in noisy.rows if r.method != NOISE] == [r.cells for r in plain.rows]
    assert "not tested" in note(noisy, "noise floor")


def test_a_difference_is_resolved_or_not_resolved_and_better_in_verdict_and_legend_alone() -> None:
    table = made(run(METHODS))
    verdicts = {cell.verdict for row in table.rows for cell in row.cells}
    assert verdicts == {"", "resolved", "not resolved at n = 300"}
    below_the_verdict = COMPARISON["md"](table).partition("- trust:")[2]
    assert "better" not in COMPARISON["csv"](table)
    for text in (below_the_verdict, COMPARISON["tex"](table)):
        [legend] = (line for line in text.splitlines() if "better" in line)
        assert "Holm" in legend
    assert "not resolved at n = 300" in COMPARISON["csv"](table)


@dataclass(frozen=True)
class Strict(Accuracy):
    """Right counts only where the format is right as well, except by the robust parse."""

    metrics: ClassVar[tuple[Metric, ...]] = (Metric("acc/percent", "accuracy", (0, 100)),)

    def compute(self, totals: Totals) -> dict[str, Any]:
        right = {"": totals["right"], "@robust": totals["meant"]}
        return {f"acc/percent{way}": ratio(value, totals["n"]) for way, value in right.items()}


@pytest.mark.parametrize(("learnt", "said"), [("format", True), ("answers", False)])
def test_a_gain_that_vanishes_under_a_robust_parse_is_a_format_effect(learnt: str, said: bool) -> None:
    old, new = (answers(0.5, 100, 4, seed=0, gain=gain) for gain in (0.0, 0.2))

    def units(official: Sequence[Unit], meant: Sequence[Unit]) -> list[Unit]:
        return [replace(o, parts={**o.parts, "meant": m.parts["right"]}) for o, m in zip(official, meant, strict=True)]

    after = units(new, old if learnt == "format" else new)
    sides = (("baseline", units(old, old)), ("sft", after))
    outcomes = [Outcome(name, name, 0, "acc", found, 0, "") for name, found in sides]
    table = build(outcomes, {"acc": Strict()}, ["sft"], SETTING, 400)
    assert table.rows[1].cells[0].resolved
    told = [note for note in table.notes if note.startswith("format effect: sft, ACC")]
    assert bool(told) == said
    if said:
        assert "+0.0 [+0.0, +0.0] by a robust one" in told[0]


def test_verdicts_of_two_servers_are_not_compared_without_a_word() -> None:
    """Replies are kept under the model's name: another server's under that name would be taken for the same judge's."""

    def judged(*where: str) -> Findings:
        outcomes = [replace(o, judged_by="") if o.benchmark != "mmhal" else o for o in run(METHODS)]
        rows = dict(zip(["baseline", *(name for name, _, _ in METHODS)], where, strict=True))
        return made([replace(o, judged_by=rows[o.method]) if o.benchmark == "mmhal" else o for o in outcomes])

    one = judged(*["openai:gpt-4 at api.openai.com"] * 3)
    assert "MMHal judged by openai:gpt-4 at api.openai.com" in one.notes
    two = judged("openai:gpt-4 at localhost", *["openai:gpt-4 at api.openai.com"] * 2)
    said = note(two, "NOT THE SAME JUDGE for MMHal")
    assert "LLaVA-1.5-7B: openai:gpt-4 at localhost; " in said and "Cont. SFT: openai:gpt-4 at api.openai.com" in said
    assert not any("JUDGE" in text or "judged by" in text for text in made(run(METHODS)).notes)
