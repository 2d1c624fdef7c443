"""LLaVA-OneVision (Li et al. 2024), in llava-hf's layout: a SigLIP tower and Qwen2.

Words: LLaVA-VL/LLaVA-NeXT `conversation.py`, `qwen_1_5`, by which the makers trained (the chat template of llava-hf's
checkpoints leaves the system's sentence out). Pictures: LLaVA-NeXT's tiles, up to 36 of them; a grid of more patches
than `vision_aspect_ratio` allows (anyres_max_9: nine tiles' worth, and a fifth) is made smaller behind the projector,
bilinearly. Frozen is the tower, as in this harness's other LLaVAs; the makers let it learn at a fifth of the rate.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.contracts.family import Eyes, Layout, Stored
from harness.contracts.records import Image
from harness.families._chatml import START, STOP, ChatML
from harness.families._shared import refuse_parts, small_decoder
from harness.families.llava_next import LlavaNext, Tiles, pinpoints
from harness.system.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


class LlavaOnevision(ChatML, LlavaNext):
    """`LlavaOnevisionForConditionalGeneration`. What is not said here is ChatML's or LLaVA-NeXT's."""

    title, example, lead = "LLaVA-OneVision", "llava-hf/llava-onevision-qwen2-7b-ov-hf", ""
    classes = "LlavaOnevisionConfig", "LlavaOnevisionForConditionalGeneration"
    processor, videos = "LlavaOnevisionProcessor", "LlavaOnevisionVideoProcessor"
    system, picture = "You are a helpful assistant.", "<image>\n"
    control: ClassVar[tuple[str, ...]] = ("<video>", START, STOP)
    forbidden: ClassVar[Mapping[str, str]] = {}
    parts: ClassVar[Mapping[str, str]] = {
        name: part for name, part in LlavaNext.parts.items() if not name.endswith("class_embedding")
    }
    token: ClassVar[int] = 0

    def refuse(self, config: Mapping[str, Any], folder: Path, again: str) -> None:
        """Another tower than SigLIP, other words than Qwen2's."""
        text, tower = refuse_parts(config, folder, again), config["vision_config"]
        kinds = tower.get("model_type"), text.get("model_type")
        if kinds != ("siglip_vision_model", "qwen2") or config.get("vision_feature_select_strategy", "full") != "full":
            raise UsageError(
                f"{folder} is a LLaVA-OneVision of {kinds[0]!r} and {kinds[1]!r}; known is that of a whole SigLIP "
                f"tower and Qwen2; {again}."
            )

    def eyes(self, processor_of: Any, config: Any) -> Eyes:
        """Tiles of the tower's size."""
        from transformers import LlavaOnevisionImageProcessorPil

        processor, vision = processor_of(LlavaOnevisionImageProcessorPil), config.vision_config
        if (made := processor.size["height"]) != vision.image_size:
            raise ValueError(f"makes tiles of {made} pixels, its vision tower sees {vision.image_size}")
        if [list(pair) for pair in processor.image_grid_pinpoints] != [list(pair) for pair in pinpoints(config)]:
            raise ValueError("and config.json differ in image_grid_pinpoints")
        return Shrunk(processor, config)

    def places(
        self, config: Mapping[str, Any], tensors: Mapping[str, Stored], pictures: Mapping[str, Any]
    ) -> tuple[int, int]:
        """A line of pixels, and the largest grid that is not made smaller, with a newline behind each of its rows."""
        fewest, most = super().places(config, tensors, pictures)
        patches, allowed = fewest, _most(config.get("vision_aspect_ratio", "anyres_max_9"))
        side, largest = round(patches**0.5), int(1.1**2 * allowed * patches)
        rows = max(high for high, _ in pinpoints(config)) // config["vision_config"]["image_size"] * side
        return fewest, min(most, patches + largest + min(rows, largest))

    def told(self, config: Any) -> dict[str, Any]:
        """What the whole processor counts places by."""
        side = config.vision_config.image_size // config.vision_config.patch_size
        return {
            "num_image_tokens": side**2,
            "vision_aspect_ratio": config.vision_aspect_ratio,
            "vision_feature_select_strategy": config.vision_feature_select_strategy,
        }

    def shrunk(self, grid: "Tensor", layout: Layout) -> "Tensor":
        """(rows, columns, width) to as many as `Shrunk.layout` has, as transformers' `pack_image_features` does it."""
        from torch.nn.functional import interpolate

        if layout.grid[2:4] == layout.grid[4:]:
            return grid
        return interpolate(grid.permute(2, 0, 1)[None], layout.grid[4:], mode="bilinear")[0].permute(1, 2, 0)

    def small(self, tokenizer: Any) -> tuple[Any, Any]:
        """Two layers each, up to nine tiles of 32 x 32 pixels, of which as many patches are left as two have."""
        from transformers import LlavaOnevisionConfig, LlavaOnevisionImageProcessorPil

        tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        grids = [[32, 32], [32, 64], [64, 32], [64, 64], [96, 32], [32, 96], [96, 96]]
        config = LlavaOnevisionConfig(
            vision_config=tower
            | {"model_type": "siglip_vision_model", "image_size": 32, "patch_size": 8, "vision_use_head": False},
            text_config=small_decoder(tokenizer) | {"model_type": "qwen2"},
            image_token_index=tokenizer.convert_tokens_to_ids(self.image_token),
            video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
            image_grid_pinpoints=grids,
            vision_aspect_ratio="anyres_max_2",
        )
        return config, LlavaOnevisionImageProcessorPil(size={"height": 32, "width": 32}, image_grid_pinpoints=grids)


class Shrunk(Tiles):
    """LLaVA-NeXT's tiles; a layout's grid ends with its rows and columns of patches after they were made fewer."""

    def layout(self, image: Image) -> Layout:
        """As the processor counts them."""
        _, (high, wide, rows, columns) = super().layout(image)
        vision = self._config.vision_config
        square = (vision.image_size // vision.patch_size) ** 2
        ratio = math.sqrt(rows * columns / (_most(self._config.vision_aspect_ratio) * square))
        left = (int(rows // ratio), int(columns // ratio)) if ratio > 1.1 else (rows, columns)
        return Layout(square + left[0] * (left[1] + 1), (high, wide, rows, columns, *left))


def _most(ratio: str) -> int:
    """How many tiles' worth of patches "anyres_max_9" leaves."""
    return int(ratio.removeprefix("anyres_max_"))
