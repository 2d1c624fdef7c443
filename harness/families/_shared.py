"""What several families share: looking at a config, pictures put into a row's words, what a decoder costs."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.contracts.family import LAYER, Stored
from harness.system.errors import HarnessError, UsageError

if TYPE_CHECKING:
    from torch import Tensor


WORDS = "embed_tokens.weight"
PATCHES = (  # what makes patches of a picture, as towers call it
    "embeddings.patch_embedding.weight",
    "patch_embed.proj.weight",
    "patch_embeddings.projection.weight",
)


def refuse_parts(config: Mapping[str, Any], folder: Path, again: str, flat: bool = False) -> Mapping[str, Any]:
    """The language model's part of a config; UsageError where it or the tower's is missing, or drops attention weights.

    In `flat` ones, the language model's may lie beside the tower's.
    """
    for part in ("text_config", "vision_config"):
        if not isinstance(config.get(part), dict) and not (flat and part == "text_config" and "hidden_size" in config):
            raise UsageError(f"{folder / 'config.json'} has no {part}: it is not whole; {again}.")
    text: Mapping[str, Any] = config.get("text_config", config)
    if dropped := text.get("attention_dropout"):
        raise UsageError(
            f"{folder} has attention_dropout {dropped}, which would be drawn anew for every batch size and number "
            "of processes; set it to 0 in its config.json."
        )
    return text


def architecture(tensors: Mapping[str, Stored]) -> dict[str, int]:
    """What the headers of a model's weights say it is: widths and depths of language model and tower, counts."""
    depth: dict[str, set[str]] = {"layers": set(), "vision_layers": set()}
    for name in tensors:
        if match := LAYER.match(name):
            depth["vision_layers" if "vis" in match["stack"] else "layers"].add(match["number"])
    words = next(one.shape for name, one in tensors.items() if name.endswith(WORDS))
    patches = next(one.shape for name, one in tensors.items() if name.endswith(PATCHES))
    sizes = {"hidden_size": words[1], "vocab_size": words[0], "vision_hidden_size": patches[0]}
    counts = {what: len(numbers) for what, numbers in depth.items()}
    return {**sizes, **counts, "parameters": sum(math.prod(one.shape) for one in tensors.values())}


def by_either(folder: Path) -> None:
    """Name the image processor in a folder's files by the class that stands for it with and without torchvision."""
    for file in folder.glob("*processor_config.json"):
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace('ImageProcessorPil"', 'ImageProcessor"'), encoding="utf-8")


def worded(words: dict[str, str], template: str) -> str:
    """A template in Jinja that begins by naming some words."""
    return "".join(f"{{%- set {name} = {json.dumps(text)} -%}}\n" for name, text in words.items()) + template


def projected(model: Any, ids: "Tensor", features: "Tensor | None") -> dict[str, Any]:
    """`Family.inputs` of words, and at the places of pictures what a projector makes of features (..., width)."""
    words: Tensor = model.get_input_embeddings()(ids)
    projector = model.model.multi_modal_projector
    if features is None:
        return {"inputs_embeds": words + projector(words.new_zeros(1, projector.linear_1.in_features)).sum() * 0}
    seen = projector(features.to(words.device, words.dtype))
    return {"inputs_embeds": merged(words, ids == model.config.image_token_id, seen)}


def merged(words: "Tensor", places: "Tensor", seen: "Tensor") -> "Tensor":
    """(B, L, width) embeddings with (rows, width) `seen` at the True of (B, L) `places`, in row order.

    HarnessError where they are not equal in number: some would be left out in silence.
    """
    wanted, given = int(places.sum()), seen.numel() // seen.shape[-1]
    if wanted != given:
        raise HarnessError(
            f"a batch has {wanted} places for images and {given} features; the model's image_seq_length, its tower and "
            "its processor do not belong together. Fetch the whole model folder again."
        )
    return words.masked_scatter(places[..., None], seen.to(words.dtype))


def decoder_flops(text: Any) -> dict[str, int]:
    """`token`, `pair`, `scored` and `last` of `harness.system.profile.Flops`, by the config of a Llama-like decoder."""
    width, depth = text.hidden_size, text.num_hidden_layers
    head = getattr(text, "head_dim", None) or width // text.num_attention_heads
    asked, seen = (2 * width * head * heads for heads in (text.num_attention_heads, text.num_key_value_heads))
    last = 2 * (asked + 3 * width * text.intermediate_size)  # all but keys and values
    return {
        "token": depth * (last + 2 * seen),
        "last": last,
        "pair": 4 * depth * head * text.num_attention_heads,
        "scored": 2 * width * text.vocab_size,
    }


def side(pixels: Any) -> int:
    """A square's side, where a config gives one number or both sides."""
    return int(pixels if isinstance(pixels, int) else pixels[0])


def depths(config: Any) -> list[int]:
    """The hidden layers of its tower that a config names, or the last: behind how many of its layers each lies."""
    named, most = getattr(config, "vision_feature_layer", -1), config.vision_config.num_hidden_layers
    return [range(most + 1)[at] for at in ([named] if isinstance(named, int) else named)]


def behind(tower: Any, pixels: "Tensor", layers: Sequence[int]) -> "list[Tensor]":
    """(n, squares, width) states behind so many of a tower's layers (`depths`), to the bit those of transformers'.

    What lies behind the deepest of them is not run: LLaVA-1.5 names the last but one of CLIP's 24.
    """
    from torch import nn

    most, deepest = tower.config.num_hidden_layers, max(layers)
    stacks = [part for part in tower.modules() if isinstance(part, nn.ModuleList) and len(part) == most]
    if deepest == most or len(stacks) != 1:
        states = tower(pixels, output_hidden_states=True).hidden_states
        return [states[at] for at in layers]
    [stack] = stacks
    found: dict[int, Tensor] = {}
    hooks = [stack[at].register_forward_pre_hook(lambda _, given, at=at: found.update({at: given[0]})) for at in layers]
    spared = [(layer, layer.__dict__.get("forward")) for layer in stack[deepest:]]
    try:
        for layer, _ in spared:
            layer.forward = lambda states, *_, **__: states  # not less called, for whoever watches its calls
        tower(pixels)
    finally:
        for layer, own in spared:
            del layer.forward
            if own is not None:
                layer.forward = own
        for hook in hooks:
            hook.remove()
    return [found[at] for at in layers]


def square_flops(config: Any, token: int = 1) -> int:
    """FLOPs of a config's tower as far as it is read, with as many class tokens, for one square of its size."""
    vision = config.vision_config
    patch, width = side(vision.patch_size), vision.hidden_size
    patches = (side(vision.image_size) // patch) ** 2
    across = patches + token
    embed = 2 * patches * vision.num_channels * patch**2 * width
    linear = 2 * across * (4 * width**2 + 2 * width * vision.intermediate_size)
    return int(embed + max(depths(config)) * (linear + 4 * across**2 * width))


def small_decoder(tokenizer: Any) -> dict[str, Any]:
    """Fields of a Llama-like decoder's config, so small that tests can train it, and random enough to notice."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.2,
        "tie_word_embeddings": False,
    }
