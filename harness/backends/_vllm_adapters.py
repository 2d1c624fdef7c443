"""Adapters as vLLM takes them beside a base: as one, whatever number of trainings left it.

vLLM drops weights of layers that it does not adapt, or says so in a log alone; whatever it would not compute as it was
trained is refused here.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.contracts.backend import Adapted
from harness.contracts.family import Family
from harness.contracts.settings import Lora
from harness.models.adapters import WEIGHTS, write_adapter
from harness.system.errors import HarnessError

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # for which vLLM has room (its `MaxLoRARanks`)
PART = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_[AB]\.weight")
TOLD = frozenset({"r", "lora_alpha", "target_modules", "lora_dropout", "task_type", "inference_mode", "peft_type",
                  "auto_mapping", "base_model_name_or_path", "revision", "peft_version"})  # fmt: skip


def write_one(model: Adapted, family: Family, most: int, out: Path) -> None:
    """Write one adapter in peft's layout that does what the model's do one after the other, of rank `most` at most.

    HarnessError, with the cure, where vLLM would compute something else.
    """
    rounds, layers = [], list[set[str]]()
    for folder in model.adapters:
        if odd := next(_odd(folder), ""):
            raise _refused(folder, f"has {odd}, which vLLM would leave out")
        layers.append(set(_layers(folder, family)))
        rounds.append((folder, _lora(folder)))
    if any(each != layers[0] for each in layers):
        raise _refused(model.adapters[-1], f"is on other layers than {model.adapters[0]}")
    if (rank := sum(lora.r for _, lora in rounds)) > most:
        room = next((str(each) for each in RANKS if each >= rank), "")
        what = f"rank {rank}" + (f" with those before it, {len(rounds)} in all" if len(rounds) > 1 else "")
        more = f"max_lora_rank: {room} has room for it, and " if room else ""
        raise _refused(model.adapters[-1], f"has {what}, above max_lora_rank={most}", more)
    out.mkdir()
    write_adapter(rounds, out)


def _config(folder: Path) -> Any:
    from peft import LoraConfig

    return LoraConfig.from_pretrained(str(folder), local_files_only=True)


def _lora(folder: Path) -> Lora:
    config = _config(folder)
    return Lora(r=config.r, lora_alpha=config.lora_alpha)


def _odd(folder: Path) -> Iterator[str]:
    """What an adapter has beside two matrices a layer and one scale."""
    from peft import LoraConfig

    plain, mine = LoraConfig().to_dict(), _config(folder).to_dict()
    yield from (f"{name}={mine[name]!r}" for name in plain if name not in TOLD and mine[name] != plain[name])


def _layers(folder: Path, family: Family) -> Iterator[str]:
    """The layers that an adapter is on, all of them the language model's; HarnessError for any other."""
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, "pt") as file:
        for name in file.keys():  # noqa: SIM118  # it is no mapping
            told = PART.fullmatch(name)
            if told is None or ".layers." not in told["layer"] or not family.adapts(told["layer"]):
                raise _refused(folder, f"has {name}, which is no layer that vLLM adapts")
            yield told["layer"]


def _refused(folder: Path, why: str, cure: str = "") -> HarnessError:
    return HarnessError(f"the adapter {folder} {why}; {cure}max_lora_rank: 0 merges adapters into their base.")
