"""TextCaps as LLaVA-1.5 trains on it: one-sentence captions of photos with text, OCR tokens in the prompt.

Sidorov et al., TextCaps (ECCV 2020). In LLaVA's mix these are the records whose image is under `textvqa/`.
"""

from collections.abc import Iterator
from pathlib import Path

from harness.config import Reading
from harness.data._records import AS_LLAVA, Order, Source
from harness.types import Dropped, Example

SOURCE = Source(
    name="textcaps",
    files=(("textcaps.json", ""), ("llava_v1_5_mix665k.json", "textvqa/")),
    images=("images",),
    layout="Put llava_v1_5_mix665k.json from https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K there, and "
    "the photos of https://dl.fbaipublicfiles.com/textvqa/images/train_val_images.zip as textvqa/train_images/ beside "
    "it.",
)


def load(folder: Path, order: Order | None = None, reading: Reading = AS_LLAVA) -> Iterator[Example | Dropped]:
    """The source's examples, in file order or sorted by `order(id)`."""
    return SOURCE.load(folder, order, reading)
