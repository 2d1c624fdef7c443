"""Ten optimiser steps of SFT and of DPO by our engine and by TRL 1.16, on the same tiny LLaVA: the same losses.

Equalised, because it is no part of what is compared:
- Text. TRL has no Vicuna v1 template, so it gets our template's strings, split where the answer begins. Its own
  collator tokenizes them; ids, labels and pixels of every step are asserted to be those that our engine packs.
- Pictures. They are square: TRL's processor crops what LLaVA-1.5 pads.
- Order. TRL walks our plan of steps one after the other.
- Arithmetic. float32, no gradient checkpointing, the vision tower frozen, AdamW without decay, and as many warm-up
  steps as our ratio gives. TRL's reference is a second copy of the model, ours its cached log-probs.

Left to either side: the forward pass (trees here, padded rows there), what a loss is normalised by, accumulation (both
cut a step in two, ours by length), clipping (which cuts in), optimiser and schedule.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import PIL.Image
import pytest
import torch

import harness.training.engine
from harness.contracts.records import Conversation, Image, Pair, Record, Turn
from harness.contracts.settings import Runtime
from harness.families.llava import Llava
from harness.models.batches import steps
from harness.models.load import Loaded, load
from harness.models.logps import LogProbs
from harness.models.reference import reference_logps
from harness.models.tree import Tree, pack
from harness.system.jsonl import read_jsonl, write_jsonl
from harness.training.engine import Job, train
from tests.trainings import lines

os.environ["HF_HUB_OFFLINE"] = "1"
STEPS, SIZE, CUT = 10, 4, 2
TRAINING = {"learning_rate": 2e-3, "num_train_epochs": 5, "train_batch_size": SIZE, "warmup_ratio": 0.15}
CLIP = {"sft": 1.0, "dpo": 0.2}
Row = tuple[tuple[int, ...], tuple[bool, ...], str]  # ids, which are supervised, digest of the pixels


def records(method: str, pictures: list[Image]) -> list[Record]:
    """Eight records with answers of unequal length; one conversation has no picture."""
    square, asked = [pictures[0], pictures[3]], "what is there"
    if method == "dpo":
        said = [("a dog" + " red" * (n % 3), "no cat" + " ball" * (n % 2)) for n in range(8)]
        return [Pair(f"p{n}", square[n % 2], asked, *said[n]) for n in range(8)]
    turns = [Turn(asked, "a red cat " * (n % 4 + 1)) for n in range(8)]
    return [Conversation(f"c{n}", square[n % 2] if n != 5 else None, ((turns[n],),)) for n in range(8)]


class Course(NamedTuple):
    """What one side did: the rows of each step, and its log."""

    rows: list[list[Row]]
    log: list[dict[str, float]]


def ours(job: Job) -> Course:
    """Our engine's course; the rows are taken where it packs its trees."""
    seen: list[list[Row]] = []
    eyes = load(job.model).eyes

    def watched(trees: Sequence[Tree], loaded: Loaded) -> Any:
        seen.append([
            (tree.prefix + branch.ids, (False,) * len(tree.prefix) + branch.supervised,
             digest(eyes.pixels(tree.image)) if tree.image else "")
            for tree in trees for branch in tree.branches
        ])  # fmt: skip
        return pack(trees, loaded)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness.training.engine, "pack", watched)
        train(job)
    return Course(by_step(seen), lines(job))


def trls(job: Job) -> Course:
    """TRL's course over the same plan; the rows are those of its own collator."""
    seen: list[list[Row]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LOCAL_RANK", raising=False)  # set for DeepSpeed; TRL would think itself one of many
        trainer = trl_trainer(job)
        collate = trainer.data_collator

        def watched(examples: list[dict[str, Any]]) -> Any:
            batch = collate(examples)
            seen.append(list(collated(batch)))
            return batch

        trainer.data_collator = watched
        trainer.train()
    return Course(by_step(seen), [line for line in trainer.state.log_history if "loss" in line])


def trl_trainer(job: Job) -> Any:
    """TRL's trainer for the job."""
    from transformers import LlavaProcessor
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    training, loaded = job.training, load(job.model)
    common = {
        "output_dir": str(Path(job.work) / "trl"), "max_length": None, "num_train_epochs": 1, "use_cpu": True,
        "bf16": False, "gradient_checkpointing": False, "per_device_train_batch_size": CUT,
        "gradient_accumulation_steps": SIZE // CUT, "train_sampling_strategy": "sequential",
        "learning_rate": training.learning_rate, "lr_scheduler_type": "cosine", "warmup_steps": 2,
        "weight_decay": 0.0, "max_grad_norm": training.max_grad_norm, "optim": "adamw_torch",
        "logging_steps": 1, "report_to": "none", "save_strategy": "no", "disable_tqdm": True,
    }  # fmt: skip
    given = {
        "train_dataset": rows_in_order(job, loaded.tokenizer.eos_token),
        "processing_class": LlavaProcessor.from_pretrained(job.model, image_processor=loaded.eyes.processor),
    }
    if job.method == "dpo":
        other = load(job.model).model
        return DPOTrainer(loaded.model, ref_model=other, args=DPOConfig(beta=0.1, **common), **given)
    return SFTTrainer(loaded.model, args=SFTConfig(completion_only_loss=True, **common), **given)


def rows_in_order(job: Job, end: str) -> Any:
    """The records as TRL's rows, in the order of our plan, every epoch written out."""
    from datasets import Dataset, Features, List, Value
    from datasets import Image as Picture

    named = {record.id: record for record in read_jsonl(Record, Path(job.records))}
    plan = steps(list(named), job.seed, job.training.num_train_epochs, SIZE)
    made = [row(named[name], end) for names in plan for name in names]
    texts = {name: Value("string") for name in made[0] if name != "images"}
    return Dataset.from_list(made, Features({**texts, "images": List(Picture())}))


def row(record: Record, end: str) -> dict[str, Any]:
    """One record: the strings of our template, and its picture."""
    images = [PIL.Image.open(record.image.path)] if record.image else []
    has_image = record.image is not None
    if isinstance(record, Pair):
        (*asked, (chosen, _)), (*_, (rejected, _)) = (
            Llava().segments([Turn(record.question, answer)], has_image, end)
            for answer in (record.chosen, record.rejected)
        )
        sides = {"chosen": chosen, "rejected": rejected}
    else:
        assert isinstance(record, Conversation)
        *asked, (answer, _) = Llava().segments(record.branches[0], has_image, end)
        sides = {"completion": answer}
    return {"prompt": "".join(text for text, _ in asked), **sides, "images": images}


def collated(batch: Any) -> Any:
    """The rows of a batch of TRL's."""
    wanted = batch["completion_mask"] == 1 if "completion_mask" in batch else batch["labels"] != -100
    pictures = iter(batch.get("pixel_values", ()))
    for ids, mask, marks in zip(batch["input_ids"], batch["attention_mask"] == 1, wanted, strict=True):
        yield tuple(ids[mask].tolist()), tuple(marks[mask].tolist()), digest(next(pictures)) if 4 in ids else ""
    assert next(pictures, None) is None


def digest(pixels: torch.Tensor) -> str:
    return hashlib.sha256(pixels.float().numpy().tobytes()).hexdigest()


def by_step(micro_batches: list[list[Row]]) -> list[list[Row]]:
    """The rows of each optimiser step, sorted: how a side lays them out is its own matter."""
    return [sorted(a + b) for a, b in zip(micro_batches[::CUT], micro_batches[1::CUT], strict=True)]


def farthest(one: Course, other: Course, name: str) -> float:
    """The largest difference of a logged number over all steps."""
    return max(abs(a[name] - b[name]) for a, b in zip(one.log, other.log, strict=True))


@pytest.fixture
def task(job, pictures: list[Image]):  # type: ignore[no-untyped-def]
    """Makes the job of a method, with the reference's log-probs where it needs them."""

    def make(method: str, name: str = "a") -> Job:
        made: Job = job(name, method, max_grad_norm=CLIP[method], per_device_train_batch_size=CUT, **TRAINING)
        chosen = records(method, pictures)
        write_jsonl(Path(made.records), chosen)
        if method == "sft":
            return made
        logps = Path(made.work).parent / "logps.safetensors"
        reference_logps(made.model, chosen, Runtime(), logps)
        return made.model_copy(update={"reference": str(logps)})

    return make


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_ten_steps_equal_trl(task, method: str) -> None:  # type: ignore[no-untyped-def]
    """To rounding: 4e-7 (SFT) and 9e-8 (DPO) were seen where 1e-4 is asked for."""
    made = task(method)
    own, theirs = ours(made), trls(made)
    assert own.rows == theirs.rows
    assert len(own.log) == STEPS
    assert farthest(own, theirs, "loss") < 1e-4
    assert farthest(own, theirs, "grad_norm") < 1e-4
    assert farthest(own, theirs, "learning_rate") < 1e-9
    assert min(line["grad_norm"] for line in own.log) > CLIP[method]


@pytest.mark.parametrize(("method", "mutant"), [("sft", "unclipped"), ("dpo", "unclipped"), ("dpo", "mean log-probs")])
def test_a_different_loss_or_step_is_noticed(  # type: ignore[no-untyped-def]
    task, monkeypatch: pytest.MonkeyPatch, method: str, mutant: str
) -> None:
    made = task(method)
    theirs = trls(made)
    if mutant == "unclipped":
        made = made.model_copy(update={"training": made.training.model_copy(update={"max_grad_norm": 1e6})})
    else:
        summed = LogProbs.sequence
        monkeypatch.setattr(LogProbs, "sequence", lambda self, values: summed(self, values) / self.branch.bincount())
    assert farthest(ours(made), theirs, "loss") > 1e-2
