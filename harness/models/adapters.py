"""What a training's adapters learned, as peft has it: `adapter_config.json` and `adapter_model.safetensors`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.contracts.settings import Lora
from harness.models.targets import targets
from harness.models.weights import gathered
from harness.system.errors import UsageError

if TYPE_CHECKING:
    import torch

    from harness.contracts.family import Family

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
STRENGTH = 0.5  # of a random adapter: no answer is as it was, and the model is none of noise


def describe(rank: int, alpha: int, layers: str, out: Path) -> None:
    """Write `adapter_config.json`; `layers` is a regular expression. The base's place is not in it: it may move."""
    from peft import LoraConfig

    LoraConfig(r=rank, lora_alpha=alpha, target_modules=layers, inference_mode=True).save_pretrained(str(out))


def trained_in(folder: Path) -> "torch.dtype":
    """The dtype of an adapter's weights: the one that it was trained in."""
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, "pt") as file:
        return file.get_tensor(next(iter(file.keys()))).dtype  # type: ignore[no-any-return]


def merge(model: Any, folder: Path) -> Any:
    """The model with an adapter merged into its weights, in place and in the dtype of the adapter.

    One matrix after the other, so that no more than one is there twice; weights may be sharded over ranks, all of which
    must call.
    """
    import torch
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    cast(model, trained_in(folder))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums then have one order, whoever merges
    try:
        adapted = PeftModel.from_pretrained(
            model, str(folder), autocast_adapter_dtype=False, low_cpu_mem_usage=True, torch_device=str(model.device)
        )
        with torch.no_grad():
            for layer in adapted.modules():
                if isinstance(layer, LoraLayer):
                    with gathered(layer.get_base_layer(), change=True):
                        layer.merge()
    finally:
        torch.set_num_threads(threads)
    return unwrapped(adapted)


def unwrapped(adapted: Any) -> Any:
    """The model without peft's wrapping, its weights as they are."""
    plain = adapted.unload()
    vars(plain).pop("peft_config", None)  # some versions of peft leave it, and the next adapters come to these
    return plain


def cast(model: Any, dtype: "torch.dtype") -> None:
    """Give all weights a dtype, in place; buffers, which stay in float32 whatever weights are in, are left alone."""
    for weight in model.parameters():
        if weight.dtype != dtype:
            if hasattr(weight, "ds_tensor"):
                raise UsageError(
                    f"a round in {dtype} goes on from one in {weight.dtype}, which runtime.zero_stage=3 cannot; give "
                    "both one training.dtype."
                )
            weight.data = weight.data.to(dtype)


def write_random(model: Any, family: "Family", lora: Lora, out: Path) -> None:
    """Write an adapter as trainings have them, drawn at random, in the model's dtype: what it adds to a layer's weights
    is `STRENGTH` of their spread.
    """
    import torch
    from safetensors.torch import save_file

    linear = {name: part for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    chosen = targets(lora, [*filter(family.adapts, linear)])
    drawn, made = torch.Generator().manual_seed(0), dict[str, torch.Tensor]()
    for name in chosen:
        weight = linear[name].weight
        spread = STRENGTH * float(weight.detach().float().std()) * lora.r**0.5 / lora.lora_alpha
        sides = {"A": torch.randn(lora.r, weight.shape[1], generator=drawn)}
        sides["B"] = spread * torch.randn(weight.shape[0], lora.r, generator=drawn)
        made |= {f"base_model.model.{name}.lora_{side}.weight": one.to(weight.dtype) for side, one in sides.items()}
    describe(lora.r, lora.lora_alpha, "|".join(map(re.escape, chosen)), out)
    save_file(made, out / WEIGHTS)


def write_adapter(rounds: Sequence[tuple[Path, Lora]], out: Path) -> int:
    """Write one adapter that does what those of `rounds` do one after the other, each merged before the next; its rank.

    `rounds` are folders of `Roles.save` and how each was trained. Of several, A are stacked and B stand side by side
    with their scales lora_alpha / r in them: the sum of the products, exactly. Weights keep their dtype.
    """
    import torch
    from safetensors.torch import load_file, save_file

    learned = [(load_file(folder / WEIGHTS), lora) for folder, lora in rounds]
    names = [name.removesuffix(".lora_A.weight") for name in learned[0][0] if name.endswith(".lora_A.weight")]
    rank, alpha = sum(lora.r for _, lora in learned), learned[0][1].lora_alpha
    whole = learned[0][0]
    if len(learned) > 1:
        whole, alpha = {}, rank
        for name in names:
            downs = [weights[f"{name}.lora_A.weight"] for weights, _ in learned]
            ups = [weights[f"{name}.lora_B.weight"] * (lora.lora_alpha / lora.r) for weights, lora in learned]
            whole |= {f"{name}.lora_A.weight": torch.cat(downs), f"{name}.lora_B.weight": torch.cat(ups, dim=1)}
    describe(rank, alpha, "|".join(re.escape(name.removeprefix("base_model.model.")) for name in names), out)
    save_file(whole, out / WEIGHTS, metadata={"format": "pt"})
    (out / WEIGHTS).chmod((out / CONFIG).stat().st_mode)  # which safetensors leaves to its owner alone
    return rank
