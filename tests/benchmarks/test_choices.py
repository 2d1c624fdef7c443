"""MMStar, RealWorldQA and CV-Bench: rules against slow ways to the same, odd replies, files of all kinds."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import LAYOUTS, Files, in_base64, jsonl

from benchmarks import _choices, cvbench, mmstar, realworldqa
from harness.comparison.published import rescore
from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark
from harness.contracts.records import Item, Response, Score
from harness.system.errors import UsageError
from tests.laws import caught, law


def items(name: str, folder: Path, **options: Any) -> list[Item]:
    folder.mkdir(exist_ok=True)
    LAYOUTS[name](folder)
    return list(plugins.make("benchmarks", name, Benchmark, options).items(folder, Files()))


def parts(benchmark: Benchmark, item: Item, text: str) -> dict[str, float]:
    score = benchmark.score(item, Response(item.id, text, 1), None)
    assert isinstance(score, Score)
    return score.parts


# MMStar

PIECES = st.lists(
    st.sampled_from(["A", "b", "(", ")", " ", "\n", "option ", "Option", "the answer is ", ".", "x", "é"])
)


def official_mmstar(text: str, answer: str) -> bool:
    """Position after position, as the official script goes; what is not there ends it."""
    said = text.lower().strip().replace("\n", " ")
    for opening in ("", "(", "option ", "the answer is "):
        if said[: len(opening)] == opening:
            if len(said) == len(opening):
                return False
            if said[len(opening)] == answer.lower():
                return True
    return False


@law(150)
@given(PIECES.map("".join), st.sampled_from("ABCD"))
def test_mmstar_s_rule_position_by_position(text: str, answer: str) -> None:
    assert (mmstar.parse(text) == answer) == official_mmstar(text, answer)


def test_a_parse_that_looks_for_words_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: the letter must be a word."""
    found = re.compile(r"\W*(?:option |the answer is )?\W*([a-d])\b", re.IGNORECASE)

    def kinder(text: str) -> str:
        match = found.match(text)
        return match[1].upper() if match else ""

    monkeypatch.setattr(mmstar, "parse", kinder)
    caught(test_mmstar_s_rule_position_by_position)


@pytest.mark.parametrize(
    ("question", "choices"),
    [
        ("Which?\nOptions: A: red., B: a, b: c, C: blue", {"A": "red.", "B": "a, b: c", "C": "blue"}),
        ("Options: A: 1\nWhich?\nOptions: A: 2,B: 3", {"A": "2", "B": "3"}),
        ("Which?\nOptions: B: x, A: y", {"A": "y"}), ("A: or B: ?", {}), ("Options:", {}),
    ],
)  # fmt: skip
def test_mmstar_s_options_stand_in_the_question(question: str, choices: dict[str, str]) -> None:
    assert mmstar.options(question) == choices


def test_mmstar_s_options_may_have_columns(tmp_path: Path) -> None:
    heads = "index\tquestion\tA\tB\tC\timage\tanswer\tcategory\tl2_category"
    row = f"7.0\tWhich?\tred\tblue\t\t{in_base64(3)}\tb\tmath\tgeometry"
    (tmp_path / "MMStar.tsv").write_text(f"{heads}\n{row}\n")
    (item,) = mmstar.Mmstar().items(tmp_path, Files())
    assert (item.id, item.facts["answer"], item.facts["choices"]) == ("7", "B", {"A": "red", "B": "blue"})
    assert item.prompt.startswith("Which?\nA. red\nB. blue\nAnswer with")


@pytest.mark.parametrize(
    ("text", "right", "robust", "valid"),
    [("Because it is red", 1, 0, 1), ("b", 1, 1, 1), ("It is two", 0, 1, 0), ("(B)", 1, 1, 1), ("", 0, 0, 0)],
)
def test_the_first_letter_of_a_word_is_right_and_no_choice(
    text: str, right: float, robust: float, valid: float, tmp_path: Path
) -> None:
    """The right option is "B: two"."""
    made = mmstar.Mmstar()
    item = next(item for item in items("mmstar", tmp_path) if item.facts["choices"].get("B") == "two")
    item.facts["answer"] = "B"
    found = parts(made, item, text)
    assert (found["all/sum"], found["all@robust/sum"], found["valid/sum"]) == (right, robust, valid)


def sheet(folder: Path, said: Sequence[str], ending: str = "xlsx", **columns: Any) -> str:
    """The official sheet of predictions."""
    row = {"question": "Which?\nOptions: A: x, B: y", "answer": "A", "category": "math", "l2_category": "geometry"}
    rows = [{"index": number, **row, "bench": "MathVista", "prediction": text} for number, text in enumerate(said)]
    frame = pd.DataFrame([row | columns for row in rows])
    path = folder / f"said.{ending}"
    frame.to_excel(path, index=False) if ending == "xlsx" else frame.to_csv(path, index=False, sep="\t")
    return str(path)


@pytest.mark.parametrize("ending", ["xlsx", "tsv"])
def test_mmstar_s_official_figures_are_shares_of_the_whole_set(tmp_path: Path, ending: str) -> None:
    values = rescore("mmstar", [sheet(tmp_path, ["A", "b", "a dog", ""], ending)], [], []).metrics
    assert (values["final score"], values["math"], values["math(geometry)"]) == (2 / 1500, 2 / 250, 0.5)
    assert (values["mmstar/all"], values["mmstar/math"], values["mmstar/all@robust"]) == (50, 50, 25)
    assert values["mmstar/logical_reasoning"] != values["mmstar/logical_reasoning"]


def test_mmstar_wants_every_question_once(tmp_path: Path) -> None:
    LAYOUTS["mmstar"](tmp_path)
    questions = [str(tmp_path / "MMStar.tsv")]
    said = jsonl(tmp_path / "said.jsonl", [{"question_id": n, "text": "A"} for n in (0, 1, 1, 9)])
    with pytest.raises(UsageError) as caught:
        rescore("mmstar", [said], questions, [])
    for told in ("4 ids without a response: 2", "1 ids with more than one response: 1", "1 ids in the answers only: 9"):
        assert told in str(caught.value)
    done = rescore("mmstar", [said], questions, [], allow_partial=True)
    assert (done.n, done.unscored, done.metrics["final score"]) == (6, 0, 1 / 1500)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"answer": "F"}, "the answer 'F', which is no letter"), ({"answer": ""}, "which is no letter"),
        ({"category": "maths"}, "of the capability 'maths'"), ({"index": ""}, "record 1 of .* has no id"),
    ],
)  # fmt: skip
def test_a_sheet_that_is_no_mmstar_is_an_error(tmp_path: Path, columns: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        rescore("mmstar", [sheet(tmp_path, ["A"], **columns)], [], [])


def test_a_picture_that_is_none_is_an_error(tmp_path: Path) -> None:
    LAYOUTS["mmstar"](tmp_path)
    path = tmp_path / "MMStar.tsv"
    for spoilt in ("", "no base64", "é"):
        text = re.sub(r"(\t)[\w+/=]{60,}(\t)", rf"\g<1>{spoilt}\g<2>", path.read_text(), count=1)
        (tmp_path / "x").mkdir(exist_ok=True)
        (tmp_path / "x" / "MMStar.tsv").write_text(text)
        with pytest.raises(UsageError, match="MMStar question 0 has no base64 image"):
            list(mmstar.Mmstar().items(tmp_path / "x", Files()))


# VLMEvalKit's reading

CHOICES = {"A": "red", "B": "dark red", "C": "3.5"}


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"), ("(B).", "B"), ("The answer is B", "B"), ("B, as it is so very dark", "Z"), ("A or B", "Z"),
        ("It is 3.5", "C"), ("dark red", "Z"), ("red", "A"), ("Z", "Z"), ("b", "Z"), ("", "Z"),
        ("Cannot determine the answer B", "Z"), ("3.5 " * 20, "Z"),
    ],
)  # fmt: skip
def test_vlmevalkit_reads_one_letter_near_the_end_or_one_option(text: str, letter: str) -> None:
    """Both "red" and "dark red" stand in "dark red", and options of 15 characters allow for no more than 30."""
    assert _choices.inferred(text, CHOICES) == letter


# RealWorldQA


@pytest.mark.parametrize(
    ("text", "exact", "cambrian"),
    [
        ("B", "b", "b"), (" B. ", "b", "b"), ("(B)", "(b)", "(b)"), ("The answer is B.", "the answer is b", "b"),
        ("Answer: 3 cars", "answer: 3 cars", "3"), ("3 cars", "3 cars", "3"), ("", "", ""),
        ("answer is", "answer is", ""), ("The answer is: 3", "the answer is: 3", ":"),
    ],
)  # fmt: skip
def test_realworldqa_s_two_parses(text: str, exact: str, cambrian: str) -> None:
    assert (realworldqa.parse(text), realworldqa.parse_cambrian(text)) == (exact, cambrian)


def test_realworldqa_has_options_in_the_question_or_in_columns(tmp_path: Path) -> None:
    inside, beside, number, yes_no = items("realworldqa", tmp_path)
    assert inside.facts["choices"] == {"A": "Left", "B": "Straight", "C": "Right"}
    assert beside.prompt == f"Which is nearer?\nA. The car\nB. The bus\n{realworldqa.LETTER}"
    assert number.facts["choices"] == yes_no.facts["choices"] == {}
    llava = items("realworldqa", tmp_path, wording="llava")
    assert llava[0].prompt.endswith("C. Right\nAnswer with the option's letter from the given choices directly.")
    assert llava[2].prompt == "How many?\nAnswer the question using a single word or phrase."


@pytest.mark.parametrize(
    ("at", "text", "exact", "robust", "kit"),
    [
        (0, "b.", 1, 1, None), (0, "Straight", 0, 1, 1), (0, "The answer is B", 0, 1, 1), (0, "A or B", 0, 0, 0),
        (2, "3", 1, 1, None), (2, "three", 0, 1, None), (2, "There are 3 cars.", 0, 1, None), (2, "not 3", 0, 0, None),
        (3, "no", 1, 1, None), (3, "No, it is dry", 0, 1, None), (3, "There is no doubt: yes", 0, 0, None),
    ],
)  # fmt: skip
def test_realworldqa_by_each_rule(
    tmp_path: Path, at: int, text: str, exact: float, robust: float, kit: float | None
) -> None:
    found = parts(realworldqa.RealWorldQa(), items("realworldqa", tmp_path)[at], text)
    assert (found["exact/sum"], found["exact@robust/sum"]) == (exact, robust)
    assert kit is None or found["vlmevalkit/sum"] == kit


def test_realworldqa_reads_cambrian_s_answers_alone(tmp_path: Path) -> None:
    """Twice B, of which an exact match takes the bare one; a number; options are read off the prompt."""
    prompt = "USER: <image>\nWhere?\nA. Left\nB. Right\n"
    rows = [(prompt, "B"), (prompt, "The answer is B."), ("How many?\n", "3 cars")]
    said = [
        {"question_id": n, "prompt": asked, "answer": text, "gt_answer": "3" if n == 2 else "B"}
        for n, (asked, text) in enumerate(rows)
    ]
    values = rescore("realworldqa", [jsonl(tmp_path / "said.jsonl", said)], [], []).metrics
    assert (values["accuracy"], values["correct"], values["exact_match"]) == (100, 3, 2 / 3)
    assert values["realworldqa/exact"] == pytest.approx(100 / 3)
    assert (values["realworldqa/letter"], values["realworldqa/vlmevalkit"]) == (50, 100)
    with pytest.raises(UsageError, match="the questions hold 0 more than once"):
        rescore("realworldqa", [jsonl(tmp_path / "twice.jsonl", [*said, said[0]])], [], [])
    with pytest.raises(UsageError, match=r"record 1 of .* has no prompt"):
        rescore("realworldqa", [jsonl(tmp_path / "bare.jsonl", [{"question_id": 0, "text": "B"}])], [], [])


def test_realworldqa_s_questions_may_be_the_folder_of_its_parquet_files(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "data").mkdir()
    row = {"question": "Where?\nA. Left\nB. Right\n" + realworldqa.LETTER, "answer": "B"}
    for part in range(2):
        image = [{"bytes": b"", "path": None}] * 2
        frame = pd.DataFrame({"image": image, **{name: [text] * 2 for name, text in row.items()}})
        frame.to_parquet(tmp_path / "data" / f"test-0000{part}-of-00002.parquet")
    said = jsonl(tmp_path / "said.jsonl", [{"question_id": n, "text": "AB"[n % 2]} for n in range(4)])
    assert rescore("realworldqa", [said], [str(tmp_path / "data")], []).metrics["exact_match"] == 0.5


# CV-Bench


def official_cvbench(text: str) -> str:
    """Cambrian's steps one by one."""
    text = text.lower().strip()
    for keyword in ("answer is", "answer is:", "answer:"):
        while keyword in text:
            text = text[text.index(keyword) + len(keyword) :]
    text = text.strip()
    while text[-1:] == ".":
        text = text[:-1]
    while text[:1] == "(":
        text = text[1:]
    while text[-1:] == ")":
        text = text[:-1]
    return text[:1].upper()


@law(150)
@given(
    st.lists(st.sampled_from(["A", "(b)", ".", " ", ":", "answer is", "Answer:", "(", ")", "the ", "\n"])).map("".join)
)
def test_cvbench_s_rule_step_by_step(text: str) -> None:
    assert cvbench.parse(text) == official_cvbench(text)


def test_a_parse_that_drops_a_colon_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: "The answer is: B" is B, as everybody would have it."""
    real = cvbench.parse
    monkeypatch.setattr(cvbench, "parse", lambda text: real(text.replace(":", "")))
    caught(test_cvbench_s_rule_step_by_step)


def cambrian(folder: Path, right: dict[str, Sequence[bool]]) -> list[str]:
    """Cambrian's answer files: source -> whether each answer is right."""
    given = []
    for source, known in right.items():
        rows = [
            {"questionId": n, "prompt": "Which?", "answer": "A" if good else "(B) x", "gt_answer": "(A)",
             "category": "Count", "options": ["one", "two"], "model_id": "m"}
            for n, good in enumerate(known)
        ]  # fmt: skip
        given.append(f"{source}={jsonl(folder / f'{source}.jsonl', rows)}")
    return given


def test_cvbench_combines_sources_and_not_questions(tmp_path: Path) -> None:
    """1 of 3, 1 of 1 and 1 of 2: 2D is 2/3, 3D half, the whole 7/12; of all six questions half are right."""
    right = {"ADE20K": [True, False, False], "COCO": [True], "Omni3D": [True, False]}
    values = rescore("cvbench", cambrian(tmp_path, right), [], []).metrics
    assert (values["CV-Bench Accuracy"], values["2D Accuracy"], values["3D Accuracy"]) == (0.5833, 0.6667, 0.5)
    assert (values["ADE20K Accuracy"], values["cvbench/lmms_eval"], values["cvbench/valid"]) == (0.3333, 50, 100)
    assert values["cvbench/cambrian"] == values["cvbench/vlmevalkit"] == pytest.approx(700 / 12)


def test_a_mean_over_questions_would_be_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flat(sums: Any, kind: str) -> tuple[Any, ...]:
        mine = {name: value for name, value in sums.items() if name.startswith(f"{kind}/")}
        right, n = (sum(value for name, value in mine.items() if name.endswith(end)) for end in ("/sum", "/n"))
        return (100 * right / n,) * 3

    monkeypatch.setattr(cvbench, "_combined", flat)
    with pytest.raises(AssertionError):
        test_cvbench_combines_sources_and_not_questions(tmp_path)


def test_cvbench_asks_in_the_words_of_the_data_or_llava_s(tmp_path: Path) -> None:
    (asked, *_), (llava, *_) = items("cvbench", tmp_path), items("cvbench", tmp_path, wording="llava")
    assert asked.prompt.startswith("Which? Select from the following choices.\n(A) 3\n(B) 2\n(C) 1\n(D) 0\nAnswer with")
    assert llava.prompt.startswith("Which?\nA. 3\nB. 2\nC. 1\nD. 0\nAnswer with")


def test_cvbench_without_a_source_has_no_figure(tmp_path: Path) -> None:
    values = rescore("cvbench", cambrian(tmp_path, {"ADE20K": [True], "Omni3D": [True]}), [], []).metrics
    assert values["cvbench/3d"] == 100
    assert str(values["cvbench/cambrian"]) == str(values["CV-Bench Accuracy"]) == "nan"


def test_cvbench_s_answers_by_idx_beside_its_questions(tmp_path: Path) -> None:
    LAYOUTS["cvbench"](tmp_path)
    asked = [f"{part}={tmp_path / f'test_{part}.jsonl'}" for part in ("2d", "3d")]
    said = [{"idx": n, "text": "ABCBA"[n]} for n in range(5)]
    assert rescore("cvbench", [jsonl(tmp_path / "said.jsonl", said)], asked, []).metrics["cvbench/cambrian"] == 100
    with pytest.raises(UsageError, match="1 ids without a response: 4"):
        rescore("cvbench", [jsonl(tmp_path / "few.jsonl", said[:4])], asked, [])
    with pytest.raises(UsageError, match="without --questions, CV-Bench's answers are named ADE20K=PATH"):
        rescore("cvbench", [jsonl(tmp_path / "said.jsonl", said)], [], [])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"answer": "(A)"', '"answer": "(E)"', "which is none of its choices"),
        ('"source": "COCO"', '"source": "coco"', "is from 'coco', not from"),
        ('"choices": ["3", "2", "1", "0"]', '"choices": "3210"', "should have two to eight choices"),
        ('"filename": ', '"file": ', "record 1 of .* has no filename"),
    ],
)
def test_a_question_that_is_no_cvbench_is_an_error(tmp_path: Path, old: str, new: str, says: str) -> None:
    LAYOUTS["cvbench"](tmp_path)
    path = tmp_path / "test_2d.jsonl"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UsageError, match=says):
        list(cvbench.CvBench().items(tmp_path, Files()))
