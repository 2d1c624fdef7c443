"""A run's folder: its own name, its own comparison, and all its files of one manifest at any instant."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.comparison import run_folder
from harness.comparison.request import request
from harness.comparison.run_folder import begin, choose, chosen, identity, install, owner
from harness.sources._chosen import source
from harness.system.errors import UsageError
from tests.e2e.conftest import ROOT
from tests.fake_run import manifest

KEPT = "table.md results.jsonl report.html figure2.svg profile.json".split()


def folder_of(words: dict[str, Any] | None = None, sets: list[str] | None = None, sizes: str = "") -> str:
    """The name of the folder of a comparison."""
    given = {"methods": "nsft,dpo", "data": "llava150k", "testbed_name": "mini", "seeds": 1, "benchmarks": ""}
    given |= {"images": "", "examples": None, "limit": None, "sets": sets, "workers": 1, **(words or {})}
    bed, wanted, _ = request(**given)
    return chosen(None, wanted, bed, sets or [], sizes).name


def test_what_differs_from_the_defaults_is_in_the_name() -> None:
    assert folder_of() == "nsft-dpo-llava150k-mini"
    assert folder_of({"seeds": 3, "limit": 8}) == "nsft-dpo-llava150k-mini-seeds=3-limit=8"
    assert folder_of({"benchmarks": "pope,gqa"}) == "nsft-dpo-llava150k-mini-pope+gqa"
    assert folder_of(sets=["dpo.beta=0.5", "runtime.num_processes=2"]) == "nsft-dpo-llava150k-mini-dpo.beta=0.5"
    assert folder_of(sizes="2,4") == "nsft-dpo-llava150k-mini-sizes=2_4"


def test_a_name_is_short_and_plain_whatever_the_rows_are_called() -> None:
    rows = ",".join(f"sft:learning_rate={n}.1e-5:warmup_ratio=0.05" for n in range(1, 8))
    made = folder_of({"methods": rows})
    assert len(made) <= 100 and made.startswith("sft_learning_rate=1.1e-5_warmup_ratio=0.05-sft")
    assert made != folder_of({"methods": rows.replace("7.1e-5", "8.1e-5")})
    assert folder_of({"methods": "nsft:turns=a/../b $;2J"}) == "nsft_turns=a_.._b___2J-llava150k-mini"


def test_the_same_comparison_finds_its_folder_and_another_takes_the_next(tmp_path: Path) -> None:
    base = tmp_path / "run"
    assert choose(base, "a") == base
    begin(base, manifest(request="a"))
    assert choose(base, "a") == base
    assert choose(base, "b") == tmp_path / "run-2"
    begin(tmp_path / "run-2", manifest(request="b"))
    assert choose(base, "b") == tmp_path / "run-2"
    (base / "manifest.json").write_text("no manifest")
    assert choose(base, "a") == tmp_path / "run-3"


def test_identity_is_what_was_asked_not_how_it_is_run_or_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("")
    monkeypatch.chdir(tmp_path)
    bed, wanted, _ = request("./mine.py", "llava150k", "", "mini", 1, "", None, None, None, 1)
    _, again, _ = request(str(tmp_path / "mine.py"), "llava150k", "", "mini", 1, "", None, None, None, 2)
    assert identity(wanted, bed) == identity(again, bed)
    assert identity(wanted, bed) != identity(wanted, bed.model_copy(update={"models": ("/other",)}))
    for change in ({"seeds": 2}, {"limit": 3}, {"data": source("textcaps")}, {"benchmarks": ("gqa",)}):
        assert identity(replace(wanted, **change), bed) != identity(wanted, bed), change


def test_a_folder_name_that_no_disk_takes_is_refused_with_the_option(tmp_path: Path) -> None:
    bed, wanted, _ = request("sft", "llava150k", "", "mini", 1, "", None, None, None, 1)
    with pytest.raises(UsageError, match="--out: a folder's name has more than 255 bytes"):
        chosen(tmp_path / ("x" * 256), wanted, bed, [], "")


def fill(what: str, names: list[str] = KEPT) -> Any:
    """Writes a comparison's files, each of which says whose it is."""

    def write(part: Path) -> None:
        for file in names:
            (part / file).write_text(what)
        manifest(request=what).write(part / "manifest.json")

    return write


def whose(folder: Path) -> set[str]:
    """Whose the files of a folder are, the manifest's among them; one, wherever the run was killed."""
    made = {path.read_text() for path in folder.iterdir() if run_folder.OURS.fullmatch(path.name)}
    return made | ({owner(folder)} if (folder / "manifest.json").is_file() else set())


def test_another_comparison_in_a_folder_leaves_no_file_of_the_first_and_every_file_of_the_user(tmp_path: Path) -> None:
    install(tmp_path, fill("first"))
    (tmp_path / "notes.txt").write_text("mine")
    install(tmp_path, fill("second", ["table.md"]))
    assert whose(tmp_path) == {"second"} and not (tmp_path / "figure2.svg").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine" and not (tmp_path / ".part").exists()


def test_the_same_files_again_change_nothing(tmp_path: Path) -> None:
    install(tmp_path, fill("first"))
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    install(tmp_path, fill("first"))
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


PROGRAM = """
import sys
from pathlib import Path
from harness.comparison import run_folder
from tests.comparison.test_run_folder import fill
if "--mutant" in sys.argv:
    run_folder.begin = lambda folder, manifest: manifest.write(folder / "manifest.json")
run_folder.install(Path(sys.argv[1]), fill("second"))
"""
PLACES = ["folder.filled:1", "folder.marked:1", *(f"folder.removed:{n}" for n in range(1, 6)), "folder.begun:1"]
PLACES += [*(f"folder.moved:{n}" for n in range(1, 6)), "folder.finished:1"]


def killed(folder: Path, place: str, *more: str) -> None:
    """The second comparison, killed at a place, in the folder of the first."""
    install(folder, fill("first"))
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), *more],
        env={"PYTHONPATH": str(ROOT), "HARNESS_FAILPOINT": place, "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert ran.returncode == 137, place


@pytest.mark.parametrize("place", PLACES)
def test_a_kill_at_any_instant_leaves_files_of_one_comparison(tmp_path: Path, place: str) -> None:
    killed(tmp_path, place)
    assert len(whose(tmp_path)) <= 1
    if (tmp_path / "manifest.json").is_file():
        finished = json.loads((tmp_path / "manifest.json").read_text())["finished"]
        complete = all((tmp_path / file).is_file() for file in KEPT)
        assert complete or not finished
    install(tmp_path, fill("second"))
    assert whose(tmp_path) == {"second"}


def test_a_folder_that_is_not_emptied_first_would_be_a_mixture(tmp_path: Path) -> None:
    """The mutant: without the protection the test above sees two comparisons in one folder."""
    killed(tmp_path, "folder.moved:2", "--mutant")
    assert whose(tmp_path) == {"first", "second"}
