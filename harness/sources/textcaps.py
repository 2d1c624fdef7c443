"""TextCaps as LLaVA-1.5 trains on it: one-sentence captions of photos with text, OCR tokens in the prompt.

Sidorov et al., TextCaps (ECCV 2020). In LLaVA's mix these are the records whose image is under `textvqa/`.
"""

from harness.contracts.offered import Hub
from harness.sources._published import Published


class TextCaps(Published):
    """22,000 photos with a caption each."""

    files = (("textcaps.json", ""), ("llava_v1_5_mix665k.json", "textvqa/"))
    folders = ("images",)
    layout = (
        "Put llava_v1_5_mix665k.json (1.03 GB) from https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K "
        "there, and the photos of https://dl.fbaipublicfiles.com/textvqa/images/train_val_images.zip (7 GB) as "
        "textvqa/train_images/ beside it."
    )
    offered = Hub("liuhaotian/LLaVA-Instruct-150K", ("llava_v1_5_mix665k.json",), "1.03 GB, and 7 GB of photos")
    fetch = (
        "wget -P {home} https://dl.fbaipublicfiles.com/textvqa/images/train_val_images.zip && "
        "unzip -q {home}/train_val_images.zip -d {home}/textvqa"
    )
