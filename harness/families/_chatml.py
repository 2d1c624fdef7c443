"""ChatML, as the makers of Qwen and InternVL spell conversations: `<|im_start|>ROLE`, a line, `<|im_end|>`."""

from collections.abc import Sequence
from typing import ClassVar

from harness.contracts.encoding import Pieces
from harness.contracts.records import Turn
from harness.families._parted import Parted
from harness.families._shared import worded

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


class ChatML(Parted):
    """A family of such words. Its models' end token is `<|im_end|>`: it ends what every role says."""

    system: ClassVar[str] = ""
    """What the system says where nobody else says it; nothing where it says nothing."""
    picture: ClassVar[str]
    """What stands for a picture in its question, in front of the words."""

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

    def chat_template(self, end: str) -> str:
        """In Jinja."""
        words = {"SYSTEM": self.system, "PICTURE": self.picture, "START": START, "STOP": STOP, "END": end}
        return worded(words, TEMPLATE)
