"""LLaVA-Instruct-150K: conversations, detailed descriptions and reasoning about COCO train2017 photos.

Liu et al., Visual Instruction Tuning (NeurIPS 2023).
"""

from collections.abc import Iterator
from pathlib import Path

from harness.config import Reading
from harness.data._records import AS_LLAVA, Order, Source
from harness.types import Dropped, Example

SOURCE = Source(
    name="llava150k",
    files=(("llava150k.json", ""), ("llava_instruct_150k.json", "")),
    images=("images", "train2017", "coco/train2017"),
    layout="Put llava_instruct_150k.json from https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K there, "
    "and the photos of http://images.cocodataset.org/zips/train2017.zip as train2017/ beside it.",
)


def load(folder: Path, order: Order | None = None, reading: Reading = AS_LLAVA) -> Iterator[Example | Dropped]:
    """The source's examples, in file order or sorted by `order(id)`."""
    return SOURCE.load(folder, order, reading)
