"""Qwen2-VL (Wang et al. 2024): see `_qwen_vl` for words, pictures, positions, and what is frozen."""

from typing import Any

from harness.families._qwen_vl import QwenVL, Vit
from harness.families._shared import small_decoder


class Qwen2VL(QwenVL):
    """`Qwen2VLForConditionalGeneration`: every layer of the tower sees the whole picture."""

    title, example, processor = "Qwen2-VL", "Qwen/Qwen2-VL-7B-Instruct", "Qwen2VLProcessor"
    classes = "Qwen2VLConfig", "Qwen2VLForConditionalGeneration"
    system = "You are a helpful assistant."

    def vit(self, vision: Any) -> Vit:
        """By its config."""
        width, inner = vision.embed_dim, int(vision.embed_dim * vision.mlp_ratio)
        return Vit(width, inner, 2, vision.depth, 0, 0, vision.hidden_size, 1)

    def small(self, tokenizer: Any) -> tuple[Any, Any]:
        """Two layers each."""
        tower = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2, "num_heads": 4, "patch_size": 8}
        text = small_decoder(tokenizer) | {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]}}
        config = self.config_class()(vision_config=tower, text_config=text, **self.small_ids(tokenizer))
        return config, self.small_processor()
