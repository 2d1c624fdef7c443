"""The action's steps as a runner takes them one after the other, and GitLab's lines; with a forge for the comments."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from forge import GH, TOKEN, Forge, forge

from harness import HOME
from reports.gate_text import MARK
from tests.fake_run import drawn

ACTION = yaml.safe_load((Path(HOME) / ".github/actions/compare/action.yml").read_text())
GITLAB = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", (Path(HOME) / "docs/ci.md").read_text(), re.DOTALL)[2])["gate"]
COMPARED = """#!/bin/bash
[ "$1" = compare ] || exec {python} -m harness "$@"
mkdir -p runs && cp -r "$RUN/run/." runs/now && cp -r "$RUN/store" runs && touch runs/now/report.html
"""
ACCEPTED = drawn({"baseline": 0.6, "dpo": 0.7})
WORSE = replace(ACCEPTED, skill={"baseline": 0.6, "dpo": 0.45})


@dataclass
class Runner:
    """A machine that takes the action's steps in a checkout: `said` is what they printed."""

    home: Path
    server: Forge
    inputs: dict[str, str] = field(default_factory=dict)
    said: str = ""

    def __post_init__(self) -> None:
        (self.home / "bin").mkdir(parents=True)
        for name, text in (
            ("gh", GH.format(python=sys.executable)),
            ("harness", COMPARED.format(python=sys.executable)),
        ):
            (self.home / "bin" / name).write_text(text)
            (self.home / "bin" / name).chmod(0o755)

    def pull_request(self, run: Path, head: str = "o/r", **github: str) -> int:
        """Every step in its order, for an event of GitHub's; the job's status."""
        event = self.home / "event.json"
        event.write_text(json.dumps({"pull_request": {"number": 5, "head": {"repo": {"full_name": head}}}}))
        shutil.rmtree(self.home / "gate", ignore_errors=True)
        shutil.rmtree(self.home / "runs", ignore_errors=True)
        (self.home / "gate").mkdir()
        files = {name: self.home / name.lower() for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.write_text("")
        known: dict[str, Any] = {
            "inputs": {name: one.get("default", "") for name, one in ACTION["inputs"].items()} | self.inputs,
            "github": {"token": TOKEN, "repository": "o/r", "server_url": "https://forge", "run_id": "9", **github,
                       "event": json.loads(event.read_text())},
            "steps": {},
        }  # fmt: skip
        known["inputs"] |= {"install": "true", "token": known["github"]["token"]}
        status, self.said = 0, ""
        for step in ACTION["runs"]["steps"]:
            always = "always()" in step.get("if", "")
            if "run" not in step or (status and not always) or not (always or self.holds(step.get("if", ""), known)):
                continue
            own = {name: self.filled(str(value), known) for name, value in step.get("env", {}).items()}
            env = {"PATH": f"{self.home / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(HOME), **own,
                   "RUN": str(run), "API": self.server.address, "HOME": str(self.home),
                   "GITHUB_EVENT_PATH": str(event), **{name: str(file) for name, file in files.items()}}  # fmt: skip
            ran = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                cwd=self.home, env=env, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            status, self.said = ran.returncode, self.said + ran.stdout
            if "id" in step:
                lines = (line.partition("=") for line in files["GITHUB_OUTPUT"].read_text().splitlines())
                known["steps"][step["id"]] = {"outputs": {name: value for name, _, value in lines}}
        return status

    def holds(self, condition: str, known: Any) -> bool:
        """An `if` of parts that must all hold: names, and names that are to equal a text."""
        parts = condition.removeprefix("${{").removesuffix("}}").strip().split(" && ") if condition else []
        pairs = [part.partition(" == ") for part in parts]
        return all(
            self.value(name, known) == text.strip("'") if text else self.value(name, known) for name, _, text in pairs
        )

    def filled(self, text: str, known: Any) -> str:
        return re.sub(r"\$\{\{ ([\w.-]+) \}\}", lambda found: str(self.value(found[1], known) or ""), text)

    def value(self, name: str, known: Any) -> Any:
        """What a name of the context stands for; nothing where there is none."""
        for part in name.strip().split("."):
            known = known.get(part, {})
        return known

    @property
    def summary(self) -> str:
        return (self.home / "github_step_summary").read_text()

    def accept(self) -> None:
        """Commit what the last run offered."""
        (self.home / "ci").mkdir(exist_ok=True)
        for name in ("accepted.zip", "accepted.yaml"):
            shutil.copy(self.home / "gate" / name, self.home / "ci" / name)


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    with forge() as server:
        yield Runner(tmp_path / "checkout", server)


def remarks(server: Forge) -> list[str]:
    return [body for body in server.comments.values() if body.startswith(MARK)]


@pytest.mark.heavy
def test_from_the_first_pull_request_on(runner: Runner, tmp_path: Path) -> None:
    good, bad = ACCEPTED.write(tmp_path / "good").parent, WORSE.write(tmp_path / "bad").parent

    assert runner.pull_request(good) == 0  # nothing is accepted yet
    assert "::notice::There is no accepted run at ci/accepted.zip, so nothing is judged" in runner.said
    assert runner.summary.startswith("There is no accepted run") and runner.server.log == []
    assert {"accepted.zip", "accepted.yaml", "bundle.zip", "report.html"} <= {
        file.name for file in (runner.home / "gate").iterdir()
    }
    runner.accept()

    assert runner.pull_request(good) == 0, runner.said
    [first] = remarks(runner.server)
    assert "harness gate: passed" in first and "https://forge/o/r/actions/runs/9" in first
    assert "# harness gate" in runner.summary or "passed" in runner.summary

    assert runner.pull_request(bad) == 1  # a regression: the job fails, and the comment is the same one
    [second] = remarks(runner.server)
    assert "FAILED" in second and "FAILED" in runner.summary and len(runner.server.comments) == 2
    assert [entry.split()[0] for entry in runner.server.log] == ["GET", "POST", "GET", "PATCH"]

    assert runner.pull_request(bad, head="stranger/r") == 1  # of a fork: no token that may write
    assert "::notice::A pull request from a fork has no right to comment" in runner.said
    assert len(runner.server.log) == 4 and "FAILED" in runner.summary

    runner.server.closed = True  # a job without pull-requests: write
    assert runner.pull_request(good) == 0, runner.said
    assert "::warning::The comment could not be written" in runner.said and remarks(runner.server) == [second]


@dataclass
class Pipeline:
    """A merge request's job on GitLab, with a `harness` that only writes a comment."""

    home: Path
    server: Forge

    def run(self, token: str = TOKEN) -> tuple[int, str]:
        """The job's status, and what script and after_script printed."""
        shutil.rmtree(self.home / "gate", ignore_errors=True)
        (self.home / "bin").mkdir(parents=True, exist_ok=True)
        for name, text in (("harness", HARNESS), ("pip", "#!/bin/bash\n")):
            (self.home / "bin" / name).write_text(text)
            (self.home / "bin" / name).chmod(0o755)
        env = {"PATH": f"{self.home / 'bin'}{os.pathsep}{os.environ['PATH']}", "CI_API_V4_URL": self.server.address,
               "CI_PROJECT_ID": "3", "CI_MERGE_REQUEST_IID": "5", "GITLAB_TOKEN": token}  # fmt: skip
        ran = [
            subprocess.run(
                ["bash", *how, "-c", "\n".join(GITLAB[part])],
                cwd=self.home, env=env, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
            for part, how in (("script", ["-e"]), ("after_script", []))
        ]  # fmt: skip
        return ran[0].returncode, "".join(one.stdout for one in ran)


HARNESS = """#!/bin/bash
mkdir -p gate
said=$(printf '<!-- harness gate -->\\n%s & more' "$(date +%N)")
while [ $# -gt 0 ]; do case "$1" in --comment) printf %s "$said" > "$2"; esac; shift; done
"""


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl is installed")
def test_gitlabs_lines_keep_one_note_up_to_date(tmp_path: Path) -> None:
    with forge() as server:
        job = Pipeline(tmp_path, server)
        status, said = job.run()
        assert status == 0 and "There is no accepted run" in said and server.log == []
        (tmp_path / "ci").mkdir()
        (tmp_path / "ci" / "accepted.zip").touch()
        bodies = []
        for _ in range(2):
            assert job.run()[0] == 0
            bodies += remarks(server)
            assert bodies[-1] == (tmp_path / "gate" / "comment.md").read_text()
        notes = "/projects/3/merge_requests/5/notes"
        assert server.log == [f"GET {notes}", f"POST {notes}", f"GET {notes}", f"PUT {notes}/8"]
        assert len(set(bodies)) == 2 and len(remarks(server)) == 1
        status, said = job.run(token="")
        assert status == 0 and "Nobody comments without GITLAB_TOKEN" in said and len(server.log) == 4
