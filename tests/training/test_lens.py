"""The lens: log-probs before and after by hand, errors counted by somebody who knows the ground truth."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.contracts.judge import Ask
from harness.contracts.records import Example, Pair, Turn, Unscored
from harness.contracts.testbed_file import read_testbed
from harness.stages.probe import Probe
from harness.store.store import Store
from harness.training.lens import corrected, found_errors, probes, ratios

EXAMPLES = [Example(f"e{n}", "llava150k", None, (Turn("What?", "A red cup."),)) for n in range(12)]


BOOK = {"instance": {"existence": "...", "colour": "..."}}


class Counting:
    """Finds as many errors of existence as the response has words, and one of colour in "blue"."""

    name = "counting"

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self.prompts: list[str] = []

    def reply(self, ask: Ask) -> str | Unscored:
        if self.broken == "silent":
            return Unscored(ask.id, "no answer")
        self.prompts.append(ask.prompt)
        types = ["existence"] * len(ask.facts["response"].split()) + ["colour"] * ("blue" in ask.facts["response"])
        return "prose" if self.broken else f"Here: {json.dumps({'errors': [{'type': name} for name in types]})}"


def test_t2_over_t1_by_hand() -> None:
    """chosen gains 1 on average and rejected loses 2: log t1 = 1, log t2 = -2, so their ratio is e^-3."""
    found = ratios([(-5.0, -3.0), (-7.0, -5.0)], [(-4.5, -4.0), (-5.5, -8.0)])
    assert found == {
        "before/chosen": -6.0,
        "before/rejected": -4.0,
        "after/chosen": -5.0,
        "after/rejected": -6.0,
        "log_t2_t1": -3.0,
    }


def test_an_untrained_policy_moves_nothing() -> None:
    same = [(-5.0, -3.0)]
    assert ratios(same, same)["log_t2_t1"] == 0.0


def test_probes_are_the_pairs_that_differ() -> None:
    made = probes(EXAMPLES[:3], ["A blue cup.", "A red cup.", ""])
    assert [(pair.id, pair.chosen, pair.rejected) for pair in made] == [("e0", "A red cup.", "A blue cup.")]


def test_the_share_of_errors_that_is_gone() -> None:
    """24 errors of existence become 6; there is one error of colour for each of 12, and 3 are left."""
    after = ["blue"] * 3 + [""] * 9
    found = corrected(EXAMPLES, ["blue cup"] * 12, after, Counting(), BOOK)
    assert found == {"errors_known": 12.0, "corrected/existence": 100 * (1 - 3 / 24), "corrected/colour": 75.0}


def test_more_errors_than_before_are_a_share_below_zero_and_a_rare_type_is_left_out() -> None:
    found = corrected(EXAMPLES, ["blue"] + ["cup"] * 11, ["two cups"] * 12, Counting(), BOOK)
    assert found == {"errors_known": 12.0, "corrected/existence": -100.0}


@pytest.mark.parametrize("broken", ["silent", "prose"])
def test_who_does_not_answer_is_not_counted(broken: str) -> None:
    assert isinstance(found_errors(EXAMPLES[0], "x", Counting(broken), BOOK), Unscored)
    assert corrected(EXAMPLES, ["blue"] * 12, [""] * 12, Counting(broken), BOOK) == {"errors_known": 0.0}


def test_only_types_of_the_codebook_are_asked_for_and_counted() -> None:
    judge, book = Counting(), {"instance": {"colour": "of another hue"}}
    assert found_errors(EXAMPLES[0], "blue cup", judge, book) == {"colour": 1}
    assert "of another hue" in judge.prompts[0] and "existence" not in judge.prompts[0]


def test_what_the_base_makes_of_the_probes_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row of a split is held against the same figures, to the last digit; other probes or bases have others."""
    monkeypatch.setattr(Probe, "base", lambda self, work: Path(read_testbed("mini").models[0]))
    work: Any = SimpleNamespace(store=Store(tmp_path))
    pairs = [Pair(f"e{n}", None, "What?", "A red cup.", "A blue cup.") for n in range(2)]
    made = list[int]()

    def make(some: Any) -> list[tuple[float, float]]:
        made.append(len(some))
        return [(-0.1, -1 / 3)] * len(some)

    one, other = (Probe.model_construct(model=name, dtype="float32") for name in ("base", "another"))
    assert [one.of_base(work, pairs, make) for _ in range(2)] == [[(-0.1, -1 / 3)] * 2] * 2 and made == [2]
    one.of_base(work, pairs[:1], make)
    other.of_base(work, pairs, make)
    assert made == [2, 1, 2]
