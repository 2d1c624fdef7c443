"""Training curves on boards: what is passed on is the log, and a board that fails costs itself alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.comparison.request import request
from harness.contracts.settings import Runtime
from harness.system import boards
from harness.system.errors import UsageError
from harness.training.engine import train
from harness.training.job import Job
from harness.training.launch import launch
from tests.trainings import same


class Fake:
    """A tracker that remembers; `fails` names what it cannot do."""

    made: list["Fake"]
    fails = ""

    def __init__(self, **how: Any) -> None:
        self.how, self.said, self.settings, self.ended = how, [], {}, False  # type: ignore[var-annotated]
        self.may("init")
        Fake.made.append(self)

    def may(self, what: str) -> None:
        if what == self.fails:
            raise ConnectionError("the board is down")

    def start(self) -> None:
        self.may("start")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.may("settings")
        self.settings = values

    def log(self, values: dict[str, float], step: int) -> None:
        self.may("log")
        self.said.append({"step": step, **values})

    def finish(self) -> None:
        self.may("finish")
        self.ended = True


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    Fake.made, Fake.fails = [], ""
    monkeypatch.setattr("accelerate.tracking.LOGGER_TYPE_TO_CLASS", dict.fromkeys(boards.names("all"), Fake))  # type: ignore[attr-defined]
    return Fake


def test_a_board_gets_the_lines_of_the_log(job: Callable[..., Job], fake: type[Fake]) -> None:
    one = job("one", report_to="tensorboard", logging_dir="boards")
    train(one)
    [board] = fake.made
    lines = [json.loads(line) for line in (Path(one.out) / "log.jsonl").read_text().splitlines()]
    assert [{"step": line["step"], "train/loss": line["loss"]} for line in lines] == [
        {"step": said["step"], "train/loss": said["train/loss"]} for said in board.said
    ]
    assert board.ended and board.how["logging_dir"] == "boards" and board.settings["learning_rate"] == 1e-3


@pytest.mark.parametrize("what", ["init", "start", "settings", "log", "finish"])
def test_one_that_fails_costs_itself_alone(
    what: str, job: Callable[..., Job], fake: type[Fake], caplog: pytest.LogCaptureFixture
) -> None:
    plain, shown = job("plain"), job("shown", report_to=["wandb", "mlflow"])
    train(plain)
    fake.fails = what
    train(shown)
    assert same(plain, shown)
    said = [line for line in caplog.messages if "shows this training no more: the board is down" in line]
    assert len(said) == 2  # each board once


@pytest.mark.heavy
def test_boards_are_in_no_key_and_one_rank_alone_reports(job: Callable[..., Job]) -> None:
    """With a board that no process can open, two ranks train all the same."""
    both = job("both", num_processes=2, report_to="wandb")
    assert launch(both).steps and both.identity() == job("other", num_processes=2).identity()


@pytest.mark.parametrize(
    ("given", "known"),
    [("none", ()), ("wandb", ("wandb",)), (["mlflow", "trackio"], ("mlflow", "trackio")), ("all", boards.names("all"))],
)
def test_names_are_those_of_the_trainer(given: Any, known: tuple[str, ...]) -> None:
    assert Runtime.model_validate({"report_to": given}).report_to == known


def test_a_board_that_is_not_installed_is_named_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install wandb"):
        boards.check(("wandb",))


def test_a_board_that_nobody_knows_is_a_sentence() -> None:
    words = ("sft", "llava150k", "", "mini", 1, "", None, None, ["runtime.report_to=comet"], None)
    with pytest.raises(UsageError, match="report_to"):
        request(*words)
