"""The command line tells what there is: whole summaries, an example for every command, the version."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from harness import __version__, cli

COMMANDS = get_command(cli.app).commands  # type: ignore[attr-defined]


def shown(*arguments: str) -> str:
    ran = CliRunner().invoke(cli.app, list(arguments), env={"COLUMNS": "80"})
    assert ran.exit_code == 0, ran.output
    return ran.output


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_a_whole_line_in_the_list(name: str) -> None:
    [line] = (line for line in shown("-h").splitlines() if line.startswith(f"  {name} "))
    assert line.endswith(COMMANDS[name].short_help) and len(line) <= 80


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_examples_of_a_command_have_options_that_it_knows(name: str) -> None:
    """`plan` takes those of `compare`; groups have those of their commands."""
    inner = getattr(COMMANDS[name], "commands", {}).values()
    parameters = [*COMMANDS[name].params, *(COMMANDS["compare"].params if name == "plan" else ())]
    parameters += [parameter for command in inner for parameter in command.params]
    known = {option for parameter in parameters for option in parameter.opts}
    examples = shown(name, "--help").partition("Examples:")[2].split("\n")
    lines = [line.strip() for line in examples if line.strip()]
    assert lines and all(line.startswith(f"harness {name}") for line in lines)
    assert set(re.findall(r"--[a-z-]+", " ".join(lines))) <= known


def test_the_version_is_the_packages() -> None:
    assert shown("--version") == f"harness {__version__}\n"


def test_it_is_a_module_too_and_a_shell_can_complete_it(tmp_path: Path) -> None:
    """As typer does it: the shell asks the command itself what could stand there."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "HOME": str(tmp_path)}
    said = subprocess.run([sys.executable, "-m", "harness", "--version"], env=env, capture_output=True, check=True)
    assert said.stdout == f"harness {__version__}\n".encode()
    env |= {"_HARNESS_COMPLETE": "complete_bash", "COMP_WORDS": "harness co", "COMP_CWORD": "1"}
    code = "import sys; sys.argv = ['harness']; from harness.cli import main; main()"
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert ran.stdout.split() == ["compare"]
