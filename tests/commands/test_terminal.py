"""What `harness methods` tells: every option with its default and its source, cut off nowhere."""

import dataclasses
import sys

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.contracts import plugins
from harness.contracts.method import Method
from harness.system.console import unfilled
from harness.system.errors import UsageError

METHODS = plugins.names("methods")


def told(monkeypatch: pytest.MonkeyPatch, *words: str, columns: int = 80) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    return CliRunner().invoke(app, ["methods", *words]).stdout


def sections(listing: str) -> dict[str, str]:
    """Method -> its lines, in a row of single spaces."""
    listed = "\n" + listing
    starts = {name: listed.index(f"\n{name}: ") for name in METHODS}
    ends = {
        name: min((at for at in starts.values() if at > start), default=len(listed)) for name, start in starts.items()
    }
    return {name: " ".join(listed[starts[name] : ends[name]].split()) for name in METHODS}


@pytest.mark.parametrize("words", [["methods"], ["benchmarks"], ["methods", "dpo"]])
def test_no_line_ends_in_blanks(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """rich fills cells up to their columns; whoever copies a line, or compares two outputs, wants none of it."""
    monkeypatch.setenv("COLUMNS", "60")
    lines = CliRunner().invoke(app, words).output.splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    assert unfilled("a \x1b[1mb  \x1b[0m\n  c\t\nd ") == "a \x1b[1mb\x1b[0m\n  c\nd "


@pytest.mark.parametrize("kind", ["methods", "benchmarks"])
def test_by_default_each_has_a_line_that_says_what_it_does(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    *lines, more = CliRunner().invoke(app, [kind]).stdout.splitlines()
    if kind == "methods":
        *lines, legend = lines
        marked = {line.split()[0] for line in lines if line.rstrip().endswith(" *")}
        assert legend.startswith("* of the nSFT paper") and marked == {*"sft nsft dpo seva sima csr ppo".split()}
    assert [line.split()[0] for line in lines] == list(plugins.names(kind))
    assert all(len(line.split()) > 2 and "arXiv" not in line for line in lines)
    assert f"harness {kind} NAME" in more


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", METHODS)
def test_the_list_has_every_option_with_default_and_source(
    monkeypatch: pytest.MonkeyPatch, name: str, columns: int
) -> None:
    made: Method = plugins.make("methods", name, Method, {})
    mine = sections(told(monkeypatch, "-v", columns=columns))[name]
    assert f"{name}: {made.label}; roles: {', '.join(made.roles)}; rounds: {made.rounds}; loss" in mine
    assert f"normalised by {made.unit}s" in mine
    assert "…" not in mine
    for option in dataclasses.fields(made):
        value = str(getattr(made, option.name)).rpartition("/")[2]
        assert f" {option.name} {value} {option.metadata['source']} " in f"{mine} "


@pytest.mark.parametrize("name", METHODS)
def test_a_method_explains_itself_and_its_options(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    made: Method = plugins.make("methods", name, Method, {})
    shown = told(monkeypatch, name)
    assert (sys.modules[type(made).__module__].__doc__ or "").strip() in shown
    for option in dataclasses.fields(made):
        assert f"--set {name}.{option.name}=" in shown
        assert f"{option.metadata['help']} ({option.metadata['source']})" in shown


def test_an_unknown_method_is_one_sentence_with_the_nearest_name() -> None:
    done = CliRunner().invoke(app, ["methods", "nsftt"])
    assert isinstance(done.exception, UsageError) and done.exception.exit_status == 2
    assert str(done.exception).startswith('no method "nsftt"; did you mean "nsft"? Known: csr, dpo, ')


def test_benchmarks_are_listed_without_a_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert "…" not in CliRunner().invoke(app, ["benchmarks", "-v"]).stdout
