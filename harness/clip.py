"""How well a text fits an image, by CLIP (Radford et al. 2021): the image-text reward of CSR."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.images import read_image
from harness.profile import Tick
from harness.types import Image

if TYPE_CHECKING:
    from torch import Tensor


def similarity(folder: Path, pairs: Sequence[tuple[Image, str]], batch_size: int, tick: Tick) -> list[float]:
    """Cosine of each image and text, in [-1, 1], by the CLIP model in a Hugging Face folder.

    Equal images and texts are embedded once. Of a text too long for the model (77 tokens for CLIP-L) its start counts.
    """
    import torch
    from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = CLIPModel.from_pretrained(folder, use_safetensors=True, local_files_only=True, dtype=torch.float32)
    model = model.eval().to(device)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    images = list(dict.fromkeys(image.sha256 for image, _ in pairs))
    texts = sorted(dict.fromkeys(text for _, text in pairs), key=lambda text: (len(text), text))
    where = {image.sha256: Path(image.path) for image, _ in pairs}
    total = len(images) + len(texts)

    def seen(digests: Sequence[str]) -> Any:
        pictures = [read_image(where[digest], digest) for digest in digests]
        return model.get_image_features(**processor(images=pictures, return_tensors="pt").to(device))

    def said(words: Sequence[str]) -> Any:
        limit = model.config.text_config.max_position_embeddings
        tokens = tokenizer(list(words), padding=True, truncation=True, max_length=limit, return_tensors="pt")
        return model.get_text_features(**{name: tokens[name].to(device) for name in ("input_ids", "attention_mask")})

    def embedded(things: Sequence[str], embed: Any, done: int) -> "dict[str, Tensor]":
        found: dict[str, Tensor] = {}
        for at in range(0, len(things), batch_size):
            part = things[at : at + batch_size]
            out = embed(part)
            rows = (out if isinstance(out, torch.Tensor) else out.pooler_output).float().cpu()
            found |= dict(zip(part, torch.nn.functional.normalize(rows, dim=-1), strict=True))
            tick(done + len(found), total)
        return found

    with torch.inference_mode():
        pictures, words = embedded(images, seen, 0), embedded(texts, said, len(images))
        return [float(pictures[image.sha256] @ words[text]) for image, text in pairs]
