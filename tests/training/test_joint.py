"""What is learnt together with a method's records: the same steps as if all had been one file of records."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.contracts.images import Places, movable
from harness.contracts.records import Conversation, Example, Image, Turn
from harness.system.errors import HarnessError
from harness.system.jsonl import read_jsonl, write_jsonl
from harness.training.engine import train
from harness.training.forest import Forest
from harness.training.job import Job
from tests.laws import caught
from tests.tiny import folder, job, loaded, local_rank, pictures
from tests.trainings import lines, same

__all__ = ["folder", "job", "loaded", "local_rank", "pictures"]

MakeJob = Callable[..., Job]


def examples(pictures: list[Image], more: str = "") -> list[Example]:
    turns = (Turn("what is it", "a green ball"), Turn("how many", "two" + more))
    return [Example(f"e{n}", "mix", pictures[n] if n else None, turns[: 1 + n % 2]) for n in range(5)]


def beside(job: Job, given: list[Example], places: Places | None = None) -> Job:
    """The job with examples to learn as well."""
    file = Path(job.out).with_name("examples.jsonl")
    write_jsonl(file, given)
    return job.model_copy(update={"joint": str(file), "places": places})


def test_it_is_one_training_over_both(job: MakeJob, pictures: list[Image]) -> None:
    """Weights and steps are, to the bit, those of one file of all records."""
    together = beside(job("together"), examples(pictures))
    result = train(together)
    one = job("one")
    said = [Conversation(f"mix:{each.id}", each.image, (each.turns,)) for each in examples(pictures)]
    write_jsonl(Path(one.records), [*read_jsonl(Conversation, Path(one.records)), *said])
    plain = train(one)
    assert lines(together) == lines(one) and same(together, one)
    assert (result.records, result.joint_records, result.joint_dropped) == (15, 5, 0)
    assert plain.joint_records == plain.joint_tokens == 0 and plain.supervised_tokens == result.supervised_tokens
    assert 0 < result.joint_tokens < result.supervised_tokens


def test_examples_that_are_not_learnt_would_be_caught(
    job: MakeJob, pictures: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Forest._lines
    monkeypatch.setattr(Forest, "_lines", lambda *given: (line for line in lines(*given) if not line[0].joint))
    caught(test_it_is_one_training_over_both, job, pictures)


def test_what_has_no_room_is_left_out_and_counted(job: MakeJob, pictures: list[Image]) -> None:
    result = train(beside(job(), examples(pictures, " and so on" * 300)))
    assert (result.joint_records, result.joint_dropped) == (3, 2)


def test_malformed_examples_stop_it_as_malformed_records_would(job: MakeJob, pictures: list[Image]) -> None:
    """More than one in a hundred; of fewer than a hundred they are counted."""
    few = [Example("bad", "mix", None, (Turn("what", "an <image> here"),)), *examples(pictures)]
    assert train(beside(job("few"), few)).joint_dropped == 1
    many = [replace(few[number % 2], id=f"m{number}") for number in range(100)]
    with pytest.raises(
        HarnessError, match=r"50 of 100 examples of training\.joint are malformed, the first mix:m0: .*<image>"
    ):
        train(beside(job("many"), many))


def test_pictures_lie_where_they_lie_now(job: MakeJob, pictures: list[Image]) -> None:
    places = Places(Path(pictures[0].path).parent)
    moved = [movable(one, places) for one in examples(pictures)]
    assert moved != examples(pictures)
    assert train(beside(job(), moved, places)).joint_records == 5


def test_records_of_its_own_a_row_must_have(job: MakeJob, pictures: list[Image]) -> None:
    """Else it would be a training on the other data, under the method's name."""
    made = beside(job(), examples(pictures))
    Path(made.records).write_text("")
    with pytest.raises(HarnessError, match="sft has no record to train on"):
        train(made)


def test_a_state_of_other_examples_is_not_gone_on_with(job: MakeJob, pictures: list[Image]) -> None:
    one, twin = (beside(job(name), examples(pictures)).identity() for name in "ab")
    assert one == twin != beside(job("c"), examples(pictures, " more")).identity()
    assert one != job("d").identity()
