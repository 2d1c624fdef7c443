"""The documented policy and workflow are ones that work."""

import re
from pathlib import Path

import typer
import yaml

from harness.cli import app
from harness.commands.gating import read_policy

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/ci.md").read_text(), re.DOTALL)


def test_the_policy_is_one(tmp_path: Path) -> None:
    (tmp_path / "gate.yaml").write_text(BLOCKS[0])
    policy = read_policy(tmp_path / "gate.yaml")
    assert policy.margins["chair/recall@listed"] == 3.0
    assert policy.budgets["train"].peak_host_gib == 4.0


def test_every_command_of_the_workflow_has_the_options_it_is_given() -> None:
    workflow = yaml.safe_load(BLOCKS[1])
    lines = [step["run"] for step in workflow["jobs"]["gate"]["steps"] if "run" in step]
    commands = [line.split()[1:] for line in lines if line.startswith("harness ")]
    assert [command[0] for command in commands] == ["compare", "gate", "report"]
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, *arguments in commands:
        options = {option for parameter in known[name].params for option in parameter.opts}
        assert {argument for argument in arguments if argument.startswith("--")} <= options
