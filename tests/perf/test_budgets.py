"""What a step may cost, by count: a slowdown fails here without a clock, and each budget is seen to be exceeded."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from deepspeed import DeepSpeedEngine
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

from harness import families
from harness.contracts import plugins
from harness.contracts.method import Method
from harness.contracts.settings import Lora
from harness.families.llava import Llava
from harness.models import batches, reference
from harness.models.batches import micro_batches
from harness.models.logps import Policy
from harness.models.tree import Branch, Tree
from harness.training.engine import train
from harness.training.job import Job
from tests import true_shapes
from tests.passes import readings
from tests.perf import shapes, work
from tests.perf.alone import padding
from tests.perf.test_bench import unshared
from tests.tiny import compared, folder, job, local_rank, pictures

__all__ = ["compared", "folder", "job", "local_rank", "pictures"]
KINDS = [(method, lora) for method in ("dpo", "sft") for lora in (None, Lora())]


def two_layers() -> LlavaConfig:
    """Two of LLaVA-1.5-7B's layers and all of its words, under two layers of its tower."""
    tower = CLIPVisionConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=2, num_attention_heads=16,
                             image_size=336, patch_size=14, projection_dim=64)  # fmt: skip
    return LlavaConfig(text_config=LlamaConfig(vocab_size=32064, num_hidden_layers=2), vision_config=tower)


def over(method: str, lora: Lora | None) -> dict[str, float]:
    """What was counted over the formula, with dense attention, as torch counts it.

    With adapters nothing before the first layer learns, so that its q, k and v pass no gradient on: at 32 layers that
    is a third of a percent, at two it is five.
    """
    config = two_layers()
    (tree,) = shapes.forest(config, method, (True,) * 100)
    own = shapes.ours(config, lora, plugins.make("methods", method, Method, {}), [tree])
    learns = [weight.numel() for weight in true_shapes.model(config, lora).parameters() if weight.requires_grad]
    formula, dense = families.of(config).flops(config), tree.tokens**2 - tree.pairs
    step, width = formula.train(tree, sum(learns) if lora else None) + 3 * formula.pair * dense, 4096
    step += formula.pair * tree.tokens**2 / 2  # torch's backward pass of attention makes the scores again
    step -= 3 * 2 * width * (width + lora.r) * tree.tokens if lora else 0
    assert tree.layout
    found = {
        "step": own.step.flops / step,
        "tower": own.tower / formula.tower(tree.layout),
    }
    if method == "dpo":
        found["reference"] = own.reference / (formula.forward(tree) + formula.pair * dense)
    return found


@pytest.mark.parametrize(("method", "lora"), KINDS)
def test_a_step_a_reference_pass_and_the_tower_cost_what_the_formula_says(method: str, lora: Lora | None) -> None:
    assert all(0.98 < share < 1.02 for share in over(method, lora).values())


def everywhere(self: Policy, hidden: Tensor, *told: Any, measure: Any = Policy.measure) -> dict[str, Tensor]:
    """Log-probs as ever, after logits of every place that nobody reads."""
    found: dict[str, Tensor] = measure(self, hidden, *told)
    return {name: values + self.head(hidden).sum() * 0 for name, values in found.items()}


@pytest.mark.parametrize("mutant", ["no shared prefixes", "logits at all places", "all of the last layer"])
def test_a_step_that_costs_more_is_over_its_budget(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if mutant == "logits at all places":
        monkeypatch.setattr(Policy, "measure", everywhere)
    elif mutant == "all of the last layer":
        monkeypatch.setattr(Llava, "placewise", lambda self, model: [])
    else:
        pack = shapes.pack
        monkeypatch.setattr(shapes, "pack", lambda trees, loaded: unshared(pack, trees, loaded))
    assert over("dpo", Lora())["step"] > 1.05


KEPT = {  # bytes for backward of a record at two layers, R = 100, as they were counted
    ("dpo", False): 196_348_998, ("dpo", True): 186_246_716, ("sft", False): 152_780_018, ("sft", True): 143_139_436,
}  # fmt: skip


def kept(method: str, lora: Lora | None) -> float:
    """Bytes that a record's step keeps for backward, over what it kept when it was written down."""
    config = two_layers()
    own = shapes.ours(config, lora, plugins.make("methods", method, Method, {}),
                      shapes.forest(config, method, (True,) * 100))  # fmt: skip
    return own.step.saved / KEPT[method, lora is not None]


@pytest.mark.parametrize(("method", "lora"), KINDS)
def test_a_step_keeps_no_more_than_it_did(method: str, lora: Lora | None) -> None:
    assert 0.95 < kept(method, lora) < 1.05


@pytest.mark.parametrize(("mutant", "least"), [("placewise", 1.2), ("gated", 1.15)])
def test_a_step_that_keeps_more_is_over_its_budget(monkeypatch: pytest.MonkeyPatch, mutant: str, least: float) -> None:
    """All of the last layer; what MLPs make of gate and up."""
    monkeypatch.setattr(Llava, mutant, lambda self, model: [])
    assert kept("sft", Lora()) > least


def passes(made: Job) -> int:
    """How often a record is read by a decoder in a training, for each time that it is learnt from."""
    with readings() as seen:
        result = train(made)
    return sum(len(batch.ids) for batch in seen) // (result.records * made.training.num_train_epochs)


ADAPTERS = Lora(r=2)
READ = [("sft", "cached", None, 1), ("dpo", "cached", None, 1), ("dpo", "copy", None, 2),
        ("dpo", "cached", ADAPTERS, 1), ("dpo", "adapter_off", ADAPTERS, 2)]  # fmt: skip


@pytest.mark.parametrize(("method", "had", "lora", "budget"), READ)
def test_a_training_reads_a_record_as_often_as_its_method_has_to(  # type: ignore[no-untyped-def]
    job, tmp_path: Path, method: str, had: str, lora: Lora | None, budget: int
) -> None:
    """Once, where the reference's log-probs are at hand; without them, the mutant, a second time."""
    named = {"logps": str(tmp_path / "logps.safetensors")} if method == "dpo" else {}
    made = job(method=method, reference=had, lora=lora, **named)
    work.referred(made)
    assert passes(made) == budget


@pytest.mark.parametrize("mutant", [False, True])
def test_a_reference_pass_reads_as_many_records_at_once_as_it_may(
    compared: Job, monkeypatch: pytest.MonkeyPatch, mutant: bool
) -> None:
    """Ten pairs, four at once; one by one, the mutant, a GPU would be idle most of the time."""
    if mutant:
        monkeypatch.setattr(reference, "micro_batches", lambda trees, size, ranks: micro_batches(trees, 1, ranks))
    with readings() as seen:
        work.referred(compared)
    assert len(seen) == (10 if mutant else 3) and sum(len(batch.ids) for batch in seen) == 10


def held(run: Callable[[], object]) -> int:
    """Numbers that are kept for backward passes while `run`."""
    sizes = list[int]()
    with saved_tensors_hooks(lambda kept: sizes.append(kept.numel()) or kept, lambda kept: kept):
        run()
    return sum(sizes)


@pytest.mark.parametrize("mutant", [False, True])
def test_a_reference_keeps_nothing_for_a_backward_pass(
    compared: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: bool
) -> None:
    """Neither in a pass of its own nor as a copy beside the policy; the mutant reads as if to learn."""
    copy = compared.runtime.model_copy(update={"reference": "copy"})
    other = compared.model_copy(update={"runtime": copy, "work": str(tmp_path / "other")})
    work.referred(compared)
    alone = held(lambda: train(compared))
    if mutant:
        monkeypatch.setattr(Policy, "hidden", torch.enable_grad()(Policy.hidden))
    assert (held(lambda: work.referred(compared)) > 0) is mutant
    assert (held(lambda: train(other)) > alone) is mutant


@pytest.mark.parametrize("mutant", [False, True])
def test_a_state_of_a_training_of_adapters_has_no_frozen_weights(  # type: ignore[no-untyped-def]
    job, folder: Path, monkeypatch: pytest.MonkeyPatch, mutant: bool
) -> None:
    """They would be written, hashed and synced at every checkpoint."""
    made, save = job(lora=ADAPTERS), DeepSpeedEngine.save_checkpoint
    if mutant:
        monkeypatch.setattr(DeepSpeedEngine, "save_checkpoint", lambda self, *told, **named: save(
            self, *told, **named | {"exclude_frozen_parameters": False}))  # fmt: skip
    train(made)
    newest = max(there := [*Path(made.work).glob("step-*")])
    assert len(there) == 2  # of four that were written
    written = sum(file.stat().st_size for file in newest.rglob("*") if file.is_file())
    assert (written > (folder / "model.safetensors").stat().st_size) is mutant


# Records of a step, places before their answers, of answers, records at once, share that pads, that equal parts would.
PADDED = {"7B": (128, 626, (20, 400), 4, 0.01, 0.005), "mini's nSFT": (32, 100, (48, 154), 16, 0.03, 0.06)}


@pytest.mark.parametrize("case", PADDED)
def test_micro_batches_of_a_step_hardly_pad_and_are_few(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut where lengths differ; in equal parts, and as the records come, are mutants."""
    count, before, lengths, size, most, equal = PADDED[case]
    drawn = random.Random(0)
    trees = [Tree(f"t{n}", None, (1,) * before, (Branch((2,) * drawn.randrange(*lengths), (True,)),))
             for n in range(count)]  # fmt: skip
    ordered = sorted(trees, key=lambda tree: -tree.tokens)
    cut = [batch for (batch,) in micro_batches(trees, size, 1)]
    assert padding(cut) < most and len(cut) < 3 * count / size
    assert padding([ordered[at : at + size] for at in range(0, count, size)]) > equal
    assert padding([trees[at : at + size] for at in range(0, count, size)]) > 0.1
    monkeypatch.setattr(batches, "ROUND", 0)  # a pass costs nothing: the mutant reads hardly any two together
    assert len(micro_batches(trees, size, 1)) > 3 * count / size
