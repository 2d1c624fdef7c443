"""Asking somebody who is not the model under test: a judge scores, a writer constructs training text.

Both answer through one interface with text in the form the prompt asks for, so that an oracle, a script and an
LLM go through the same parser. Whoever cannot answer says so with `Unscored`; nobody makes a number up.
"""

from dataclasses import dataclass, field
from typing import Protocol

from harness.types import Image, Unscored


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to a judge or writer.

    `purpose` names the rubric ("mmvet", "mmhal", "nsft"); `prompt` is the whole text an LLM reads; `facts` are
    the pieces it was made from (question, reference, response, ...), for those who need no prose. `image` says what
    it is about; an LLM that can see is shown it only with `see`. `max_tokens` bounds the reply; `run` tells repeats
    of one question apart.
    """

    id: str
    purpose: str
    image: Image | None
    prompt: str
    facts: dict[str, str] = field(default_factory=dict)
    max_tokens: int = 1024
    see: bool = False
    run: int = 0


class Judge(Protocol):
    """Scores a response. `name` identifies it (snapshot included) in keys and tables."""

    @property
    def name(self) -> str:
        """Who it is."""
        ...

    def reply(self, ask: Ask) -> str | Unscored:
        """The reply's text, or why there is none."""
        ...


class Writer(Judge, Protocol):
    """Constructs training text (nSFT's G). The interface is the judge's."""
