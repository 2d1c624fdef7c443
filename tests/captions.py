"""CHAIR with shorter captions: what `make gpu-check` has a model say of 256 pictures, which knows no end."""

from typing import ClassVar

from benchmarks.chair import Chair


class Captions(Chair):
    """Everything else is CHAIR's."""

    label: ClassVar[str] = "captions"
    max_new_tokens: ClassVar[int] = 128
