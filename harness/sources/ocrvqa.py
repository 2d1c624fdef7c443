"""OCR-VQA as LLaVA-1.5 trains on it: short questions about book covers.

Mishra et al., OCR-VQA (ICDAR 2019). In LLaVA's mix these are the records whose image is under `ocr_vqa/`.
"""

from harness.contracts.offered import Hub
from harness.sources._published import Published


class OcrVqa(Published):
    """80,000 covers with a few questions each: title, author, genre, and yes or no."""

    files = (("ocrvqa.json", ""), ("llava_v1_5_mix665k.json", "ocr_vqa/"))
    folders = ("images",)
    short_answers = True
    layout = (
        "Put llava_v1_5_mix665k.json (1.03 GB) from https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K "
        "there, and the covers (the download script at https://ocr-vqa.github.io fetches them; save all as .jpg) as "
        "ocr_vqa/images/ beside it."
    )
    offered = Hub("liuhaotian/LLaVA-Instruct-150K", ("llava_v1_5_mix665k.json",), "1.03 GB, and the covers")
