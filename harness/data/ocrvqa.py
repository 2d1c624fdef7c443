"""OCR-VQA as LLaVA-1.5 trains on it: short questions about book covers.

Mishra et al., OCR-VQA (ICDAR 2019). In LLaVA's mix these are the records whose image is under `ocr_vqa/`.
"""

from collections.abc import Iterator
from pathlib import Path

from harness.config import Reading
from harness.data._records import AS_LLAVA, Order, Source
from harness.types import Dropped, Example

SOURCE = Source(
    name="ocrvqa",
    files=(("ocrvqa.json", ""), ("llava_v1_5_mix665k.json", "ocr_vqa/")),
    images=("images",),
    layout="Put llava_v1_5_mix665k.json from https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K there, and "
    "the covers (the download script at https://ocr-vqa.github.io fetches them; save all as .jpg) as ocr_vqa/images/ "
    "beside it.",
)


def load(folder: Path, order: Order | None = None, reading: Reading = AS_LLAVA) -> Iterator[Example | Dropped]:
    """The source's examples, in file order or sorted by `order(id)`."""
    return SOURCE.load(folder, order, reading)
