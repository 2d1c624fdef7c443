"""Weights in the layout of the hub's folders, so that other programs read them.

transformers 5 writes other names than those that vLLM and transformers 4 read, and reads both.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.contracts.family import Family
from harness.models.folder import INDEX

if TYPE_CHECKING:
    from torch import Tensor

SHARD = "5GB"  # as transformers cuts


def write_weights(model: Any, family: Family, folder: Path) -> None:
    """Weights, config and generation config of a plain model; tied embeddings are written once."""
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    stored: dict[str, Tensor] = model.state_dict()
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    if tied:
        stored = {name: weight for name, weight in stored.items() if name != "lm_head.weight"}
    named = {family.hub_name(name): weight for name, weight in stored.items()}
    folder.mkdir(parents=True, exist_ok=True)
    shards = split_torch_state_dict_into_shards(
        {name: weight.to("meta") for name, weight in named.items()}, max_shard_size=SHARD
    )
    for file, names in shards.filename_to_tensors.items():  # copies, since DeepSpeed's weights share one storage
        part = {name: named[name].detach().to("cpu", copy=True).contiguous() for name in names}
        save_file(part, folder / file, metadata={"format": "pt"})
    if shards.is_sharded:
        index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")
    model.config.tie_word_embeddings = tied  # some read this, some the files
    model.config.architectures = [type(model).__name__]
    model.config.dtype = model.dtype
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
