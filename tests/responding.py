"""The transformers backend as tests ask it: a model, prompts, how they are drawn, how many side by side."""

from collections.abc import Sequence
from pathlib import Path

from harness.backends.transformers import Transformers
from harness.contracts.backend import Model, Running, Sampling, Search
from harness.contracts.records import Prompt, Response
from harness.system.profile import Tick, quiet


def _model(given: str | Model) -> Model:
    return Path(given) if isinstance(given, str) else given


def respond(
    model: str | Model,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    size: int,
    tick: Tick = quiet,
    blank: bool = False,
) -> list[Response]:
    return Transformers().respond(_model(model), prompts, sampling, Running(size, tick), blank).responses


def candidates(
    model: str | Model, prompts: Sequence[Prompt], search: Search, size: int, tick: Tick = quiet
) -> list[list[Response]]:
    return Transformers().candidates(_model(model), prompts, search, Running(size, tick))
