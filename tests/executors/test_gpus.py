"""Two steps that are at work at once use no GPU of each other's: on a machine that is said to have some."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.contracts.executor import Body, Tick
from harness.contracts.schedule import Course
from harness.contracts.steps import Step
from harness.executors import local
from harness.executors.local import Local
from harness.store.store import Store
from harness.system import machine
from tests.toy_steps import Watching, step, until

Used = list[tuple[str, str, str, int]]


@dataclass(frozen=True)
class Bodies:
    """Makes stages, none before `together` have begun, and notes which GPUs the process sees that does."""

    folder: Path
    together: int = 1

    def __call__(self) -> Body:
        return self.make

    def make(self, step: Step, tick: Tick) -> None:
        self.note("began", step)
        assert until(lambda: (self.folder / "log").read_text().count("began") >= self.together)
        Store(self.folder / "store").run(step.stage, lambda out: None)
        self.note("ended", step)

    def note(self, event: str, step: Step) -> None:
        told = [event, step.title, os.environ.get("CUDA_VISIBLE_DEVICES", "all"), os.getpid()]
        with (self.folder / "log").open("a") as file:
            file.write(json.dumps(told) + "\n")


def used(folder: Path, gpus: tuple[str, ...], steps: list[Step], workers: int, together: int = 1) -> Used:
    """What steps noted that the local executor ran on a machine with these GPUs."""
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "gpus", lambda: gpus)
        Local().run(Course(steps, Watching(), Store(folder / "store")), Bodies(folder, together), workers)
    return [tuple(json.loads(line)) for line in (folder / "log").read_text().splitlines()]


def shared(log: Used) -> set[str]:
    """GPUs that two steps used at once."""
    at_work: dict[str, set[str]] = {}
    twice: set[str] = set()
    for event, title, sees, _ in log:
        if event == "ended":
            del at_work[title]
            continue
        mine = {gpu for gpu in sees.split(",") if gpu}
        twice |= {gpu for others in at_work.values() for gpu in others & mine}
        at_work[title] = mine
    return twice


def trainings() -> list[Step]:
    """Two that want two GPUs each, three of one, one of more than there are, and some of none."""
    two = [step(f"train {name}", gpus=2, processes=2) for name in "ab"]
    one = [step(f"generate {name}", gpus=1) for name in "abc"]
    return [*two, *one, step("train on eight", gpus=8, processes=8), step("score a"), step("score b")]


def test_two_trainings_never_see_the_same_gpu(tmp_path: Path) -> None:
    log = used(tmp_path, ("0", "1", "2", "3"), trainings(), workers=8, together=2)
    seen = {title: sees.split(",") if sees else [] for event, title, sees, _ in log if event == "began"}
    assert shared(log) == set()
    assert {title: len(gpus) for title, gpus in seen.items()} == {
        "train a": 2, "train b": 2, "generate a": 1, "generate b": 1, "generate c": 1, "train on eight": 4,
        "score a": 0, "score b": 0,
    }  # fmt: skip


def test_no_more_run_at_once_than_there_are_gpus(tmp_path: Path) -> None:
    log = used(tmp_path, ("0", "1"), [step(f"train {name}", gpus=2) for name in "abc"], workers=4)
    assert [event for event, *_ in log] == ["began", "ended"] * 3
    assert len({process for *_, process in log}) == 1  # one worker serves all, and keeps what it has loaded


def test_a_judge_is_asked_while_others_wait_for_the_gpu(tmp_path: Path) -> None:
    """The stage that asks sees none, and begins beside the one that trains: else neither would come to its end."""
    steps = [step("train a", gpus=1), step("train b", gpus=1), step("score", asks="a judge")]
    began = [one[1:3] for one in used(tmp_path, ("0",), steps, workers=3, together=2) if one[0] == "began"]
    assert began[2] == ("train b", "0") and sorted(began[:2]) == [("score", ""), ("train a", "0")]


def test_a_worker_whose_gpus_another_takes_is_gone_by_then(tmp_path: Path) -> None:
    """What it has loaded would take the memory of whoever comes."""
    steps = [step("one", gpus=1)]
    steps.append(step("both", steps[0], gpus=2))
    log = used(tmp_path, ("GPU-a", "GPU-b"), steps, workers=2)
    assert [sees for _, _, sees, _ in log] == ["GPU-a", "GPU-a", "GPU-a,GPU-b", "GPU-a,GPU-b"]
    assert len({process for *_, process in log}) == 2


def test_without_gpus_nothing_is_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    log = used(tmp_path, (), [step(f"train {name}", gpus=2) for name in "ab"], workers=2, together=2)
    assert {sees for _, _, sees, _ in log} == {"all"}


def test_an_executor_that_hands_all_gpus_to_everybody_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant: workers as they were before they had GPUs of their own."""
    real = local.Worker.__init__
    every = ("0", "1", "2", "3")
    monkeypatch.setattr(local.Worker, "__init__", lambda self, bodies, sees, others: real(self, bodies, every, others))
    assert shared(used(tmp_path, ("0", "1", "2", "3"), trainings()[:2], workers=8, together=2))


@pytest.mark.parametrize(
    ("told", "gpus"), [("0,2", ("0", "2")), ("GPU-a, GPU-b", ("GPU-a", "GPU-b")), ("", ()), ("0,-1,1", ("0",))]
)
def test_the_gpus_are_those_that_the_command_may_use(
    told: str, gpus: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
    assert machine.gpus() == gpus
