"""That what is counted of ours alone reaches its goals, and misses them where what makes it cheap is gone."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.contracts.records import Conversation, Image, Item, Turn
from harness.models import batches, kvcache
from harness.models.batches import Sized
from harness.system.jsonl import write_jsonl
from harness.training.job import Job
from methods.dpo import Dpo
from tests.perf import alone
from tests.perf.alone import HELD, PADS, READ
from tests.tiny import folder, job, local_rank, pictures

__all__ = ["folder", "job", "local_rank", "pictures"]


def test_four_roles_on_one_model_hold_a_quarter_of_four_models() -> None:
    """With adapters of SeVa's rank, the mutant, they hold half."""
    assert alone.held(64) > HELD > 2 > alone.held(1024)


@pytest.fixture
def asked() -> list[Item]:
    """Six questions on each of four pictures, twice: in another set they are not counted."""
    things = ("dog", "cat", "red ball", "table", "cup", "blue car")
    return [Item(id := f"{which}/{n}-{at}", Image("", str(n)), f"Is there a {thing} in the image?", id, {})
            for which in ("random", "popular") for n in range(4) for at, thing in enumerate(things)]  # fmt: skip


def test_questions_on_a_picture_read_it_once(asked: list[Item], tmp_path: Path) -> None:
    assert alone.read(tmp_path, asked) > READ


def test_rows_that_share_no_prefix_read_it_again(
    asked: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant."""
    monkeypatch.setattr(kvcache, "looks_over_padding", lambda cache: False)
    assert alone.read(tmp_path, asked) < 1.1


@pytest.fixture
def uneven(job) -> Job:  # type: ignore[no-untyped-def]
    """Two steps of 32 answers as unlike in length as nSFT's on `mini`, 16 at a time."""
    made: Job = job(train_batch_size=32, num_train_epochs=1, per_device_train_batch_size=16)
    drawn = random.Random(0)
    told = [Conversation(f"c{n}", None, ((Turn("what is there " * 15, "a cat " * drawn.randrange(20, 70)),),))
            for n in range(64)]  # fmt: skip
    write_jsonl(Path(made.records), told)
    return made


def test_batches_hardly_pad(uneven: Job) -> None:
    assert alone.padding(alone.cut(uneven)) < PADS


def test_equal_parts_pad(uneven: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant."""

    def equal(trees: Sequence[Sized], size: int, ranks: int, longest: int = 0) -> list[list[list[Sized]]]:
        ordered = sorted(trees, key=lambda tree: -tree.tokens)
        return [[ordered[at : at + size]] for at in range(0, len(ordered), size)]

    monkeypatch.setattr(batches, "micro_batches", equal)
    assert alone.padding(alone.cut(uneven)) > 2 * PADS


def test_another_beta_trains_alone_again(tmp_path: Path) -> None:
    assert alone.again(tmp_path) == []


def test_a_beta_that_records_depend_on_builds_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: DPO does not say that only its training reads beta."""
    monkeypatch.setattr(Dpo, "training_only", ())
    assert [step.title for step in alone.again(tmp_path)] == ["build dpo seed 0", "reference log-probs dpo seed 0"]


@pytest.mark.heavy
def test_every_figure_is_measured(tmp_path: Path) -> None:
    """Of a small comparison, in which a step's records differ more in length than there are to choose from."""
    found = list(alone.rows(tmp_path / "alone", examples=64, limit=4))
    assert {row.goal for row in found} == {HELD, READ, PADS, 0.9, 0.8, 0, None}
    assert all(row.verdict != "not reached" for row in found if row.goal != PADS)
    assert all(0 < row.figure < 0.1 for row in found if row.goal == PADS)
