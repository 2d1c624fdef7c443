"""What a training's adapters learned, as peft has it: `adapter_config.json` and `adapter_model.safetensors`."""

import re
from collections.abc import Sequence
from pathlib import Path

from harness.contracts.settings import Lora
from harness.models.roles import WEIGHTS


def write_adapter(rounds: Sequence[tuple[Path, Lora]], out: Path) -> int:
    """Write one adapter that does what those of `rounds` do one after the other, each merged before the next; its rank.

    `rounds` are folders of `Roles.save` and how each was trained. Of several, A are stacked and B stand side by side
    with their scales lora_alpha / r in them: the sum of the products, exactly. Weights keep their dtype.
    """
    import torch
    from peft import LoraConfig
    from peft.utils import CONFIG_NAME
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
    layers = "|".join(re.escape(name.removeprefix("base_model.model.")) for name in names)
    LoraConfig(r=rank, lora_alpha=alpha, target_modules=layers, inference_mode=True).save_pretrained(str(out))
    save_file(whole, out / WEIGHTS, metadata={"format": "pt"})
    (out / WEIGHTS).chmod((out / CONFIG_NAME).stat().st_mode)  # which safetensors leaves to its owner alone
    return rank
