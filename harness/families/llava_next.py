"""LLaVA-NeXT, or LLaVA-1.6 (Liu et al. 2024), with Vicuna as its language model, in llava-hf's layout.

Words are LLaVA-1.5's: haotian-liu/LLaVA `conversation.py` has one template for both, `vicuna_v1`. Pictures: a small
square of all of it, and tiles of it at the resolution that fits best of a few (`image_grid_pinpoints`); of the tiles
together what was padded is taken away, and a learnt newline ends each row of patches. Frozen is the tower, though
LLaVA-NeXT's own fine-tuning let it learn: as in LLaVA-1.5, and as preference trainings of both leave it (CHiP, MFPO).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.contracts.family import Eyes, Layout, Stored
from harness.contracts.images import opened, size_of
from harness.contracts.records import Image
from harness.families._shared import decoder_flops, merged, projected, small_decoder, square_flops
from harness.families.llava import Llava, patches, save_processor
from harness.system.errors import UsageError
from harness.system.profile import Flops

if TYPE_CHECKING:
    from torch import Tensor

VICUNA = 33_000  # words: 32,000 and a few control tokens, padded; Yi has 64,000, Llama 3 128,000


class LlavaNext(Llava):
    """`LlavaNextForConditionalGeneration` with a CLIP tower and Vicuna. What is not said here is LLaVA-1.5's."""

    title, example = "LLaVA-NeXT", "llava-hf/llava-v1.6-vicuna-7b-hf"
    classes = "LlavaNextConfig", "LlavaNextForConditionalGeneration"
    parts: ClassVar[Mapping[str, str]] = {**Llava.parts, "image_newline": "newline of tiles"}
    prefixes: ClassVar[dict[str, str]] = {**Llava.prefixes, "model.image_newline": "image_newline"}

    def refuse(self, config: Mapping[str, Any], folder: Path, again: str) -> None:
        """Another tower than CLIP's; other words than Vicuna's, which have templates of their own."""
        super().refuse(config, folder, again)
        text = config["text_config"]
        kind, words = text.get("model_type", "llama"), text.get("vocab_size", 32_000)
        if kind != "llama" or words > VICUNA:
            raise UsageError(
                f"{folder} is a LLaVA-NeXT with another language model than Vicuna ({kind}, {words:,} words): it was "
                f"trained with another conversation template, which is not known here; {again}."
            )

    def places(
        self, config: Mapping[str, Any], tensors: Mapping[str, Stored], pictures: Mapping[str, Any]
    ) -> tuple[int, int]:
        """A line of pixels, of whose tiles nothing is left, and the largest grid without padding."""
        one = patches(tensors, self.token)
        side, square = round(one**0.5), config["vision_config"].get("image_size", 336)
        grids = [(high // square * side, wide // square * side) for high, wide in pinpoints(config)]
        return one, one + max(high * (wide + 1) for high, wide in grids)

    def eyes(self, processor_of: Any, config: Any) -> Eyes:
        """Tiles of the tower's size."""
        from transformers import LlavaNextImageProcessorPil

        processor, vision = processor_of(LlavaNextImageProcessorPil), config.vision_config
        made, grids = processor.crop_size["height"], [list(pair) for pair in processor.image_grid_pinpoints]
        if made != vision.image_size:
            raise ValueError(f"makes tiles of {made} pixels, its vision tower sees {vision.image_size}")
        if grids != [list(pair) for pair in config.image_grid_pinpoints]:
            raise ValueError("and config.json differ in image_grid_pinpoints")
        return Tiles(processor, config)

    def write_processor(self, config: Any, tokenizer: Any, eyes: Eyes, folder: Path) -> None:
        """The processor of the base, and LLaVA's template."""
        from transformers import LlavaNextProcessor

        save_processor(LlavaNextProcessor, eyes.processor, config, tokenizer, folder)

    def features(self, model: Any, pixels: "Tensor", layout: Layout) -> "Tensor":
        """(1 + tiles, 3, side, side) pixels to (rows, width): the small square's patches, then the grid's by rows."""
        import torch

        high, wide, rows, columns = layout.grid[:4]
        whole, *tiles = self.squares(model, pixels)
        side = round(whole.shape[0] ** 0.5)
        grid = torch.stack(tiles).view(high, wide, side, side, -1).transpose(1, 2).reshape(high * side, wide * side, -1)
        above, left = (high * side - rows) // 2, (wide * side - columns) // 2
        return torch.cat([whole, grid[above : above + rows, left : left + columns].flatten(0, 1)])

    def inputs(self, model: Any, ids: "Tensor", features: "Tensor | None", layouts: Sequence[Layout]) -> dict[str, Any]:
        """Words, and at the places of pictures what the projector makes of them, with a newline behind each row."""
        import torch

        newline = model.model.image_newline
        if features is None:
            return {"inputs_embeds": projected(model, ids, None)["inputs_embeds"] + newline.sum() * 0}
        words: Tensor = model.get_input_embeddings()(ids)
        made = model.model.multi_modal_projector(features.to(words.device, words.dtype))
        parts: list[Tensor] = []
        for seen, layout in zip(made.split([self.rows(one) for one in layouts]), layouts, strict=True):
            rows, columns = layout.grid[2:4]
            grid = self.shrunk(seen[len(seen) - rows * columns :].view(rows, columns, seen.shape[-1]), layout)
            ended = torch.cat([grid, newline.expand(len(grid), 1, -1).to(grid.dtype)], 1)
            parts += [seen[: len(seen) - rows * columns], ended.flatten(0, 1)]
        return {"inputs_embeds": merged(words, ids == model.config.image_token_id, torch.cat(parts))}

    def rows(self, layout: Layout) -> int:
        """Patches of the small square and of the grid; newlines are no tower's."""
        rows, columns = layout.grid[-2:]
        return layout.places - rows * (columns + 1) + layout.grid[2] * layout.grid[3]

    def shrunk(self, grid: "Tensor", layout: Layout) -> "Tensor":
        """(rows, columns, width) of a picture's grid before its newlines: here all of it."""
        return grid

    def flops(self, config: Any) -> Flops:
        """Every tile costs the tower the same; the projector reads what is left of them."""
        vision, width = config.vision_config, config.text_config.hidden_size
        row, tile = 2 * (vision.hidden_size * width + width**2), square_flops(config, self.token)
        return Flops(
            **decoder_flops(config.text_config),
            image=lambda layout: self.rows(layout) * row,
            tower=lambda layout: (1 + layout.grid[0] * layout.grid[1]) * tile,
        )

    def architecture(self, config: Mapping[str, Any], tensors: Mapping[str, Stored]) -> dict[str, int]:
        """LLaVA's, and how many ways of tiling there are."""
        return super().architecture(config, tensors) | {"tilings": len(pinpoints(config))}

    def small(self, tokenizer: Any) -> tuple[Any, Any]:
        """LLaVA's, with up to four tiles."""
        from transformers import LlamaConfig, LlavaNextConfig, LlavaNextImageProcessorPil

        one, processor = super().small(tokenizer)
        grids = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]
        config = LlavaNextConfig(
            vision_config=one.vision_config,
            text_config=LlamaConfig(**small_decoder(tokenizer)),
            image_token_index=one.image_token_id,
            image_grid_pinpoints=grids,
        )
        return config, LlavaNextImageProcessorPil(
            size={"shortest_edge": 32}, crop_size=processor.crop_size, image_grid_pinpoints=grids
        )


class Tiles(Eyes):
    """(1 + tiles, 3, side, side) pixels; a layout's grid is tiles and patches, each in height and width."""

    def __init__(self, processor: Any, config: Any) -> None:
        self.processor, self._config = processor, config
        self.more = {"layer": config.vision_feature_layer, "pinpoints": pinpoints(config)}

    def layout(self, image: Image) -> Layout:
        """By the grid that fits best, without what pads the picture in it."""
        from transformers.image_processing_utils import select_best_resolution

        vision, (height, width) = self._config.vision_config, size_of(image)
        square, side = vision.image_size, vision.image_size // vision.patch_size
        high, wide = (n // square for n in select_best_resolution((height, width), pinpoints(self._config)))
        rows, columns = high * side, wide * side
        if width / height > columns / rows:
            rows -= (rows - int(round(height * (columns / width), 7))) // 2 * 2
        else:
            columns -= (columns - int(round(width * (rows / height), 7))) // 2 * 2
        return Layout(side**2 + rows * (columns + 1), (high, wide, rows, columns))

    def pixels(self, image: Image) -> "Tensor":
        """The small square, and the tiles by rows."""
        made: Tensor = self.processor(images=opened(image), return_tensors="pt")["pixel_values"][0]
        return made.float()

    def blank(self, layout: Layout) -> "Tensor":
        """As many squares of the mean colour."""
        import torch

        high, wide = layout.grid[:2]
        side = self._config.vision_config.image_size
        return torch.zeros(1 + high * wide, 3, side, side)


def pinpoints(config: Any) -> list[tuple[int, int]]:
    """The sizes in pixels that pictures are resized to, (height, width), of a config or its JSON."""
    usual = [(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)]
    given = config.get("image_grid_pinpoints") if isinstance(config, Mapping) else config.image_grid_pinpoints
    return [(high, wide) for high, wide in given or usual]
