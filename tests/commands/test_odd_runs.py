"""Runs as odd as they come, and manifests with anything in them: every command ends with text that fits, or a sentence.

No traceback, no sign that a terminal obeys, no line that is wider than the terminal.
"""

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image as Pillow
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from harness import cli
from harness.commands import folders
from harness.contracts.records import Conversation, Dropped, Example, Pair, Turn
from harness.contracts.settings import Reading
from harness.sources._written import FORMS, written
from harness.sources.local import Local
from harness.system.console import visible
from harness.system.errors import HarnessError
from reports import report as reporting
from tests.fake_run import FakeRun, drawn
from tests.laws import caught, law

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=24)
HOSTILE = st.sampled_from(
    ["\x1b[2J", "\u202eabc", "a\tb", "<b>x</b>", "|x|", "日本語" * 9, "a" * 90, "[red]x[/]", "\\input{x}"]
)
NAMES = st.one_of(WORDS, HOSTILE)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**12), 10**12), st.floats(), st.text(max_size=12)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069]")
STYLES = re.compile(r"\x1b\[[0-9;]*m")


@st.composite
def runs(draw: st.DrawFn) -> FakeRun:
    """One or two rows, one to three seeds, few or many images, missing cells, verdicts that are missing."""
    rows = draw(st.sampled_from([("nsft",), ("nsft", "dpo"), ("sft", "nsft", "dpo")]))
    labels = {row: draw(NAMES) for row in ("baseline", *rows)}
    common: dict[str, Any] = {
        "labels": labels,
        "seeds": draw(st.sampled_from([(0,), (0, 1), (0, 1, 2), (7,)])),
        "unscored": draw(st.sampled_from([0, 0, 1, 3])),
        "said": {row: draw(NAMES) for row in rows},
        "unfinished": [(row, name) for row in rows for name in ("sqa", "mmhal") if draw(st.integers(0, 5)) == 0],
        "dropped": {row: draw(st.lists(NAMES, max_size=3)) for row in rows},
    }
    if draw(st.booleans()):
        skill = {row: draw(st.sampled_from([0.0, 0.5, 0.6, 1.0])) for row in ("baseline", *rows)}
        return drawn(skill, items=draw(st.sampled_from([1, 3, 12, 40])), **common)
    return FakeRun(
        rows=rows, items=draw(st.integers(4, 7)), item_id=draw(st.sampled_from(["item", "q ", "é"])), **common
    )


def says(*words: object, columns: int = 80) -> str:
    """What a command prints: text, or the one sentence of its error; anything else fails the test."""
    ran = CliRunner().invoke(cli.app, list(map(str, words)), env={"COLUMNS": str(columns), "NO_COLOR": "1"})
    error = ran.exception
    if isinstance(error, HarnessError):
        text = str(error)
        assert text and not text.startswith(("Traceback", "'", "(")), text
        return visible(text)  # as `main` prints it
    if error is not None and not isinstance(error, SystemExit):
        raise error
    assert ran.exit_code in (0, 1, 3), ran.output
    return ran.output


def tame(text: str, columns: int) -> None:
    """Nothing in it that a terminal obeys, and no line beyond its width but where a word alone is wider."""
    plain = STYLES.sub("", text)
    assert not OBEYED.search(plain), repr(OBEYED.search(plain))
    for line in plain.splitlines() if columns else []:
        assert cell_len(line) <= columns or len(line.split()) <= 2 or "/" in line, line


def commands(run: Path, out: Path) -> Iterator[tuple[object, ...]]:
    """Everything that reads one run."""
    yield "report", run
    for number in (1, 5):
        yield "report", run, "--table", number
    yield "runs", "--in", run.parent
    yield "store", "ls", "--store", run.parent / "store"
    yield "store", "verify", "--store", run.parent / "store"
    yield "gate", run, "--baseline", run
    yield "diff", run, run
    yield "diff", f"{run}:baseline", f"{run}:nsft"
    yield "export", run, "--responses", "nsft", "--out", out / "exported"


@law(2)
@given(runs(), st.sampled_from([40, 80, 200]))
def test_every_command_tells_of_any_run_in_lines_that_fit(made: FakeRun, columns: int) -> None:
    folder = Path(mkdtemp(prefix="odd-"))
    run = made.write(folder)
    for words in commands(run, folder):
        wide = words[0] == "report"  # the others print Markdown, or sentences that a terminal wraps
        tame(says(*words, columns=columns), columns * wide)


@law(2)
@given(runs())
def test_every_format_of_any_table_can_be_read(made: FakeRun) -> None:
    """CSV by csv, results and what says --json by json, JUnit by an XML parser; nothing live in HTML."""
    folder = Path(mkdtemp(prefix="odd-"))
    run = made.write(folder)
    table = says("report", run, "--table", 1, "--format", "csv")
    rows = [row for row in csv.reader(io.StringIO(table)) if row]
    assert len({len(row) for row in rows}) == 1 and len(rows) > 1
    page = says("report", run, "--table", 1, "--format", "html")
    assert "<b>x</b>" not in page
    for words in (("runs", "--in", run.parent), ("diff", run, run), ("store", "gc", "--store", folder / "store")):
        extra = ("--runs", run.parent) if words[0] == "store" else ()
        told = says(*words, *extra, "--json")
        assert isinstance(json.loads(told), dict)
    says("gate", run, "--baseline", run, "--junit", folder / "x.xml", "--markdown", folder / "x.md")
    if (folder / "x.xml").exists():
        assert ElementTree.parse(folder / "x.xml").getroot().tag == "testsuites"


FIELDS = (
    "testbed synthetic protocol data seeds rows benchmarks judges models split_lock cells trained stages store".split()
)


@law(8)
@given(st.sampled_from(FIELDS), JSON)
def test_a_manifest_with_anything_in_a_field_is_a_sentence_or_a_table(field: str, value: Any) -> None:
    folder = Path(mkdtemp(prefix="odd-"))
    run = FakeRun(spoilt={field: value}).write(folder)
    for words in (("report", run), ("runs", "--in", folder), ("diff", run, run), ("gate", run, "--baseline", run)):
        says(*words)


@law(4)
@given(st.binary(max_size=60), st.integers(0, 2000), st.sampled_from(["manifest.json", "profile.json"]))
def test_bytes_in_the_place_of_a_run_s_file_are_a_sentence_or_a_table(new: bytes, at: int, name: str) -> None:
    folder = Path(mkdtemp(prefix="odd-"))
    run = FakeRun().write(folder)
    whole = (run / name).read_bytes()
    at %= len(whole)
    (run / name).write_bytes(whole[:at] + new + whole[at + len(new) // 2 :])
    for words in (("report", run), ("runs", "--in", folder), ("gate", run, "--baseline", run)):
        says(*words)


@law(4)
@given(JSON)
def test_scores_with_anything_in_them_are_a_sentence_or_a_table(value: Any) -> None:
    """`units.json` is sealed, but a seal proves that nothing changed, not who wrote it."""
    folder = Path(mkdtemp(prefix="odd-"))
    run = FakeRun(units=json.dumps({"units": value, "unscored": {}, "items": 4})).write(folder)
    says("report", run)
    says("diff", f"{run}:baseline", f"{run}:nsft")


def test_names_that_are_printed_as_they_are_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant of `harness runs`."""
    monkeypatch.setattr(folders, "shown", lambda text, longest=0: str(text))
    folder = Path(mkdtemp(prefix="odd-"))
    FakeRun(spoilt={"testbed": "\x1b[2J", "data": "\x9b2J"}).write(folder)
    with pytest.raises((AssertionError, HarnessError)):
        tame(says("runs", "--in", folder), 80)


def test_a_table_that_does_not_fit_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: laid out for a terminal that is wider than there is."""
    monkeypatch.setattr(reporting, "console", lambda: Console(width=400, file=io.StringIO()))
    run = drawn({"baseline": 0.5, "nsft": 0.9}, benchmarks=("sqa", "gqa", "mmhal")).write(Path(mkdtemp(prefix="odd-")))
    with pytest.raises(AssertionError):
        tame(says("report", run, "--table", 1, columns=40), 40)


# What is exported reads back

TEXT = st.text("ab é.?日\\\"'{}[]|", min_size=1, max_size=12).filter(lambda text: text.strip() == text and text)
TURNS = st.lists(st.builds(Turn, TEXT, TEXT), min_size=1, max_size=3).map(tuple)


@law(60)
@given(st.sampled_from(sorted(FORMS)), st.lists(TURNS, min_size=1, max_size=3), TEXT, st.booleans(), st.booleans())
def test_any_record_in_any_format_reads_back_as_it_was(
    form: str, talks: list[tuple[Turn, ...]], rejected: str, shown: bool, pair: bool
) -> None:
    """Signs of JSON and of other scripts; several branches become examples of their own, a pair keeps both sides."""
    folder = Path(mkdtemp(prefix="odd-"))
    Pillow.new("RGB", (6, 4)).save(folder / "a.png")
    records: list[Any] = []
    for number, turns in enumerate(talks):
        last = turns[-1]
        assume(rejected != last.answer)
        if pair:
            records.append(Pair(f"r{number}", None, last.question, last.answer, rejected, turns[:-1]))
        else:
            records.append(Conversation(f"r{number}", None, (turns,)))
    rows = [row for record in records for row in written(record, form, "a.png" * shown, "ours")]
    (folder / "records.json").write_text(json.dumps(rows))
    told = list(Local(folder / "records.json", folder).load(reading=Reading()))
    assert not any(isinstance(one, Dropped) for one in told), told
    found = {one.id: one for one in told if isinstance(one, Example)}
    assert len(found) == len(talks)
    for number, turns in enumerate(talks):
        one = found[f"r{number}"]
        assert one.turns == turns and one.rejected == (rejected if pair else None)
        assert (one.image is not None) == shown


def test_a_format_that_forgets_the_history_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: only the last turn of a record is written."""
    right = written

    def last_turn(record: Any, form: str, image: str, source: str) -> Any:
        if isinstance(record, Pair):
            record = replace(record, history=())
        else:
            record = replace(record, branches=tuple(branch[-1:] for branch in record.branches))
        return right(record, form, image, source)

    monkeypatch.setitem(globals(), "written", last_turn)
    caught(test_any_record_in_any_format_reads_back_as_it_was)


def test_what_another_version_asked_is_exported_as_a_sentence_and_what_is_not_there_is_said(tmp_path: Path) -> None:
    """Facts that this version's format needs are missing; or a benchmark failed before anything was said to it."""
    run = FakeRun(facts={"answer": "yes"}).write(tmp_path / "facts")
    assert "mmhal: its items or responses are not what" in says(
        "export", run, "--responses", "nsft", "--out", tmp_path / "x"
    )
    run = FakeRun(benchmarks=("gqa", "sqa")).write(tmp_path / "gone")
    told = json.loads((run / "manifest.json").read_text())
    [cell] = [cell for cell in told["cells"] if (cell["row"], cell["benchmark"]) == ("nsft", "gqa")]
    shutil.rmtree(run.parent / "store" / cell["responses"])
    said = says("export", run, "--responses", "nsft", "--benchmarks", "gqa", "--out", tmp_path / "y")
    assert "gqa: no responses are there" in said
