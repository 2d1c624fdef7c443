"""What both sides are given: a tiny LLaVA that sees 576 places of a picture, records, and a training of them."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, LlavaProcessor

from harness.contracts.records import Conversation, Image, Pair, Record, Turn
from harness.contracts.settings import Lora, Runtime, Training
from harness.families.llava import SYSTEM, Squares
from harness.models import reference
from harness.models.load import load, save
from harness.system.jsonl import read_jsonl, write_jsonl
from harness.training.job import Job
from tests.small_models import noise
from tests.tiny import tiny
from tests.trl_side import SIZE, row
from tests.words import WORDS, tokenizer

STEPS, RECORDS, TURNS = 10, 8, 6
RATE = 5e-4


class Case(NamedTuple):
    """A method's training, answers of so many tokens, with adapters or in full."""

    method: str
    answer: int
    lora: bool

    def __str__(self) -> str:
        """As a row of the table calls it."""
        return f"{self.method}, R={self.answer}, {'LoRA' if self.lora else 'full'}"


ASKED = (("dpo", 10), ("dpo", 100), ("sft", 10), ("sft", 100), ("nsft", 10))
CASES = tuple(Case(method, answer, lora) for method, answer in ASKED for lora in (True, False))


def folder(root: Path, width: int = 64, known: str = "") -> Path:
    """A saved model of two layers; its tokenizer has the template's words, and those of the text `known`."""
    words = tokenizer("<image>", known=known)
    words.add_tokens([f" {word}" for word in SYSTEM.split() if len(word) > 3])
    tower = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=336,
        patch_size=14, projection_dim=32,
    )  # fmt: skip
    made = tiny(width, 2, len(words), tower)
    made.config.image_seq_length = 576
    side = {"height": 336, "width": 336}
    save(made, words, Squares(CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size=side), places=576), root)
    return root


def records(case: Case, pictures: list[Image]) -> list[Record]:
    """Each on a picture of its own, answered with `case.answer` tokens, the end token too; nSFT's have six turns."""
    drawn = random.Random(0)

    def words(number: int) -> str:
        return " ".join(drawn.choice(WORDS) for _ in range(number))

    def record(n: int, picture: Image) -> Record:
        asked, rest = f"what is there {words(8)}", case.answer - 2
        if case.method == "dpo":
            return Pair(f"p{n}", picture, asked, f"yes {words(rest)}", f"no {words(rest)}")
        more = [Turn(words(8), words(5)) for _ in range(TURNS - 1 if case.method == "nsft" else 0)]
        return Conversation(f"c{n}", picture, ((Turn(asked, f"yes {words(rest)}"), *more),))

    return [record(n, picture) for n, picture in enumerate(pictures)]


def job(case: Case, model: Path, home: Path, micro: int = 2) -> Job:
    """Ten steps of four records, two at a time, of `case`; a DPO's reference is made by `referred`."""
    for name in ("images", "out", "work"):
        (home / name).mkdir(parents=True)
    write_jsonl(home / "records.jsonl", records(case, noise(home / "images", ((336, 336),) * RECORDS)))
    training = Training(
        learning_rate=RATE, num_train_epochs=STEPS * SIZE // RECORDS, train_batch_size=SIZE, warmup_ratio=0.15,
        max_grad_norm=1.0, lora=Lora(r=8, lora_alpha=16) if case.lora else None,
    )  # fmt: skip
    return Job(
        method="dpo" if case.method == "dpo" else "sft",  # nSFT's loss is SFT's, over its own conversations
        options={}, records=str(home / "records.jsonl"), model=str(model),
        reference=str(home / "logps.safetensors") if case.method == "dpo" else None, training=training,
        runtime=Runtime(per_device_train_batch_size=micro, zero_stage=0, checkpoint_every_steps=1000), seed=3,
        out=str(home / "out"), work=str(home / "work"),
    )  # fmt: skip


def seen(job: Job) -> None:
    """The pictures' features, onto the job's shelf."""
    loaded = load(job.model, shelf=Path(job.work) / "features")
    for record in read_jsonl(Record, Path(job.records)):
        assert record.image
        loaded.features(record.image)


def referred(job: Job) -> None:
    """The reference's log-probs, from features that lie on the shelf."""
    if job.reference:
        told = list(read_jsonl(Record, Path(job.records)))
        reference.reference_logps(job.model, told, job.runtime, Path(job.reference), shelf=Path(job.work) / "features")


def processor(job: Job) -> Any:
    """transformers' own, with the picture's processor that our family has."""
    return LlavaProcessor.from_pretrained(job.model, image_processor=load(job.model).eyes.processor)


def turns(job: Job) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """A collator of whole conversations for TRL, whose own supervises one completion: ids and marks are our trees'."""
    loaded = load(job.model)
    told = list(read_jsonl(Record, Path(job.records)))
    end = loaded.tokenizer.eos_token
    trees = {row(record, loaded.family, end)["prompt"]: tree
             for record, tree in zip(told, reference.trees(told, loaded), strict=True)}  # fmt: skip

    def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
        chosen = [trees[example["prompt"]] for example in examples]
        lines = [(tree.prefix + tree.branches[0].ids,
                  (False,) * len(tree.prefix) + tree.branches[0].supervised) for tree in chosen]  # fmt: skip
        length = max(len(ids) for ids, _ in lines)
        ids = torch.tensor([[*line, *[loaded.pad_id] * (length - len(line))] for line, _ in lines])
        wanted = torch.tensor([[*marks, *[False] * (length - len(marks))] for _, marks in lines])
        held = torch.tensor([[1] * len(line) + [0] * (length - len(line)) for line, _ in lines])
        pixels = torch.stack([loaded.eyes.pixels(tree.image) for tree in chosen if tree.image])
        return {"input_ids": ids, "attention_mask": held, "labels": ids.masked_fill(~wanted, -100),
                "pixel_values": pixels}  # fmt: skip

    return collate
