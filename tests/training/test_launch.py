"""A training in two processes: it equals one, a rank that fails is named, and the next run goes on to the same bits."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import harness.training.launch
from harness.contracts.settings import Lora
from harness.store.closure import Read
from harness.store.contents import Stamp
from harness.system.errors import Full, HarnessError, Unexpected, UsageError
from harness.system.profile import Tick, quiet
from harness.training.engine import train
from harness.training.job import Job, TrainResult
from harness.training.launch import launch
from harness.training.nodes import Fate
from tests.trainings import losses, same, weights

DROPPING = Lora(r=4, lora_alpha=8, lora_dropout=0.2)
heavy = pytest.mark.heavy


def two(job: Callable[..., Job], name: str, **fields: object) -> Job:
    """Nine steps in two processes with unequal work, a state after every second."""
    return job(name, num_processes=2, per_device_train_batch_size=3, num_train_epochs=3, lora=DROPPING, **fields)


def process_of(number: int) -> int:
    """The process id of a rank that this process launched."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            words = path.with_name("cmdline").read_text().split("\0")
        except OSError:
            continue
        if parent == os.getpid() and "harness.training.launch" in "".join(words[3:4]) and words[5] == str(number):
            return int(path.parent.name)
    raise AssertionError(f"rank {number} is not running")


def killing(number: int, how: signal.Signals) -> Tick:
    """A tick that sends a rank a signal once the training has done four steps."""
    sent = []

    def tick(done: int, total: int) -> None:
        if total == 9 and done >= 4 and not sent:
            sent.append(os.kill(process_of(number), how))

    return tick


def close(one: Job, other: Job) -> bool:
    """Whether two trainings differ by no more than sums that are taken in another order."""
    first, second = weights(one), weights(other)
    far = max(float((first[name] - second[name]).abs().max()) for name in first)
    return losses(one) == pytest.approx(losses(other), abs=1e-5) and far < 2e-5


@pytest.mark.parametrize(
    ("stage", "number", "how"),
    [
        pytest.param(0, 0, signal.SIGKILL, marks=heavy),
        pytest.param(2, 1, signal.SIGTERM, marks=heavy),
        pytest.param(3, 1, signal.SIGKILL, marks=heavy),
    ],
)
def test_two_processes_equal_one_and_go_on_after_a_rank_was_killed(  # type: ignore[no-untyped-def]
    job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: int, number: int, how: signal.Signals
) -> None:
    """Dropout does not depend on the number of processes; nothing is compiled on the way."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    one = job("one", num_train_epochs=3, lora=DROPPING)
    clean, broken = two(job, "clean", zero_stage=stage), two(job, "broken", zero_stage=stage)
    train(one)
    ticks: list[tuple[int, int]] = []
    assert launch(clean, lambda done, total: ticks.append((done, total))).resumed_from_step == 0
    assert ticks[-1] == (9, 9)
    assert close(one, clean)
    with pytest.raises(HarnessError, match=f"rank {number} of 2 .* was ended by {how.name}"):
        launch(broken, killing(number, how))
    result = launch(broken)
    assert result.resumed_from_step in (2, 3, 4, 6, 8, 9)  # every second step, and each epoch's last
    assert result == TrainResult.model_validate_json((Path(broken.out) / "summary.json").read_text())
    assert same(clean, broken)
    assert losses(clean) == losses(broken)
    assert not (tmp_path / "extensions").exists()


PER_RANK = """
import sys
from harness.training import dropout
from harness.training import launch
from harness.training import deepspeed_engine as zero

plain, seats = dropout.Draws.at, []
launch.train = lambda job, tick, seat, train=launch.train: (seats.append(seat.rank), train(job, tick, seat))[1]
dropout.Draws.at = lambda self, *moment, **batch: plain(self, *moment, *seats, **batch)
launch.main()
"""


def instead(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Launch ranks that run `program`."""
    start = subprocess.Popen

    def popen(command: list[str], **more: Any) -> Any:
        assert command[1:3] == ["-P", "-c"] and "harness.training.launch" in command[3]
        return start([sys.executable, "-c", program, *command[4:]], **more)

    monkeypatch.setattr(harness.training.launch.subprocess, "Popen", popen)


@heavy
def test_the_mutant_whose_dropout_is_drawn_per_rank_is_caught(job, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    one, both = job("one", num_train_epochs=3, lora=DROPPING), two(job, "both", zero_stage=2)
    train(one)
    instead(monkeypatch, PER_RANK)
    launch(both)
    assert not close(one, both)


EVERYONE = """
from harness.training import launch
from harness.training.forest import Forest

alone = Forest.__init__
Forest.__init__ = lambda self, job, loaded, rank, world: alone(self, job, loaded)
launch.main()
"""


@heavy
def test_no_bit_depends_on_who_makes_trees_of_records(job, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """Each process its share and what it learns from, or every process all of them."""
    shared, all_by_all = two(job, "shared", zero_stage=2), two(job, "all", zero_stage=2)
    launch(shared)
    instead(monkeypatch, EVERYONE)
    launch(all_by_all)
    assert same(shared, all_by_all) and losses(shared) == losses(all_by_all)


LOSES = '''
"""Supervised, and the first time the features of images are lost as soon as every rank has made its part."""
from dataclasses import dataclass
from pathlib import Path

from methods.sft import Sft

@dataclass(frozen=True)
class Loses(Sft):
    work: str = ""

    def lesson(self, number):
        lost = Path(self.work) / "features"
        for file in lost.iterdir() if not (Path(self.work) / "again").exists() else ():
            file.unlink(missing_ok=True)
        return super().lesson(number)
'''


@heavy
def test_features_lost_under_way_are_a_sentence_where_no_rank_could_make_them(job, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Under ZeRO-3 a tower needs all ranks; one that ran it alone would wait for ever. The next run makes them anew."""
    (tmp_path / "loses.py").write_text(LOSES)
    made = two(job, "made", zero_stage=3)
    made = made.model_copy(update={"method": str(tmp_path / "loses.py"), "options": {"work": made.work}})
    with pytest.raises(HarnessError, match=r"features of picture .* were lost or damaged after the training had begun"):
        launch(made)
    (Path(made.work) / "again").touch()
    launch(made)


@heavy
@pytest.mark.parametrize("line", [0, 1])
def test_a_record_that_one_rank_alone_refuses_is_named(job, line: int) -> None:  # type: ignore[no-untyped-def]
    """Each makes trees of its own records only; the other waits for what they come to."""
    made = two(job, "made", max_length=512)
    lines = Path(made.records).read_text().splitlines()
    told = json.loads(lines[line])
    told["branches"][0][0]["question"] = "what is there " * 200
    lines[line] = json.dumps(told)
    Path(made.records).write_text("\n".join(lines) + "\n")
    with pytest.raises(HarnessError, match=rf"record {told['id']} cannot be trained on"):
        launch(made)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes, here and in processes started meanwhile: as on a full disk, but for EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@heavy
@pytest.mark.parametrize("stage", [0, 2, 3])
def test_a_full_disk_under_a_rank_is_a_sentence_and_damages_nothing(job, stage: int) -> None:  # type: ignore[no-untyped-def]
    """Either DeepSpeed's states or the checkpoint do not fit."""
    made = two(job, "made", zero_stage=stage)
    with files_up_to(30_000), pytest.raises(Full, match="No finished stage is damaged; free some space"):
        launch(made)
    clean = two(job, "clean", zero_stage=stage)
    launch(made)
    launch(clean)
    assert same(made, clean)


def ended(number: int, status: int, kind: str = "", sentence: str = "") -> Fate:
    """A rank that ended with this status, after it had said so much."""
    return Fate(number, status, kind, sentence, "rank.txt")


def test_a_rank_that_aborts_says_what_its_library_said(tmp_path: Path) -> None:
    rank = ended(0, -signal.SIGABRT)._replace(output=str(tmp_path / "rank-0.txt"))
    Path(rank.output).write_text(
        "loading\nterminate called after throwing an instance of 'x'\n  what():  peer is gone\nlast\n"
    )
    with pytest.raises(
        HarnessError, match=r"SIGABRT \(terminate called .* what\(\):  peer is gone\); the same command"
    ):
        harness.training.launch._explain(rank, 2)


LOST = ended(0, 70, "Unexpected", "unexpected RuntimeError: connection closed by peer")
OURS = ended(1, 70, "Unexpected", "unexpected KeyError: 'x'")


@pytest.mark.parametrize(
    ("ranks", "kind", "sentence"),
    [
        ([LOST, ended(1, -9)], HarnessError, r"rank 1 of 2 .*SIGKILL .out of memory"),
        ([ended(0, -6), ended(1, -15)], HarnessError, "rank 1 of 2 .*SIGTERM;"),
        ([LOST, ended(1, 3, "HarnessError", "the loss is no number")], HarnessError, "^the loss"),
        ([LOST, ended(1, 3, "Full", "the disk is full")], Full, "^the disk"),
        ([ended(0, 0), ended(1, 2, "UsageError", "no such option")], UsageError, "no such option"),
        ([ended(0, -6), OURS], Unexpected, "KeyError: 'x'"),
        ([ended(0, 0), ended(1, 1)], Unexpected, r"rank 1 of 2 .* status 1. What it said is in rank.txt"),
        ([ended(0, 0), ended(1, -50)], HarnessError, "rank 1 of 2 .* signal 50"),
    ],
)
def test_the_cause_is_named_not_what_followed_from_it(
    ranks: list[Fate], kind: type[HarnessError], sentence: str
) -> None:
    failed = [rank for rank in ranks if rank.status]
    with pytest.raises(kind, match=sentence):
        harness.training.launch._explain(min(failed, key=harness.training.launch._remoteness), 2)


def test_one_process_is_this_one_whatever_a_cluster_has_set(job, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "3", "MASTER_ADDR": "nowhere"}.items():
        monkeypatch.setenv(name, value)
    assert launch(job(num_train_epochs=1), quiet).steps == 3
    assert os.environ["LOCAL_RANK"] == "3"


def test_ranks_hold_to_the_code_that_was_planned_with(job, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """They import our files anew, when a training begins; one that was edited by then is not what the key has."""
    file = Path(harness.training.launch.__file__)
    known = {file: Read(Stamp(0, 0, 0, 0), "as it was")}
    with pytest.raises(UsageError, match=r"training/launch\.py has changed since this comparison began"):
        launch(two(job, "edited").model_copy(update={"ours": known}))


@pytest.mark.heavy
def test_a_file_in_the_current_folder_is_no_module_of_a_rank(
    job,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,  # type: ignore[no-untyped-def]
) -> None:
    """A user's method may be called random, and stand where the command is given."""
    (tmp_path / "random.py").write_text("raise SystemExit('nobody asked for this file')\n")
    monkeypatch.chdir(tmp_path)
    made = job("made", num_processes=2, per_device_train_batch_size=3, num_train_epochs=1)
    assert launch(made).steps == 3
