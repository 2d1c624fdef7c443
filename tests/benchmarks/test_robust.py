"""The robust twin of a metric reads what a response plainly says, whatever its form, and guesses nothing.

Over generated forms, by the score of real items: what the official parse takes for right is right (A), every form of
the right answer is (B), and what names two answers, denies the right one or says none is not (C).
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from layouts import LAYOUTS, OPTIONS, Files

from benchmarks import _parses, _wordings
from benchmarks._parses import choice, yes_or_no
from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark
from harness.contracts.records import Item, Response, Score

FIRST = ("mmstar", "cvbench")  # whose official rules look at the first character, whatever word it begins
LETTERED, ANSWERED = ("mmb", "mmb_cn", "seed", "sqa", *FIRST), ("pope", "mme", "amber")
EVERY = (*LETTERED, *ANSWERED, "gqa", "textvqa")
BY_LETTER = [
    "{L}", "({L})", "{L}.", "{L})", "{L}:", "Answer: {L}", "The answer is {L}", "The answer is ({L}).",
    "answer is {L}!", "{L}. {T}",
    "The correct option is {L} because it fits best", "Option {L}", "option {L} is correct",
    "{L} is the right answer.", "I would choose {L}", "My final answer is {L}", "It is {L}.", "I think it's {L}",
    "{L}: {T}", "{L}) {T}",
    "{L} {T}", "{L}, because of the colour", "\\boxed{{{L}}}", "<answer>{L}</answer>", "{L}\n\nThis one fits.",
    "答案是{L}", "答案：{L}", "答案为({L})", "选{L}", "应该选{L}", "故选{L}", "{L}选项", "选项{L}",
    "正确答案是{L}", "正确选项：{L}", "{L}是正确的", "我认为答案是{L}", "【{L}】", "「{L}」", "{L}、{T}", "回答：{L}",
]  # fmt: skip
BY_TEXT = ["{T}", "It is {T}", "the {T}", "The answer is {T}", "Answer: {T}", "答案是{T}", "应该是 {T}"]
YES = [
    "Yes", "yes", "YES", "Yes, it is", "Yes, there is one in the image", "Yes!", "Answer: Yes", "The answer is yes",
    "I think the answer is yes", "Yeah", "y", "是", "是的", "是的，图中有", "有", "对", "答案是：是", "存在",
    "There is one in the image", "图中有一个",
]  # fmt: skip
NO = [
    "No", "no", "NO", "No, it is not", "No, there is no such thing in the image", "No!", "Answer: No",
    "The answer is no", "I think the answer is no", "Nope", "n", "否", "不是", "没有", "没有，图中只有一只猫",
    "不", "答案是否", "答案：否",
    "There is no such thing", "There is not one in the image", "There isn't any", "图中没有", "不存在",
]  # fmt: skip
AROUND: Sequence[Callable[[str], str]] = (
    str, "**{}**".format, " {}\n".format, '"{}"'.format, "<b>{}</b>".format, "`{}`".format, "# {}".format, "{}.".format,
    "{}。".format, "\u200b{}".format, "“{}”".format,
    lambda text: re.sub(r"[A-Za-z():.,!]", lambda mark: chr(ord(mark[0]) + 0xFEE0), text),  # full width
)  # fmt: skip
TWO = [
    "{L} or {M}", "{L}/{M}", "({L}) or ({M})", "{L} and {M}", "both {L} and {M}", "{L}和{M}", "{L}或{M}",
    "选{L}或者{M}", "The answer is {L} or {M}.", "答案是{L}、{M}", "The answer is {L}. The answer is {M}",
    "either {T} or {U}", "{T}、{U}",
]  # fmt: skip
DENIED = [
    "It is not ({L})",
    "not {L}",
    "{L} is wrong",
    "不是{L}",
    "不选{L}",
    "{L}不对",
    "not {T}",
    "The answer is not {L}",
]
NONE = ["", "?", "I do not know", "None of them", "I cannot tell", "无法判断", "Because", "?!?", "e.g. this"]
NEITHER = [
    "", "Yes/No", "yes or no", "Yes and no", "No/Yes", "Yes, no", "是/否", "是或否", "是否", "I am not sure", "Maybe",
    "I don't know", "It cannot be determined", "unclear", "不确定", "无法判断", "A dog", "neither yes nor no",
]  # fmt: skip
WORDS = ["sky blue", "light green", "deep violet", "pink", "orange"]
MANY = settings(max_examples=150, deadline=None)


@cache
def made(name: str) -> tuple[Benchmark, tuple[Item, ...]]:
    """A benchmark and a few of its items, whose options no other word contains."""
    benchmark: Benchmark = plugins.make("benchmarks", name, Benchmark, OPTIONS.get(name, {}))
    with TemporaryDirectory() as folder:
        LAYOUTS[name](Path(folder))
        items = tuple(benchmark.items(Path(folder), Files()))
    for item in items if name in LETTERED else ():
        known = item.facts["choices"]
        listed = WORDS[: len(known)]
        item.facts["choices"] = listed if isinstance(known, list) else dict(zip(known, listed, strict=True))
    return benchmark, items


def right(name: str, item: Item, text: str, robust: bool = True) -> bool:
    """Whether the benchmark takes the response for right, by the robust parse or by the official one."""
    score = made(name)[0].score(item, Response(item.id, text, 1), None)
    assert isinstance(score, Score)
    marks = {"sqa": "all{}/sum", "seed": "all{}/sum", "gqa": "all{}/sum", "textvqa": "all{}/sum"}
    if name in ("mmb", "mmb_cn"):
        return score.parts["robust" if robust else "right"] > 0
    marks |= {"mmstar": "all{}/sum", "cvbench": "source{}/" + item.facts.get("source", "") + "/sum"}
    wanted = (marks[name],) if name in marks else ("tp{}", "tn{}", "right{}")
    ends = tuple(mark.format("@robust" if robust else "") for mark in wanted)
    return sum(value for part, value in score.parts.items() if part.endswith(ends)) > 0


def options(name: str, item: Item) -> dict[str, str]:
    choices = item.facts["choices"]
    return dict(zip("ABCDE", choices, strict=False)) if name == "sqa" else dict(choices)


def filled(name: str, item: Item, form: str) -> str:
    """A form with the right letter and text, and with another letter and text."""
    choices, answer = options(name, item), item.facts["answer"]
    letter = "ABCDE"[answer] if name == "sqa" else answer
    other = next(mark for mark in choices if mark != letter)
    return form.format(L=letter, T=choices[letter], M=other, U=choices[other])


def asked(names: Sequence[str]) -> st.SearchStrategy[tuple[str, Item]]:
    return st.sampled_from(names).flatmap(lambda name: st.tuples(st.just(name), st.sampled_from(made(name)[1])))


def is_no(item: Item) -> bool:
    return str(item.facts.get("label") or item.facts["answer"]).lower() == "no"


def official_forms(name: str, item: Item) -> list[str]:
    """Forms of the right answer, and what official parses have read in unlikely places."""
    if name in LETTERED:
        return [filled(name, item, form) for form in (*BY_LETTER, *BY_TEXT, "Hm. The answer is {L}. So be it.")]
    if name in ANSWERED:
        return [*NO, "none", "nothing"] if is_no(item) else YES
    answers = item.facts["answers"] if name == "textvqa" else [item.facts["answer"]]
    return [answers[0], answers[0].upper(), f"{answers[0]}.", f"The {answers[0]}"]


@MANY
@given(asked(EVERY), st.data())
def test_a_what_the_official_parse_reads_the_robust_one_reads(where: tuple[str, Item], data: st.DataObject) -> None:
    """Also behind other words."""
    name, item = where
    form = data.draw(st.sampled_from([form for form in official_forms(name, item) if len(form) > 1]))
    text = data.draw(st.sampled_from(["", "", "", "Well. ", "\n"])) + data.draw(st.sampled_from(AROUND))(form)
    if right(name, item, text, robust=False):
        assert right(name, item, text), text


@MANY
@given(
    asked(EVERY),
    st.lists(st.sampled_from("A B C D E a . , : ) ( no not yes No dog blue green pink stop exit".split()), max_size=5),
)
def test_a_a_right_answer_by_the_official_parse_is_lost_only_where_two_are_named_or_it_is_denied(
    where: tuple[str, Item], words: list[str]
) -> None:
    """POPE's official yes is no reading: it is what everything counts as that does not say no. Nor is the first letter
    of a word or sentence.
    """
    name, item = where
    text = " ".join(words)
    assume(name != "pope" or is_no(item) or text.lower().startswith("yes"))
    assume(name not in FIRST or not re.match(r"\w\s*\w", text))
    if right(name, item, text, robust=False) and not right(name, item, text):
        naming = {*"ABCDE", "blue", "green", "pink"} if name in LETTERED else {"yes", "no", "Yes", "No"}
        names = {word.upper() for word in words} & {name.upper() for name in naming}
        assert len(names) > 1 or {"no", "not", "No"} & set(words), text


@MANY
@given(asked(LETTERED), st.sampled_from(BY_LETTER + BY_TEXT), st.sampled_from(AROUND))
def test_b_every_form_of_the_right_option_is_read(
    where: tuple[str, Item], form: str, around: Callable[[str], str]
) -> None:
    text = around(filled(*where, form))
    assert right(*where, text), text


@MANY
@given(asked(ANSWERED), st.integers(0, 99), st.sampled_from(AROUND))
def test_b_every_form_of_yes_and_no_is_read(where: tuple[str, Item], number: int, around: Callable[[str], str]) -> None:
    forms = NO if is_no(where[1]) else YES
    text = around(forms[number % len(forms)])
    assert right(*where, text), text


@MANY
@given(asked(LETTERED), st.sampled_from(TWO + DENIED + NONE), st.sampled_from(AROUND[:7]))
def test_c_two_or_none_or_denied_is_not_read(where: tuple[str, Item], form: str, around: Callable[[str], str]) -> None:
    text = around(filled(*where, form))
    assert not right(*where, text), text


@pytest.mark.parametrize("text", NEITHER)
@pytest.mark.parametrize("name", ANSWERED)
def test_c_neither_yes_nor_no(name: str, text: str) -> None:
    """Whatever the right answer is."""
    assert not any(right(name, item, text) for item in made(name)[1])


CHOICES = {"A": "red", "B": "not red", "C": "dark red", "D": "3.5"}


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("It is not red.", "B"), ("dark red", "C"), ("It is dark red, I think", "C"), ("3.5", "D"), ("3", None),
        ("A dark red car", "C"), ("A red", "A"), ("It is not A but C", "C"), ("A is wrong. The answer is D.", "D"),
        ("A. red\nB. not red\nC. dark red\nThe answer is C.", "C"), ("A. red\nB. not red", None),
        ("The answer is C, not A.", "C"), ("A man in red", "A"), ("Vitamin B, perhaps", "B"), ("plan-B", None),
        ("Option C shows it. Option C.", "C"), ("答案不是A，是C", "C"), ("I can't say", None),
    ],
)  # fmt: skip
def test_the_longer_option_the_verdict_and_the_article(text: str, letter: str | None) -> None:
    assert choice(text, CHOICES) == letter


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes, the man is not wearing a hat.", "yes"), ("No, but there is a cat. Yes.", "no"), ("没错", "yes"),
        ("No doubt: yes", "no"), ("I see two dogs. So yes.", "yes"), ("Yesterday", None), ("Nobody", None),
        ("不错", "yes"), ("The image does not show it.", "no"), ("是不是狗？", None),
    ],
)  # fmt: skip
def test_yes_and_no_in_sentences(text: str, said: str | None) -> None:
    assert yes_or_no(text) == said


@pytest.mark.parametrize("piece", ["选 ", "(", "answer ", "A ", "是", "yes ", "\n?", "<a", "A, ", "not ", "'", "*A*"])
def test_a_hostile_length_takes_no_time(piece: str) -> None:
    """Patterns that look back over and over would take hours here, which the timeout of every test ends."""
    text = piece * (20_000 // len(piece))
    assert {choice(text, CHOICES), yes_or_no(text)} <= {*CHOICES, "yes", "no", None}


def old_letter(text: str) -> str | None:
    """What stood here before: a letter at the beginning, or the last "answer is X"."""
    first = re.match(r"\W*([A-Ea-e])(?:\s*$|\s*[.:,)])", text)
    said = re.findall(r"answer is:?\s*\(?([A-Ea-e])\b", text, re.IGNORECASE)
    found = first[1] if first else said[-1] if said else None
    return found.upper() if found else None


def test_the_former_parse_would_be_caught() -> None:
    missed = [form for form in BY_LETTER if old_letter(form.format(L="B", T="dog")) != "B"]
    assert len(missed) > len(BY_LETTER) / 3


@pytest.mark.parametrize(
    ("spoil", "test"),
    [
        (lambda patch: patch.setattr(_parses, "plain", str.strip), test_b_every_form_of_the_right_option_is_read),
        (lambda patch: patch.setattr(_parses, "_denied", lambda *_: False), test_c_two_or_none_or_denied_is_not_read),
        (lambda patch: patch.setattr(_wordings, "MORE", re.compile("(?!)")), test_c_two_or_none_or_denied_is_not_read),
    ],
    ids=["without widths and markdown", "without denial", "without a second letter"],
)  # fmt: skip
def test_mutants_are_caught(
    spoil: Callable[[pytest.MonkeyPatch], None], test: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch)
    with pytest.raises(AssertionError):
        test()
