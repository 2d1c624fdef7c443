"""LLaVA-1.5 (Liu et al. 2023, Improved Baselines with Visual Instruction Tuning), in llava-hf's layout.

Words: haotian-liu/LLaVA `conversation.py`, template `vicuna_v1`, as all v1.5 scripts use it; token ids and what is
supervised are those of `train.py`, `preprocess_v1`, and `mm_utils.py`, `tokenizer_image_token`. Pictures:
`mm_utils.py`, `expand2square` (`image_aspect_ratio: pad`), then CLIP's own processor.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import PIL.Image

from harness.contracts.encoding import Pieces
from harness.contracts.family import Eyes, Family, Layout, Stored
from harness.contracts.images import opened
from harness.contracts.records import Image, Turn
from harness.families._shared import (
    architecture,
    behind,
    by_either,
    decoder_flops,
    depths,
    projected,
    refuse_parts,
    small_decoder,
    square_flops,
    worded,
)
from harness.system.errors import UsageError
from harness.system.profile import Flops

if TYPE_CHECKING:
    from torch import Tensor, nn


SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
IMAGE = "<image>"
ANSWER = " ASSISTANT:"
TEMPLATE = """\
{%- set first = 1 if messages[0]['role'] == 'system' else 0 -%}
{%- if first == 0 -%}{{ SYSTEM }}{%- endif -%}
{%- for message in messages -%}
    {%- set content = message['content'] -%}
    {%- set parts = [{'type': 'text', 'text': content}] if content is string else content -%}
    {%- set text = parts | selectattr('type', 'equalto', 'text') | map(attribute='text') | join('') -%}
    {%- if message['role'] == 'user' -%}
        {{- ' USER: ' if loop.index0 == first else 'USER: ' -}}
        {%- for image in parts | selectattr('type', 'equalto', 'image') -%}{{ IMAGE + NEWLINE }}{%- endfor -%}
        {{- text -}}
    {%- elif message['role'] == 'assistant' -%}
        {{- ANSWER + ' ' + text + END -}}
    {%- else -%}
        {{- text -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ ANSWER }}{%- endif -%}
"""


class Llava(Family):
    """`LlavaForConditionalGeneration` with a CLIP tower: every picture is one square, of one number of places."""

    title, example, image_token, lead = "LLaVA-1.5", "llava-hf/llava-1.5-7b-hf", IMAGE, " "
    classes = "LlavaConfig", "LlavaForConditionalGeneration"
    forbidden: ClassVar[Mapping[str, str]] = {  # `preprocess_v1` masks the whole of such a record
        ANSWER: "by which LLaVA's template tells questions from answers",
    }
    parts: ClassVar[Mapping[str, str]] = {
        "embed_tokens.weight": "language model",
        ".norm.weight": "language model",
        "multi_modal_projector.linear_1.weight": "projector",
        "multi_modal_projector.linear_2.weight": "projector",
        "embeddings.class_embedding": "vision tower",
        "embeddings.patch_embedding.weight": "vision tower",
        "embeddings.position_embedding.weight": "vision tower",
    }

    token: ClassVar[int] = 1
    """Class tokens of the tower."""
    prefixes: ClassVar[dict[str, str]] = {  # as modules are called -> as the hub's files do; the first that fits
        "model.language_model.": "language_model.model.",
        "lm_head.": "language_model.lm_head.",
        "model.vision_tower.vision_model.": "vision_tower.vision_model.",
        "model.vision_tower.": "vision_tower.vision_model.",
        "model.multi_modal_projector.": "multi_modal_projector.",
    }

    def refuse(self, config: Mapping[str, Any], folder: Path, again: str) -> None:
        """Another tower than CLIP's."""
        refuse_parts(config, folder, again)
        tower = config["vision_config"].get("model_type")
        if tower != "clip_vision_model":
            raise UsageError(f"{folder} has a {tower!r} vision tower; only {self.title}'s CLIP tower is supported.")

    def places(
        self, config: Mapping[str, Any], tensors: Mapping[str, Stored], pictures: Mapping[str, Any]
    ) -> tuple[int, int]:
        """As many as a picture has patches, or one more."""
        return patches(tensors), patches(tensors)

    def segments(self, turns: Sequence[Turn], has_image: bool, end: str) -> Pieces:
        """The first question follows `<image>` and a newline; answers follow `ASSISTANT:` and a blank."""
        pieces: Pieces = [(SYSTEM, False)]
        for number, turn in enumerate(turns):
            lead = f" USER: {IMAGE}\n" if has_image and number == 0 else " USER: " if number == 0 else "USER: "
            pieces.append((f"{lead}{turn.question}{ANSWER}", False))
            pieces.append((f"{self.lead}{turn.answer}{end}", True))
        return pieces

    def eyes(self, processor_of: Any, config: Any) -> Eyes:
        """Squares of the tower's size."""
        from transformers import LlavaImageProcessorPil

        eyes = Squares(processor_of(LlavaImageProcessorPil), image_places(config))
        eyes.more = {"layer": config.vision_feature_layer, "strategy": config.vision_feature_select_strategy}
        made, wanted = tuple(eyes.blank().shape[1:]), config.vision_config.image_size
        if made != (wanted, wanted):
            raise ValueError(
                f"makes pictures of {made[0]} x {made[1]} pixels, its vision tower sees {wanted} x {wanted}"
            )
        return eyes

    def write_processor(self, config: Any, tokenizer: Any, eyes: Eyes, folder: Path) -> None:
        """A processor that pads pictures to squares itself.

        Beside `processor_config.json` lies the image processor's own file, which transformers 4 reads. With
        torchvision, `AutoProcessor` takes another resizing; `backend="pil"` is exact.
        """
        from transformers import LlavaImageProcessorPil, LlavaProcessor

        fields = {name: value for name, value in eyes.processor.to_dict().items() if name != "image_processor_type"}
        padding = LlavaImageProcessorPil(**{**fields, "do_pad": True})
        save_processor(LlavaProcessor, padding, config, tokenizer, folder)

    def tower(self, model: Any) -> "nn.Module":
        """CLIP's."""
        tower: nn.Module = model.model.vision_tower
        return tower

    def features(self, model: Any, pixels: "Tensor", layout: Layout) -> "Tensor":
        """(3, H, W) pixels to (places, width) of what the projector reads."""
        return self.squares(model, pixels[None])[0]

    def squares(self, model: Any, pixels: "Tensor") -> "Tensor":
        """(n, 3, side, side) pixels to (n, places, width), as transformers' `LlavaModel.get_image_features` has them:
        the configured hidden layers, with the class token unless the strategy is "default".
        """
        import torch

        tower, config = self.tower(model).eval(), model.config
        weight = next(tower.parameters())
        with torch.inference_mode(False), torch.no_grad():
            states = behind(tower, pixels.to(weight.device, weight.dtype), depths(config))
        first = 1 if config.vision_feature_select_strategy == "default" else 0
        return torch.cat([one[:, first:] for one in states], -1).cpu()

    def inputs(self, model: Any, ids: "Tensor", features: "Tensor | None", layouts: Sequence[Layout]) -> dict[str, Any]:
        """Words, and at the places of pictures what the projector makes of them."""
        pictures = None if features is None else features.view(len(layouts), -1, features.shape[-1])
        return projected(model, ids, pictures)

    def flops(self, config: Any) -> Flops:
        """The costs of a `LlavaConfig`: every picture costs the same."""
        vision, width, kept = config.vision_config, config.text_config.hidden_size, image_places(config)
        image, tower = 2 * kept * (vision.hidden_size * width + width**2), square_flops(config)
        return Flops(**decoder_flops(config.text_config), image=lambda _: image, tower=lambda _: tower)

    def architecture(self, config: Mapping[str, Any], tensors: Mapping[str, Stored]) -> dict[str, int]:
        """Widths and depths by their names."""
        return architecture(tensors) | {"patches": patches(tensors, self.token)}

    def small(self, tokenizer: Any) -> tuple[Any, Any]:
        """Two layers each, pictures of 32 x 32 pixels as 16 places."""
        from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaImageProcessorPil

        tower = CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=32,
            patch_size=8,
            projection_dim=32,
        )
        side = {"height": 32, "width": 32}
        return LlavaConfig(
            vision_config=tower,
            text_config=LlamaConfig(**small_decoder(tokenizer)),
            image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
            vision_feature_layer=-2,
            image_seq_length=16,
        ), LlavaImageProcessorPil(size={"shortest_edge": 32}, crop_size=side)


class Squares(Eyes):
    """(3, side, side) pixels: a picture in the middle of a square of the mean colour, then as the processor says."""

    def __init__(self, processor: Any, places: int) -> None:
        self.processor, self.places = processor, places
        self._colour = tuple(int(part * 255) for part in processor.image_mean)

    def layout(self, image: Image) -> Layout:
        """The same for all."""
        return Layout(self.places)

    def pixels(self, image: Image) -> "Tensor":
        """One picture's, padded to a square."""
        return self._tensor(square(opened(image), self._colour))

    def blank(self, layout: Layout | None = None) -> "Tensor":
        """A square of the mean colour."""
        side = self.processor.crop_size
        return self._tensor(PIL.Image.new("RGB", (side["width"], side["height"]), self._colour))

    def _tensor(self, picture: PIL.Image.Image) -> "Tensor":
        pixels: Tensor = self.processor(images=picture, return_tensors="pt")["pixel_values"][0]
        return pixels.float()


def square(picture: PIL.Image.Image, colour: tuple[int, ...]) -> PIL.Image.Image:
    """The picture in the middle of the smallest square that holds it, filled with `colour`."""
    width, height = picture.size
    if width == height:
        return picture
    side = max(width, height)
    padded = PIL.Image.new("RGB", (side, side), colour)
    padded.paste(picture, ((side - width) // 2, (side - height) // 2))
    return padded


def patches(tensors: Mapping[str, Stored], token: int = 1) -> int:
    """How many patches the tower sees at once, beside its class token."""
    ends = "embeddings.position_embedding.weight"
    return next(one.shape[0] for name, one in tensors.items() if name.endswith(ends)) - token


def image_places(config: Any) -> int:
    """How many places a picture takes: the tower's patches, and its class token where that is kept."""
    vision = config.vision_config
    extra = 0 if config.vision_feature_select_strategy == "default" else 1
    return int((vision.image_size // vision.patch_size) ** 2 + extra)


def save_processor(kind: Any, images: Any, config: Any, tokenizer: Any, folder: Path) -> None:
    """A LLaVA processor of this class around an image processor, and the latter's own file, into a folder."""
    kind(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        image_token=IMAGE,
        num_additional_image_tokens=1,
        chat_template=chat_template(tokenizer.eos_token),
    ).save_pretrained(folder)
    images.save_pretrained(folder)
    by_either(folder)


def chat_template(end: str) -> str:
    """`Llava.segments` in Jinja, for `AutoProcessor.apply_chat_template`; `end` is the end token."""
    words = {"SYSTEM": SYSTEM, "IMAGE": IMAGE, "NEWLINE": "\n", "ANSWER": ANSWER, "END": end}
    return worded(words, TEMPLATE)
