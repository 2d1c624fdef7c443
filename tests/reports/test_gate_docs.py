"""The documented policy is one, and the action does what it says: run here, with nobody but fakes to talk to."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.commands.gating import read_policy
from reports.gate_text import MARK

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/ci.md").read_text(), re.DOTALL)
ACTION = yaml.safe_load((ROOT / ".github/actions/compare/action.yml").read_text())
STEPS: dict[str, dict[str, Any]] = {step["name"]: step for step in ACTION["runs"]["steps"]}
HARNESS = """#!/bin/bash
echo "$@" >> calls
[ "$1" = compare ] && exit ${COMPARED:-0}
[ "$1" = gate ] || exit 0
while [ $# -gt 0 ]; do case "$1" in --markdown|--comment) mkdir -p gate; echo "said" > "$2"; esac; shift; done
exit ${VERDICT:-0}
"""
GH = """#!/bin/bash
echo "$@" >> calls
[[ "$*" == *--jq* ]] && echo "$KNOWN"
exit 0
"""


def test_the_policy_is_one(tmp_path: Path) -> None:
    (tmp_path / "gate.yaml").write_text(BLOCKS[0])
    policy = read_policy(tmp_path / "gate.yaml")
    assert policy.margins["chair/recall@listed"] == 3.0
    assert policy.budgets["train"].peak_host_gib == 4.0


@pytest.mark.parametrize("text", [BLOCKS[1], (ROOT / ".github/workflows/ci.yml").read_text()], ids=["docs", "ours"])
def test_workflows_give_the_action_inputs_that_it_has(text: str) -> None:
    steps = [step for job in yaml.safe_load(text)["jobs"].values() for step in job["steps"]]
    [used] = [step for step in steps if step.get("uses") == "./.github/actions/compare"]
    assert used["with"].keys() <= ACTION["inputs"].keys()


def test_no_script_holds_what_others_wrote() -> None:
    """Inputs and events reach a script as variables: as text in it they could be code."""
    for name, step in STEPS.items():
        assert "${{" not in step.get("run", ""), name


@pytest.fixture
def runner(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Runs a step's script where harness and gh are fakes; gives its status, and what they were called with."""
    for name, script in (("harness", HARNESS), ("gh", GH)):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(script)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "runs" / "now").mkdir(parents=True)
    (tmp_path / "runs" / "now" / "report.html").write_text("")
    (tmp_path / "gate").mkdir()

    def run(step: str, **variables: str) -> tuple[int, list[str]]:
        given = dict.fromkeys(STEPS[step].get("env", {}), "") | variables
        given |= {"GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
        env = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", **given}
        (tmp_path / "calls").write_text("")
        ran = subprocess.run(["bash", "-eo", "pipefail", "-c", STEPS[step]["run"]], cwd=tmp_path, env=env, check=False)
        return ran.returncode, (tmp_path / "calls").read_text().splitlines()

    return run


def test_it_compares_and_offers_the_run_to_be_accepted(runner) -> None:  # type: ignore[no-untyped-def]
    status, calls = runner("Compare", ARGUMENTS="--methods dpo --limit 5")
    assert status == 0 and calls[0] == "compare --methods dpo --limit 5 --out runs/now"
    assert calls[2] == "gate runs/now --accept gate/accepted.zip"


def test_a_run_with_cells_missing_is_judged_and_one_that_failed_is_not(runner) -> None:  # type: ignore[no-untyped-def]
    assert runner("Compare", ARGUMENTS="", COMPARED="3", VERDICT="3")[0] == 0
    assert runner("Compare", ARGUMENTS="", COMPARED="2") == (1, ["compare --out runs/now"])


@pytest.mark.parametrize("verdict", [0, 1, 2, 3])
def test_the_verdict_is_the_jobs_but_the_comment_comes_first(runner, tmp_path: Path, verdict: int) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "a.zip").write_text("")
    status, [call] = runner("Gate", BASELINE="a.zip", POLICY="none.yaml", PAGE="https://x", VERDICT=str(verdict))
    assert status == 0 and "--policy" not in call and "--comment gate/comment.md --page https://x" in call
    assert (tmp_path / "output").read_text() == f"status={verdict}\n" and (tmp_path / "summary").read_text() == "said\n"
    assert runner("Verdict", STATUS=str(verdict))[0] == verdict
    names = list(STEPS)
    assert names.index("Gate") < names.index("Comment") < names.index("Verdict")


def test_without_an_accepted_run_it_passes_and_says_what_to_do(runner, capfd: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    assert runner("Gate", BASELINE="none.zip") == (0, []) and runner("Verdict", STATUS="")[0] == 0
    assert "::notice::There is no accepted run at none.zip" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("known", "call"),
    [
        ("", "api -X POST repos/o/r/issues/7/comments -F body=@gate/shown.md --silent"),
        ("99\n100", "api -X PATCH repos/o/r/issues/comments/99 -F body=@gate/shown.md --silent"),
    ],
)
def test_one_comment_is_kept_up_to_date(runner, tmp_path: Path, known: str, call: str) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "gate" / "comment.md").write_text(f"{MARK}\nhello")
    status, calls = runner("Comment", REPOSITORY="o/r", HEAD="o/r", NUMBER="7", KNOWN=known)
    assert status == 0 and calls[1:] == [call] and f'startswith("{MARK}")' in calls[0]
    assert (tmp_path / "gate" / "shown.md").read_text() == f"{MARK}\nhello"


def test_where_there_was_no_verdict_nobody_comments(runner) -> None:  # type: ignore[no-untyped-def]
    assert runner("Comment", REPOSITORY="o/r", NUMBER="7") == (0, [])
