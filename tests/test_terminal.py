"""What `harness methods` tells: every option with its default and its source, cut off nowhere."""

import dataclasses
import sys

import pytest
from typer.testing import CliRunner

from harness import plugins
from harness.cli import app
from harness.method import Method

METHODS = plugins.names("methods")


def told(monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    return CliRunner().invoke(app, ["methods", *words]).stdout


def sections(listing: str) -> dict[str, str]:
    """Method -> its lines, in a row of single spaces."""
    listed = "\n" + listing
    starts = {name: listed.index(f"\n{name}: ") for name in METHODS}
    ends = {
        name: min((at for at in starts.values() if at > start), default=len(listed)) for name, start in starts.items()
    }
    return {name: " ".join(listed[starts[name] : ends[name]].split()) for name in METHODS}


@pytest.mark.parametrize("name", METHODS)
def test_the_list_has_every_option_with_default_and_source(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    made: Method = plugins.make("methods", name, Method, {})
    mine = sections(told(monkeypatch))[name]
    assert f"{name}: {made.label}; roles: {', '.join(made.roles)}; rounds: {made.rounds}" in mine
    assert "…" not in mine
    for option in dataclasses.fields(made):
        value = str(getattr(made, option.name)).rpartition("/")[2]
        first = option.metadata["source"].partition(" ")[0]
        assert f" {option.name} {value} {first}" in mine


@pytest.mark.parametrize("name", METHODS)
def test_a_method_explains_itself_and_its_options(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    made: Method = plugins.make("methods", name, Method, {})
    shown = told(monkeypatch, name)
    assert (sys.modules[type(made).__module__].__doc__ or "").strip() in shown
    for option in dataclasses.fields(made):
        assert f"--set {name}.{option.name}=" in shown
        assert f"{option.metadata['help']} ({option.metadata['source']})" in shown


@pytest.mark.parametrize(("name", "version"), [("nsft", "nsft-1"), ("sima", "critic-1"), ("ppo", "critic-1")])
def test_a_method_that_asks_somebody_names_its_prompts_version(
    monkeypatch: pytest.MonkeyPatch, name: str, version: str
) -> None:
    assert f"prompts: {version}" in told(monkeypatch, name)


def test_an_unknown_method_is_one_sentence_with_the_nearest_name() -> None:
    done = CliRunner().invoke(app, ["methods", "nsftt"])
    assert "nsft" in str(done.exception) and done.exit_code != 0


def test_benchmarks_are_listed_without_a_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert "…" not in CliRunner().invoke(app, ["benchmarks"]).stdout
