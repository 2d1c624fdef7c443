"""Runs, bundles and manifests are data: whatever they say, reading them runs nothing and writes nowhere else."""

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.store.manifest import MANIFEST, render
from tests.hostile.conftest import ROOT, Command, Ran

EVIL = "open('owned', 'w').write('x')"
INJECTED = "{{ 7*191 }}{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}${7*191}#{7*191}"
COMMANDS = [
    "report run", "report run --format html", "report run --format md", "report run --table 1", "report run --out out",
    "report run --figure 5", "report run --bundle b.zip", "gate run --baseline run --policy gate.yaml",
    "gate run --accept a.zip", "doctor --store store", "report run --crosscheck", "view run --static shared",
]  # fmt: skip


class Run:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch owned",)


def lay_traps(folder: Path) -> Path:
    """A run whose every field names code, with the code beside it."""
    from tests.fake_run import FakeRun

    names = {"baseline": "baseline", "nsft": INJECTED, "dpo": "./evil.py"}
    run = FakeRun(labels=names, said={"nsft": INJECTED}, item_id=INJECTED).write(folder)
    told = json.loads((run / MANIFEST).read_text())
    told |= {"testbed": INJECTED, "data": "./evil.py", "source": {"commit": INJECTED}, "judges": {"mmhal": "./evil.py"}}
    told["rows"] = {row: {"name": "./evil.py", "options": {"codebook": "./evil.py"}} for row in told["rows"]}
    (run / MANIFEST).write_text(json.dumps(told))
    for place in (folder, run, folder / "store"):
        for name in ("evil.py", "nsft.py", "gqa.py", "sitecustomize.py", "conftest.py", "harness_mine.py"):
            (place / name).write_text(EVIL)
        for name in ("model.bin", "optimizer.pt", "state.pkl", "units.npy"):
            (place / name).write_bytes(pickle.dumps(Run()))
    (folder / "gate.yaml").write_text("margins: {gqa: 5}")
    return run


def untouched(folder: Path, ran: Ran) -> None:
    assert not list(folder.rglob("owned")) and not ran.code, ran.code
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_of_a_run_is_run(harness: Command, tmp_path: Path, command: str) -> None:
    lay_traps(tmp_path)
    ran = harness(tmp_path, *command.split(), watched=True)
    untouched(tmp_path, ran)
    assert ran.status in (0, 3), ran.stderr
    assert "1337" not in ran.stdout  # 7 * 191
    for page in tmp_path.rglob("*.html"):
        assert "1337" not in page.read_text() and "<class" not in page.read_text()


def test_a_method_file_is_run_and_noticed(harness: Command, tmp_path: Path) -> None:
    """What the others do not do, and that it would be seen."""
    (tmp_path / "mine.py").write_text(EVIL + "\n" + (ROOT / "methods" / "sft.py").read_text())
    ran = harness(tmp_path, "methods", "./mine.py", watched=True)
    assert (tmp_path / "owned").exists() and any("mine.py" in event for event in ran.code)


@pytest.mark.parametrize("name", ["./evil.py", "../gqa", "gqa/../evil", "os", "harness.sources.local", "_files"])
def test_a_benchmark_of_a_manifest_is_an_installed_one_or_none(harness: Command, tmp_path: Path, name: str) -> None:
    run = lay_traps(tmp_path)
    told = json.loads((run / MANIFEST).read_text())
    (run / MANIFEST).write_text(json.dumps(told | {"benchmarks": {name: {}}}))
    for command in ("report run", "gate run --baseline run --policy gate.yaml"):
        untouched(tmp_path, harness(tmp_path, *command.split(), watched=True))


UP = "../../../elsewhere"
FARTHER = ["score/../../../elsewhere", "score/0123456789abcdef0123/../x", ".", "score", ""]
AWAY = ["/etc/passwd", UP, *(pytest.param(text, marks=pytest.mark.heavy) for text in FARTHER)]


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize("field", ["score", "items", "crosscheck", "stages", "trained"])
def test_a_stage_of_a_manifest_lies_in_its_store(harness: Command, tmp_path: Path, field: str, away: str) -> None:
    run = lay_traps(tmp_path)
    told = json.loads((run / MANIFEST).read_text())
    if field == "stages":
        told["stages"].append(away)
    elif field == "trained":
        told["trained"][0]["stages"] = [away]
    else:
        told["cells"][0][field] = away
    (run / MANIFEST).write_text(json.dumps(told))
    ran = harness(tmp_path, "report", "run")
    assert ran.status == (0 if (field, away) == ("crosscheck", "") else 2), ran.stderr
    assert "root:" not in ran.stdout + ran.stderr


@pytest.mark.parametrize("away", AWAY)
def test_an_input_of_a_stage_lies_in_its_store(harness: Command, tmp_path: Path, away: str) -> None:
    """Sealed as it should be: a seal is no signature."""
    lay_traps(tmp_path)
    for file in tmp_path.glob(f"store/score/*/{MANIFEST}"):
        fields = json.loads(file.read_text())
        del fields["seal"]
        fields["inputs"]["responses"] = away
        file.write_text(render(fields))
    ran = harness(tmp_path, "report", "run")
    assert ran.status == 3 and "damaged" in ran.stderr


def test_a_report_is_not_written_through_a_link(harness: Command, tmp_path: Path) -> None:
    """A run with links where a report's files would be, leading to what is the user's."""
    run = lay_traps(tmp_path)
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    for name in ("report.html", "cards.md", "figure5.html", "table.md", "table.svg", "results.jsonl", "intervals.svg"):
        (run / name).symlink_to(mine)
    for command in ("report run --out run", "report run --figure 5", "report run --figure intervals"):
        assert harness(tmp_path, *command.split()).status == 0
    assert mine.read_text() == "precious"


@pytest.mark.parametrize("where", ["run", "score"])
def test_a_bundle_holds_no_file_from_elsewhere(harness: Command, tmp_path: Path, where: str) -> None:
    """A stranger's run that would have the user's secret packed for others to read."""
    run = lay_traps(tmp_path)
    secret = tmp_path / "secret.json"
    secret.write_text("secret")
    stage = next(tmp_path.glob("store/score/*"))
    (run / "notes.json" if where == "run" else stage / "notes.json").symlink_to(secret)
    ran = harness(tmp_path, "report", "run", "--bundle", "b.zip")
    assert ran.status == 2 and "is a link" in ran.stderr and not list(tmp_path.glob("b.zip*"))
    shutil.rmtree(stage)
    stage.symlink_to(tmp_path)
    assert harness(tmp_path, "report", "run", "--bundle", "b.zip").status == 2
