"""Commands run in this process, on comparisons made up for the reports' tests."""

from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from harness import cli

Said = Callable[..., str]


def said(*arguments: object, status: int = 0, answer: str = "") -> str:
    """What a command prints; its own error is raised."""
    ran = CliRunner().invoke(cli.app, list(map(str, arguments)), input=answer, env={"COLUMNS": "100"})
    if ran.exception and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    assert ran.exit_code == status, ran.output
    return ran.output


@pytest.fixture
def harness() -> Said:
    """`said`."""
    return said
