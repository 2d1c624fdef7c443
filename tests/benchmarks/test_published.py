"""Published answers in each benchmark's official formats, small and made up here, with figures worked out by hand."""

import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import answers, jsonl
from official_files import Script, computed

from benchmarks import _mmbench
from benchmarks.mmb import Mmb
from benchmarks.mme import COGNITION, PERCEPTION, QUESTIONS
from harness.comparison.published import rescore
from harness.contracts.benchmark import totals
from harness.contracts.records import Item, Response, Score, Unscored
from harness.system.errors import UsageError

Row = dict[str, Any]


def mme_folder(folder: Path, response: str = "Yes") -> Path:
    """The release's numbers of questions, Yes and No for each image, one response to all."""
    folder.mkdir()
    for name, count in QUESTIONS.items():
        lines = [f"{n // 2}.jpg\tIs it {n % 2}?\t{('Yes', 'No')[n % 2]}\t{response}" for n in range(count)]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_mme_yes_to_everything_is_half_right_everywhere(tmp_path: Path) -> None:
    values = rescore("mme", [str(mme_folder(tmp_path / "said", "yes\t."))], [], []).metrics
    assert (values["perception"], values["cognition"], values["existence"], values["mme/accuracy+"]) == (
        500,
        200,
        50,
        0,
    )


def test_mme_wants_every_line_but_in_any_order(tmp_path: Path) -> None:
    folder = mme_folder(tmp_path / "said")
    expected = rescore("mme", [str(folder)], [], []).metrics
    lines = (folder / "OCR.txt").read_text().splitlines()
    random.Random(0).shuffle(lines)
    (folder / "OCR.txt").write_text("\r\n".join(lines))
    assert rescore("mme", [str(folder)], [], []).metrics == expected
    (folder / "OCR.txt").write_text("\n".join(lines[1:]))
    with pytest.raises(UsageError, match="1 ids without a response: OCR/absent 1"):
        rescore("mme", [str(folder)], [], [])
    partial = rescore("mme", [str(folder)], [], [], allow_partial=True)
    assert (partial.n, partial.unscored) == (2373, 1)
    (folder / "OCR.txt").write_text("\n".join([*lines, lines[0]]))
    with pytest.raises(UsageError, match="1 ids with more than one response: OCR/"):
        rescore("mme", [str(folder)], [], [])
    (folder / "OCR.txt").write_text("image\tquestion\tYes\n")
    with pytest.raises(UsageError, match=r"line 1 of .*OCR.txt has 3 fields"):
        rescore("mme", [str(folder)], [], [])
    (folder / "OCR.txt").unlink()
    with pytest.raises(UsageError, match=r"there is no .*OCR.txt"):
        rescore("mme", [str(folder)], [], [])
    some = [name for name in PERCEPTION + COGNITION if name != "OCR"]
    values = rescore("mme", [str(folder)], [], [f"subtasks={json.dumps(some)}"]).metrics
    assert (values["perception"], values["mme/perception_max"]) == (450, 1800)


def circular(said: dict[int, str]) -> list[Row]:
    """Three questions: of 5 the last option never moves, 6 has two options, 7 has one pass for each of three."""
    rows = []
    for question, options, moving in ((5, "wxyz", 3), (6, "no", 2), (7, "abc", 3)):
        for step in range(moving):
            turned = options[:moving][-step:] + options[:moving][:-step] if step else options[:moving]
            words = [f"thing {word}" for word in turned + options[moving:]]
            row: Row = dict.fromkeys("ABCD", "") | dict(zip("ABCD", words, strict=False))
            index = question + step * _mmbench.PASS
            answer = "ABCD"[step % moving]
            row |= {"index": index, "question": "Which?", "answer": answer, "category": f"kind {question % 2}"}
            rows.append(row | {"prediction": said.get(index, answer)})
    return rows


def unanswered(rows: list[Row]) -> list[Row]:
    return [{name: cell for name, cell in row.items() if name != "prediction"} for row in rows]


def table(path: Path, rows: list[Row]) -> str:
    frame = pd.DataFrame(rows)
    if path.suffix == ".xlsx":
        frame.to_excel(path, index=False)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return str(path)


@pytest.mark.parametrize("ending", ["xlsx", "tsv", "csv"])
def test_mmb_reads_tables_in_any_order(tmp_path: Path, ending: str) -> None:
    """A slip in the second pass of 7: two of three questions right, all three in the first pass."""
    rows = circular({1000007: "(A)", 6: "the answer is thing n"})
    for row in rows:
        del row["question"]  # which the official answer files need not have
    random.Random(3).shuffle(rows)
    done = rescore("mmb", [table(tmp_path / f"said.{ending}", rows)], [], [])
    assert (done.n, done.metrics["correct"], done.metrics["count"]) == (8, 2, 3)
    assert (done.metrics["accuracy"], done.metrics["mmb/single_pass"]) == (pytest.approx(200 / 3), 100)
    assert (done.metrics["mmb/category/kind 0"], done.metrics["mmb/category/kind 1"]) == (100, 50)


def test_mmb_wants_every_pass(tmp_path: Path) -> None:
    rows = circular({})
    lacking = table(tmp_path / "said.tsv", [row for row in rows if row["index"] != 2000005])
    with pytest.raises(UsageError, match="1 ids without a response: 2000005"):
        rescore("mmb", [lacking], [], [])
    done = rescore("mmb", [lacking], [], [], allow_partial=True)
    assert (done.n, done.unscored, done.metrics["count"]) == (7, 1, 2)
    first = table(tmp_path / "first.tsv", [row for row in rows if row["index"] < 10])
    with pytest.raises(UsageError, match="6 ids without"):  # one more: that D stays cannot be seen in one pass
        rescore("mmb", [first], [], [])
    assert rescore("mmb", [first], [], [], allow_partial=True).metrics["mmb/single_pass"] == 100
    with pytest.raises(UsageError, match="more than one response: 6"):
        rescore("mmb", [table(tmp_path / "twice.csv", [*rows, rows[3]])], [], [])
    with pytest.raises(UsageError, match="no column prediction"):
        rescore("mmb", [table(tmp_path / "bare.csv", unanswered(rows))], [], [])


def test_mmb_reads_an_empty_prediction_as_the_official_script_does(tmp_path: Path) -> None:
    """pandas' missing value becomes the text "nan", which contains the option "n"."""
    rows = circular({6: "", 1000006: ""})
    for row in rows[3:5]:
        row |= {letter: row[letter].removeprefix("thing ") for letter in "AB"}
    assert rescore("mmb", [table(tmp_path / "said.csv", rows)], [], []).metrics["correct"] == 3


@given(st.lists(st.sampled_from(["A", "B", "(C)", "", "thing w", "A dog on a log"]), min_size=8, max_size=8))
def test_mmb_circular_is_at_most_single_pass(said: list[str]) -> None:
    rows = circular({})
    items = [
        Item(str(row["index"]), None, "", str(row["index"] % _mmbench.PASS), {
            "answer": row["answer"], "choices": {letter: row[letter] for letter in "ABCD" if row[letter]},
            "first": row["index"] < _mmbench.PASS, "passes": 2 if row["index"] % 10 == 6 else 3,
        })
        for row in rows
    ]  # fmt: skip
    values = computed(Mmb(), list(zip(items, said, strict=True)))
    assert values["mmb/circular"] <= values["mmb/single_pass"]


def test_mmb_takes_llavas_answers_beside_the_questions(tmp_path: Path) -> None:
    rows = circular({1000007: "C"})
    questions = table(tmp_path / "dev.tsv", unanswered(rows))
    said = answers(tmp_path / "said.jsonl", {row["index"]: row["prediction"] for row in rows})
    assert rescore("mmb_cn", [said], [questions], []).metrics["mmb_cn/circular"] == pytest.approx(200 / 3)


def mmb_scored(judge: Script | None) -> tuple[list[Score | Unscored], dict[str, float]]:
    """The two passes of one question, the second answered in words no rule can read."""
    benchmark = Mmb(matcher="judge")
    choices = [{"A": "dog", "B": "cat"}, {"A": "cat", "B": "dog"}]
    items = [
        Item(id, None, "Which?", "1", {"answer": answer, "choices": named, "first": id == "1", "passes": 2,
                                       "question": "Which?"})
        for id, answer, named in zip(("1", "1000001"), "AB", choices, strict=True)
    ]  # fmt: skip
    scores = [
        benchmark.score(item, Response(item.id, text, 1), judge)
        for item, text in zip(items, ("A", "puppy"), strict=True)
    ]
    kept = [(item, score) for item, score in zip(items, scores, strict=True) if isinstance(score, Score)]
    return scores, benchmark.compute(totals(benchmark.units(kept)))


@pytest.mark.parametrize(("reply", "circular"), [("B", 100), ("A", 0), ("E", 0)])
def test_mmb_judge_matches_what_the_rules_cannot_read(reply: str, circular: float) -> None:
    _, values = mmb_scored(Script({"mmbench/1000001": reply}))
    assert (values["mmb/circular"], values["mmb/valid"], values["mmb/circular@robust"]) == (circular, 50, 0)


def test_mmb_question_without_a_verdict_is_not_counted() -> None:
    scores, values = mmb_scored(None)
    assert [type(score) for score in scores] == [Score, Unscored]
    assert str(values["mmb/circular"]) == "nan"
    assert values["mmb/single_pass"] == 100


def sqa_files(folder: Path) -> str:
    problems = {
        "1": {"choices": ["a", "b"], "answer": 1, "image": "image.png", "split": "test"},
        "2": {"choices": ["a", "b", "c"], "answer": 0, "image": None, "split": "test"},
        "3": {"choices": ["a", "b"], "answer": 0, "image": "image.png", "split": "train"},
    }
    (folder / "split.json").write_text(json.dumps({"test": ["2", "1"]}))
    (folder / "problems.json").write_text(json.dumps(problems))
    return str(folder / "problems.json")


def test_sqa_scores_the_test_split(tmp_path: Path) -> None:
    """1 right by "The answer is B.", 2 wrong by case; robust takes both. Only 1 has an image."""
    questions = sqa_files(tmp_path)
    said = answers(tmp_path / "said.jsonl", {1: "Hm. The answer is B.", 2: "a"})
    for options in ([], [f"split={tmp_path / 'split.json'}"]):
        values = rescore("sqa", [said], [questions], options).metrics
        assert (values["accuracy"], values["accuracy_img"], values["sqa/all@robust"]) == (50, 100, 100)
        assert values["sqa/valid"] == 50


def test_sqa_counts_a_missing_response_as_wrong_only_when_allowed(tmp_path: Path) -> None:
    questions, said = sqa_files(tmp_path), answers(tmp_path / "said.jsonl", {1: "B"})
    with pytest.raises(UsageError, match="items without a response are wrong"):
        rescore("sqa", [said], [questions], [])
    done = rescore("sqa", [said], [questions], [], allow_partial=True)
    assert (done.n, done.unscored, done.metrics["accuracy"]) == (2, 0, 50)


@pytest.mark.parametrize("fields", [("question_id", "text"), ("questionId", "prediction")])
def test_gqa_reads_llavas_answers_and_converted_ones(tmp_path: Path, fields: tuple[str, str]) -> None:
    """Red. is right, a sentence is not but holds the answer; 3 is not balanced."""
    rows = {
        "1": {"answer": "red", "types": {"structural": "query"}, "isBalanced": True},
        "2": {"answer": "yes", "types": {"structural": "verify"}, "isBalanced": True},
        "3": {"answer": "no", "isBalanced": False},
    }
    (tmp_path / "questions.json").write_text(json.dumps(rows))
    said = jsonl(
        tmp_path / "said", [dict(zip(fields, pair, strict=True)) for pair in (("1", "Red."), ("2", "Yes, it is a cat"))]
    )
    values = rescore("gqa", [said], [str(tmp_path / "questions.json")], []).metrics
    assert (values["accuracy"], values["binary"], values["open"]) == (50, 0, 100)
    assert (values["gqa/all@robust"], values["gqa/valid"]) == (100, 100)


def test_seed_scores_images_of_the_official_file(tmp_path: Path) -> None:
    """1 right, 2 wrong by its full stop; the video question is passed over, or counted with part=all."""
    kinds = {"Scene": 1, "Action": 10}
    rows = [
        {"question_id": id, "answer": "A", "data_type": kind, "question_type_id": number}
        for id, kind, number in (("1", "image", 1), ("2", "image", 1), ("v3", "video", 10))
    ]
    (tmp_path / "SEED-Bench.json").write_text(json.dumps({"questions": rows, "question_type": kinds}))
    said = answers(tmp_path / "said.jsonl", {1: "A", 2: "A.", "v3": "A"})
    values = rescore("seed", [said], [str(tmp_path / "SEED-Bench.json")], []).metrics
    assert (values["accuracy"], values["seed/all@robust"], values["seed/type/Scene"]) == (50, 100, 50)
    values = rescore("seed", [said], [str(tmp_path / "SEED-Bench.json")], ["part=all"]).metrics
    assert (values["correct"], values["count"]) == (2, 3)


@pytest.mark.parametrize("column", ["prediction", "text", "my model"])
def test_seed_reads_tables_of_letters(tmp_path: Path, column: str) -> None:
    questions = table(tmp_path / "right.csv", [{"question_id": n, "gt_answer": "AB"[n]} for n in range(2)])
    said = table(tmp_path / "said.csv", [{"question_id": 1 - n, column: "B"} for n in range(2)])
    assert rescore("seed", [said], [questions], []).metrics["accuracy"] == 50
    both = table(tmp_path / "both.csv", [{"question_id": n, "gt_answer": "AB"[n], column: "B"} for n in range(2)])
    assert rescore("seed", [both], [], []).metrics["accuracy"] == 50


def textvqa_questions(folder: Path) -> str:
    """Two questions about image f1, and one of the same words about f2."""
    rows = [
        {"question_id": 10 + n, "image_id": image, "question": question, "answers": [answer] * 10}
        for n, (image, question, answer) in enumerate(
            (("f1", "What does it SAY?", "stop"), ("f1", "what brand?", "acme"), ("f2", "what brand?", "zenith"))
        )
    ]
    (folder / "val.json").write_text(json.dumps({"data": rows}))
    return str(folder / "val.json")


def test_textvqa_joins_llavas_answers_by_image_and_question(tmp_path: Path) -> None:
    questions = textvqa_questions(tmp_path)
    asked = [("f2", "What brand?", "Zenith"), ("f1", "What brand?", "zenith"), ("f1", "What does it say?", "the stop")]
    rows = [
        {"question_id": image, "prompt": f"{question}\nReference OCR token: a, b\nOne word.", "text": text}
        for image, question, text in asked
    ]
    done = rescore("textvqa", [jsonl(tmp_path / "said", rows)], [questions], [])
    assert (done.n, done.metrics["accuracy"]) == (3, pytest.approx(2 / 3))
    rows[0]["prompt"] = "Which brand?\nOne word."
    with pytest.raises(UsageError, match="1 ids without a response: 12\n  1 ids in the answers only: f2 'which brand"):
        rescore("textvqa", [jsonl(tmp_path / "said", rows)], [questions], [])


def test_textvqa_takes_official_ids_too(tmp_path: Path) -> None:
    said = answers(tmp_path / "said", {10: "stop", 11: "acme", 12: "It says zenith"})
    values = rescore("textvqa", [said], [textvqa_questions(tmp_path)], []).metrics
    assert (values["accuracy"], values["textvqa/all@robust"]) == (pytest.approx(2 / 3), 100)


def test_textvqa_scores_both_of_two_equal_questions_by_the_later_answers(tmp_path: Path) -> None:
    """As the official script does, whose questions are a dict by image and text."""
    rows = [
        {"question_id": n, "image_id": "f", "question": "What?", "answers": [text] * 10}
        for n, text in enumerate(("left", "right"))
    ]
    (tmp_path / "val.json").write_text(json.dumps({"data": rows}))
    said = [{"question_id": "f", "prompt": "What?\nOne word.", "text": text} for text in ("left", "right")]
    values = rescore("textvqa", [jsonl(tmp_path / "said", said)], [str(tmp_path / "val.json")], []).metrics
    assert values["accuracy"] == 0.5


def test_textvqa_records_with_answers_may_repeat_an_image(tmp_path: Path) -> None:
    """The first answer under an id belongs to the first question under it. 3 of 10 agree: 0.9."""
    rows = [
        {"question_id": "f", "gt_answers": ["stop"] * 3 + ["go"] * 7, "pred_answer": "stop"},
        {"question_id": "f", "gt_answers": ["left"] * 10, "pred_answer": "right"},
    ]
    both = tmp_path / "both.json"
    both.write_text(json.dumps({"items": rows}))
    assert rescore("textvqa", [str(both)], [], []).metrics["accuracy"] == pytest.approx(0.45)
    said = jsonl(tmp_path / "said", [{"question_id": "f", "text": "Stop"}, {"question_id": "f", "text": "left"}])
    assert rescore("textvqa", [said], [str(both)], []).metrics["accuracy"] == pytest.approx(0.95)
    said = jsonl(tmp_path / "said", [{"question_id": "f", "text": "Stop"}] * 3)
    with pytest.raises(UsageError, match="1 ids in the answers only: f#3"):
        rescore("textvqa", [said], [str(both)], [])
