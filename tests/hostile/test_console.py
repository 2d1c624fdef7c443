"""Whatever is printed, wherever it came from: on a terminal it is text, and only our own styles are more than that."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from harness.system.console import visible_lines
from tests.hostile.conftest import ROOT, Command, Ran

EVIL = "\x1b]0;owned\x07\x1b[8m\x1b]8;;http://e\x1b\\x\x1b]8;;\x1b\\\x1b]52;c;aGk=\x07\x9b2J\x90q\x9c\u202e\u2066\u200b\x7f\r"
EVIL += "[link=http://e]y[/link][/b]"
LIVE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
OURS = re.compile(r"\x1b\[(?:[0-4]|[12];)?(?:[39][0-7])?m|\r?\x1b\[(?:\?25[lh]|2K|1A)")  # colours and weights; bars
Place = Callable[[Path], list[str]]


def manifest(folder: Path) -> dict[str, object]:
    from tests.fake_run import FakeRun

    file = FakeRun().write(folder) / "manifest.json"
    told: dict[str, object] = json.loads(file.read_text())
    told |= {"testbed": EVIL, "protocol": EVIL, "data": EVIL}
    for cell in told["cells"]:  # type: ignore[attr-defined]
        cell["label"] += EVIL
    file.write_text(json.dumps(told))
    return told


def written(name: str, text: str, *command: str) -> Place:
    def place(folder: Path) -> list[str]:
        (folder / name).write_text(text)
        return list(command)

    return place


def of_a_run(*command: str) -> Place:
    def place(folder: Path) -> list[str]:
        manifest(folder)
        (folder / "gate.yaml").write_text("margins: {gqa: 5}")
        return list(command)

    return place


def plugin(folder: Path) -> list[str]:
    source = (ROOT / "methods" / "sft.py").read_text()
    shown = re.sub(r'(label: ClassVar\[str\] = )".*"', lambda line: line[1] + ascii(EVIL), source)
    (folder / "mine.py").write_text(shown)
    return ["methods", "./mine.py"]


def store(folder: Path) -> list[str]:
    name = EVIL.replace("/", "")
    (folder / "store" / name / name).mkdir(parents=True)
    return ["doctor", "--store", "store"]


def asked(folder: Path, id: str) -> list[str]:
    row = {"question_id": id, "image": "x.jpg", "text": "Is there a dog in the image?", "label": "yes"}
    (folder / "asked.json").write_text(json.dumps([row]))
    (folder / "said.json").write_text(json.dumps([{"question_id": "other" + EVIL, "text": "yes"}]))
    return ["score", "pope", "--questions", "asked.json", "--answers", "said.json"]


QUOTED = json.dumps(EVIL)
PLACES: dict[str, Place] = {
    "a path": lambda _: ["report", EVIL],
    "a method": lambda _: ["compare", "--methods", EVIL],
    "a benchmark": lambda _: ["compare", "--methods", "sft", "--benchmarks", EVIL],
    "a setting": lambda _: ["compare", "--methods", "sft", "--set", f"sft.{EVIL}=1"],
    "a value": lambda _: ["compare", "--methods", "sft", "--set", f"sft.learning_rate={EVIL}"],
    "an option": lambda _: ["compare", f"--{EVIL}"],
    "a command": lambda _: [EVIL],
    "a testbed": lambda _: ["compare", "--testbed", EVIL],
    "a testbed's file": lambda _: ["compare", "--testbed", f"{EVIL}.yaml"],
    "a testbed's field": written("bed.yaml", f"{QUOTED}: 1", "compare", "--testbed", "bed.yaml"),
    "a testbed's value": written("bed.yaml", f"name: {QUOTED}\nmodels: {QUOTED}", "compare", "--testbed", "bed.yaml"),
    "data": lambda _: ["compare", "--data", EVIL],
    "a judge": lambda _: ["score", "mmvet", "--judge", EVIL],
    "a script": written("asked.json", "{}", "score", "mmvet", "--questions", "asked.json", "--judge", f"script:{EVIL}"),
    "answers' name": lambda _: ["score", "pope", "--answers", EVIL],
    "an id": lambda folder: asked(folder, "q" + EVIL),
    "an id, as JSON": lambda folder: [*asked(folder, "q" + EVIL), "--json", "--allow-partial"],
    "half a character": lambda folder: asked(folder, "q\ud800"),
    "broken JSON": written("asked.json", EVIL, "score", "pope", "--questions", "asked.json", "--answers", "asked.json"),
    "a policy's key": written("p.yaml", f"{QUOTED}: 1", "gate", ".", "--baseline", ".", "--policy", "p.yaml"),
    "a policy that is none": written("p.yaml", EVIL, "gate", ".", "--baseline", ".", "--policy", "p.yaml"),
    "a manifest, as a table": of_a_run("report", "run"),
    "a manifest, as Markdown": of_a_run("report", "run", "--format", "md"),
    "a manifest, as HTML": of_a_run("report", "run", "--format", "html"),
    "a manifest, in the paper's table": of_a_run("report", "run", "--table", "1"),
    "a manifest, gated": of_a_run("gate", "run", "--baseline", "run", "--policy", "gate.yaml"),
    "a plugin's label": plugin,
    "a stage's name": store,
}


def harmless(ran: Ran) -> None:
    """Nothing live but our styles, and not nothing at all."""
    told = OURS.sub("", ran.stdout + ran.stderr)
    assert told.strip() and not LIVE.search(told), LIVE.search(told)
    assert "Traceback" not in told


@pytest.mark.parametrize("name", PLACES)
def test_no_sequence_reaches_a_terminal(harness: Command, tmp_path: Path, name: str) -> None:
    harmless(harness(tmp_path, *PLACES[name](tmp_path), columns=100))


def test_without_the_door_they_do(harness: Command, tmp_path: Path) -> None:
    for name in ("a path", "a method", "an id", "a stage's name"):
        folder = tmp_path / name.replace("'", "")
        folder.mkdir()
        mutant = {"harness.system.console:visible_lines": "identity"}
        with pytest.raises(AssertionError):
            harmless(harness(folder, *PLACES[name](folder), columns=100, mutant=mutant))


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", pytest.param("gb2312", marks=pytest.mark.heavy)])
@pytest.mark.parametrize("command", ["benchmarks", "methods", "report run"])
def test_a_console_that_lacks_signs_prints_what_it_can(
    harness: Command, tmp_path: Path, command: str, encoding: str
) -> None:
    from tests.fake_run import FakeRun

    FakeRun(labels={"baseline": "baseline", "nsft": "nSFT 漢字 é", "dpo": "GT-DPO"}).write(tmp_path)
    whole, part = (harness(tmp_path, *command.split(), encoding=name) for name in ("utf-8", encoding))
    assert part.status == 0 and "Traceback" not in part.stderr
    assert len(part.stdout.splitlines()) == len(whole.stdout.splitlines())
    figures = r"[-+]?\d+\.\d+"
    assert re.findall(figures, part.stdout) == re.findall(figures, whole.stdout.replace("−", "-"))


@pytest.mark.parametrize(
    "width", [80, 160, *(pytest.param(width, marks=pytest.mark.heavy) for width in (60, 100, 131))]
)
@pytest.mark.parametrize("way", ["terminal", "COLUMNS"])
@pytest.mark.parametrize("command", ["benchmarks", "report run"])
def test_the_width_of_a_terminal_is_respected(
    harness: Command, tmp_path: Path, command: str, way: str, width: int
) -> None:
    from tests.fake_run import FakeRun

    FakeRun().write(tmp_path)
    how = {"columns": width} if way == "terminal" else {"env": {"COLUMNS": str(width)}}
    ran = harness(tmp_path, *command.split(), **how)
    lines = [cell_len(re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip()) for line in ran.stdout.splitlines()]
    assert ran.status == 0 and max(lines) <= width
    assert ("\x1b[" in ran.stdout) == (way == "terminal")


def test_lines_and_tabs_stay_and_all_else_is_seen() -> None:
    assert visible_lines("a\tb\r\nc\rd\x1be\ud800é漢") == "a\tb\nc<U+000D>d<U+001B>e<U+D800>é漢"


SHELL = {  # what the shell does with the output -> the status
    "true": ("{} | true; exit ${{PIPESTATUS[0]}}", 141),
    "head": ("{} | head -c 10 > /dev/null; exit ${{PIPESTATUS[0]}}", 141),
    "closed": ("{} >&-", 0),
    "closed errors": ("{} 2>&-", 0),
    "full": ("{} > /dev/full", 3),
}


@pytest.mark.parametrize("way", SHELL)
def test_output_that_nobody_reads_ends_quietly(way: str) -> None:
    """`methods` prints line by line; `head` may take all of it before it goes, which is no failure."""
    line, status = SHELL[way]
    command = line.format(f"{sys.executable} -m harness.cli methods")
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert ran.returncode in ({status, 0} if way == "head" else {status}), ran.stderr
    assert "Traceback" not in ran.stderr and "Exception ignored" not in ran.stderr
    assert ran.stderr == "" or way == "full"
