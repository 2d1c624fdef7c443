"""Who makes models respond: a file per engine (`harness.contracts.backend`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.backends._side_by_side import SideBySide
from harness.contracts import plugins
from harness.contracts.backend import Backend, Model
from harness.contracts.records import Prompt, Response
from harness.contracts.settings import Generation, Runtime
from harness.models.load import whole
from harness.store.store import Store
from harness.system.errors import HarnessError

PACKAGE = "harness.backends"


def chosen(generation: Generation) -> Backend:
    """The backend of a testbed; UsageError where there is none of that name, or it takes no such option."""
    made: Backend = plugins.make(PACKAGE, generation.backend, Backend, generation.options)  # type: ignore[type-abstract]
    return made


def responder(generation: Generation, runtime: Runtime) -> Backend:
    """The backend as a stage asks it: in as many processes side by side as `runtime` has it."""
    one, many = chosen(generation), runtime.generate_processes
    return one if many == 1 else SideBySide(one, generation, many)


def file_of(generation: Generation) -> Path:
    """The file that it is written in, whose code decides what it generates."""
    return plugins.source(PACKAGE, generation.backend)


def identity(generation: Generation) -> dict[str, Any]:
    """What of it may change a token, for keys: its name, its options, and what it says of itself."""
    name = plugins.called(generation.backend)
    return {"name": name, **keyed(generation), **plugins.plain(chosen(generation).identity(), name)}


def keyed(generation: Generation) -> dict[str, Any]:
    """The options that may change a token."""
    unkeyed = chosen(generation).unkeyed
    return {option: value for option, value in generation.options.items() if option not in unkeyed}


def taken(backend: Backend, model: Model, store: Store) -> Model:
    """A model as a backend takes it: as it is stored, or as a whole."""
    return model if backend.merges else whole(model, store)


def insist(responses: Any, prompts: Sequence[Prompt], count: int = 1) -> None:
    """HarnessError unless a backend gave so many responses to each prompt, in their order (which tells them apart)."""
    wanted = [prompt.id for prompt in prompts for _ in range(count)]
    given = responses if isinstance(responses, list) else [responses]
    if strange := next((type(one).__name__ for one in given if not isinstance(one, Response)), ""):
        raise HarnessError(f"the backend gives a {strange} for a Response; a list of Response is wanted.")
    if (ids := [response.id for response in given]) != wanted:
        at = next((at for at, pair in enumerate(zip(ids, wanted, strict=False)) if pair[0] != pair[1]), len(ids))
        raise HarnessError(
            f"the backend gives {len(ids)} responses to {len(prompts)} prompts, and they part at number {at + 1}; "
            f"{count} for each prompt are wanted, with its id, in the order of the prompts."
        )
