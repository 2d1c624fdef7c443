"""docs/findings.md: differences as in the product's tables, claims chosen by numbers, the same page from a bundle."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy.stats import kendalltau

from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark, Unit
from harness.contracts.judge import Ask
from harness.contracts.records import Item, Response, Unscored
from harness.system.errors import UsageError
from reports import figures
from reports.bundle import write_bundle
from reports.estimates import estimate
from reports.outcomes import Outcome, measure
from reports.runs import opened
from reports.statistics import detectable
from tests.fake_run import drawn
from tests.findings import length, page, seeds, signs, supervision, traps
from tests.findings.front import cut
from tests.findings.judges import JUDGES
from tests.findings.known import HELD, Known
from tests.findings.runs import ROWS
from tests.findings.scores import Difference, Scores, adjusted
from tests.findings.seeds import MORE, NEVER, Spread, needed
from tests.findings.stored import Place, Spent, Stored, mixture
from tests.findings.wording import cell, outcomes, told
from tests.reports.worlds import Accuracy, answers
from tests.scored import FACTS, parts

NINE = ("sqa", "gqa", "textvqa", "mmvet", "mme", "mmb", "pope", "chair", "mmhal")
SKILL = {"baseline": 0.5, **{row: 0.5 + 0.03 * place for place, row in enumerate(ROWS)}}
SAYS = "A dog and a cat by a house"
SPENT = {row: {"supervised_tokens": 100.0 + 10 * place, "forward_tokens": 200.0 + 20 * place}
         for place, row in enumerate(ROWS)}  # fmt: skip


def fake(folder: Path, base: int, **fields: object) -> Path:
    """A comparison of all rows on two splits of a base; a row learns from more tokens the further back it stands."""
    made = drawn(
        {row: skill - 0.05 * base for row, skill in SKILL.items()}, benchmarks=NINE, seeds=(0, 1), items=12,
        labels=dict(zip(SKILL, SKILL, strict=True)), facts=FACTS["chair"] | FACTS["mmvet"] | FACTS["mmhal"],
        said={row: SAYS + " by a house" * place for place, row in enumerate(SKILL)}, trained=SPENT,
        spoilt={"bases": dict.fromkeys("01", f"/models/{base}")},
    )  # fmt: skip
    return replace(made, **fields).write(folder / str(base))  # type: ignore[arg-type]


def small(folder: Path, base: int, **fields: object) -> Path:
    """Of one trained row, on one benchmark."""
    return fake(folder, base, **{"skill": {"baseline": 0.5, "nsft": 0.6}, "benchmarks": ("sqa",), "trained": {},
                                 **fields})  # fmt: skip


class Made(Stored):
    """What a store would have of all rows on two splits of three bases: luck, and captions that invent at the end."""

    benchmarks: ClassVar[dict[str, Benchmark]] = {
        name: plugins.make("benchmarks", name, Benchmark, {"variant": "listed"} if name == "chair" else {})
        for name in NINE
    }
    rows: ClassVar[list[str]] = list(ROWS)
    testbed = "mini (synthetic)"

    def __init__(self, bases: str = "012") -> None:
        """Nothing is read."""
        self.__dict__["places"] = [Place(row, base, split) for row in SKILL for base in bases for split in (0, 1)]
        self.__dict__["runs"] = [SimpleNamespace(manifest=SimpleNamespace(data="llava150k", judge="oracle"))]

    @cached_property
    def units(self) -> dict[str, dict[Place, Sequence[Unit]]]:
        return {name: {at: self.drawn(name, at) for at in self.places} for name in NINE}

    def drawn(self, name: str, at: Place) -> list[Unit]:
        luck = np.random.default_rng(int(at.base)).random(20) - 0.02 * at.split
        return [Unit(str(n), str(n), parts(name, bool(one < SKILL[at.row]))) for n, one in enumerate(luck)]

    @cached_property
    def spent(self) -> dict[Place, Spent]:
        told = {row: Spent(one["supervised_tokens"], 3 * one["forward_tokens"]) for row, one in SPENT.items()}
        return {at: told[at.row] for at in self.places if at.row in told}

    def said(self, benchmark: str) -> Iterator[tuple[Place, list[tuple[Item, Response]]]]:
        for at in self.places:
            luck = np.random.default_rng(int(at.base)).random(20)
            lucky = [bool(one < SKILL[at.row]) for one in luck]
            texts = [SAYS + " and a dog" * 20 + " and a bus" * one for one in lucky]
            if benchmark != "chair":
                texts = ["A dog." if one else "A black cat." for one in lucky]
            facts = FACTS[benchmark] | {"synonyms": "dog\ncat\nhouse\nbus\n"}
            yield at, [(Item(str(n), None, "Which?", str(n), facts), Response(str(n), text, 9))
                       for n, text in enumerate(texts)]  # fmt: skip


@pytest.fixture(scope="module")
def known() -> Known:
    return Known(Made(), replicates=60)


def right(skill: float, seed: int, gain: float = 0.0) -> list[Unit]:
    return answers(skill, images=40, per_image=3, seed=seed, gain=gain)


def worlds(benchmark: Benchmark, gain: float = 0.05) -> Scores:
    """Two rows on three bases of one split each."""
    units = {Place(row, str(base), 0): right(0.5, base, gain * (row == "b") * (base + 1))
             for row, base in product(("a", "b"), range(3))}  # fmt: skip
    return Scores(benchmark, units, replicates=500)


def test_a_difference_is_the_one_of_the_products_tables() -> None:
    """Bases are its seeds: value, interval and both p."""
    benchmark = Accuracy()
    scores = worlds(benchmark)
    told = [Outcome("baseline" if at.row == "a" else at.row, at.row, int(at.base), "acc", units, 0, "")
            for at, units in scores.units.items()]  # fmt: skip
    [theirs] = estimate(benchmark, told, replicates=500)["b"].values()
    ours = scores.difference("b", "a")
    assert list(ours.values) == list(theirs.deltas.values())
    assert (ours.low, ours.high, ours.p, ours.p_here) == (theirs.low, theirs.high, theirs.p, theirs.p_here)
    assert ours.low < ours.low_here < ours.delta < ours.high_here < ours.high


def test_splits_of_a_base_are_pooled_and_do_not_count_as_bases() -> None:
    """Three trainings of one base say no more of bases than one does: the mutant takes each for a base."""
    units = {Place(row, "0", split): right(0.5, 7, (0.1 + 0.03 * split) * (row == "b"))
             for row, split in product(("a", "b"), range(3))}  # fmt: skip
    pooled = Scores(Accuracy(), units, replicates=500)
    mutant = Scores(Accuracy(), {Place(at.row, str(at.split), 0): own for at, own in units.items()}, replicates=500)
    assert len(pooled.difference("b", "a").values) == 1 and len(mutant.difference("b", "a").values) == 3
    assert pooled.difference("b", "a").delta == pytest.approx(mutant.difference("b", "a").delta)
    values, draws = pooled.by_split("b", "a")
    assert values.shape == (1, 3) and draws.shape == (1, 3, 500)
    assert values.mean() == pytest.approx(pooled.difference("b", "a").delta)


def test_a_mixture_scores_between_its_ends_by_its_share() -> None:
    one, other = right(0.3, 1), right(0.8, 1)
    ends = [measure(Accuracy(), units)["acc/percent"] for units in (one, other)]
    found = measure(Accuracy(), mixture(one, other, 0.25))["acc/percent"]
    assert found == pytest.approx(0.75 * ends[0] + 0.25 * ends[1]) and ends[0] < found < ends[1]


def test_sft_is_brought_to_the_tokens_of_the_others(known: Known) -> None:
    """Tokens grow by ten from row to row, so that nsft has twice what three passes have above one."""
    assert {at.row for at in known.weights} == {f"sft at {row}'s {what}" for row in HELD for what in ("tokens", "cost")}
    assert known.weights[Place("sft at nsft's tokens", "0", 1)] == 2.0 and len(known.weights) == 2 * 2 * 3 * 2
    assert known.ratio("dpo", "cost") == pytest.approx([340 / 200] * 6)
    pope = known.scores["pope"]
    assert pope.value("sft at nsft's tokens") == pope.value(ROWS[1]), "no mixture has as many: the nearest end"


@pytest.mark.parametrize("question", page.QUESTIONS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_answer_is_two_sentences_with_their_intervals_a_table_and_a_picture(question: Any, known: Known) -> None:
    section = question.answer(known)
    assert len(section.sentences) == 2
    assert all("[" in one or "in the table" in one or "to the last digit" in one for one in section.sentences)
    assert not {"nan", "None"} & set(re.findall(r"\w+", " ".join((*section.sentences, section.table))))
    assert section.table.count("\n") > len(ROWS) / 3 and section.notes
    assert b"mini (synthetic)" in figures.picture(section.draw, known.stored.testbed).svg


def test_a_further_row_joins_every_answer_but_the_one_about_pairs_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SKILL, "seva", 0.6)
    monkeypatch.setattr(Made, "rows", [*ROWS, "seva"])
    more = Known(Made("0"), replicates=60)
    tables = {question: question.answer(more).table for question in page.QUESTIONS}
    assert all("| `seva` |" in tables[question] for question in (signs, length, traps))
    assert "seva" not in tables[supervision]


def test_of_one_base_nothing_is_said_of_bases() -> None:
    alone = Known(Made("0"), replicates=60)
    section = signs.answer(alone)
    assert "in none of all pairs that began from different bases" in section.sentences[0]
    assert "| one base |" in section.table and "nan" not in section.table
    assert alone.scores["pope"].difference("sima", "baseline").claim == "here"


def test_the_front_begins_where_captions_do_and_ends_at_their_own_length(known: Known) -> None:
    """What is invented stands last, so cut captions have none; a row that invents more is worse uncut alone."""
    front, last = known.front, known.front.lengths.index(50)
    cut_short, whole = (np.array(front.signs("sima", "baseline"))[:, at] for at in (last - 1, -1))
    assert (cut_short == 0).all() and (whole > 0).all()
    assert front.line("sima")[-1][1] == pytest.approx(front.scores.value("sima"))
    assert front.equal("sima", "baseline").values == (0.0, 0.0, 0.0), "both recall the dog before they invent"


def test_flips_count_pairs_of_opposite_sign_along_one_axis() -> None:
    values = np.array([[1.0, 2.0], [-1.0, 3.0], [0.0, 4.0]])
    assert seeds.flips(values, 0) == [True, False, False, False] and seeds.flips(values, 1) == [False, True]


def test_tau_is_scipys_in_every_replicate() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 5, (2, 9, 4)).astype(float)
    theirs = [kendalltau(one[:, at], other[:, at]).statistic for at in range(4)]
    assert seeds.tau(one, other) == pytest.approx(theirs)
    assert seeds.ranks([3.0, 1.0, 3.0]).tolist() == [1.5, 3.0, 1.5]


def test_spreads_are_told_apart() -> None:
    """Bases that differ by 3, splits of one by 1: the mutant looks along the other axis."""
    rng = np.random.default_rng(1)
    values = 3 * rng.standard_normal((200, 1)) + rng.standard_normal((200, 4))
    draws = values[..., None] + 0.5 * rng.standard_normal((1, 1, 400))
    found, mutant = Spread.of(values, draws), Spread.of(values.T, draws.transpose(1, 0, 2))
    assert (found.bases, found.splits, found.images) == pytest.approx((3, 1, 0.5), rel=0.15)
    assert found.splits_low < found.splits < found.splits_high and mutant.splits > 2


def test_the_seeds_needed_are_the_first_with_which_the_product_would_detect_it() -> None:
    """Without an images' share; one that the images alone hide is never seen."""
    sd = 1.7
    least = {n: detectable([sd * math.sqrt((n - 1) / n) * (-1) ** at for at in range(n)], np.zeros((n, 50)))
             for n in (4, 6, 8)}  # fmt: skip
    assert [needed(1.001 * size, sd, 0.0) for size in least.values()] == [4, 6, 8]
    assert needed(1.0, sd, 10.0) == NEVER and needed(1e-3, sd, 0.0) == MORE
    assert needed(3.0, sd, 0.9) > needed(3.0, sd, 0.0), "images count too"


WIDE, SURE = (-1.0, 5.0, 1.0, 3.0), (1.0, 3.0, 1.5, 2.5)


@pytest.mark.parametrize(
    ("found", "claim", "shown"),
    [
        (Difference((2.0, 2.0), *SURE, 0.01, 0.001), "general", "+2.0 [+1.0, +3.0] ▲"),
        (Difference((2.0, 2.0), *WIDE, 0.2, 0.001), "here", "+2.0 [−1.0, +5.0] △"),
        (Difference((2.0, 2.0), *WIDE, 0.2, 0.3), "none", "+2.0 [−1.0, +5.0]"),
        (Difference((2.0, 2.0), *SURE, math.nan, math.nan), "general", "+2.0 [+1.0, +3.0] ▲"),
        (Difference((2.0, 2.0), *WIDE, math.nan, math.nan), "here", "+2.0 [−1.0, +5.0] △"),
        (Difference((2.0, 2.0), *[math.nan] * 4, math.nan, math.nan), "none", "+2.0 [no interval]"),
        (Difference((0.0, 0.0), *[math.nan] * 4, 1.0, 1.0), "the same", "0"),
    ],
)
def test_what_is_claimed_is_chosen_by_the_numbers(found: Difference, claim: str, shown: str) -> None:
    assert found.claim == claim and cell(found, 1, 1) == shown
    assert cell(found, 1, -1) == shown.replace("▲", "▼").replace("△", "▽"), "less is better"


def test_a_sentence_names_what_is_told_apart_and_says_so_where_nothing_is() -> None:
    scores = worlds(Accuracy())
    sure, none = Difference((2.0,), *SURE, 0.01, 0.001), Difference((2.0,), *WIDE, 0.2, 0.3)
    here = Difference((-2.0,), -5.0, 1.0, -3.0, -1.0, 0.2, 0.001)
    assert outcomes({"A": (scores, sure), "B": (scores, none), "C": (scores, here)}) == (
        "better on A (+2.0 [+1.0, +3.0]) and worse on C (−2.0 [−3.0, −1.0] on these bases alone)"
    )
    assert outcomes({"B": (scores, none)}).startswith("not told apart on any of 1 scores (B +2.0 [−1.0")
    assert told(none, 0) == "+2 [−1, +5]"


def test_holm_is_over_all_that_are_shown_together() -> None:
    one = Difference((2.0,), *SURE, 0.02, 0.02)
    assert one.claim == "general" and [each.claim for each in adjusted([one] * 3)] == ["none"] * 3


def test_a_caption_is_cut_after_words() -> None:
    assert [cut("a dog  by\na house", words) for words in (0, 2, 9)] == [
        "a dog  by\na house",
        "a dog",
        "a dog by a house",
    ]


def test_judges_count_words() -> None:
    def graded(said: str, wanted: str = "a red dog <AND> grass <OR> lawn") -> list[float]:
        return [
            float(str(one.reply(Ask("i", "mmvet", None, "", {"reference": wanted, "response": said}))))
            for one in JUDGES
        ]

    assert graded("A red cat on a lawn.") == [0.8, 0.0, 0.3] and graded("lawn: a red dog")[:2] == [1.0, 1.0]
    assert graded("") == [0.0, 0.0, 0.0]
    asked = Ask("i", "mmhal", None, "", {"reference": "a dog", "response": "dog"})
    assert [one.reply(asked) for one in JUDGES] == ["Rating: 3", "Rating: 0", "Rating: 0"]
    assert isinstance(JUDGES[0].reply(replace(asked, purpose="shr")), Unscored)


def test_comparisons_that_are_not_one_on_several_bases_are_refused(tmp_path: Path) -> None:
    one = small(tmp_path, 0)
    for other, why in (
        (small(tmp_path / "same", 0), "two of these comparisons are of one base"),
        (small(tmp_path, 1, seeds=(0, 1, 2)), "has not the rows, seeds, benchmarks and testbed"),
        (small(tmp_path, 2, unfinished=[("nsft", "sqa")]), "is not complete; the command that began it goes on"),
    ):
        with opened([one, other]) as found, pytest.raises(UsageError, match=why):
            Stored(found)


def test_rows_that_a_question_asks_about_are_missed_by_name(tmp_path: Path) -> None:
    with (
        opened([small(tmp_path, 0)]) as found,
        pytest.raises(UsageError, match=r"no sft, sft:num_train_epochs=3, .* pope"),
    ):
        page.written(Stored(found), tmp_path / "no.md")


def test_what_was_spent_is_read_from_the_stages(tmp_path: Path) -> None:
    """The fake run builds without reading a token, but for nsft's 50."""
    with opened([small(tmp_path, 0, trained={"nsft": {"supervised_tokens": 70}})]) as found:
        assert Stored(found).spent[Place("nsft", "0", 1)] == Spent(70, 50 + 3 * 200)


@pytest.mark.heavy
def test_the_page_from_a_bundle_is_the_page_from_the_folders(tmp_path: Path) -> None:
    """Every sentence says synthetic; words around the answers stay."""
    pages = [tmp_path / name / "findings.md" for name in ("one", "two")]
    for made in pages:
        made.parent.mkdir()
        made.write_text(f"# Words\n{page.BEGIN}an earlier answer\n{page.END}after\n")
    with opened([fake(tmp_path, base) for base in range(2)]) as runs:
        page.written(Stored(runs), pages[0], replicates=60)
        write_bundle(tmp_path / "all.zip", runs)
    with opened([tmp_path / "all.zip"]) as again:
        page.written(Stored(again), pages[1], replicates=60)
    one, two = ({file.name: file.read_bytes() for file in made.parent.iterdir()} for made in pages)
    assert one == two and len(one) == 1 + len(page.QUESTIONS)
    text = pages[0].read_text()
    assert "an earlier answer" not in text and text.startswith("# Words\n") and text.endswith("after\n")
    assert text.count("(synthetic).") == 2 * len(page.QUESTIONS)
    assert f"2 bases × 2 splits × {len(ROWS)} rows" in text
