"""Qwen2.5-VL (Bai et al. 2025): see `_qwen_vl` for words, pictures, positions, and what is frozen."""

from typing import Any

from harness.families._qwen_vl import QwenVL, Vit
from harness.families._shared import small_decoder


class Qwen25VL(QwenVL):
    """`Qwen2_5_VLForConditionalGeneration`: most layers of the tower see windows of a picture."""

    title, example, processor = "Qwen2.5-VL", "Qwen/Qwen2.5-VL-7B-Instruct", "Qwen2_5_VLProcessor"
    classes = "Qwen2_5_VLConfig", "Qwen2_5_VLForConditionalGeneration"
    system = "You are a helpful assistant."

    def vit(self, vision: Any) -> Vit:
        """By its config."""
        whole = sum(layer < vision.depth for layer in vision.fullatt_block_indexes)
        window = vision.window_size // vision.spatial_merge_size // vision.patch_size
        inner = vision.intermediate_size
        return Vit(vision.hidden_size, inner, 3, whole, vision.depth - whole, window, vision.out_hidden_size, mergers=1)

    def small(self, tokenizer: Any) -> tuple[Any, Any]:
        """Three layers of the tower, one of which sees the whole picture, and two of words."""
        tower: dict[str, Any] = {
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 64,
            "out_hidden_size": 32,
            "num_heads": 4,
        }
        tower |= {"patch_size": 8, "window_size": 32, "fullatt_block_indexes": [1]}
        text = small_decoder(tokenizer) | {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]}}
        config = self.config_class()(vision_config=tower, text_config=text, **self.small_ids(tokenizer))
        return config, self.small_processor()
