"""Whether the two sides did the same work: without that no figure about them is worth printing."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from torch.utils.flop_counter import FlopCounterMode

from harness.training.job import Job
from tests.perf.work import STEPS, Case, processor, referred, seen, turns
from tests.trl_side import Course, ours, trls
from tests.true_shapes import ATTENTION

NEAR = 1e-4  # of losses and of gradient norms (relative where a norm is above one), in float32


class Unfair(Exception):
    """The sides did not do the same; the message says what differs first."""


def fair(ours: Course, theirs: Course, steps: int = STEPS) -> None:
    """Equal ids, masks and pixels of every step, its loss and the norm of its gradient; raises Unfair."""
    for side, course in (("ours", ours), ("TRL", theirs)):
        if len(course.log) != steps or len(course.rows) != steps:
            raise Unfair(f"{side} took {len(course.log)} steps where {steps} were asked for.")
    for number, (one, other) in enumerate(zip(ours.rows, theirs.rows, strict=True), 1):
        for at, what in enumerate(("token ids", "supervised places", "pixels")):
            if [row[at] for row in one] != [row[at] for row in other]:
                raise Unfair(f"step {number}: the sides have other {what}, so they do not learn the same.")
    for number, (own, other_line) in enumerate(zip(ours.log, theirs.log, strict=True), 1):
        for name in ("loss", "grad_norm"):
            apart = abs(own[name] - other_line[name])
            if not apart <= NEAR * (max(1.0, abs(own[name])) if name == "grad_norm" else 1.0):
                raise Unfair(f"step {number}: {name} is {apart:.2g} apart, and {NEAR:g} is allowed; "
                             "one of them computes another thing.")  # fmt: skip
    first, last = ours.log[0]["loss"], ours.log[-1]["loss"]
    if abs(first - last) < 10 * NEAR:
        raise Unfair(f"the loss stayed at {first:.5f}, so that equal losses say nothing.")


class Whole(NamedTuple):
    """FLOPs of one epoch of a whole training, by everything that either side ran for it."""

    ours: int
    kept: int
    theirs: int


def both(job: Job, case: Case, head: str = "cuda") -> Whole:
    """Both trainings of `case`, counted, after their courses were found fair; `head`: TRL's as on CUDA or a CPU.

    ours: nothing was kept; kept: features of pictures and log-probs of the reference were.
    """
    epochs = job.training.num_train_epochs
    features, reference = flops(lambda: seen(job)), flops(lambda: referred(job))
    courses: list[Course] = []
    own = flops(lambda: courses.append(ours(job)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trl.trainer.utils._use_triton", lambda device: head == "cuda")
        collator = turns(job) if case.method == "nsft" else None
        other = flops(lambda: courses.append(trls(job, processor(job), collator=collator)))
    fair(*courses)
    return Whole(own // epochs + features + reference, own // epochs, other // epochs)


def flops(run: Callable[[], object]) -> int:
    """FLOPs of what really runs."""
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        run()
    return int(counter.get_total_flops())
