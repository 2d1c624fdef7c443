"""Ten optimiser steps of SFT and preferences by our engine and by TRL 1.16, on the same tiny LLaVA: the same losses.

Equalised, because it is no part of what is compared:
- Text. TRL has no Vicuna v1 template, so it gets our template's strings, split where the answer begins. Its own
  collator tokenizes them; ids, labels and pixels of every step are asserted to be those that our engine packs.
- Pictures. They are square: TRL's processor crops what LLaVA-1.5 pads.
- Order. TRL walks our plan of steps one after the other.
- Arithmetic. float32, no gradient checkpointing, the vision tower frozen, AdamW without decay, and as many warm-up
  steps as our ratio gives. TRL's reference is a second copy of the model, ours its cached log-probs.

- For KTO, whose divergence TRL takes from a batch's answers moved on by one row: a batch is the step, and our records
  have the answers that TRL's rows get. For MPO, whose likelihood TRL takes over a batch's tokens: chosen answers of one
  length; TRL's BCO has no delta.

Left to either side: the forward pass (trees here, padded rows there), what a loss is normalised by, accumulation (both
cut a step in two, ours by length), clipping (which cuts in), optimiser and schedule.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import LlavaProcessor

from harness.contracts.records import Beside, Conversation, Image, Pair, Record, Turn
from harness.contracts.settings import Runtime
from harness.models.batches import steps
from harness.models.load import load
from harness.models.logps import LogProbs
from harness.models.reference import reference_logps
from harness.system.jsonl import write_jsonl
from harness.training.job import Job
from methods.kto import Kto
from tests.trl_side import SIZE, Course, farthest, ours, trls

STEPS, SEED = 10, 3
TRAINING = {"learning_rate": 2e-3, "num_train_epochs": 5, "train_batch_size": SIZE, "warmup_ratio": 0.15}
CLIP = {"sft": 1.0, "dpo": 0.2, "ipo": 0.2, "mpo": 0.2, "kto": 0.02}
OPTIONS = {"ipo": {"log_probs": "mean"}, "mpo": {"shift": "none"}}


def records(method: str, pictures: list[Image]) -> list[Record]:
    """Eight records with answers of unequal length; one conversation has no picture."""
    square, asked = [pictures[0], pictures[3]], "what is there"
    if method == "kto":
        said = [("a dog" + " red" * (n % 4), "no cat" + " ball" * (n % 3)) for n in range(STEPS * SIZE)]
        return others_answers([Pair(f"p{n}", square[n % 2], asked, *sides) for n, sides in enumerate(said)])
    if method == "mpo":
        said = [("a dog red " + ["cat", "dog"][n % 2], "no cat" + " ball" * (n % 2)) for n in range(8)]
        return [Pair(f"p{n}", square[n % 2], asked, *said[n]) for n in range(8)]
    if method != "sft":
        said = [("a dog" + " red" * (n % 3), "no cat" + " ball" * (n % 2)) for n in range(8)]
        return [Pair(f"p{n}", square[n % 2], asked, *said[n]) for n in range(8)]
    turns = [Turn(asked, "a red cat " * (n % 4 + 1)) for n in range(8)]
    return [Conversation(f"c{n}", square[n % 2] if n != 5 else None, ((turns[n],),)) for n in range(8)]


def others_answers(pairs: list[Pair]) -> list[Record]:
    """The pairs, each with the answers of the one before it in its step."""
    named, made = {pair.id: pair for pair in pairs}, list[Record]()
    for names in steps(list(named), SEED, 1, SIZE):
        for name, before in zip(names, names[-1:] + names[:-1], strict=True):
            other = named[before]
            made.append(replace(named[name], beside=(Beside(other.chosen), Beside(other.rejected))))
    return made


def theirs_of(job: Job) -> Course:
    """TRL's course, with pictures as our processor has them."""
    processor: Any = LlavaProcessor.from_pretrained(job.model, image_processor=load(job.model).eyes.processor)
    return trls(job, processor)


@pytest.fixture
def task(job, pictures: list[Image]):  # type: ignore[no-untyped-def]
    """Makes the job of a method, with the reference's log-probs where it needs them."""

    def make(method: str, name: str = "a") -> Job:
        whole = {"num_train_epochs": 1, "per_device_train_batch_size": SIZE} if method == "kto" else {}
        fields = TRAINING | {"per_device_train_batch_size": 2} | whole
        made: Job = job(name, method, max_grad_norm=CLIP[method], **fields)
        chosen = records(method, pictures)
        write_jsonl(Path(made.records), chosen)
        if method == "sft":
            return made
        logps = Path(made.work).parent / "logps.safetensors"
        reference_logps(made.model, chosen, Runtime(), logps)
        return made.model_copy(update={"reference": str(logps), "options": OPTIONS.get(method, {})})

    return make


SLOW = {"ipo", "mpo", "kto"}  # seconds longer than the others


def lanes(*methods: str) -> list[Any]:
    return [pytest.param(one, marks=pytest.mark.heavy if one in SLOW else ()) for one in methods]


@pytest.mark.parametrize("method", lanes(*CLIP))
def test_ten_steps_equal_trl(task, method: str) -> None:  # type: ignore[no-untyped-def]
    """To rounding: 4e-7 (SFT) and 9e-8 (DPO) were seen where 1e-4 is asked for."""
    made = task(method)
    own, theirs = ours(made), theirs_of(made)
    assert own.rows == theirs.rows
    assert len(own.log) == STEPS
    assert farthest(own, theirs, "loss") < 1e-4
    assert farthest(own, theirs, "grad_norm") < 1e-4
    assert farthest(own, theirs, "learning_rate") < 1e-9
    assert min(line["grad_norm"] for line in own.log) > CLIP[method]


MUTANTS: list[Any] = [("dpo", "mean log-probs")]
MORE = (("dpo", "unclipped"), ("sft", "unclipped"), ("ipo", "sums"), ("kto", "no divergence"))
MUTANTS += [pytest.param(*one, marks=pytest.mark.heavy) for one in MORE]


@pytest.mark.parametrize(("method", "mutant"), MUTANTS)
def test_a_different_loss_or_step_is_noticed(  # type: ignore[no-untyped-def]
    task, monkeypatch: pytest.MonkeyPatch, method: str, mutant: str
) -> None:
    made = task(method)
    theirs = theirs_of(made)
    if mutant == "unclipped":
        made = made.model_copy(update={"training": made.training.model_copy(update={"max_grad_norm": 1e6})})
    elif mutant == "sums":
        made = made.model_copy(update={"options": {}})
    elif mutant == "no divergence":
        monkeypatch.setattr(Kto, "anchor", lambda self, logps: logps.ratios().view(-1, 4)[:, 0] * 0)
    else:
        summed = LogProbs.sequence
        monkeypatch.setattr(LogProbs, "sequence", lambda self, values: summed(self, values) / self.branch.bincount())
    assert farthest(ours(made), theirs, "loss") > (1e-3 if method == "kto" else 1e-2)
