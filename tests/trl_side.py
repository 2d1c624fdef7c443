"""One training by our engine and by TRL 1.16, over the same plan: what the tests that compare them share."""

import hashlib
import os
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import PIL.Image
import pytest
import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from transformers import PrinterCallback

from harness.contracts.family import Family
from harness.contracts.records import Conversation, Pair, Record, Turn
from harness.models.batches import steps
from harness.models.load import adapt, load
from harness.models.tree import Tree
from harness.system.jsonl import read_jsonl
from harness.training.engine import Run, train
from harness.training.job import Job
from tests.trainings import lines

os.environ["HF_HUB_OFFLINE"] = "1"
SIZE = 4  # records of a step; those of a micro-batch are the job's
PREFERENCES: dict[str, dict[str, Any]] = {  # our methods -> fields of TRL's DPOConfig
    "dpo": {},
    "ipo": {"loss_type": "ipo"},
    "mpo": {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0]},
}
Row = tuple[tuple[int, ...], tuple[bool, ...], str]  # ids, which are supervised, digest of the pixels


class Course(NamedTuple):
    """What one side did: the rows of each step, and its log."""

    rows: list[list[Row]]
    log: list[dict[str, float]]


def ours(job: Job, pixels: bool = True) -> Course:
    """Our engine's course; the rows are taken where it learns from trees, with a digest of pixels if told."""
    seen: dict[int, list[Row]] = {}
    eyes = load(job.model).eyes

    def watched(run: Run, trees: Sequence[Tree], *after: Any, logps: Any = Run.logps) -> Any:
        seen.setdefault(run.number, []).extend([] if not torch.is_grad_enabled() else [
            (tree.prefix + branch.ids, (False,) * len(tree.prefix) + branch.supervised,
             digest(eyes.pixels(tree.image)) if tree.image and pixels else "")
            for tree in map(run.forest.whole, trees) for branch in tree.branches
        ])  # fmt: skip
        return logps(run, trees, *after)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "logps", watched)
        train(job)
    return Course([sorted(rows) for rows in seen.values()], lines(job))


def trls(job: Job, processor: Any, pixels: bool = True, collator: Callable[..., Any] | None = None) -> Course:
    """TRL's course over the same plan; the rows are those of its own collator, or of the one that is given."""
    seen: list[list[Row]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LOCAL_RANK", raising=False)  # set for DeepSpeed; TRL would think itself one of many
        trainer = trl_trainer(job, processor)
        trainer.data_collator = collator or trainer.data_collator
        collate = trainer.data_collator

        def watched(examples: list[dict[str, Any]]) -> Any:
            batch = collate(examples)
            seen.append(list(collated(batch, pixels)))
            return batch

        trainer.data_collator = watched
        trainer.train()
    return Course(by_step(seen, job), [line for line in trainer.state.log_history if "loss" in line])


def trl_trainer(job: Job, processor: Any) -> Any:
    """TRL's trainer for the job; `processor` is the official one."""
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer

    training, loaded, cut = job.training, load(job.model), job.runtime.per_device_train_batch_size
    common = {
        "output_dir": str(Path(job.work) / "trl"), "max_length": None, "num_train_epochs": 1, "use_cpu": True,
        "bf16": False, "gradient_checkpointing": False, "per_device_train_batch_size": cut,
        "gradient_accumulation_steps": SIZE // cut, "train_sampling_strategy": "sequential",
        "learning_rate": training.learning_rate, "lr_scheduler_type": "cosine", "warmup_steps": 2,
        "weight_decay": 0.0, "max_grad_norm": training.max_grad_norm, "optim": "adamw_torch",
        "logging_steps": 1, "report_to": "none", "save_strategy": "no", "disable_tqdm": True,
    }  # fmt: skip
    given = {
        "train_dataset": rows_in_order(job, loaded.family, loaded.tokenizer.eos_token),
        "processing_class": processor,
    }
    if training.lora:
        given |= {"peft_config": adapt(load(job.model).model, training.lora, job.seed).peft_config["policy"]}
    if job.method in PREFERENCES:
        other, loss = load(job.model).model if training.lora is None else None, PREFERENCES[job.method]
        made = DPOTrainer(loaded.model, ref_model=other, args=DPOConfig(beta=0.1, **loss, **common), **given)
        return as_ours(made, job)
    if job.method == "kto":  # a pair is two rows, and a batch the step
        other = load(job.model).model
        common |= {"per_device_train_batch_size": 2 * SIZE, "gradient_accumulation_steps": 1}
        return KTOTrainer(loaded.model, ref_model=other, args=KTOConfig(beta=0.1, **common), **given)
    return as_ours(SFTTrainer(loaded.model, args=SFTConfig(completion_only_loss=True, **common), **given), job)


def as_ours(trainer: Any, job: Job) -> Any:
    """The trainer, which has made adapters of its own, with the values that ours begin with; it prints nothing."""
    trainer.remove_callback(PrinterCallback)
    if job.training.lora:
        first = adapt(load(job.model).model, job.training.lora, job.seed)
        set_peft_model_state_dict(trainer.model, get_peft_model_state_dict(first, adapter_name="policy"))
    return trainer


def rows_in_order(job: Job, family: Family, end: str) -> Any:
    """The records as TRL's rows, in the order of our plan, every epoch written out."""
    from datasets import Dataset, Features, List, Value
    from datasets import Image as Picture

    named = {record.id: record for record in read_jsonl(Record, Path(job.records))}
    plan = steps(list(named), job.seed, job.training.num_train_epochs, SIZE)
    made = [row(named[name], family, end) for names in plan for name in names]
    if job.method == "kto":
        made = [one for at in range(0, len(made), SIZE) for one in taken_apart(made[at : at + SIZE])]
    texts = {name: Value("bool" if name == "label" else "string") for name in made[0] if name != "images"}
    return Dataset.from_list(made, Features({**texts, "images": List(Picture())}))


def row(record: Record, family: Family, end: str) -> dict[str, Any]:
    """One record: the strings of the family's template, and its picture."""
    images = [PIL.Image.open(record.image.path)] if record.image else []
    has_image = record.image is not None
    if isinstance(record, Pair):
        (*asked, (chosen, _)), (*_, (rejected, _)) = (
            family.segments([Turn(record.question, answer)], has_image, end)
            for answer in (record.chosen, record.rejected)
        )
        sides = {"chosen": chosen, "rejected": rejected}
    else:
        assert isinstance(record, Conversation)
        *asked, (answer, _) = family.segments(record.branches[0], has_image, end)
        sides = {"completion": answer}
    return {"prompt": "".join(text for text, _ in asked), **sides, "images": images}


def taken_apart(step: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A step's pairs as KTO's rows: all chosen answers, then all rejected ones."""
    return [{"prompt": one["prompt"], "completion": one[side], "label": side == "chosen", "images": one["images"]}
            for side in ("chosen", "rejected") for one in step]  # fmt: skip


def collated(batch: Any, pixels: bool) -> Any:
    """The rows of a batch of TRL's; KTO's has each once more with another prompt's answer."""
    for kind in ("", "KL_") if "KL_input_ids" in batch else ("",):
        shown = f"{kind}completion_mask" in batch
        wanted = batch[f"{kind}completion_mask"] == 1 if shown else batch["labels"] != -100
        pictures = iter(batch.get("pixel_values", ()) if pixels else ())
        masks = batch[f"{kind}attention_mask"] == 1
        for ids, mask, marks in zip(batch[f"{kind}input_ids"], masks, wanted, strict=True):
            yield (
                tuple(ids[mask].tolist()),
                tuple(marks[mask].tolist()),
                digest(next(pictures)) if 4 in ids and pixels else "",
            )
        assert next(pictures, None) is None


def digest(pixels: torch.Tensor) -> str:
    return hashlib.sha256(pixels.float().numpy().tobytes()).hexdigest()


def by_step(micro_batches: list[list[Row]], job: Job) -> list[list[Row]]:
    """The rows of each optimiser step, sorted: how a side lays them out is its own matter."""
    many = SIZE // job.runtime.per_device_train_batch_size
    return [sorted(chain(*micro_batches[at : at + many])) for at in range(0, len(micro_batches), many)]


def farthest(one: Course, other: Course, name: str) -> float:
    """The largest difference of a logged number over all steps."""
    return max(abs(a[name] - b[name]) for a, b in zip(one.log, other.log, strict=True))
