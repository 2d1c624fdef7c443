"""The command line tells what there is: whole summaries, an example for every command, the version."""

import re

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


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"data"}))
def test_the_examples_of_a_command_have_options_that_it_knows(name: str) -> None:
    """`plan` takes those of `compare`; `data` has commands of its own."""
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
