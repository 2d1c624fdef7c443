"""LLaVA-1.5's whole instruction data: what the base models here were tuned on, and the paper joins its 15k with.

Liu et al., Improved Baselines with Visual Instruction Tuning (CVPR 2024).
"""

from dataclasses import replace
from typing import Any

from harness.contracts.offered import Hub
from harness.contracts.pictures import Pictures
from harness.contracts.settings import Reading
from harness.sources._published import Published

PARTS = ("coco", "gqa", "ocr_vqa", "textvqa", "vg")


class Mix665k(Published):
    """665,298 conversations about the pictures of five sets, 40,688 of them without a picture."""

    files = (("llava_v1_5_mix665k.json", ""), ("mix665k.json", ""))
    published = 665_298
    folders = ("images",)
    layout = (
        "Put llava_v1_5_mix665k.json (1.03 GB) from https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K "
        "there, and beside it coco/train2017/, gqa/images/, ocr_vqa/images/, textvqa/train_images/, vg/VG_100K/ and "
        "vg/VG_100K_2/, as https://github.com/haotian-liu/LLaVA says under Visual Instruction Tuning. "
        "Each may be a link."
    )
    offered = Hub(
        "liuhaotian/LLaVA-Instruct-150K", ("llava_v1_5_mix665k.json",), "1.03 GB, and the pictures of five sets"
    )

    def pictures(self, reading: Reading, *given: Any) -> Pictures:
        """Paths start from the folder; those of the five sets may be links."""
        found = super().pictures(reading, *given)
        return replace(found, others=tuple(found.folder / name for name in PARTS))
