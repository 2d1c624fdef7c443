"""Writing a processor part by part: a whole one has a part for videos, which torchvision alone can make."""

import json
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from harness.contracts.family import Eyes, Family
from harness.families._shared import by_either


class Parted(Family):
    """A family whose models' files are written so."""

    processor: ClassVar[str]
    """transformers' class of the whole processor, and what it reads videos with; nothing where it reads none."""
    videos: ClassVar[str] = ""
    kept: ClassVar[tuple[str, ...]] = ("image_mean", "image_std", "patch_size", "temporal_patch_size", "merge_size")
    """What videos share with pictures, where these have it; the rest is as their processor's class has it."""

    def write_processor(self, config: Any, tokenizer: Any, eyes: Eyes, folder: Path) -> None:
        """Each part's own file."""
        tokenizer.save_pretrained(folder)
        eyes.processor.save_pretrained(folder)
        by_either(folder)
        told = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        told["processor_class"] = self.processor
        _write(folder / "preprocessor_config.json", told)
        if self.videos:
            video = {name: told[name] for name in (*self.kept, "processor_class") if name in told}
            _write(folder / "video_preprocessor_config.json", video | {"video_processor_type": self.videos})
        _write(folder / "processor_config.json", {"processor_class": self.processor} | self.told(config))
        (folder / "chat_template.jinja").write_text(self.chat_template(tokenizer.eos_token), encoding="utf-8")

    def told(self, config: Any) -> dict[str, Any]:
        """What the whole processor is told beside its parts."""
        return {}

    @abstractmethod
    def chat_template(self, end: str) -> str:
        """`segments` in Jinja, for `AutoProcessor.apply_chat_template`; `end` is the end token."""


def _write(file: Path, told: Any) -> None:
    file.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")
