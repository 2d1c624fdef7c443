"""`harness data where`: what is there, where the rest comes from, and what is fetched when it is asked for."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from typer.testing import CliRunner

from harness import cli
from harness.comparison.provenance import fetched as fetched_at
from harness.contracts.offered import Hub, Offered
from harness.contracts.steps import ALL_BENCHMARKS, Plan, Request, Step
from harness.contracts.testbed_file import read_testbed
from harness.sources._chosen import source
from harness.store.contents import listing
from harness.system.errors import UsageError
from harness.system.hub import NOTE, revision_of
from tests.commands.fakehub import COMMIT, REPOSITORY, hub

FILES = {"data/test-00000-of-00001.parquet": b"rows", "README.md": b"# POPE", "Full/random.parquet": b"others"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What HARNESS_DATA names: a folder with one source and one benchmark."""
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    (tmp_path / "benchmarks" / "mme").mkdir(parents=True)
    (tmp_path / "sources" / "textcaps").mkdir(parents=True)
    (tmp_path / "sources" / "textcaps" / "textcaps.json").write_text("[]")
    return tmp_path


def said(*words: str) -> str:
    done = CliRunner().invoke(cli.app, ["data", "where", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_what_is_missing_is_said_with_place_size_layout_and_command(home: Path) -> None:
    told = {line.split()[0]: line.split()[1] for line in said().splitlines() if line[:1].strip()}
    assert told["textcaps"] == told["mme"] == "there" and told["pope"] == told["llava150k"] == "missing"
    shown = " ".join(said("pope").split())
    assert f"pope missing {home}/benchmarks/pope" in shown and "coco_pope_random.json" in shown
    assert (
        f"hf download lmms-lab/POPE --repo-type dataset --include 'data/*' --local-dir {home}/benchmarks/pope" in shown
    )
    assert "Fetch it (255 MB):" in shown


@pytest.mark.parametrize("name", [*ALL_BENCHMARKS, "llava150k", "ocrvqa", "textcaps", "mix665k"])
def test_all_that_the_paper_needs_has_a_command_and_a_layout(name: str, home: Path) -> None:
    (place,) = json.loads(said(name, "--json"))["places"]
    assert place["layout"] and place["command"].startswith(("hf download ", "wget "))
    assert "{home}" not in place["command"] and str(home) in place["command"]


def test_a_comparison_s_error_says_the_same(home: Path) -> None:
    words = ["plan", "--testbed", "llava-1.5-7b", "--methods", "sft", "--data", "llava150k", "--benchmarks", "pope"]
    done = CliRunner().invoke(cli.app, words)
    error = " ".join(str(done.exception).split())
    assert "llava_instruct_150k.json (229 MB)" in error and "hf download liuhaotian/LLaVA-Instruct-150K" in error
    assert f"{home}/benchmarks/pope is not there" in error and "hf download lmms-lab/POPE" in error


def test_a_folder_with_blanks_is_one_word_of_the_command() -> None:
    class Signs(Offered):
        layout, offered, fetch = "signs.json.", Hub("me/signs", ("*.json",), "1 MB"), "unzip {home}/x.zip"

    told = Signs.told(Path("/my data"))
    assert told.startswith("signs.json. Fetch it (1 MB): hf download me/signs ")
    assert "--local-dir '/my data' && unzip '/my data'/x.zip" in told
    assert Offered.told(Path("x")) == ""


def test_mini_has_nothing_to_fetch() -> None:
    with pytest.raises(UsageError, match="draws its files itself"):
        CliRunner().invoke(cli.app, ["data", "where", "--testbed", "mini"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--download"], "fetches what is named"),
        (["pope", "--revision", COMMIT], "--revision"),
        (["chair", "--download"], "chair is not on the hub"),
        (["popes"], "popes is no source or benchmark"),
    ],
)
def test_nothing_is_fetched_that_was_not_named(words: list[str], why: str, home: Path) -> None:
    with pytest.raises(UsageError, match=why):
        CliRunner().invoke(cli.app, ["data", "where", *words], catch_exceptions=False)


def fetched(address: str, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, for huggingface_hub reads its address once."""
    hub_only = {"HF_ENDPOINT": address, "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "harness", "data", "where", "pope", "--download", *words]
    return subprocess.run(command, env={**os.environ, **hub_only}, capture_output=True, text=True, timeout=120)


def test_what_is_asked_for_comes_at_a_commit_that_is_written_down(home: Path) -> None:
    with hub(FILES) as (address, asked):
        done = fetched(address, home)
        assert done.returncode == 0, done.stderr
        pope = home / "benchmarks" / "pope"
        assert (pope / "data/test-00000-of-00001.parquet").read_bytes() == b"rows"
        assert not (pope / "README.md").exists() and not (pope / "Full").exists()
        assert revision_of(pope) == f"{REPOSITORY}@{COMMIT}"
        assert f"there    {pope}, {REPOSITORY}@{COMMIT}" in done.stdout
        count = len(asked)
        before = listing(pope)
        assert fetched(address, home, "--revision", COMMIT).returncode == 0
        assert not [path for path in asked[count:] if path.endswith(".parquet")]  # it is there
        assert listing(pope) == before
    (pope / NOTE).unlink()
    assert listing(pope) == before  # when it was fetched is no part of the data
    assert revision_of(pope) == "" == revision_of(None)


def test_without_being_asked_nothing_is_fetched(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub(FILES) as (address, asked):
        monkeypatch.setenv("HF_ENDPOINT", address)
        said("pope")
        assert asked == []


@pytest.mark.parametrize(
    ("files", "spoilt", "why"),
    [
        ({"README.md": b"#"}, {}, "it has none of data/*"),
        (FILES, {"data/test-00000-of-00001.parquet": b"swap"}, "is not the hub's; delete it"),
    ],
)
def test_what_is_not_what_the_hub_lists_is_refused(
    files: dict[str, bytes], spoilt: dict[str, bytes], why: str, home: Path
) -> None:
    with hub(files, spoilt) as (address, _):
        done = fetched(address, home)
    assert done.returncode == 2 and why in " ".join(done.stderr.split())
    assert revision_of(home / "benchmarks" / "pope") == ""


def test_a_commit_s_note_that_is_no_text_is_shown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / NOTE).parent.mkdir(parents=True)
    (tmp_path / NOTE).write_bytes(b"\xff" + b"a" * 300)
    assert revision_of(tmp_path) == "\N{REPLACEMENT CHARACTER}" + "a" * 199


def test_a_hub_that_is_not_there_is_a_sentence(home: Path) -> None:
    done = fetched("http://127.0.0.1:9", home)
    assert done.returncode == 2 and "lmms-lab/POPE cannot be fetched" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_comparison_s_manifest_names_the_commits_of_its_data(home: Path) -> None:
    for folder in (home / "benchmarks" / "pope", home / "sources" / "textcaps"):
        (folder / NOTE).parent.mkdir(parents=True)
        (folder / NOTE).write_text(f"{folder.name}/x@{COMMIT}\n")
    bed = read_testbed("llava-1.5-7b")
    asked = Request((), source("textcaps+ocrvqa", home=home), benchmarks=("pope", "mme"))
    planned = Plan(asked, bed, {}, (), (), (), {}, {}, cast("Step", None))
    assert fetched_at(planned) == {"textcaps": f"textcaps/x@{COMMIT}", "pope": f"pope/x@{COMMIT}"}
