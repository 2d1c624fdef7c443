"""How well a text fits an image, by CLIP (Radford et al. 2021): the image-text reward of CSR."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.contracts.images import read_image
from harness.contracts.records import Image
from harness.models.folder import looked_through
from harness.models.weights import insist_on_finite, insist_on_whole, reading
from harness.system.errors import UsageError
from harness.system.profile import Tick

if TYPE_CHECKING:
    from torch import Tensor


def similarity(
    folder: Path, pairs: Sequence[tuple[Image, str]], batch_size: int, tick: Tick, shelf: Path | None = None
) -> list[float]:
    """Cosine of each image and text, in [-1, 1], by the CLIP model in a Hugging Face folder.

    Equal images and texts are embedded once; images are kept on the `shelf` (`harness.models.shelf`). Of a text too
    long
    for the model (77 tokens for CLIP-L) its start counts.
    """
    import torch

    torch.set_num_threads(1)
    clip = Clip.kept(folder)
    clip.shelf.folder = shelf
    texts = sorted(dict.fromkeys(text for _, text in pairs), key=lambda text: (len(text), text))
    words: dict[str, Tensor] = {}
    with torch.inference_mode():
        for at in range(0, len(texts), batch_size):
            part = texts[at : at + batch_size]
            words |= dict(zip(part, clip.said(part), strict=True))
            tick(len(words), len(texts))
        return [float(clip.shelf(image) @ words[text]) for image, text in pairs]


class Kind:
    """What a folder with a CLIP model has (`harness.models.folder.Whole`)."""

    title: ClassVar[str] = "CLIP"
    example: ClassVar[str] = "openai/clip-vit-large-patch14-336"
    parts: ClassVar[Mapping[str, str]] = {
        "text_model.embeddings.token_embedding.weight": "text tower",
        "vision_model.embeddings.patch_embedding.weight": "vision tower",
        "text_projection.weight": "projections",
        "visual_projection.weight": "projections",
    }

    def refuse(self, config: Mapping[str, Any], folder: Path, again: str) -> None:
        """Any other model."""
        if (said := config.get("model_type")) != "clip":
            raise UsageError(f"{folder} is a {said!r} model; only 'clip' is supported here; {again}.")


CLIP = Kind()


class Clip:
    """A CLIP model ready to compare; its embeddings have length 1."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

        from harness.models.shelf import Shelf, tower_kind

        looked_through(folder, CLIP)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        model, info = reading(
            folder,
            "weights",
            lambda: CLIPModel.from_pretrained(
                folder,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **local,
            ),
        )
        insist_on_whole(info, folder)
        insist_on_finite(model, folder)
        self.model = model.eval().to(self.device)
        self.tokenizer = reading(folder, "tokenizer", lambda: AutoTokenizer.from_pretrained(folder, **local))
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token  # under the mask
        self.processor = reading(
            folder, "image processor", lambda: CLIPImageProcessorPil.from_pretrained(folder, **local)
        )
        self.shelf = Shelf(self.seen, f"clip-{tower_kind(model)}")

    @staticmethod
    @lru_cache(maxsize=1)
    def kept(folder: Path) -> "Clip":
        """The model of a folder, loaded once per process: CSR asks at every level of its trees."""
        return Clip(folder)

    def seen(self, image: Image) -> "Tensor":
        """(width,) embedding of one picture, float32."""
        picture = read_image(Path(image.path), image.sha256, image.upright)
        pixels = self.processor(images=[picture], return_tensors="pt").to(self.device)
        return _normal(self.model.get_image_features(**pixels))[0]

    def said(self, texts: Sequence[str]) -> "Tensor":
        """(texts, width) embeddings, float32."""
        limit = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=limit, return_tensors="pt")
        given = {name: tokens[name].to(self.device) for name in ("input_ids", "attention_mask")}
        return _normal(self.model.get_text_features(**given))


def _normal(output: Any) -> "Tensor":
    import torch

    rows: Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return torch.nn.functional.normalize(rows.float().cpu(), dim=-1)
