"""Qwen3-VL (Bai et al. 2025): see `_qwen_vl` for words, pictures, positions, and what is frozen.

Its system says nothing where nobody lets it. Beside what it sees last, the tower gives what it saw on the way, each
through a merger of its own, and the first layers of the language model add it at the pictures' places (deepstack).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from harness.contracts.family import Layout
from harness.families._qwen_vl import QwenVL, Vit
from harness.families._shared import small_decoder

if TYPE_CHECKING:
    from torch import Tensor


class Qwen3VL(QwenVL):
    """`Qwen3VLForConditionalGeneration`; the axes of its positions are interleaved, which is the model's own matter."""

    title, example, processor = "Qwen3-VL", "Qwen/Qwen3-VL-8B-Instruct", "Qwen3VLProcessor"
    classes = "Qwen3VLConfig", "Qwen3VLForConditionalGeneration"
    videos, patch = "Qwen3VLVideoProcessor", 16
    parts: ClassVar[Mapping[str, str]] = {
        "embed_tokens.weight": "language model",
        "language_model.norm.weight": "language model",
        "visual.patch_embed.proj.weight": "vision tower",
        "visual.pos_embed.weight": "vision tower",
        "visual.merger.norm.weight": "merger",
        "visual.deepstack_merger_list.0.norm.weight": "deepstack",
    }
    prefixes: ClassVar[dict[str, str]] = {name: name for name in ("model.", "lm_head.")}

    def vit(self, vision: Any) -> Vit:
        """By its config."""
        mergers = 1 + len(vision.deepstack_visual_indexes)
        return Vit(vision.hidden_size, vision.intermediate_size, 2, vision.depth, 0, 0, vision.out_hidden_size, mergers)

    def inputs(self, model: Any, ids: "Tensor", features: "Tensor | None", layouts: Sequence[Layout]) -> dict[str, Any]:
        """Words and what the last merger made; at the same places, layer by layer, what the others did."""
        import torch

        if features is None:
            return super().inputs(model, ids, None, layouts)
        last, *deep = torch.split(features, model.config.vision_config.out_hidden_size, -1)
        told = super().inputs(model, ids, last, layouts)
        places = ids == model.config.image_token_id
        return told | {"visual_pos_masks": places, "deepstack_visual_embeds": [one.to(ids.device) for one in deep]}

    def small(self, tokenizer: Any) -> tuple[Any, Any]:
        """Three layers of the tower, two of which show what they see, and three of words."""
        tower: dict[str, Any] = {
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 64,
            "out_hidden_size": 32,
            "num_heads": 4,
        }
        tower |= {"patch_size": 8, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 2]}
        text = small_decoder(tokenizer) | {"num_hidden_layers": 3, "head_dim": 8}
        text["rope_parameters"] = {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True}
        config = self.config_class()(vision_config=tower, text_config=text, **self.small_ids(tokenizer))
        return config, self.small_processor()
