"""The transformers backend as tests ask it: a model's folder, prompts, how they are drawn, how many side by side."""

from collections.abc import Sequence
from pathlib import Path

from harness.backends.transformers import Transformers
from harness.contracts.backend import Running, Sampling, Search
from harness.contracts.records import Prompt, Response
from harness.system.profile import Tick, quiet


def respond(
    model: str | Path, prompts: Sequence[Prompt], sampling: Sampling, size: int, tick: Tick = quiet, blank: bool = False
) -> list[Response]:
    return Transformers().respond(Path(model), prompts, sampling, Running(size, tick), blank).responses


def candidates(
    model: str | Path, prompts: Sequence[Prompt], search: Search, size: int, tick: Tick = quiet
) -> list[list[Response]]:
    return Transformers().candidates(Path(model), prompts, search, Running(size, tick))
