"""What Qwen's vision-language models share: native resolution, M-RoPE, and a tower whose mergers are frozen with it.

Words: the chat template that every checkpoint ships. Supervised are answers with `<|im_end|>`; Qwen's own script,
qwen-vl-finetune `data_processor.py`, supervises the line behind it too, which nobody asks the model to say.

Pictures keep their shape: both sides are rounded to whole places of `merge_size` patches each, within the processor's
`min_pixels` and `max_pixels`. Frozen are the tower and its mergers, as in the command that qwen-vl-finetune's README
gives (`--tune_mm_vision False --tune_mm_mlp False --tune_mm_llm True`) and by default in ms-swift (`freeze_vit`,
`freeze_aligner`) and LLaMA-Factory (`freeze_multi_modal_projector`); Qwen's shell scripts let the mergers learn.

Positions (Qwen2-VL, Wang et al. 2024, section 2.1): a place of a picture has the time at which the picture begins, and
its row and column from there; what follows begins behind the longer side.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from harness.contracts.family import Eyes, Layout, Stored
from harness.contracts.images import opened, size_of
from harness.contracts.records import Image
from harness.families._chatml import START, STOP, ChatML
from harness.families._shared import architecture, decoder_flops, merged, refuse_parts
from harness.system.errors import UsageError
from harness.system.profile import Flops

if TYPE_CHECKING:
    from torch import Tensor, nn

SMALLEST, LARGEST = 56 * 56, 28 * 28 * 1280  # pixels, where the processor does not say


class Vit(NamedTuple):
    """A tower by its numbers: widths of a layer and of its inner one, matrices of the inner one, layers that see a
    whole picture and that see a window, merged places of a window's side, width of what it makes, mergers.
    """

    width: int
    inner: int
    matrices: int
    whole: int
    windowed: int
    window: int
    out: int
    mergers: int


class QwenVL(ChatML):
    """A family of them; a subclass has `vit`, and what else is its own."""

    image_token, axes = "<|image_pad|>", 3
    control: ClassVar[tuple[str, ...]] = ("<|vision_start|>", "<|vision_end|>", "<|video_pad|>", START, STOP)
    picture, videos = "<|vision_start|><|image_pad|><|vision_end|>", "Qwen2VLVideoProcessor"
    parts: ClassVar[Mapping[str, str]] = {
        "embed_tokens.weight": "language model",
        "model.norm.weight": "language model",
        "visual.patch_embed.proj.weight": "vision tower",
        "visual.merger.ln_q.weight": "merger",
    }
    prefixes: ClassVar[dict[str, str]] = {  # as modules are called -> as the hub's files do
        "model.language_model.": "model.",
        "lm_head.": "lm_head.",
        "model.visual.": "visual.",
    }
    vit: Callable[[Any], Vit]

    def refuse(self, config: Mapping[str, Any], folder: Path, again: str) -> None:
        """Layers that see a window of words: a tree's mask would have to know them."""
        text = refuse_parts(config, folder, again, flat=True)
        if text.get("use_sliding_window"):
            raise UsageError(f"{folder} has layers that see a window of words only (use_sliding_window); {again}.")

    def places(
        self, config: Mapping[str, Any], tensors: Mapping[str, Stored], pictures: Mapping[str, Any]
    ) -> tuple[int, int]:
        """By the processor's bounds of pixels."""
        vision, size = config["vision_config"], pictures.get("size") or {}
        place = (vision.get("patch_size", self.patch) * vision.get("spatial_merge_size", 2)) ** 2
        fewest = pictures.get("min_pixels") or size.get("shortest_edge", SMALLEST)
        most = pictures.get("max_pixels") or size.get("longest_edge", LARGEST)
        return -(-fewest // place), most // place

    def width(self, tensors: Mapping[str, Stored]) -> int:
        """What the mergers make, each as wide as words."""
        words = architecture(tensors)["hidden_size"]
        last = (one for name, one in tensors.items() if "merger" in name and len(one.shape) == 2)
        return sum(words for one in last if one.shape[0] == words)

    patch: ClassVar[int] = 14
    """Pixels of a patch's side, where a config does not say."""

    def eyes(self, processor_of: Any, config: Any) -> Eyes:
        """Native resolution."""
        from transformers import Qwen2VLImageProcessorPil

        processor, vision = processor_of(Qwen2VLImageProcessorPil), config.vision_config
        made = processor.patch_size, processor.merge_size, processor.temporal_patch_size
        wanted = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
        if made != wanted:
            raise ValueError(f"makes patches of {made} (side, merged, frames), its vision tower sees {wanted}")
        return Native(processor)

    def tower(self, model: Any) -> "nn.Module":
        """With its mergers."""
        tower: nn.Module = model.model.visual
        return tower

    def features(self, model: Any, pixels: "Tensor", layout: Layout) -> "Tensor":
        """(patches, 3, pixels) to (places, width), merged; further mergers' beside it (deepstack)."""
        import torch

        tower, vision = self.tower(model).eval(), model.config.vision_config
        weight = next(tower.parameters())
        frames = pixels[:, :, None].expand(-1, -1, vision.temporal_patch_size, -1)
        shown = frames.flatten(1).to(weight.device, weight.dtype)
        grid = torch.tensor([[1, *(side * vision.spatial_merge_size for side in layout.grid)]], device=weight.device)
        with torch.inference_mode(False), torch.no_grad():
            seen = tower(shown, grid_thw=grid)
        return torch.cat([seen.pooler_output, *getattr(seen, "deepstack_features", [])], -1).cpu()

    def inputs(self, model: Any, ids: "Tensor", features: "Tensor | None", layouts: Sequence[Layout]) -> dict[str, Any]:
        """Words, and at the places of pictures what the merger made of them: nothing that learns."""
        words: Tensor = model.get_input_embeddings()(ids)
        if features is None:
            return {"inputs_embeds": words}
        return {"inputs_embeds": merged(words, ids == model.config.image_token_id, features.to(words.device))}

    def positions(self, ids: Sequence[int], layout: Layout | None, image_id: int) -> list[list[int]]:
        """Time, row and column."""
        if layout is None:
            return super().positions(ids, layout, image_id)
        start, (rows, columns) = list(ids).index(image_id), layout.grid
        before, behind = range(start), range(len(ids) - start - layout.places)
        seen = [(start, start + at // columns, start + at % columns) for at in range(layout.places)]
        return [
            [*before, *(place[axis] for place in seen), *(start + max(rows, columns) + at for at in behind)]
            for axis in range(self.axes)
        ]

    def flops(self, config: Any) -> Flops:
        """A patch costs its layers, and what it sees: all others, or those of its window."""
        vision, vit = config.vision_config, self.vit(config.vision_config)
        merge, patch = vision.spatial_merge_size, 3 * vision.temporal_patch_size * vision.patch_size**2
        each = (vit.whole + vit.windowed) * (4 * vit.width**2 + vit.matrices * vit.width * vit.inner)
        wide = vit.width * merge**2

        def tower(layout: Layout) -> int:
            """FLOPs of the tower for a picture of this layout, mergers included."""
            patches = layout.places * merge**2
            seen = _squares(layout.grid[0], vit.window) * _squares(layout.grid[1], vit.window) if vit.windowed else 0
            pairs = vit.whole * patches**2 + vit.windowed * seen * merge**4
            merging = vit.mergers * layout.places * (wide**2 + wide * vit.out)
            return int(2 * (patches * (patch * vit.width + each) + 2 * vit.width * pairs + merging))

        return Flops(**decoder_flops(config.get_text_config()), image=lambda _: 0, tower=tower)

    def architecture(self, config: Mapping[str, Any], tensors: Mapping[str, Stored]) -> dict[str, int]:
        """Widths and depths by their names."""
        return architecture(tensors)

    def small_processor(self) -> Any:
        """Patches of 8 x 8 pixels, 2 x 2 of them a place; 4 to 24 places."""
        from transformers import Qwen2VLImageProcessorPil

        return Qwen2VLImageProcessorPil(size={"shortest_edge": 1024, "longest_edge": 6144}, patch_size=8)

    def small_ids(self, tokenizer: Any) -> dict[str, int]:
        """Control tokens by their names in a config."""
        words = {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
        words |= {"image_token_id": self.image_token, "video_token_id": "<|video_pad|>"}
        return {name: tokenizer.convert_tokens_to_ids(word) for name, word in words.items()}


class Native(Eyes):
    """(patches, 3, pixels of a patch) pixels, one frame; a layout's grid is places in height and width."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.more = {"pixels": [processor.size["shortest_edge"], processor.size["longest_edge"]]}

    def layout(self, image: Image) -> Layout:
        """By the size that the processor resizes a picture to; ValueError for one 200 times as long as wide."""
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        side = self.processor.patch_size * self.processor.merge_size
        rows, columns = (pixels // side for pixels in smart_resize(*size_of(image), side, *self.more["pixels"]))
        return Layout(rows * columns, (rows, columns))

    def pixels(self, image: Image) -> "Tensor":
        """The first of the processor's equal frames."""
        made: Tensor = self.processor(images=opened(image), return_tensors="pt")["pixel_values"]
        return made.view(len(made), 3, self.processor.temporal_patch_size, -1)[:, :, 0].float().contiguous()

    def blank(self, layout: Layout) -> "Tensor":
        """As many patches of the mean colour."""
        import torch

        return torch.zeros(layout.places * self.processor.merge_size**2, 3, self.processor.patch_size**2)


def _squares(side: int, window: int) -> int:
    """Sum of the squares of the parts that windows cut a side into."""
    full, rest = divmod(side, window)
    return full * window**2 + rest**2
