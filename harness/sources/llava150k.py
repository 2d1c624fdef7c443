"""LLaVA-Instruct-150K: conversations, detailed descriptions and reasoning about COCO train2017 photos.

Liu et al., Visual Instruction Tuning (NeurIPS 2023).
"""

from harness.contracts.offered import Hub
from harness.sources._published import Published


class Llava150k(Published):
    """158,000 conversations about 81,000 photos."""

    files = (("llava150k.json", ""), ("llava_instruct_150k.json", ""))
    folders = ("images", "train2017", "coco/train2017")
    layout = (
        "Put llava_instruct_150k.json (229 MB) from https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K "
        "there, and the photos of http://images.cocodataset.org/zips/train2017.zip (18 GB) as train2017/ beside it."
    )
    offered = Hub("liuhaotian/LLaVA-Instruct-150K", ("llava_instruct_150k.json",), "229 MB, and 18 GB of photos")
    fetch = "wget -P {home} http://images.cocodataset.org/zips/train2017.zip && unzip -q {home}/train2017.zip -d {home}"
