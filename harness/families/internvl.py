"""InternVL, in transformers' layout (checkpoints whose names end in -HF; Zhu et al. 2025, Wang et al. 2025).

Words: the chat template of those checkpoints. OpenGVLab/InternVL `conversation.py`, `internvl2_5`, by which the makers
trained, begins with a Chinese sentence of the system's, which that template leaves out.

Pictures: tiles of 448 x 448 pixels, as many side by side as fit the picture's shape best, and behind them a small one
of all of it. Frozen is the tower; what it sees is put together 2 x 2, without weights, and the projector learns. (The
makers let the tower learn, `--freeze_backbone False`; ms-swift and LLaMA-Factory freeze it by default.)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.contracts.encoding import Pieces, Tokens, encode
from harness.contracts.family import Eyes, Layout, Stored
from harness.contracts.images import opened, size_of
from harness.contracts.records import Image
from harness.families._chatml import START, STOP, ChatML
from harness.families._shared import (
    architecture,
    behind,
    decoder_flops,
    depths,
    projected,
    refuse_parts,
    side,
    small_decoder,
    square_flops,
)
from harness.system.errors import UsageError
from harness.system.profile import Flops

if TYPE_CHECKING:
    from torch import Tensor, nn


class InternVL(ChatML):
    """`InternVLForConditionalGeneration` with a Qwen language model."""

    title, example, processor = "InternVL", "OpenGVLab/InternVL3_5-8B-HF", "InternVLProcessor"
    classes = "InternVLConfig", "InternVLForConditionalGeneration"
    image_token, videos = "<IMG_CONTEXT>", "InternVLVideoProcessor"
    picture = "<IMG_CONTEXT>\n"
    control: ClassVar[tuple[str, ...]] = ("<img>", "</img>", "<video>", START, STOP)
    named: ClassVar[Mapping[str, str]] = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    parts: ClassVar[Mapping[str, str]] = {
        "embed_tokens.weight": "language model",
        "model.norm.weight": "language model",
        "multi_modal_projector.linear_1.weight": "projector",
        "multi_modal_projector.linear_2.weight": "projector",
        "embeddings.patch_embeddings.projection.weight": "vision tower",
    }
    prefixes: ClassVar[dict[str, str]] = {
        "model.language_model.": "language_model.model.",
        "lm_head.": "language_model.lm_head.",
        "model.vision_tower.": "vision_tower.",
        "model.multi_modal_projector.": "multi_modal_projector.",
    }

    def refuse(self, config: Mapping[str, Any], folder: Path, again: str) -> None:
        """Other language models than Qwen's, whose conversations end otherwise."""
        text = refuse_parts(config, folder, again)
        if (kind := text.get("model_type")) not in ("qwen2", "qwen3"):
            raise UsageError(
                f"{folder} is an InternVL whose language model is {kind!r}; known are those with Qwen 2 or 3; {again}."
            )

    def places(
        self, config: Mapping[str, Any], tensors: Mapping[str, Stored], pictures: Mapping[str, Any]
    ) -> tuple[int, int]:
        """One tile, or the most and the small one."""
        tile, most = int(config.get("image_seq_length", 256)), pictures.get("max_patches", 12)
        return tile, tile * (most + 1 if most > 1 else 1)

    def encode(self, tokenizer: Any, pieces: Pieces, layout: Layout | None) -> Tokens:
        """A picture's places stand between tokens of their own."""
        ids = tokenizer.convert_tokens_to_ids(["<img>", self.image_token, "</img>"])
        shown = [ids[0], *[ids[1]] * layout.places, ids[2]] if layout else []
        return encode(tokenizer, pieces, self.image_token, shown)

    def eyes(self, processor_of: Any, config: Any) -> Eyes:
        """Tiles of the tower's size; the processor alone would make one of a whole picture."""
        from transformers import GotOcr2ImageProcessorPil

        processor, wanted = processor_of(GotOcr2ImageProcessorPil), side(config.vision_config.image_size)
        if processor.size["height"] != wanted:
            raise ValueError(f"makes tiles of {processor.size['height']} pixels, its vision tower sees {wanted}")
        processor.crop_to_patches = True
        return Tiles(processor, config)

    def told(self, config: Any) -> dict[str, Any]:
        """Places of a tile."""
        return {"image_seq_length": config.image_seq_length}

    def tower(self, model: Any) -> "nn.Module":
        """InternViT."""
        tower: nn.Module = model.model.vision_tower
        return tower

    def features(self, model: Any, pixels: "Tensor", layout: Layout) -> "Tensor":
        """(tiles, 3, side, side) to (places, 4 width), as transformers' `InternVLModel.get_image_features` has them."""
        import torch

        tower, config = self.tower(model).eval(), model.config
        weight, layer = next(tower.parameters()), config.vision_feature_layer
        with torch.inference_mode(False), torch.no_grad():
            given = pixels.to(weight.device, weight.dtype)
            seen = tower(given).last_hidden_state if layer == -1 else behind(tower, given, depths(config))[0]
            seen = seen[:, 1:] if config.vision_feature_select_strategy == "default" else seen
            square = round(seen.shape[1] ** 0.5)
            grid = seen.reshape(len(seen), square, square, -1)
            merged: Tensor = model.model.pixel_shuffle(grid, scale_factor=config.downsample_ratio)
        return merged.flatten(0, 2).cpu()

    def inputs(self, model: Any, ids: "Tensor", features: "Tensor | None", layouts: Sequence[Layout]) -> dict[str, Any]:
        """Words, and at the places of pictures what the projector makes of them."""
        return projected(model, ids, features)

    def flops(self, config: Any) -> Flops:
        """Each tile costs the same."""
        width, tile = config.text_config.hidden_size, square_flops(config)
        wide = int(config.vision_config.hidden_size / config.downsample_ratio**2)
        return Flops(
            **decoder_flops(config.text_config),
            image=lambda layout: layout.places * 2 * (wide * width + width**2),
            tower=lambda layout: layout.grid[0] * tile,
        )

    def architecture(self, config: Mapping[str, Any], tensors: Mapping[str, Stored]) -> dict[str, int]:
        """Widths and depths by their names."""
        return architecture(tensors)

    def small(self, tokenizer: Any) -> tuple[Any, Any]:
        """Two layers each, up to five tiles of 32 x 32 pixels, 4 places each."""
        from transformers import GotOcr2ImageProcessorPil

        tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = self.config_class()(
            vision_config=tower | {"image_size": [32, 32], "patch_size": [8, 8]},
            text_config=small_decoder(tokenizer) | {"model_type": "qwen3", "head_dim": 8},
            image_token_id=tokenizer.convert_tokens_to_ids(self.image_token),
            image_seq_length=4,
            tie_word_embeddings=False,
        )
        return config, GotOcr2ImageProcessorPil(size={"height": 32, "width": 32}, max_patches=4)


class Tiles(Eyes):
    """(tiles, 3, side, side) pixels; a layout's grid is how many tiles there are, the small one of all with them."""

    def __init__(self, processor: Any, config: Any) -> None:
        self.processor, self._config = processor, config
        self.more = {"layer": config.vision_feature_layer, "tiles": [processor.min_patches, processor.max_patches]}

    def layout(self, image: Image) -> Layout:
        """By the processor's own count."""
        tiles = int(self.processor.get_number_of_image_patches(*size_of(image)))
        return Layout(tiles * self._config.image_seq_length, (tiles,))

    def pixels(self, image: Image) -> "Tensor":
        """Tiles by rows, then the small one."""
        made: Tensor = self.processor(images=opened(image), return_tensors="pt")["pixel_values"]
        return made.float()

    def blank(self, layout: Layout) -> "Tensor":
        """As many tiles of the mean colour."""
        import torch

        square = side(self._config.vision_config.image_size)
        return torch.zeros(layout.grid[0], 3, square, square)
