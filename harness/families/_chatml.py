"""ChatML, as the makers of Qwen and InternVL spell conversations: `<|im_start|>ROLE`, a line, `<|im_end|>`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from harness.contracts.encoding import Pieces
from harness.contracts.family import Eyes, Family
from harness.contracts.records import Turn
from harness.families._shared import by_either

START, STOP = "<|im_start|>", "<|im_end|>"
TEMPLATE = r"""{%- if SYSTEM and messages[0]['role'] != 'system' -%}
    {{- START + 'system\n' + SYSTEM + STOP + '\n' -}}
{%- endif -%}
{%- for message in messages -%}
    {%- set content = message['content'] -%}
    {{- START + message['role'] + '\n' -}}
    {%- for part in ([{'type': 'text', 'text': content}] if content is string else content) -%}
        {{- PICTURE if part['type'] == 'image' else part['text'] -}}
    {%- endfor -%}
    {{- (END if message['role'] == 'assistant' else STOP) + '\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ START + 'assistant\n' }}{%- endif -%}
"""


class ChatML(Family):
    """A family of such words. Its models' end token is `<|im_end|>`: it ends what every role says."""

    system: ClassVar[str] = ""
    """What the system says where nobody else says it; nothing where it says nothing."""
    picture: ClassVar[str]
    """What stands for a picture in its question, in front of the words."""
    processor: ClassVar[str]
    """transformers' class of the whole processor, and what it reads videos with."""
    videos: ClassVar[str]

    def segments(self, turns: Sequence[Turn], has_image: bool, end: str) -> Pieces:
        """A line between turns belongs to the next one, which is not supervised."""
        before = f"{START}system\n{self.system}{STOP}\n" if self.system else ""
        pieces: Pieces = []
        for number, turn in enumerate(turns):
            shown = self.picture if has_image and number == 0 else ""
            lead = before if number == 0 else "\n"
            pieces.append((f"{lead}{START}user\n{shown}{turn.question}{STOP}\n{START}assistant\n", False))
            pieces.append((f"{turn.answer}{end}", True))
        return pieces

    def write_processor(self, config: Any, tokenizer: Any, eyes: Eyes, folder: Path) -> None:
        """Each part's own file: a whole processor has a part for videos, which torchvision alone can make."""
        tokenizer.save_pretrained(folder)
        eyes.processor.save_pretrained(folder)
        by_either(folder)
        told = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        told["processor_class"] = self.processor
        _write(folder / "preprocessor_config.json", told)
        kept = ("image_mean", "image_std", "patch_size", "temporal_patch_size", "merge_size", "processor_class")
        video = {name: told[name] for name in kept if name in told} | {"video_processor_type": self.videos}
        _write(folder / "video_preprocessor_config.json", video | self.video_size(eyes))
        _write(folder / "processor_config.json", {"processor_class": self.processor} | self.told(config))
        (folder / "chat_template.jinja").write_text(self.chat_template(tokenizer.eos_token), encoding="utf-8")

    def video_size(self, eyes: Eyes) -> dict[str, Any]:
        """Sizes of videos for their processor; by default those of its class."""
        return {}

    def told(self, config: Any) -> dict[str, Any]:
        """What the whole processor is told beside its parts."""
        return {}

    def chat_template(self, end: str) -> str:
        """`segments` in Jinja, for `AutoProcessor.apply_chat_template`; `end` is the end token."""
        words = {"SYSTEM": self.system, "PICTURE": self.picture, "START": START, "STOP": STOP, "END": end}
        return "".join(f"{{%- set {name} = {json.dumps(text)} -%}}\n" for name, text in words.items()) + TEMPLATE


def _write(file: Path, told: Any) -> None:
    file.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")
