"""The first SmolVLM (Marafioti et al. 2025), whose checkpoints name transformers' class Idefics3: see `smolvlm`.

Idefics3-8B itself, of that class too, has Llama 3 and a conversation template of its own, and is refused.
"""

from harness.families.smolvlm import SmolVLM


class Idefics3(SmolVLM):
    """`Idefics3ForConditionalGeneration` with SmolLM2, which reads no videos."""

    title, example, processor = "SmolVLM", "HuggingFaceTB/SmolVLM-Instruct", "Idefics3Processor"
    classes = "Idefics3Config", "Idefics3ForConditionalGeneration"
    images, videos = "Idefics3ImageProcessorPil", ""
