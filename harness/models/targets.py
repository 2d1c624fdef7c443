"""Which layers adapters are put on: linear layers of the language model, its head, projector and tower never."""

import re
from collections.abc import Iterable, Sequence

from harness.contracts.settings import Lora
from harness.system.errors import UsageError

ALL = "all-linear"


def targets(lora: Lora, linear: Sequence[str]) -> list[str]:
    """Those of the language model's `linear` layers that an adapter is put on.

    As peft reads `target_modules`: names, each the whole of a layer's name or its end; "all-linear"; or a regular
    expression for the whole name, of which only what it matches here counts. UsageError, which names what there is,
    where a name or the expression matches nothing.
    """
    wanted = lora.target_modules
    if wanted == ALL:
        return list(linear)
    if isinstance(wanted, str):
        try:
            chosen = [name for name in linear if re.fullmatch(wanted, name)]
        except re.error as error:
            raise _wrong(f"the regular expression {wanted!r} is none ({error})", linear) from None
        if not chosen:
            raise _wrong(f"{wanted!r} matches none of the language model's linear layers", linear)
        return chosen
    for end in wanted:
        if not any(_ends(name, end) for name in linear):
            raise _wrong(f"{end!r} is none of the language model's linear layers", linear)
    return [name for name in linear if any(_ends(name, end) for end in wanted)]


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _wrong(what: str, linear: Iterable[str]) -> UsageError:
    known = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in linear))
    return UsageError(
        f"training.lora.target_modules: {what}. There are {known} (or {ALL!r}); head, projector and vision tower "
        "take no adapters."
    )
