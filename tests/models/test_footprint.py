"""Memory by formula against bytes that are counted: at the true sizes of a 7 B model, and of trainings that run."""

import gc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import CLIPImageProcessorPil, LlavaConfig, Qwen2Config, Qwen3Config

from harness import families
from harness.contracts import plugins
from harness.contracts.method import Lesson, Method, Role
from harness.contracts.settings import Lora, Runtime, Training
from harness.families.llava import Squares
from harness.models import footprint
from harness.models.footprint import Decoder, Load, Shape
from harness.models.load import Loaded, save
from harness.models.roles import HEADED, Head, Roles
from harness.models.tree import Batch, Branch, Tree, pack
from harness.training import dropout, recompute
from harness.training.deepspeed_engine import distributed
from harness.training.engine import Run
from tests import true_shapes
from tests.tiny import job, local_rank, pictures, tiny
from tests.words import tokenizer

__all__ = ["job", "local_rank", "pictures"]

SFT, DPO = Lesson(), Lesson(reference=True, unit="record")
PPO = Lesson((Role.POLICY, Role.CRITIC), ("policy", "value"), continues=True)
PREFIX = 626  # 576 places of the picture, 50 words of template and question


class Case(NamedTuple):
    """A micro-batch of a training."""

    rank: int
    rows: int
    answer: int
    lesson: Lesson = DPO
    again: int = 0
    dropout: float = 0.0
    targets: tuple[str, ...] | str = Lora().target_modules

    @property
    def lora(self) -> Lora | None:
        given = {"r": self.rank, "lora_dropout": self.dropout, "target_modules": self.targets}
        return Lora.model_validate(given) if self.rank else None

    @property
    def load(self) -> Load:
        answers = 2 if self.lesson is DPO else 1
        scored = self.rows * answers * self.answer
        return Load(self.rows, PREFIX + answers * self.answer, scored, len(self.lesson.trains))


class Found(NamedTuple):
    """Bytes of weights, of what a forward pass has kept, and of all at the worst moment."""

    weights: int
    saved: int
    peak: int
    shape: Shape


def micro_batch(case: Case, config: Any, learning: bool = True) -> Found:
    """A forward and backward pass of the real roles over real trees, of which nothing is computed; or without a
    gradient.
    """
    made, mode = true_shapes.model(config, case.lora), FakeTensorMode(allow_non_fake_inputs=True)
    headed = {role: Head(config.text_config.hidden_size, 1) for role in case.lesson.trains if role in HEADED}
    if headed:
        with torch.device("meta"):
            made.add_adapter("critic", made.peft_config["policy"])
            made.to(torch.bfloat16)
    roles = Roles(made, cast(Any, headed), shared_trunk=False)
    true_shapes.faked(roles, mode)
    if headed:
        for name, weight in roles.named_parameters():
            weight.requires_grad_("lora_" in name or "heads." in name)
    draws = dropout.placed(roles.train())
    recompute.again(roles, case.again)
    shape = Shape(
        Decoder.of(config),
        sum(weight.numel() for name, weight in roles.named_parameters() if "lora_" not in name),
        sum(weight.numel() for name, weight in roles.named_parameters() if "vision_tower" in name),
    )
    branches = (Branch((7,) * case.answer, (True,) * case.answer),) * (2 if case.lesson is DPO else 1)
    forest = [Tree(str(number), None, (5,) * PREFIX, branches) for number in range(case.rows)]
    batch = pack(
        forest,
        cast(Loaded, SimpleNamespace(family=families.of(config), pad_id=0, model=SimpleNamespace(config=config))),
    )
    peak, kept = true_shapes.Peak(), dict[int, Tensor]()
    for weight in roles.parameters():
        peak.add(weight)
    own, weights = {weight.untyped_storage()._cdata for weight in roles.parameters()}, peak.now

    def keep(value: Tensor) -> Tensor:
        if value.untyped_storage()._cdata not in own:
            kept.setdefault(value.untyped_storage()._cdata, value)
        return value

    with mode:
        tensors = {name: mode.from_tensor(value) for name, value in vars(batch).items() if isinstance(value, Tensor)}
        fake: Batch = replace(batch, **tensors)
        if case.dropout:
            draws.places = torch.zeros(fake.input_ids.shape, dtype=torch.int32)
            draws.read = torch.zeros((1, len(batch.read)), dtype=torch.int32)
        with peak, torch.set_grad_enabled(learning):
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
                columns = roles(fake, case.lesson.columns)
                loss = torch.stack([column.mean() for column in columns.values()]).sum()
            saved = sum(value.untyped_storage().nbytes() for value in kept.values())
            kept.clear()
            del columns
            if learning:
                loss.backward()
    return Found(weights, saved, peak.most, shape)


def held(case: Case, config: Any) -> None:
    """The formula to what was counted: what is kept, and the whole without what DeepSpeed adds."""
    found, how = micro_batch(case, config), Training(dtype="bfloat16", lora=case.lora)
    memory = footprint.training(found.shape, how, Runtime(), case.load, case.again, len(case.lesson.trains))
    logits = 4 * case.load.scored * found.shape.decoder.words  # their log-probs
    assert memory.weights == pytest.approx(found.weights, rel=0.001)
    assert memory.activations + logits == pytest.approx(found.saved, rel=0.03)
    if case.lora:  # gradients come while what was kept goes; DeepSpeed keeps those of the micro-batch before
        learns = len(case.lesson.trains) * found.shape.decoder.adapters(case.lora)
        most = memory.weights + memory.activations + memory.working
        assert most < 1.05 * found.peak and found.peak < 1.05 * (most + 2 * learns)


AT_7B = {
    "dpo, R = 10": Case(128, 2, 10),
    "dpo, R = 100": Case(128, 4, 100),
    "dpo, R = 100, all again": Case(128, 4, 100, again=32),
    "dpo, R = 100, some again": Case(128, 4, 100, again=20),
    "dpo, R = 100, r = 1024": Case(1024, 4, 100),
    "dpo, R = 100, r = 1024, all again": Case(1024, 4, 100, again=32),
    "dpo, dropout": Case(128, 2, 100, dropout=0.05),
    "dpo, dropout, all again": Case(128, 2, 100, again=32, dropout=0.05),
    "sft": Case(128, 4, 300, SFT),
    "sft in full": Case(0, 1, 300, SFT),
    "sft in full, all again": Case(0, 4, 300, SFT, again=32),
    "ppo": Case(64, 2, 300, PPO),
    "ppo, all again": Case(64, 4, 896, PPO, again=32),
    "few targets": Case(64, 2, 100, targets=("q_proj", "v_proj")),
    "a regular expression": Case(64, 2, 100, targets=r".*layers\.[0-7]\..*_proj"),
}


@pytest.mark.heavy
@pytest.mark.parametrize("case", AT_7B.values(), ids=AT_7B.keys())
def test_a_micro_batch_at_7b(case: Case) -> None:
    held(case, true_shapes.llava_7b())


OTHERS = {
    "some again": (Case(128, 2, 50, again=3), {}),
    "all again, dropout": (Case(128, 2, 50, again=6, dropout=0.05), {}),
    "in full": (Case(0, 2, 50), {}),
    "ppo": (Case(64, 1, 100, PPO, again=2), {}),
    "Qwen2": (Case(128, 1, 50), {"num_key_value_heads": 4, "num_attention_heads": 28, "hidden_size": 3584}),
    "Qwen3": (Case(128, 1, 50), {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936}),
}


OFTEN = ("some again", "in full", "Qwen3")


@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in OFTEN else pytest.mark.heavy) for one in OTHERS])
def test_a_micro_batch_of_six_true_layers(name: str) -> None:
    """Words of other families: fewer keys than queries, which are normalised; six times what one layer keeps."""
    case, fields = OTHERS[name]
    config = true_shapes.llava_7b(6)
    if fields:
        kind = {"Qwen2": Qwen2Config, "Qwen3": Qwen3Config}[name]
        text = {"num_hidden_layers": 6, "intermediate_size": 12288, **fields}
        config = LlavaConfig(text_config=kind(**text), vision_config=config.vision_config)
    held(case, config)


@pytest.mark.parametrize("case", [Case(0, 16, 100), Case(0, 4, 900, SFT), Case(0, 1, 10)], ids=["16", "long", "one"])
def test_a_pass_without_a_gradient(case: Case) -> None:
    """As a reference, a judge of rollouts or a lens reads records."""
    config = true_shapes.llava_7b(2)
    found = micro_batch(case, config, learning=False)
    assert footprint.reading(found.shape, "bfloat16", case.load).peak == pytest.approx(found.peak, rel=0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of which weights take more than activations do."""
    path, words = tmp_path_factory.mktemp("model") / "wide", tokenizer("<image>")
    eyes = Squares(CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}), places=4)
    save(tiny(256, 4, len(words)), words, eyes, path)
    return path


@pytest.mark.parametrize(
    ("rank", "dtype", "size", "again", "away"),
    [
        pytest.param(0, "bfloat16", 4, 0, "none", marks=pytest.mark.heavy),
        pytest.param(0, "bfloat16", 2, 0, "cpu", marks=pytest.mark.heavy),
        pytest.param(64, "bfloat16", 2, 0, "none", marks=pytest.mark.heavy),
        pytest.param(64, "bfloat16", 4, 4, "none", marks=pytest.mark.heavy),
        pytest.param(256, "bfloat16", 1, 0, "none", marks=pytest.mark.heavy),
        pytest.param(256, "bfloat16", 1, 0, "cpu", marks=pytest.mark.heavy),
        (64, "float32", 2, 0, "none"),
    ],
)
def test_a_training_that_runs(  # type: ignore[no-untyped-def]
    job, rank: int, dtype: str, size: int, again: int, away: str
) -> None:
    """Two optimiser steps of the engine, DeepSpeed's copies, buckets and steps included. On a CPU device and host are
    one: what is offloaded is counted too, in the step, which takes more than micro-batches then and has no bucket.
    """
    gc.collect()
    before = {id(value) for value in gc.get_objects() if isinstance(value, Tensor)}
    made = job(
        zero_stage=2, dtype=dtype, lora=Lora(r=rank, lora_alpha=8) if rank else None, gradient_checkpointing=again,
        per_device_train_batch_size=size, offload_optimizer=away,
    )  # fmt: skip
    run = Run(made, plugins.make("methods", "sft", Method, {}), *distributed())
    peak = true_shapes.Peak()
    gc.collect()
    for value in gc.get_objects():
        if isinstance(value, Tensor) and id(value) not in before:
            peak.add(value)
    forest = list(run.trees.values())[:4]
    with peak:
        run.step(1, forest)
        run.step(2, forest)
    weights = {name: weight.numel() for name, weight in run.roles.named_parameters() if "lora_" not in name}
    frozen = sum(count for name, count in weights.items() if "vision_tower" in name)
    shape = Shape(Decoder.of(run.loaded.model.config), sum(weights.values()), frozen)
    longest = sorted(forest, key=lambda tree: -tree.tokens)[:size]
    load = Load(size, longest[0].tokens, sum(tree.supervised for tree in longest))
    memory = footprint.training(shape, made.training, made.runtime, load, again, fused=False)
    run.engine.destroy()
    whole = memory.peak if away == "none" else memory.weights + memory.host
    assert whole == pytest.approx(peak.most, rel=0.06)
