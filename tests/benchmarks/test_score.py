"""`harness score` on small files in the official formats, made up here, with figures worked out by hand."""

import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from layouts import answers, jsonl
from typer.testing import CliRunner

from benchmarks.mmhal import Mmhal
from harness.cli import app, main
from harness.comparison.published import rescore
from harness.contracts.benchmark import Files
from harness.system.errors import UsageError


def pope_files(folder: Path, said: dict[int, str]) -> tuple[str, str]:
    """Four questions, labels yes no yes no."""
    rows = [
        {"question_id": n, "image": "x.jpg", "text": "Is there a dog in the image?", "label": ("yes", "no")[n % 2]}
        for n in range(4)
    ]
    return jsonl(folder / "questions.jsonl", rows), answers(folder / "answers.jsonl", said)


ALL_YES = dict.fromkeys(range(4), "Yes")


def test_pope_by_name_and_alone(tmp_path: Path) -> None:
    """a: all yes, precision 1/2, recall 1, F1 2/3. b: yes, no, no, no: precision 1, recall 1/2, F1 2/3."""
    questions, all_yes = pope_files(tmp_path, ALL_YES)
    other = answers(tmp_path / "other.jsonl", {0: "Yes, it is.", 1: "No", 2: "There is no dog.", 3: "not at all"})
    values = rescore("pope", [f"a={all_yes}", f"b={other}"], [f"a={questions}", f"b={questions}"], []).metrics
    assert (values["a/f1"], values["a/precision"], values["a/recall"]) == (2 / 3, 0.5, 1)
    assert (values["b/f1"], values["b/accuracy"], values["b/yes_ratio"]) == (2 / 3, 0.75, 0.25)
    assert values["f1_macro"] == pytest.approx(values["pope/a/f1"] / 100) == 2 / 3
    assert rescore("pope", [other], [questions], []).metrics["f1"] == 2 / 3
    with pytest.raises(UsageError, match="under the same names"):
        rescore("pope", [f"a={other}"], [f"b={questions}"], [])


def test_pope_answers_numbered_by_llava_are_paired_in_order(tmp_path: Path) -> None:
    """Only where every prompt names the thing that is asked for; else the ids are reported."""
    things = ("dog", "cat", "cow", "car")
    rows = [
        {"question_id": n, "text": f"Is there a {thing} in the image?", "label": ("yes", "no")[n % 2]}
        for n, thing in enumerate(things, 1)
    ]
    questions = jsonl(tmp_path / "questions", rows)
    said = [
        {
            "question_id": 5999 + n,
            "prompt": f"Is there an {thing} in the imange?\nOne word.",
            "text": ("No", "Yes")[n % 2],
        }
        for n, thing in enumerate(things)
    ]
    assert rescore("pope", [jsonl(tmp_path / "said", said)], [questions], []).metrics["accuracy"] == 1
    with pytest.raises(UsageError, match="4 ids without a response"):
        rescore("pope", [jsonl(tmp_path / "said", said[::-1])], [questions], [])


@pytest.mark.parametrize(
    ("said", "report"),
    [
        ({0: "Yes", 1: "No"}, "2 ids without a response: 2, 3"),
        (ALL_YES | {9: "Yes"}, "1 ids in the answers only: 9"),
        ({9: "Yes"}, "4 ids without a response: 0, 1, 2, ..."),
    ],
)
def test_ids_that_do_not_pair_up_are_reported(tmp_path: Path, said: dict[int, str], report: str) -> None:
    questions, path = pope_files(tmp_path, said)
    with pytest.raises(UsageError, match=report) as caught:
        rescore("pope", [path], [questions], [])
    assert "--allow-partial" in str(caught.value)


def test_partial_answers_say_what_was_left_out(tmp_path: Path) -> None:
    """Of two responses to question 1 the last counts; 2 and 3 have none; 9 is nobody's."""
    questions, path = pope_files(tmp_path, {})
    rows = [(0, "Yes"), (1, "Yes"), (1, "No"), (9, "No")]
    jsonl(Path(path), [{"question_id": id, "text": text} for id, text in rows])
    done = rescore("pope", [path], [questions], [], allow_partial=True)
    assert (done.n, done.unscored, done.metrics["accuracy"]) == (2, 2, 1)
    assert [note.split(":")[0] for note in done.notes] == [
        "2 ids without a response", "1 ids with more than one response", "1 ids in the answers only",
    ]  # fmt: skip


def test_files_are_read_however_they_were_written(tmp_path: Path) -> None:
    """A byte order mark, CRLF, blank lines, ids as text, gzip, a line separator inside a string, one JSON list."""
    questions, plain = pope_files(tmp_path, ALL_YES | {1: "no \u2028 dog"})
    expected = rescore("pope", [plain], [questions], []).json()
    rows = [json.loads(line) for line in Path(plain).read_text(encoding="utf-8").splitlines()]
    as_text = [json.dumps(row | {"question_id": str(row["question_id"])}, ensure_ascii=False) for row in rows]
    (tmp_path / "crlf.jsonl").write_text("\ufeff" + "\r\n\r\n".join(as_text), encoding="utf-8", newline="")
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(Path(plain).read_bytes()))
    (tmp_path / "list.json").write_text(json.dumps(rows, indent=1))
    for name in ("crlf.jsonl", "packed.jsonl.gz", "list.json"):
        assert rescore("pope", [str(tmp_path / name)], [questions], []).json() == expected, name


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not JSON"), ('{"text": "yes"}', "record 1 of .* has no question_id"), ("3", "a list of records"),
        ('{"question_id": 1}', "record 1 of .* has no text"), ("[1]", "has no question_id"), ("\xff", "cannot be read"),
    ],
)  # fmt: skip
def test_broken_answers_are_named(tmp_path: Path, content: str, sentence: str) -> None:
    questions, path = pope_files(tmp_path, {})
    Path(path).write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match=sentence):
        rescore("pope", [path], [questions], [])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["poep"], 'did you mean "pope"'),
        (["pope", "--option", "random_row=1"], 'did you mean "random_rows"'),
        (["sqa", "--option", "splt=x"], 'did you mean "split"'),
        (["sqa", "--option", "split"], "write NAME=VALUE"),
        (["sqa", "--option", "split=nowhere.json"], "there is no nowhere.json"),
        (["pope", "--answers", "a=nowhere"], "--answers: there is no nowhere"),
        (["pope", "--answers", "pyproject.toml", "--answers", "README.md"], "--answers is given twice"),
        (["pope", "--option", "random_rows=5"], "random_rows"),
        (["mmb", "--judge", "gpt-4"], "--judge: "),
        (["gqa"], "one --questions PATH and none was given"),
        (["pope"], "the same names"),
    ],
)
def test_a_wrong_request_ends_with_status_2(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["harness", "score", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    printed = capsys.readouterr()
    assert (stop.value.code, printed.out) == (2, "")
    assert sentence in printed.err


JUDGED = """
from dataclasses import dataclass

from harness.contracts.benchmark import Benchmark, Published
from harness.contracts.records import Item, Response, Score, Unscored

@dataclass(frozen=True)
class Half(Benchmark):
    metrics = ()

    def published(self, files):
        items = [Item(str(n), None, "", str(n), {}) for n in range(4)]
        return Published(items, [Response(item.id, "", 0) for item in items])

    def score(self, item, response, judge):
        return Score(item.id, {"sum": 8.0, "n": 1.0}) if int(item.id) % 2 else Unscored(item.id, "the judge was out")

    def compute(self, totals):
        return {"half/mean": totals["sum"] / totals["n"]}
"""


def test_unscored_is_counted_and_in_no_mean(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text(JUDGED)
    done = rescore(str(tmp_path / "half.py"), [], [], [])
    assert json.loads(done.json()) == {"benchmark": "half", "metrics": {"half/mean": 8.0}, "n": 2, "unscored": 2}
    assert done.notes == ("2 of 4 responses are unscored, e.g.: the judge was out",)
    (tmp_path / "half.py").write_text(JUDGED.replace(" % 2", " > 9"))
    with pytest.raises(UsageError, match="nothing could be scored: the judge was out"):
        rescore(str(tmp_path / "half.py"), [], [], [])


def test_a_mean_over_too_few_verdicts_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text(
        JUDGED.replace("class Half(Benchmark):", "class Half(Benchmark):\n    judged = True")
    )
    shown = CliRunner().invoke(app, ["score", str(tmp_path / "half.py")]).stdout
    assert "n/a (judge 50 %)" in shown and "8" not in shown


def test_answers_to_mmhal_in_another_order_find_their_questions(tmp_path: Path) -> None:
    rows = [{"image_id": f"i{n}", "question": f"What is {n}?", "gt_answer": f"{n}"} for n in range(8)]
    said = [row | {"model_answer": f"It is {row['gt_answer']}."} for row in reversed(rows)]
    (tmp_path / "template.json").write_text(json.dumps(rows))
    (tmp_path / "said.json").write_text(json.dumps(said))
    published = Mmhal().published(Files({"": tmp_path / "template.json"}, {"": tmp_path / "said.json"}, {}))
    texts = {response.id: response.text for response in published.responses}
    assert [texts[item.id] for item in published.items] == [f"It is {n}." for n in range(8)]
    (tmp_path / "said.json").write_text(json.dumps(said[:3] + said[4:]))
    with pytest.raises(UsageError, match="1 ids without a response: 4"):
        rescore("mmhal", [str(tmp_path / "said.json")], [str(tmp_path / "template.json")], [])


@pytest.mark.parametrize(
    ("benchmark", "questions", "sentence"),
    [
        ("chair", "[1]", "should map image ids to lists of objects"),
        ("chair", '{"1": 2}', "should map image ids to lists of objects"),
        ("sqa", '{"a": 1}', "should map problem ids to problems"),
        ("pope", '[{"question_id": 1, "text": "?", "label": "maybe"}]', "is labelled 'maybe', not yes or no"),
    ],
)
def test_broken_questions_are_named(tmp_path: Path, benchmark: str, questions: str, sentence: str) -> None:
    (tmp_path / "questions.json").write_text(questions)
    said = jsonl(tmp_path / "said.jsonl", [{"question_id": 1, "text": "a", "image_id": 1, "caption": "a dog"}])
    with pytest.raises(UsageError, match=sentence):
        rescore(benchmark, [said], [str(tmp_path / "questions.json")], [])


def test_captions_are_known_by_coco_file_names(tmp_path: Path) -> None:
    (tmp_path / "objects.json").write_text('{"226988": ["dog"]}')
    said = jsonl(tmp_path / "said.jsonl", [{"image_id": "COCO_val2014_000000226988.jpg", "caption": "A dog."}])
    assert rescore("chair", [said], [str(tmp_path / "objects.json")], []).metrics["Recall"] == 1


def test_a_judge_is_asked_where_nothing_else_decides(tmp_path: Path) -> None:
    """Of two passes the second says "puppy": the judge's B makes the question right, a judge without reply unscored."""
    rows = ["index\tquestion\tA\tB\tprediction\tanswer", "1\tWhich?\tdog\tcat\tA\tA"]
    (tmp_path / "said.tsv").write_text("\n".join([*rows, "1000001\tWhich?\tcat\tdog\tpuppy\tB"]))
    arguments = ["score", "mmb", "--answers", str(tmp_path / "said.tsv"), "--option", "matcher=judge", "--json"]
    for replies, accuracy, unscored in (({"mmbench/1000001": "B"}, 100, 0), ({}, None, 1)):
        (tmp_path / "replies.json").write_text(json.dumps(replies))
        done = CliRunner().invoke(app, [*arguments, "--judge", f"script:{tmp_path / 'replies.json'}"])
        shown = json.loads(done.stdout)
        assert (shown["metrics"]["accuracy"], shown["n"], shown["unscored"]) == (accuracy, 2 - unscored, unscored)
    assert "1 of 2 responses are unscored" in done.stderr


def test_json_is_one_exact_object_and_the_table_has_the_same(tmp_path: Path) -> None:
    questions, path = pope_files(tmp_path, ALL_YES)
    arguments = ["score", "pope", "--questions", questions, "--answers", path]
    shown = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert shown.keys() == {"benchmark", "metrics", "n", "unscored"}
    assert (shown["benchmark"], shown["n"], shown["unscored"], shown["metrics"]["f1"]) == ("pope", 4, 0, 2 / 3)
    assert shown["metrics"]["pope/f1_macro3"] is None  # there are no three splits
    assert "0.6666666667" in CliRunner().invoke(app, arguments).stdout


def test_benchmarks_are_listed_and_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    listed = CliRunner().invoke(app, ["benchmarks", "-v"]).stdout.splitlines()
    [pope] = [line.split() for line in listed if line.split()[:1] == ["pope"]]
    assert pope == ["pope", "POPE", "pope/f1_macro3", "higher", "9,000", "50", "short", "answer", "no"]
    told = CliRunner().invoke(app, ["benchmarks", "sqa"]).stdout
    for part in ("Traps:", "sqa/valid", "option sqa.images_only=True", "--option split=PATH", "github.com"):
        assert part in told


def test_nine_thousand_answers_take_seconds_and_no_torch(tmp_path: Path) -> None:
    arguments = []
    for name in ("random", "popular", "adversarial"):
        rows = [{"question_id": n, "text": "Is there a dog?", "label": "yes", "image": ""} for n in range(3000)]
        arguments += ["--questions", f"{name}={jsonl(tmp_path / f'q{name}', rows)}"]
        arguments += ["--answers", f"{name}={answers(tmp_path / f'a{name}', dict.fromkeys(range(3000), 'Yes'))}"]
    code = (
        "import sys; from harness.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, "score", "pope", *arguments, "--json"], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - started < 20  # half a second on one core
    assert json.loads(done.stdout)["n"] == 9000
