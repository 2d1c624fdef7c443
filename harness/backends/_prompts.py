"""What every backend that runs a model's weights does alike: prompts as tokens, what is seen of pictures, responses."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from harness.backends._rows import Line, Row, image_id
from harness.contracts.backend import Sampling
from harness.contracts.records import Image, Prompt, Response
from harness.models.load import Loaded
from harness.models.tree import refuse_reserved
from harness.system.errors import HarnessError

if TYPE_CHECKING:
    from torch import Tensor


class Asked(NamedTuple):
    """Prompts as tokens by their ids, and of those that are too long for the model why (`over`)."""

    rows: dict[str, Row]
    over: dict[str, str]

    @property
    def fitting(self) -> dict[str, Row]:
        """Those that can be answered."""
        return {id: row for id, row in self.rows.items() if id not in self.over}


def asked(prompts: Sequence[Prompt], loaded: Loaded) -> Asked:
    """The prompts as a model reads them; HarnessError where two have one id, or one spells a control token."""
    rows = {prompt.id: row_of(prompt, loaded) for prompt in prompts}
    if len(rows) != len(prompts):
        raise HarnessError("two prompts have the same id; a response could not be told from another's.")
    return Asked(rows, {id: why for id, row in rows.items() if (why := _too_long(row, loaded))})


def row_of(prompt: Prompt, loaded: Loaded) -> Row:
    """A prompt as tokens, image tokens included."""
    family, tokenizer = loaded.family, loaded.tokenizer
    said = [part for turn in prompt.history for part in (turn.question, turn.answer)]
    try:
        refuse_reserved([*said, prompt.question, prompt.begun], tokenizer, family)
        layout = loaded.eyes.layout(prompt.image) if prompt.image else None
    except ValueError as error:
        raise HarnessError(f"prompt {prompt.id}: {error}.") from None
    told = prompt.question, prompt.history, layout is not None, tokenizer.eos_token, prompt.begun
    ids = family.encode(tokenizer, family.prompt(*told), layout).ids
    return Row(prompt, layout, Line(ids, family.positions(ids, layout, image_id(loaded))))


def _too_long(row: Row, loaded: Loaded) -> str:
    """Why a prompt cannot be answered: there is no place for a single token more."""
    if len(row.ids) < loaded.positions:
        return ""
    return f"the prompt has {len(row.ids):,} tokens and the model {loaded.positions:,} places, image included"


def unanswered(id: str, why: str) -> Response:
    """There is none, and why."""
    return Response(id, "", 0, ended=False, unanswered=why)


def text(loaded: Loaded, new: Sequence[int]) -> str:
    """Generated tokens in words."""
    words: str = loaded.tokenizer.decode(new, skip_special_tokens=True)
    return words.strip()


def stop_of(loaded: Loaded, word: str) -> int:
    """The token of a `Search`'s stop; HarnessError where the model has none."""
    stop = loaded.tokenizer.convert_tokens_to_ids(word)
    if stop is None or stop == loaded.tokenizer.unk_token_id:
        raise HarnessError(f"the stop {word!r} is no token of this model; name one that is.")
    return int(stop)


def eyes(loaded: Loaded, sampling: Sampling | None, blank: bool) -> "Callable[[Image], Tensor]":
    """What the tower makes of an image, (rows, width): of itself, of nothing, or of it under noise of its own."""
    from harness.models.noise import diffuse

    looks, family, model = loaded.eyes, loaded.family, loaded.model
    if blank:
        nothing = lru_cache(maxsize=64)(lambda layout: family.features(model, looks.blank(layout), layout))
        return lambda image: nothing(looks.layout(image))
    if sampling is None or not sampling.noise_step:
        return loaded.features
    step, drawn = sampling.noise_step, sampling.seed

    def noised(image: Image) -> "Tensor":
        """The tower's (rows, width) of a picture with the noise that its bytes and the seed give."""
        pixels = diffuse(looks.pixels(image), step, seed(f"{drawn}\0{image.sha256}"))
        return family.features(model, pixels, looks.layout(image))

    return noised


def seed(name: str) -> int:
    """63 bits of a name's digest."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def flops(loaded: Loaded, rows: Mapping[str, Row], responses: Iterable[Response], blank: bool) -> int:
    """What these responses took by formula, without towers of pictures that `Loaded.features` counts itself."""
    layouts = {id: row.layout for id, row in rows.items()}
    towers = sum(map(loaded.flops.tower, set(filter(None, layouts.values())))) if blank else 0
    each = (loaded.flops.respond(r.prompt_tokens, r.tokens, layouts[r.id]) for r in responses if r.id in layouts)
    return towers + sum(each)
