"""What lies in a model's folder, looked at before anything is loaded: names, JSON files and headers; no torch.

What only shows when weights are read (a shape that the config does not have, NaN) is looked at by
`harness.models.weights`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from harness import families
from harness.contracts import plugins
from harness.contracts.family import LAYER, Family, Stored
from harness.system.errors import UsageError
from harness.system.untrusted import json_object, plain

USUAL = "llava"  # the family whose models are recommended
WORDS = "embed_tokens"
POINTER = b"version https://git-lfs"
INDEX = "model.safetensors.index.json"
ORIGINAL = ("llava_llama", "llava_mistral", "llava_mpt")  # model types of haotian-liu/LLaVA
SMALL = (
    *("config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.json"),
)
ATTENTION = ("full_attention", "sliding_attention", "chunked_attention", "attention")
RECURRENT = ("linear_", "mamba_", "ssm_", "conv_")  # beginnings of fields that only layers with a state have
FLOATS = ("F64", "F32", "F16", "BF16")


class Whole(Protocol):
    """What tells whether a folder holds a whole model of a kind: a family, or CLIP."""

    title: ClassVar[str]
    example: ClassVar[str]
    parts: ClassVar[Mapping[str, str]]

    def refuse(self, config: Mapping[str, Any], folder: Path, again: str) -> None:
        """UsageError for a model of the kind that cannot be used."""


@dataclass(frozen=True)
class Folder:
    """A folder that holds a whole model: its config.json, by name the tensors of its files, and what its image
    processor's settings are (`pictures`).
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Stored]
    family: Family
    pictures: Mapping[str, Any]

    @property
    def places(self) -> tuple[int, int]:
        """The fewest and the most places that a picture takes in a sequence."""
        return self.family.places(self.config, self.tensors, self.pictures)

    @property
    def architecture(self) -> dict[str, int]:
        """What the headers of its weights say it is."""
        return self.family.architecture(self.config, self.tensors)

    @property
    def linear_layers(self) -> list[str]:
        """The language model's linear layers, as the model calls them: what adapters can be put on."""
        weights = (name for name, one in self.tensors.items() if len(one.shape) == 2 and name.endswith(".weight"))
        layers = (self.family.module_name(name).removesuffix(".weight") for name in weights)
        return [name for name in layers if self.family.adapts(name) and not name.endswith(WORDS)]


def inspect(folder: Path) -> Folder:
    """A model's folder; UsageError, with the cure, where it cannot be a whole model of a family that is known.

    Reads JSON files and the headers of weights: milliseconds also for a large model.
    """
    family = family_of(folder)
    config, tensors = looked_through(folder, family)
    return Folder(config, tensors, family, _pictures(folder))


def family_of(folder: Path) -> Family:
    """The family that a folder's config.json names."""
    again = _fetched(folder, families.named(USUAL))
    config = _config(folder, again)
    said = config.get("model_type")
    if carried := _carried(config):
        raise UsageError(
            f"{folder} is a {said!r} model, some of whose layers carry a state from token to token ({carried}). The "
            "branches of a tree, which share a picture and a question, would see each other there, and their log-probs "
            f"would be wrong; only models with attention in every layer can be trained; {again}."
        )
    if said not in (known := plugins.names(families.PACKAGE)):
        raise UsageError(
            f"{folder} is a {said!r} model; supported are {', '.join(known)} (or a family of your own, a testbed's "
            f"`family`); {again}."
        )
    return families.named(said)


def _carried(config: Mapping[str, Any]) -> str:
    """What a config calls those of its language model's layers that are no attention; "" where all are."""
    text = config.get("text_config")
    text = text if isinstance(text, dict) else config
    kinds = text.get("layer_types") or text.get("layers_block_type") or []
    other = {kind for kind in kinds if isinstance(kind, str) and kind not in ATTENTION}
    told = {key for key in text if key.startswith(RECURRENT)}
    return ", ".join(sorted(other or told))


def looked_through(folder: Path, kind: Whole) -> tuple[dict[str, Any], dict[str, Stored]]:
    """config.json and the tensors of a folder's files, after everything was looked at that needs no weights."""
    again = _fetched(folder, kind)
    config = _config(folder, again)
    kind.refuse(config, folder, again)
    if config.get("quantization_config"):
        raise UsageError(f"{folder} is quantised (quantization_config); {again}, unquantised.")
    tensors = _headers(folder, again)
    lacking = [*_lacking(tensors, config, kind)]
    if lacking:
        raise UsageError(f"{folder} lacks {_some(lacking)}: it is no whole {kind.title} model; {again}.")
    wrong = [f"{name} ({one.dtype})" for name, one in tensors.items() if one.dtype not in FLOATS]
    if wrong:
        raise UsageError(
            f"{folder} has weights that are no floating-point numbers: {_some(wrong)}; {again}, unquantised."
        )
    _companions(folder, again)
    return config, tensors


def fetch(folder: Path) -> str:
    """The command that fetches what a folder is named after, from whoever has models of such a name."""
    known = (families.named(name).example.split("/") for name in plugins.names(families.PACKAGE))
    owner = next((owner for owner, model in known if model[:4].lower() == folder.name[:4].lower()), "llava-hf")
    return f"hf download {owner}/{folder.name} --local-dir {folder}"


def _fetched(folder: Path, kind: Whole) -> str:
    return f"fetch it with `hf download {kind.example} --local-dir {folder}`"


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


def _refuse_pointers(folder: Path) -> None:
    """UsageError for what `git clone` leaves where git-lfs is not installed."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.stat().st_size < 1024:
            with path.open("rb") as file:
                if file.read(len(POINTER)) == POINTER:
                    raise UsageError(
                        f"{path} is a git-lfs pointer, not the file itself; run `git lfs pull` in {folder}."
                    )


def _config(folder: Path, again: str) -> dict[str, Any]:
    """`config.json` of a model in Hugging Face's layout; UsageError where there is none."""
    readable(folder)
    path = folder / "config.json"
    if (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"{folder} holds an adapter (adapter_config.json); merge it into its base, and name that folder."
        )
    if not path.is_file():
        raise UsageError(f"{folder} is no model folder: it needs config.json and *.safetensors; {again}.")
    config = json_object(path)
    if "mm_vision_tower" in config or config.get("model_type") in ORIGINAL:
        raise UsageError(
            f"{folder} is in LLaVA's original layout, which has no vision tower in it; fetch its twin in Hugging "
            f"Face's layout with `hf download {_twin(config)} --local-dir` another folder, or convert yours with "
            "transformers' convert_llava_weights_to_hf.py (LLaVA-1.6: convert_llava_next_weights_to_hf.py)."
        )
    return config


def _twin(config: Mapping[str, Any]) -> str:
    """The repository of llava-hf that holds the same model as one of liuhaotian's."""
    size = "13b" if config.get("hidden_size") == 5120 else "7b"
    tiled = "anyres" in str(config.get("image_aspect_ratio"))
    return f"llava-hf/llava-v1.6-vicuna-{size}-hf" if tiled else f"llava-hf/llava-1.5-{size}-hf"


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


def _lacking(tensors: Mapping[str, Stored], config: Mapping[str, Any], kind: Whole) -> Iterator[str]:
    """Tensors that a model of the kind has and this one does not, as far as names tell."""
    for end, part in kind.parts.items():
        if not any(name.endswith(end) for name in tensors):
            yield f"*{end} (the {part})"
    tied = config.get("tie_word_embeddings") or config.get("text_config", {}).get("tie_word_embeddings")
    if isinstance(kind, Family) and not tied and not any(name.endswith("lm_head.weight") for name in tensors):
        yield "lm_head.weight (the language model; its embeddings are not tied)"
    stacks: dict[str, dict[int, set[str]]] = {}
    for name in tensors:
        if layer := LAYER.fullmatch(name):
            stacks.setdefault(layer["stack"], {}).setdefault(int(layer["number"]), set()).add(layer["rest"])
    for stack, layers in stacks.items():
        part = config.get("vision_config" if "vis" in stack else "text_config", {})
        count = part.get("num_hidden_layers", part.get("depth", max(layers) + 1))
        if not isinstance(count, int):
            yield f"a number of layers of {stack} in config.json, which has {count!r:.60}"
            continue
        every: set[str] = set().union(*layers.values())
        for number in range(count):
            yield from (f"{stack}.{number}.{rest}" for rest in sorted(every - layers.get(number, set())))


def _companions(folder: Path, again: str) -> None:
    """UsageError where tokenizer or image processor are missing."""
    here = {path.name for path in folder.iterdir() if path.is_file()}
    if not here & {"tokenizer.json", "tokenizer.model"} and not {"vocab.json", "merges.txt"} <= here:
        raise UsageError(f"{folder} has no tokenizer (tokenizer.json or tokenizer.model); {again}.")
    if not _pictures(folder):
        raise UsageError(f"{folder} does not say how it reads pictures (preprocessor_config.json); {again}.")


def _pictures(folder: Path) -> dict[str, Any]:
    """The image processor's settings, from the file that transformers takes first; empty where there is none."""
    whole, own = folder / "processor_config.json", folder / "preprocessor_config.json"
    nested = json_object(whole).get("image_processor") if whole.is_file() else None
    return dict(nested) if isinstance(nested, dict) else json_object(own) if own.is_file() else {}


def _some(names: list[str]) -> str:
    """The first of many names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
