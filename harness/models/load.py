"""Models in and out: by pinned revision, safetensors only, never a model's own code; of any family that is known.

The vision tower is always frozen (LLaVA-1.5's fine-tuning). Importing this module imports no torch, so that plans can
key on `revision`.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness import families
from harness.contracts.backend import Adapted, Model
from harness.contracts.family import Eyes, Family
from harness.contracts.records import Image, Noised
from harness.contracts.settings import HUB, Dtype, Lora
from harness.models.adapters import CONFIG, WEIGHTS, cast, merge, trained_in
from harness.models.folder import inspect, readable
from harness.models.hublayout import write_weights
from harness.models.targets import targets
from harness.models.weights import gathered, insist_on_finite, insist_on_whole, reading, sharding
from harness.store.closure import code
from harness.store.contents import CONTENTS
from harness.store.store import Stage, Store
from harness.system.errors import UsageError
from harness.system.machine import reclaim
from harness.system.profile import Flops

if TYPE_CHECKING:
    from torch import Tensor

    from harness.models.shelf import Shelf

UNREAD = {".md", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf", ".png", ".jpg", ".gif", ".pdf"}


class Words(NamedTuple):
    """What a model reads words and pictures by, without its weights; `positions` is how long a sequence can be."""

    family: Family
    tokenizer: Any
    eyes: Eyes
    positions: int


class Loaded(NamedTuple):
    """A model ready for use, and what its family makes of words and pictures for it.

    `eyes` read pictures, `features` has what the vision tower makes of them; `flops` is what a forward pass costs.
    `pad_id` is the token that fills rows up, under a mask; `positions` how long a sequence can be.
    """

    model: Any
    family: Family
    tokenizer: Any
    eyes: Eyes
    features: "Shelf"
    flops: Flops
    pad_id: int
    positions: int


_kept: dict[str, Loaded] = {}
_beside: set[Callable[[], None]] = set()


def revision(model: str | Model) -> str:
    """What identifies a model: sha256 over names and bytes of every file that loading may read, or `id@commit`."""
    folder, adapters = parts(model)
    if adapters:
        files = [one / name for one in adapters for name in (CONFIG, WEIGHTS)]
        return hashlib.sha256("\n".join([revision(folder), *CONTENTS.digests(files)]).encode()).hexdigest()
    if HUB.fullmatch(str(folder)):
        return str(folder)
    kinds = {path.suffix for path in readable(Path(folder))}
    if ".json" not in kinds or ".safetensors" not in kinds:
        raise UsageError(f"{folder} is no model folder: it needs config.json and *.safetensors; pickles are refused.")
    names = sorted(path.relative_to(folder).as_posix() for path in _loadable(Path(folder)))
    digests = CONTENTS.digests([Path(folder) / name for name in names])
    lines = (f"{name}\0{digest}\n" for name, digest in zip(names, digests, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def parts(model: str | Model) -> Adapted:
    """A model as its base and what is merged into it: nothing, where it is whole."""
    return model if isinstance(model, Adapted) else Adapted(Path(model), ())


def _loadable(folder: Path) -> Iterator[Path]:
    """All files but those that say something to people, hidden ones, and weights in formats that are never loaded."""
    for path in folder.iterdir():
        if path.name.startswith(".") or path.suffix in UNREAD:
            continue
        if path.is_dir():
            yield from _loadable(path)
        elif path.is_file():
            yield path


def _source(folder: str | Path) -> tuple[str, dict[str, Any]]:
    """Name and arguments for `from_pretrained`."""
    common = {"trust_remote_code": False}
    hub = HUB.fullmatch(str(folder))
    if hub:
        return hub["id"], {**common, "revision": hub["revision"]}
    inspect(Path(folder))
    return str(folder), {**common, "local_files_only": True}


def load(
    model: str | Model,
    dtype: Dtype | None = "float32",
    device: str = "cpu",
    shelf: Path | None = None,
    shards: Mapping[str, Any] | None = None,
) -> Loaded:
    """A model, its tokenizer, how images become pixels and features; the vision tower frozen.

    Adapters are merged into their base in the dtype that they were trained in, which the model keeps where `dtype` is
    None. `shelf` is the folder where features are kept (`harness.models.shelf.Shelf`); `shards` is DeepSpeed's
    configuration of ZeRO-3, by which each rank gets its part of the weights alone.
    """
    import torch

    from harness.models.shelf import Shelf, tower_kind

    _quiet()
    let_go()  # before the new one comes: two do not fit
    folder, adapters = parts(model)
    wanted = getattr(torch, dtype) if dtype else trained_in(adapters[0]) if adapters else torch.float32
    family, tokenizer, eyes, positions = words(folder)
    config = config_of(folder)
    name, arguments = _source(folder)
    with sharding(shards):
        made, info = reading(
            folder,
            "weights",
            lambda: family.model_class().from_pretrained(
                name,
                dtype=trained_in(adapters[0]) if adapters else wanted,
                use_safetensors=True,
                attn_implementation="sdpa",  # others take no boolean mask of trees, or add it as if it were numbers
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **arguments,
            ),
        )
    insist_on_whole(info, folder)
    made = made.to(device)
    for one in adapters:
        made = merge(made, one)
    if adapters:
        cast(made, wanted)
    made.requires_grad_(True)
    tower = family.tower(made)
    tower.requires_grad_(False)
    insist_on_finite(made, folder, adapters)
    flops = family.flops(config)
    with gathered(tower):
        kind = tower_kind(tower, {**code(families.file_of(family)), "family": config.model_type, **eyes.settings()})
    features = Shelf(
        lambda image: family.features(made, _seen(eyes, image), eyes.layout(image)),
        kind,
        cost=lambda image: flops.tower(eyes.layout(image)),
    )
    features.folder = shelf
    return Loaded(made, family, tokenizer, eyes, features, flops, _pad(tokenizer, config), positions)


def words(model: str | Model) -> Words:
    """All of a model but its weights: adapters change none of it."""
    _quiet()
    folder = parts(model).base
    config = config_of(folder)
    family = families.of(config)
    tokenizer, eyes = _words(folder, config, family), _eyes(folder, config, family)
    return Words(family, tokenizer, eyes, int(config.get_text_config().max_position_embeddings))


def config_of(folder: str | Path) -> Any:
    """transformers' config of a model of a family that is known; UsageError for any other."""
    from transformers import PretrainedConfig

    name, arguments = _source(folder)
    told, _ = reading(folder, "config.json", lambda: PretrainedConfig.get_config_dict(name, **arguments))
    kind = families.named(str(told.get("model_type"))).config_class()
    return reading(folder, "config.json", lambda: kind.from_pretrained(name, **arguments))


def _words(folder: str | Path, config: Any, family: Family) -> Any:
    """The tokenizer; UsageError where it is not the model's: another image token, words without an embedding."""
    from transformers import AutoTokenizer

    name, arguments = _source(folder)
    tokenizer = reading(folder, "tokenizer", lambda: AutoTokenizer.from_pretrained(name, **arguments))
    mine = tokenizer.get_vocab().get(family.image_token)
    if mine != config.image_token_id:
        raise UsageError(
            f"the tokenizer of {folder} has {family.image_token} as {mine}, its model as {config.image_token_id}; they "
            "do not belong together. Fetch the whole folder again."
        )
    if tokenizer.eos_token_id is None:
        raise UsageError(f"the tokenizer of {folder} has no end token (eos_token); set it in tokenizer_config.json.")
    rows, pad = config.get_text_config().vocab_size, tokenizer.pad_token
    beyond = sorted(word for word, id in tokenizer.get_vocab().items() if id >= rows and word != pad)
    if beyond:
        raise UsageError(
            f"the tokenizer of {folder} knows {beyond[0]!r}, for which its model of {rows} words has no embedding; "
            "they do not belong together. Fetch the whole folder again."
        )
    return tokenizer


def _pad(tokenizer: Any, config: Any) -> int:
    """The token that fills rows up, always under a mask: the tokenizer's own, else its unknown or its end token."""
    given = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id)
    return next(int(id) for id in given if id is not None and id < config.get_text_config().vocab_size)


def _seen(eyes: Eyes, image: Image) -> "Tensor":
    """A picture's pixels, under its noise where it has some."""
    from harness.models.noise import diffuse

    pixels = eyes.pixels(image)
    return diffuse(pixels, image.step, image.seed) if isinstance(image, Noised) else pixels


def _eyes(folder: str | Path, config: Any, family: Family) -> Eyes:
    """How pictures become pixels; UsageError where they are not what the tower sees."""
    name, arguments = _source(folder)
    try:
        return family.eyes(
            lambda kind: reading(folder, "image processor", lambda: kind.from_pretrained(name, **arguments)), config
        )
    except ValueError as error:
        raise UsageError(
            f"the image processor of {folder} {error}; they do not belong together. Fetch the whole folder again."
        ) from None


def kept(model: str | Model, dtype: Dtype = "float32") -> Loaded:
    """The model ready to generate, on an accelerator where there is one; kept until any other is loaded."""
    import torch

    name = f"{revision(model)} {dtype}"
    if name not in _kept or _kept[name].family is not families.of(_kept[name].model):
        loaded = load(model, dtype, "cuda" if torch.cuda.is_available() else "cpu")
        loaded.model.eval()
        _kept[name] = loaded
    return _kept[name]


def beside(let_go: Callable[[], None]) -> None:
    """Have this called before another model is loaded: somebody else keeps one ready too."""
    _beside.add(let_go)


def let_go() -> None:
    """Keep none ready any more, here or beside."""
    _kept.clear()
    for other in _beside:
        other()
    reclaim()


def _quiet() -> None:
    """No progress bars of transformers', and no warning from DeepSpeed (which it imports) that there is no GPU."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"


def adapt(model: Any, lora: Lora, seed: int, names: Sequence[str] = ("policy",)) -> Any:
    """The model with named adapters on the language model's linear layers (`targets`); head, tower, all else frozen."""
    import torch
    from peft import LoraConfig, get_peft_model

    linear = [name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)]
    chosen = targets(lora, list(filter(families.of(model).adapts, linear)))
    torch.manual_seed(seed)  # adapters start from random A and zero B
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules="|".join(map(re.escape, chosen)),
    )
    adapted = get_peft_model(model, config, adapter_name=names[0])
    for name in names[1:]:
        adapted.add_adapter(name, config)
    return adapted


def save(model: Any, tokenizer: Any, eyes: Eyes, folder: Path) -> None:
    """A complete folder in the hub's layout that `from_pretrained` loads."""
    _quiet()
    family = families.of(model)
    write_weights(model, family, folder)
    family.write_processor(model.config, tokenizer, eyes, folder)


def write_whole(model: Model, folder: Path) -> None:
    """Write a model as a whole, adapters merged, in the dtype that they were trained in."""
    import torch

    loaded = load(model, None, "cuda" if torch.cuda.is_available() else "cpu")
    save(loaded.model, loaded.tokenizer, loaded.eyes, folder)
    del loaded
    reclaim()  # another engine may want the whole device


def whole(model: Model, store: Store) -> Path:
    """The folder of a model as a whole: its own, or one in the store, where it is written once; `gc` takes it away."""
    if isinstance(model, Path):
        return model
    stage = Stage("merged", {"model": revision(model), **code("harness.models.load")})
    return store.run(stage, partial(write_whole, model))
