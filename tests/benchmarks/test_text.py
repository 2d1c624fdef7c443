"""Text is text in every reader, also where other tools take it for a missing value, a number or a formula."""

import base64
import csv
import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pyarrow
import pytest
from layouts import LAYOUTS, Files, as_json, jsonl, png
from pyarrow import parquet

from benchmarks import _files
from benchmarks._files import spreadsheet
from benchmarks.mmb import Mmb
from harness.comparison.published import rescore
from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark, Images
from harness.contracts.records import Item
from harness.system.errors import UsageError

WORDS = (
    "None", "none", "NA", "N/A", "n/a", "null", "NULL", "nan", "NaN", "#N/A", "#DIV/0!", "<NA>", "-nan", "True",
    "false", "1e5", "007", "1.0", "1", "-0", "=B", "=1+1", "'quoted'", "inf", " ", "　", "2020-01-01",
)  # fmt: skip
IMAGES: Images = Files()
Write = Callable[[Path, Sequence[str], Sequence[Sequence[Any]]], Path]


def xlsx(folder: Path, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    book = openpyxl.Workbook()
    for row in [heads, *rows]:
        book.active.append(list(row))  # type: ignore[union-attr]
    book.save(folder / "table.xlsx")
    return folder / "table.xlsx"


def separated(ending: str, delimiter: str) -> Write:
    def write(folder: Path, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
        path = folder / f"table.{ending}"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=delimiter).writerows([heads, *rows])
        return path

    return write


WRITERS: dict[str, Write] = {"xlsx": xlsx, "csv": separated("csv", ","), "tsv": separated("tsv", "\t")}
every_table = pytest.mark.parametrize("ending", WRITERS)


@every_table
def test_every_word_reads_back_as_itself_and_an_empty_cell_as_nothing(tmp_path: Path, ending: str) -> None:
    rows = [[f"{number}", word, "", word] for number, word in enumerate(WORDS)]
    read = spreadsheet(WRITERS[ending](tmp_path, ["index", "prediction", "hint", "A"], rows))
    assert [row["prediction"] for row in read] == [row["A"] for row in read] == list(WORDS)
    assert {row["hint"] for row in read} == {""}


def test_a_reader_that_guesses_missing_values_would_be_caught(tmp_path: Path) -> None:
    """What was here before: pandas with its own list of words."""
    rows = [[f"{number}", word] for number, word in enumerate(WORDS)]
    guessed = pd.read_csv(WRITERS["csv"](tmp_path, ["index", "prediction"], rows), dtype=str).fillna("")
    assert list(guessed["prediction"]) != list(WORDS)


def test_a_number_in_a_workbook_is_as_it_is_shown_and_a_text_as_it_was_written(tmp_path: Path) -> None:
    cells = [1, 1.0, "1.0", 0.5, "0.50", True, "True", 1e20, 12345678901234]
    read = spreadsheet(xlsx(tmp_path, ["index", "A"], [[n, cell] for n, cell in enumerate(cells)]))
    assert [row["A"] for row in read] == ["1", "1", "1.0", "0.5", "0.50", "True", "True", "1e+20", "12345678901234"]


def test_what_a_workbook_has_lost_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"row 2 of .* holds the date 2024-03-04.*format the column as text"):
        spreadsheet(xlsx(tmp_path, ["index", "A"], [[1, datetime.date(2024, 3, 4)]]))
    book = openpyxl.Workbook()
    book.active.append(["index"])  # type: ignore[union-attr]
    book.create_sheet("more").append(["index"])
    book.save(tmp_path / "two.xlsx")
    with pytest.raises(UsageError, match="several sheets with cells, 'more' too"):
        spreadsheet(tmp_path / "two.xlsx")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("index,A,B\n1,x,y\n2,x\n", "line 3 .* has 2 cells, not 3"),
        ("index,A,B\n1,x,y,\n", "line 2 .* has 4 cells, not 3"),
        ("index,A,A\n1,x,y\n", "two columns 'A'"),
        ('index,A,B\n1,"x,y\n2,x,y\n', "cannot be read as a table"),
    ],
)
def test_a_row_that_is_cut_or_shifted_is_named(tmp_path: Path, text: str, says: str) -> None:
    """Each of these lost a question, or moved every cell by one place, without a word."""
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UsageError, match=says):
        spreadsheet(tmp_path / "t.csv")


def question(word: str) -> tuple[list[str], list[list[str]]]:
    """A question with two passes, of which `word` is the second option and the answer."""
    heads = ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "prediction"]
    first = ["3", "Which?", "", "a cat", word, "", "", "B", word, f"It is {word}"]
    return heads, [first, ["1000003", "Which?", "", word, "a cat", "", "", "A", word, f"It is {word}"]]


@every_table
@pytest.mark.parametrize("word", ["None", "NA", "null", "nan", "#N/A", "007"])
def test_mmbench_scores_an_option_that_other_tools_take_for_missing(tmp_path: Path, ending: str, word: str) -> None:
    done = rescore("mmb", [str(WRITERS[ending](tmp_path, *question(word)))], [], [])
    assert (done.metrics["correct"], done.metrics["count"], done.notes) == (1, 1, ())
    assert done.metrics[f"mmb/category/{word}"] == 100
    assert done.metrics["mmb/circular@robust"] == 100


@every_table
@pytest.mark.parametrize("word", ["None", "NA", "nan"])
def test_mmbench_asks_for_such_an_option_too(tmp_path: Path, ending: str, word: str) -> None:
    heads, (row, _) = question(word)
    data = base64.b64encode(png(1)).decode()
    path = WRITERS[ending](tmp_path, [*heads, "image"], [[*row, data]])
    items = list(Mmb(file=path.name).items(tmp_path, IMAGES))
    assert [item.facts["choices"][item.facts["answer"]] for item in items] == [word, word]
    assert f"\nB. {word}" in items[0].prompt


def hub_row(index: int, options: Sequence[str | None], answer: str) -> dict[str, Any]:
    """A row of lmms-lab/MMBench."""
    known = {"index": index, "question": "Which?", "hint": "nan", "answer": answer, "category": "c", "L2-category": "l"}
    return {**known, **dict(zip("ABCD", options, strict=True)), "image": {"bytes": png(index % 7), "path": "x.png"}}


def from_hub(folder: Path, rows: Sequence[dict[str, Any]]) -> list[Item]:
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), folder / "dev-00000-of-00001.parquet")
    return list(Mmb().items(folder, IMAGES))


def test_the_hubs_word_for_no_option_is_not_an_option(tmp_path: Path) -> None:
    """Its dataset writes "nan" where a question has fewer than four; a real null is none either."""
    rows = [
        hub_row(3, ("cat", "dog", "nan", "nan"), "B"), hub_row(1000003, ("dog", "cat", "nan", "nan"), "A"),
        hub_row(4, ("cat", "dog", None, None), "B"), hub_row(1000004, ("dog", "cat", None, None), "A"),
    ]  # fmt: skip
    assert [list(item.facts["choices"]) for item in from_hub(tmp_path, rows)] == [["A", "B"]] * 4
    assert "nan" not in from_hub(tmp_path, rows)[0].prompt


def test_an_option_of_the_hub_that_turns_or_answers_is_one(tmp_path: Path) -> None:
    turning = [hub_row(3, ("cat", "nan", "dog", "None"), "A"), hub_row(1000003, ("None", "cat", "nan", "dog"), "B")]
    assert [item.facts["choices"]["A"] for item in from_hub(tmp_path, turning)] == ["cat", "None"]
    assert all(len(item.facts["choices"]) == 4 for item in from_hub(tmp_path, turning))
    answering = [hub_row(3, ("cat", "nan", "nan", "nan"), "B")]
    assert from_hub(tmp_path, answering)[0].facts["choices"]["B"] == "nan"


@pytest.mark.parametrize("word", ["None", "null", "NaN", "NA"])
def test_json_answers_keep_such_words_and_a_null_is_no_word(tmp_path: Path, word: str) -> None:
    as_json(tmp_path / "q.json", {"1": {"answer": word.lower(), "isBalanced": True}})
    said = jsonl(tmp_path / "a.jsonl", [{"question_id": "1", "text": word}])
    assert rescore("gqa", [said], [str(tmp_path / "q.json")], []).metrics["accuracy"] == 100
    path = tmp_path / "caps.jsonl"
    path.write_text('{"image_id": 5, "caption": null}\n')
    (row,) = _files.records(path, ["caption"])
    assert _files.said(path, 1, row, ("caption",)) == ""


def test_an_id_that_is_null_or_a_text_that_is_a_list_is_named(tmp_path: Path) -> None:
    as_json(tmp_path / "q.json", {"1": {"answer": "red"}})
    for row, says in (
        ({"question_id": None, "text": "red"}, "record 1 of .* has no id: None"),
        ({"question_id": 1, "text": ["red"]}, "\"text\" of record 1 of .* should be a text and is \\['red'\\]"),
    ):
        with pytest.raises(UsageError, match=says):
            rescore("gqa", [jsonl(tmp_path / "a.jsonl", [row])], [str(tmp_path / "q.json")], [])


def test_ids_that_a_writer_made_floats_are_the_same_ids(tmp_path: Path) -> None:
    as_json(tmp_path / "q.json", {"1": {"answer": "red"}})
    said = jsonl(tmp_path / "a.jsonl", [{"question_id": 1.0, "text": "Red."}])
    assert rescore("gqa", [said], [str(tmp_path / "q.json")], []).metrics["accuracy"] == 100


@pytest.mark.parametrize(
    ("name", "spoil", "says"),
    [
        ("pope", ("coco_pope_random.json", '"label": "no"', '"label": "No"'), "labelled 'No', not yes or no"),
        ("gqa", ("testdev_balanced_questions.json", '"answer": "red"', '"answer": null'), "answer of GQA question"),
        ("seed", ("SEED-Bench.json", '"answer": "D"', '"answer": "d"'), "answer 'd', which is no letter"),
        ("sqa", ("problems.json", '"answer": 4', '"answer": 5'), "answer 5, not the number of one"),
        ("mme", ("count/0.txt", "\tNo", "\tnope"), "answer 'nope'"),
        (
            "mme",
            ("count/0.txt", "\nIs it a cat? Please answer yes or no.\tNo", ""),
            "has 1 questions and should have 2",
        ),
    ],
)
def test_a_question_that_no_response_can_answer_is_an_error(
    tmp_path: Path, name: str, spoil: tuple[str, str, str], says: str
) -> None:
    """Each of these stayed in the denominator, wrong whatever was said."""
    LAYOUTS[name](tmp_path)
    file = tmp_path / spoil[0]
    text = file.read_text(encoding="utf-8")
    assert spoil[1] in text
    file.write_text(text.replace(spoil[1], spoil[2]), encoding="utf-8")
    options = {"images_only": False} if name == "sqa" else {}
    benchmark: Benchmark = plugins.make("benchmarks", name, Benchmark, options)
    with pytest.raises(UsageError, match=says):
        list(benchmark.items(tmp_path, IMAGES))


def test_an_answer_that_is_none_of_the_options_is_an_error(tmp_path: Path) -> None:
    heads, (row, other) = question("dog")
    row[heads.index("answer")] = "b"
    with pytest.raises(UsageError, match="row 3 has no answer to score by but 'b'"):
        rescore("mmb", [str(WRITERS["csv"](tmp_path, heads, [row, other]))], [], [])


def test_the_same_question_twice_is_an_error(tmp_path: Path) -> None:
    heads, rows = question("dog")
    with pytest.raises(UsageError, match="more than one response: 3"):
        rescore("mmb", [str(WRITERS["csv"](tmp_path, heads, [*rows, rows[0]]))], [], [])
    bare = [*heads[:-1]]
    said = jsonl(tmp_path / "a.jsonl", [{"question_id": 3, "text": "B"}, {"question_id": 1000003, "text": "A"}])
    path = WRITERS["csv"](tmp_path, bare, [row[:-1] for row in [*rows, rows[0]]])
    with pytest.raises(UsageError, match="index 3 twice"):
        rescore("mmb", [said], [str(path)], [])
