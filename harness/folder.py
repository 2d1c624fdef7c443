"""What lies in a model's folder, looked at before anything is loaded: names, JSON files and headers; no torch.

What only shows when weights are read (a shape that the config does not have, NaN) is looked at by `harness.weights`.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from harness.types import UsageError
from harness.untrusted import json_object, plain

Kind = Literal["llava", "clip"]
WHAT = {"llava": "LLaVA-1.5", "clip": "CLIP"}
HUB = {"llava": "llava-hf/llava-1.5-7b-hf", "clip": "openai/clip-vit-large-patch14-336"}
POINTER = b"version https://git-lfs"
INDEX = "model.safetensors.index.json"
ORIGINAL = ("llava_llama", "llava_mistral", "llava_mpt")  # model types of haotian-liu/LLaVA
SMALL = (
    *("config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.json"),
)
FLOATS = ("F64", "F32", "F16", "BF16")
LAYER = re.compile(r"(?P<stack>.*\.layers)\.(?P<number>\d+)\.(?P<rest>.*)")
# What every model of a kind has, by the end of a tensor's name, and the part of the model that it is.
PARTS = {
    "llava": {
        "embed_tokens.weight": "language model",
        ".norm.weight": "language model",
        "multi_modal_projector.linear_1.weight": "projector",
        "multi_modal_projector.linear_2.weight": "projector",
        "embeddings.class_embedding": "vision tower",
        "embeddings.patch_embedding.weight": "vision tower",
        "embeddings.position_embedding.weight": "vision tower",
    },
    "clip": {
        "text_model.embeddings.token_embedding.weight": "text tower",
        "vision_model.embeddings.patch_embedding.weight": "vision tower",
        "text_projection.weight": "projections",
        "visual_projection.weight": "projections",
    },
}


class Stored(NamedTuple):
    """A tensor as a file's header has it; `dtype` is safetensors' name."""

    file: str
    shape: tuple[int, ...]
    dtype: str


def inspect(folder: Path, kind: Kind = "llava") -> dict[str, Stored]:
    """The tensors of a model's folder by name; UsageError, with the cure, where it cannot be a whole model of the kind.

    Reads JSON files and the headers of weights: milliseconds also for a large model.
    """
    again = f"fetch it with `hf download {HUB[kind]} --local-dir {folder}`"
    readable(folder)
    config = _config(folder, kind, again)
    tensors = _headers(folder, again)
    lacking = [*_lacking(tensors, config, kind)]
    if lacking:
        raise UsageError(f"{folder} lacks {_some(lacking)}: it is no whole {WHAT[kind]} model; {again}.")
    wrong = [f"{name} ({one.dtype})" for name, one in tensors.items() if one.dtype not in FLOATS]
    if wrong:
        raise UsageError(
            f"{folder} has weights that are no floating-point numbers: {_some(wrong)}; {again}, unquantised."
        )
    _companions(folder, again)
    return tensors


def readable(folder: Path) -> list[Path]:
    """The safetensors and JSON files of a folder; UsageError where one is no plain file, or a small one no JSON."""
    if not folder.is_dir():
        raise UsageError(f"no model folder {folder}; a hub model is given as owner/name@<40-hex commit>.")
    _refuse_pointers(folder)
    files = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json"))
    for path in files:
        plain(path)
        if path.name in SMALL:  # transformers reads them without a bound
            json_object(path)
    return files


def places(tensors: Mapping[str, Stored]) -> int:
    """How many patches an image has in a LLaVA model: the places that it takes in a sequence, or one fewer."""
    return (
        next(one.shape[0] for name, one in tensors.items() if name.endswith("embeddings.position_embedding.weight")) - 1
    )


def architecture(tensors: Mapping[str, Stored]) -> dict[str, int]:
    """What the headers of a LLaVA model's weights say it is: widths and depths of language model and tower, counts."""
    depth: dict[str, set[str]] = {"layers": set(), "vision_layers": set()}
    for name in tensors:
        if match := LAYER.match(name):
            depth["vision_layers" if "vision" in match["stack"] else "layers"].add(match["number"])
    ends = {"hidden_size": ("embed_tokens.weight", 1), "vocab_size": ("embed_tokens.weight", 0)}
    ends |= {"vision_hidden_size": ("embeddings.patch_embedding.weight", 0)}
    sizes = {
        what: next(one.shape[axis] for name, one in tensors.items() if name.endswith(end))
        for what, (end, axis) in ends.items()
    }
    counts = {what: len(numbers) for what, numbers in depth.items()}
    parameters = sum(math.prod(one.shape) for one in tensors.values())
    return {**sizes, **counts, "patches": places(tensors), "parameters": parameters}


def _refuse_pointers(folder: Path) -> None:
    """UsageError for what `git clone` leaves where git-lfs is not installed."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.stat().st_size < 1024:
            with path.open("rb") as file:
                if file.read(len(POINTER)) == POINTER:
                    raise UsageError(
                        f"{path} is a git-lfs pointer, not the file itself; run `git lfs pull` in {folder}."
                    )


def _config(folder: Path, kind: Kind, again: str) -> dict[str, Any]:
    """`config.json` of a model that we know; UsageError for another."""
    path = folder / "config.json"
    if (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"{folder} holds an adapter (adapter_config.json); merge it into its base, and name that folder."
        )
    if not path.is_file():
        raise UsageError(f"{folder} is no model folder: it needs config.json and *.safetensors; {again}.")
    config = json_object(path)
    said = config.get("model_type")
    if "mm_vision_tower" in config or said in ORIGINAL:
        raise UsageError(
            f"{folder} is in LLaVA's original layout, which has no vision tower in it; {again}, the same model in "
            "Hugging Face's layout, or convert yours with transformers' convert_llava_weights_to_hf.py."
        )
    if said != kind:
        raise UsageError(f"{folder} is a {said!r} model; only {kind!r} ({WHAT[kind]}) is supported here; {again}.")
    if kind == "llava":
        for part in ("text_config", "vision_config"):
            if not isinstance(config.get(part), dict):
                raise UsageError(f"{path} has no {part}: it is not whole; {again}.")
        tower = config["vision_config"].get("model_type")
        if tower != "clip_vision_model":
            raise UsageError(f"{folder} has a {tower!r} vision tower; only LLaVA-1.5's CLIP tower is supported here.")
        if dropped := config["text_config"].get("attention_dropout"):
            raise UsageError(
                f"{folder} has attention_dropout {dropped}, which would be drawn anew for every batch size and number "
                "of processes; set it to 0 in its config.json."
            )
    if config.get("quantization_config"):
        raise UsageError(f"{folder} is quantised (quantization_config); {again}, unquantised.")
    return config


def _headers(folder: Path, again: str) -> dict[str, Stored]:
    """Every tensor that `from_pretrained` would read; UsageError where files and index do not fit together."""
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    index = folder / INDEX
    if not files:
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt"))
        why = f"{pickles[0]} is a pickle, and pickles are refused" if pickles else "there are no *.safetensors"
        raise UsageError(
            f"{folder} has no weights that can be read: {why}, since reading one may run anything; {again}, or convert "
            "yours with `from_pretrained(...).save_pretrained(...)` on a machine that may run it."
        )
    if index.is_file() and "model.safetensors" in files:
        raise UsageError(f"{folder} has both model.safetensors and {INDEX}; which one counts? Move the other away.")
    wanted = _weight_map(index) if index.is_file() else None
    read = ["model.safetensors"] if wanted is None else sorted(set(wanted.values()))
    for name in read:
        if name not in files:
            where = f"{index} names {name!r}, which is not a file of its folder" if wanted else f"it has no {name}"
            here = "" if wanted else f" (there is {files[0]}; was it renamed, or is {INDEX} missing?)"
            raise UsageError(f"{folder} lacks weights: {where}{here}; {again}.")
    idle = [name for name in files if name not in read]
    if idle:
        raise UsageError(f"{folder} has {idle[0]}, which is no part of its model; move it away.")
    tensors: dict[str, Stored] = {}
    for name in read:
        for tensor, stored in _header(folder / name, again):
            if tensor in tensors:
                raise UsageError(f"{folder} has {tensor} twice, in {tensors[tensor].file} and {name}; {again}.")
            tensors[tensor] = stored
    for tensor, name in (wanted or {}).items():
        if tensor not in tensors or tensors[tensor].file != name:
            raise UsageError(f"{index} says that {name} holds {tensor}, which it does not; {again}.")
    strange = sorted(set(tensors) - set(wanted)) if wanted is not None else []
    if strange:
        raise UsageError(f"{folder} has {_some(strange)}, which {INDEX} does not know; {again}.")
    return tensors


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor -> file, as the index has it."""
    found = json_object(index).get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found.values()):
        raise UsageError(f"{index} has no weight_map of tensors to files; fetch the folder again.")
    return found


def _header(path: Path, again: str) -> Iterator[tuple[str, Stored]]:
    """The tensors of one file. Opening it says whether the file is as long as its header has it."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            for name in file.keys():  # noqa: SIM118 - the file is no mapping
                one = file.get_slice(name)
                yield name, Stored(path.name, tuple(one.get_shape()), one.get_dtype())
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} is damaged or no safetensors file ({error}); {again}.") from None


def _lacking(tensors: Mapping[str, Stored], config: Mapping[str, Any], kind: Kind) -> Iterator[str]:
    """Tensors that a model of the kind has and this one does not, as far as names tell."""
    for end, part in PARTS[kind].items():
        if not any(name.endswith(end) for name in tensors):
            yield f"*{end} (the {part})"
    tied = config.get("tie_word_embeddings") or config.get("text_config", {}).get("tie_word_embeddings")
    if kind == "llava" and not tied and not any(name.endswith("lm_head.weight") for name in tensors):
        yield "lm_head.weight (the language model; its embeddings are not tied)"
    stacks: dict[str, dict[int, set[str]]] = {}
    for name in tensors:
        if layer := LAYER.fullmatch(name):
            stacks.setdefault(layer["stack"], {}).setdefault(int(layer["number"]), set()).add(layer["rest"])
    for stack, layers in stacks.items():
        part = config.get("vision_config" if "vision" in stack else "text_config", {})
        count = part.get("num_hidden_layers", max(layers) + 1)
        every: set[str] = set().union(*layers.values())
        for number in range(count):
            yield from (f"{stack}.{number}.{rest}" for rest in sorted(every - layers.get(number, set())))


def _companions(folder: Path, again: str) -> None:
    """UsageError where tokenizer or image processor are missing."""
    here = {path.name for path in folder.iterdir() if path.is_file()}
    if not here & {"tokenizer.json", "tokenizer.model"} and not {"vocab.json", "merges.txt"} <= here:
        raise UsageError(f"{folder} has no tokenizer (tokenizer.json or tokenizer.model); {again}.")
    nested = json_object(folder / "processor_config.json") if "processor_config.json" in here else {}
    if "preprocessor_config.json" not in here and "image_processor" not in nested:
        raise UsageError(f"{folder} does not say how it reads pictures (preprocessor_config.json); {again}.")


def _some(names: list[str]) -> str:
    """The first of many names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
