"""What must hold between the scores of responses, whatever they say: order, copies, parts, bounds, one made perfect.

And per benchmark which changes of a response's form its official rule does not see, and which it does: a parse that is
kinder than the official one gives another table than everybody's.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from layouts import LAYOUTS, OPTIONS, Files, Fixed, perfect

from benchmarks import chair, gqa, mme, pope, sqa, textvqa
from benchmarks.mme import Mme
from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark, Unit, computed, totals
from harness.contracts.records import Item, Response, Score
from harness.scoring.limit import stratified
from tests.laws import caught, law

EVERY = [*LAYOUTS]
RULED = ["sqa", "gqa", "textvqa", "mme", "mmb", "mmb_cn", "seed", "pope", "mmstar", "realworldqa", "cvbench"]
"""Scored by a rule on each response alone, where right is right."""
JUNK = ["", "no", "Yes", "yes.", "A", "B", "The answer is C.", "a dog and a cat", "red", "stop", "?", "I cannot say\n"]


@cache
def made(name: str) -> tuple[Benchmark, tuple[Item, ...]]:
    benchmark: Benchmark = plugins.make("benchmarks", name, Benchmark, OPTIONS.get(name, {}))
    with TemporaryDirectory() as folder:
        LAYOUTS[name](Path(folder))
        return benchmark, tuple(benchmark.items(Path(folder), Files()))


def said(name: str, seed: int) -> list[str]:
    """Responses, some perfect, some of another item, some junk."""
    rng = random.Random(seed)
    _, items = made(name)
    right = [perfect(name, item) for item in items]
    return [rng.choice([own, own, rng.choice(right), rng.choice(JUNK)]) for own in right]


def scored(name: str, texts: Sequence[str]) -> list[tuple[Item, Score]]:
    benchmark, items = made(name)
    found = []
    for item, text in zip(items, texts, strict=True):
        score = benchmark.score(item, Response(item.id, text, 1), Fixed())
        assume(isinstance(score, Score))
        assert isinstance(score, Score)
        found.append((item, score))
    return found


def units(name: str, texts: Sequence[str]) -> list[Unit]:
    return made(name)[0].units(scored(name, texts))


def metrics(name: str, of: Sequence[Unit]) -> dict[str, float]:
    """Every metric; a sum that lies off its own scale is an error."""
    return computed(made(name)[0], totals(of))


ASKED = st.tuples(st.sampled_from(EVERY), st.integers(0, 10**6))


@law(120)
@given(ASKED, st.randoms(use_true_random=False))
def test_the_order_of_items_is_nothing(asked: tuple[str, int], rng: Any) -> None:
    """To the last bit, in the units and in what is computed of them."""
    name, seed = asked
    whole = scored(name, said(name, seed))
    turned = rng.sample(whole, len(whole))
    first, second = (made(name)[0].units(some) for some in (whole, turned))
    assert {unit.id: unit for unit in first} == {unit.id: unit for unit in second}
    assert totals(first) == totals(second)


@law(80)
@given(ASKED, st.integers(2, 4))
def test_every_item_several_times_is_the_same_benchmark(asked: tuple[str, int], times: int) -> None:
    """No metric counts how many items there are; and the lowest and the highest tenth of copies are the same tenth."""
    name, seed = asked
    once = units(name, said(name, seed))
    many = [replace(unit, id=f"{unit.id} {copy}") for unit in once for copy in range(times)]
    one, several = metrics(name, once), metrics(name, many)
    for metric, value in one.items():
        if "best10" not in metric and "worst10" not in metric:
            assert several[metric] == pytest.approx(value, nan_ok=True), metric


@law(80)
@given(ASKED, st.integers(0, 10**6))
def test_parts_add_up(asked: tuple[str, int], cut: int) -> None:
    """Whichever units are summed first: that is what a bootstrap and a subset stand on."""
    name, seed = asked
    whole = units(name, said(name, seed))
    rng = random.Random(cut)
    first = [unit for unit in whole if rng.random() < 0.5]
    second = [unit for unit in whole if unit not in first]
    sums = [totals(some) for some in (first, second)]
    together = {part: sums[0].get(part, 0.0) + sums[1].get(part, 0.0) for part in {*sums[0], *sums[1]}}
    assert together == pytest.approx(totals(whole))
    assert all(number >= 0 for unit in whole for number in unit.parts.values())


@law(120)
@given(st.sampled_from(RULED), st.integers(0, 10**6), st.integers(0, 99))
def test_a_response_made_perfect_lowers_no_score(name: str, seed: int, at: int) -> None:
    """Neither the official one nor the robust one, nor the share that can be read."""
    texts = said(name, seed)
    benchmark, items = made(name)
    at %= len(items)
    better = [*texts[:at], perfect(name, items[at]), *texts[at + 1 :]]
    before, after = (metrics(name, units(name, some)) for some in (texts, better))
    for metric in benchmark.metrics:
        if before[metric.id] == before[metric.id]:
            assert after[metric.id] >= before[metric.id] - 1e-9, metric.id


@law(120)
@given(st.sampled_from(RULED), st.integers(0, 10**6))
def test_the_robust_twin_is_never_below_the_official_one_on_clear_responses(name: str, seed: int) -> None:
    """Right answers in other forms and junk: what the official parse takes for right, the robust one does too."""
    rng = random.Random(seed)
    texts = [
        rng.choice([own, f"{own}.", f" {own}", own.lower(), own.upper(), "?"])
        for own in (perfect(name, item) for item in made(name)[1])
    ]
    assume(name != "pope")  # whose official yes is what everything counts as
    found = metrics(name, units(name, texts))
    column = made(name)[0].metrics[0].id
    assert found[f"{column}@robust"] >= found[column] - 1e-9


@law(60)
@given(ASKED)
def test_a_unit_without_its_score_is_no_unit(asked: tuple[str, int]) -> None:
    """Leaving items out leaves their units out or makes them smaller, and touches no other."""
    name, seed = asked
    whole = scored(name, said(name, seed))
    assume(len(whole) > 2)
    gone = whole[seed % len(whole)][0]
    rest = made(name)[0].units([one for one in whole if one[0] is not gone])
    before = {unit.id: unit for unit in made(name)[0].units(whole)}
    for unit in rest:
        assert unit == before[unit.id] or unit.id == gone.unit
    assert {unit.id for unit in rest} >= before.keys() - {gone.unit}
    assert {unit.cluster for unit in rest} <= {unit.cluster for unit in before.values()}


class Averaging(Mme):
    """A mutant: accuracy+ by whichever of an image's questions there are."""

    def units(self, scored: Sequence[tuple[Item, Score]]) -> list[Unit]:
        return [
            replace(unit, id=item.id, parts=unit.parts)
            for item, score in scored
            for unit in Mme.units(self, [(item, score)])
        ]


def test_a_score_that_depends_on_how_many_there_are_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: a sum where a share belongs."""
    real = gqa.Gqa.compute
    monkeypatch.setattr(gqa.Gqa, "compute", lambda self, sums: {**real(self, sums), "gqa/count": sums["all/sum"]})
    caught(test_every_item_several_times_is_the_same_benchmark)


def test_pairs_that_are_scored_one_by_one_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        globals(), "made", cache(lambda name: (Averaging(), real(name)[1]) if name == "mme" else real(name))
    )
    caught(test_a_unit_without_its_score_is_no_unit)


real = made


# Forms that the official rule sees, and those that it does not

SAME: dict[str, dict[str, Callable[[str], str]]] = {
    "pope": {"full stop": "{}.".format, "sentences behind": "{}. It may be red.".format, "commas": "{},".format,
             "words around": "I say {} to it".format, "blank before": " {}".format},
    "mme": {"case": str.upper, "full stop": "{}.".format, "words behind": "{}, it is".format,
            "blank before": " {}".format},
    "gqa": {"case": str.upper, "full stop": "{}.".format, "stops": "{}...".format},
    "textvqa": {"case": str.upper, "full stop": "{}.".format, "article": "the {}".format, "blanks": "  {} ".format,
                "line": "{}\n".format, "question mark": "{}?".format, "comma": "{},".format},
    "sqa": {"words behind": "{}. because it is".format, "sentence": "The answer is {}.".format,
            "behind thoughts": "It purrs. The answer is {}.".format},
}  # fmt: skip
OTHER: dict[str, dict[str, Callable[[str], str]]] = {
    "mme": {"words before": "It is {}".format, "far behind": "     {}".format},
    "gqa": {"words": "it is {}".format, "blank before": " {}".format, "blank behind": "{} ".format,
            "mark": "{}!".format},
    "textvqa": {"words": "it says {} here".format, "twice": "{0} {0}".format},
    "sqa": {"small": str.lower, "blank before": " {}".format, "full stop": "{}.".format, "bracket": "({})".format,
            "twice": "The answer is {0}. The answer is {0}.".format, "colon": "Answer: {}".format},
}  # fmt: skip
NO_ONLY = {"words around": "no", "blank before": "no"}


def right(name: str, item: Item, text: str) -> float:
    """What the response counts for by the official rule."""
    [unit] = made(name)[0].units([(item, score_of(name, item, text))]) or [Unit("", "", {})]
    ends = {"pope": ("/tp", "/tn"), "mme": ("/right",), "sqa": ("all/sum",)}.get(name, ("all/sum",))
    return sum(value for part, value in unit.parts.items() if part.endswith(ends))


def score_of(name: str, item: Item, text: str) -> Score:
    score = made(name)[0].score(item, Response(item.id, text, 1), None)
    assert isinstance(score, Score)
    return score


@pytest.mark.parametrize(("name", "form"), [(name, form) for name, forms in SAME.items() for form in forms])
def test_a_form_that_the_official_rule_does_not_see(name: str, form: str) -> None:
    for item in made(name)[1]:
        text = perfect(name, item)
        assert right(name, item, text) == 1
        assert right(name, item, SAME[name][form](text)) == 1, SAME[name][form](text)


@pytest.mark.parametrize(("name", "form"), [(name, form) for name, forms in OTHER.items() for form in forms])
def test_a_form_that_the_official_rule_takes_for_wrong(name: str, form: str) -> None:
    """Kinder would be another benchmark; what it owes to the form is told by the robust twin."""
    for item in made(name)[1]:
        text = OTHER[name][form](perfect(name, item))
        assert right(name, item, text) == 0, text


def test_a_denial_in_capitals_or_behind_a_line_end_is_a_yes_to_pope() -> None:
    """The official parse knows "No", "no" and "not" between blanks and nothing else."""
    for text, read in (("NO", "yes"), ("no\n", "yes"), ("Nope", "yes"), ("not", "no"), ("Yes. No", "yes"), ("", "yes")):
        assert pope.parse(text) == read, text


@pytest.mark.parametrize(
    ("module", "name"), [(gqa, "gqa"), (sqa, "sqa"), (mme, "mme")], ids=lambda one: one if isinstance(one, str) else ""
)
def test_a_kinder_parse_would_be_caught(module: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant per benchmark that strips, ignores case and looks for the answer anywhere."""
    real_parse = module.parse

    def kinder(text: str) -> Any:
        bare = text.strip().strip("().! ")
        words = [real_parse(word) for word in (bare, bare.upper(), bare.split(" ")[-1], bare.split(" ")[0])]
        return next((word for word in words if word not in (None, "other")), real_parse(text))

    monkeypatch.setattr(module, "parse", kinder)
    missed = 0
    for form in OTHER[name]:
        try:
            test_a_form_that_the_official_rule_takes_for_wrong(name, form)
        except AssertionError:
            missed += 1
    assert missed


# Rules against slow ways to the same

WORDS = st.lists(st.sampled_from("no No not NO yes Yes a dog, . no. not, yes. ,no , is".split()), max_size=7)


@law(200)
@given(WORDS, st.sampled_from([" ", ". ", "\n", ", "]))
def test_pope_s_rule_word_by_word(words: list[str], glue: str) -> None:
    """The first sentence, commas gone, blanks between: does one of three words stand there?"""
    text = glue.join(words)
    sentence = text[: text.index(".")] if "." in text else text
    sentence = "".join(character for character in sentence if character != ",")
    found, word = [], ""
    for character in [*sentence, " "]:
        if character == " ":
            found.append(word)
            word = ""
        else:
            word += character
    assert pope.parse(text) == ("no" if any(one in ("No", "not", "no") for one in found) else "yes")


@law(200)
@given(st.lists(st.booleans(), min_size=10, max_size=10))
def test_vqa_accuracy_is_the_mean_over_nine_annotators(gave: list[bool]) -> None:
    """Leave each of the ten out: min(1, agreeing / 3) of the others, averaged."""
    answers = ["stop" if one else "exit" for one in gave]
    by_hand = sum(min(1.0, sum(gave[:at] + gave[at + 1 :]) / 3) for at in range(10)) / 10
    assert textvqa.accuracy("Stop.", answers) == pytest.approx(by_hand)
    assert textvqa.accuracy("Stop.", answers[::-1]) == pytest.approx(by_hand)
    assert textvqa.accuracy_robust("It says stop here", answers) >= by_hand - 1e-12
    assert textvqa.accuracy("neither", answers) == 0


@law(150)
@given(st.text("aAn the?!.,'s1-\n\t two", max_size=20))
def test_the_answer_processor_knows_no_case_no_article_and_no_comma(text: str) -> None:
    once = textvqa.process(text)
    assert once == once.lower() and "," not in once and "\n" not in once
    assert not {"a", "an", "the"} & set(once.split(" "))
    assert textvqa.process(text.upper()) == textvqa.process(text.lower())


Grid = Mapping[str, Mapping[int, tuple[bool, bool]]]
GRIDS = st.dictionaries(
    st.sampled_from([*mme.PERCEPTION[:4], *mme.COGNITION[:2]]),
    st.dictionaries(st.integers(0, 5), st.tuples(st.booleans(), st.booleans()), min_size=1),
    min_size=1,
)


@law(120)
@given(GRIDS)
def test_mme_is_accuracy_plus_accuracy_of_pairs_by_hand(grid: Grid) -> None:
    """Per subtask the share of right answers and of pictures with both right, a hundred each; sums over subtasks."""
    benchmark = Mme(subtasks=tuple(grid))
    pairs = []
    for task, pictures in grid.items():
        for picture, both in pictures.items():
            for number, good in enumerate(both):
                unit, facts = f"{task}/{picture}", {"subtask": task, "answer": ("yes", "no")[number]}
                item = Item(f"{unit}/{number}", None, "?", unit, facts)
                text = facts["answer"] if good else ("yes", "no")[1 - number]
                score = benchmark.score(item, Response(item.id, text, 1), None)
                assert isinstance(score, Score)
                pairs.append((item, score))
    found = benchmark.compute(totals(benchmark.units(pairs)))
    by_hand = {
        task: 100 * sum(map(sum, pictures.values())) / (2 * len(pictures))
        + 100 * sum(all(both) for both in pictures.values()) / len(pictures)
        for task, pictures in grid.items()
    }
    for task, value in by_hand.items():
        assert found[f"mme/subtask/{task}"] == pytest.approx(value)
    for name, tasks in (("perception", mme.PERCEPTION), ("cognition", mme.COGNITION)):
        there = [by_hand[task] for task in tasks if task in by_hand]
        if there:
            assert found[f"mme/{name}"] == pytest.approx(sum(there))


OBJECTS = ["dog", "cat", "chair", "pizza", "car"]


@law(120)
@given(
    st.lists(st.tuples(st.sets(st.sampled_from(OBJECTS)), st.lists(st.sampled_from(OBJECTS), max_size=6)), min_size=1)
)
def test_chair_by_hand(captions: list[tuple[set[str], list[str]]]) -> None:
    """Mentions over the corpus, captions with a wrong one, objects found: counted one by one."""
    benchmark = chair.Chair()
    pairs, wrong, mentions, spoilt, found, there = [], 0, 0, 0, 0, 0
    for number, (objects, named) in enumerate(captions):
        item = Item(f"{number}", None, "?", f"{number}", {"objects": sorted(objects)})
        text = ". ".join(f"there is a {one}" for one in named)
        score = benchmark.score(item, Response(item.id, text, 1), None)
        assert isinstance(score, Score)
        pairs.append((item, score))
        made_up = sum(one not in objects for one in named)
        wrong, mentions, spoilt = wrong + made_up, mentions + len(named), spoilt + bool(made_up)
        found, there = found + len(objects & {*named}), there + len(objects)
    values = benchmark.compute(totals(benchmark.units(pairs)))
    i, s = (100 * wrong / mentions if mentions else float("nan")), 100 * spoilt / len(captions)
    assert values["chair/i@noun"] == pytest.approx(i, nan_ok=True)
    assert values["chair/s@noun"] == pytest.approx(s)
    assert values["chair/mean_is@noun"] == pytest.approx((i + s) / 2, nan_ok=True)
    assert values["chair/recall@noun"] == pytest.approx(100 * found / there if there else float("nan"), nan_ok=True)


def test_chair_over_captions_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: the mean of each caption's share, where the official one is over the corpus."""
    real_score = chair.Chair.score

    def wrong(self: chair.Chair, item: Item, response: Response, judge: Any) -> Any:
        score = real_score(self, item, response, judge)
        assert isinstance(score, Score)
        n = score.parts["mentions"] or 1.0
        return replace(score, parts={**score.parts, "made_up": score.parts["made_up"] / n, "mentions": 1.0})

    monkeypatch.setattr(chair.Chair, "score", wrong)
    caught(test_chair_by_hand)


# What `--limit` draws


@st.composite
def questions(draw: st.DrawFn) -> list[Item]:
    """Units of one to four items in a few strata."""
    items = []
    for number in range(draw(st.integers(1, 25))):
        kind = draw(st.sampled_from(["x", "x", "y", "z"]))
        for part in range(draw(st.integers(1, 4))):
            items.append(Item(f"{number}/{part}", None, "?", f"u{number}", {"kind": kind}))
    return items


def kind_of(item: Item) -> str:
    return str(item.facts["kind"])


@law(150)
@given(questions(), st.integers(1, 60), st.randoms(use_true_random=False))
def test_a_limit_draws_whole_units_of_every_stratum_whatever_the_order(items: list[Item], limit: int, rng: Any) -> None:
    drawn = stratified(items, limit, kind_of)
    assert drawn == [item for item in items if item in drawn]
    by_unit = {unit: [item for item in items if item.unit == unit] for unit in {item.unit for item in drawn}}
    assert all(item in drawn for whole in by_unit.values() for item in whole)
    assert drawn and (len(drawn) <= limit or len(by_unit) == 1)
    turned = stratified(rng.sample(items, len(items)), limit, kind_of)
    assert {item.id for item in turned} == {item.id for item in drawn}
    assert {item.id for item in drawn} <= {item.id for item in stratified(items, limit + 3, kind_of)}
    kinds = {kind_of(item) for item in items}
    if limit >= 4 * len(kinds):
        assert {kind_of(item) for item in drawn} == kinds
    assert stratified(items, len(items), kind_of) == items


def test_a_limit_that_takes_the_first_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "stratified", lambda items, limit, stratum: items[:limit])
    caught(test_a_limit_draws_whole_units_of_every_stratum_whatever_the_order)
