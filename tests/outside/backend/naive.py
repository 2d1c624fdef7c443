"""A backend of one's own: one prompt at a time, and all of it read again for each token. Slow, and simple."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from harness.contracts.backend import Backend, Generated
from harness.contracts.records import Response
from harness.models.load import kept
from harness.models.logps import Policy
from harness.models.noise import diffuse
from harness.models.tree import Branch, Tree, pack, refuse_reserved
from harness.system.errors import HarnessError


@dataclass(frozen=True)
class Naive(Backend):
    """`greed`: how many times the most likely token's logit is counted; 1 is the model as it is."""

    greed: float = 1.0

    def identity(self) -> dict[str, Any]:
        return {"engine": "naive"}

    def respond(self, model: Any, prompts: Any, sampling: Any, running: Any, blank: bool = False) -> Generated:
        loaded, said = kept(model, sampling.dtype), []
        if len({prompt.id for prompt in prompts}) < len(prompts):
            raise HarnessError("two prompts have the same id.")
        for prompt in prompts:
            draws = torch.Generator().manual_seed(_seed(sampling.seed, prompt.id))
            view = loaded._replace(features=partial(_seen, loaded, sampling, blank))
            ids, _, why = self._goes_on(view, prompt, sampling, {loaded.tokenizer.eos_token_id}, draws)
            said.append(_response(loaded, prompt, ids, why=why))
            running.tick(len(said), len(prompts))
        return Generated(said, None)

    def candidates(self, model: Any, prompts: Any, search: Any, running: Any) -> Any:
        loaded, found = kept(model, search.dtype), []
        stop = loaded.tokenizer.convert_tokens_to_ids(search.stop)
        if stop is None or stop == loaded.tokenizer.unk_token_id:
            raise HarnessError(f"the stop {search.stop!r} is no token of {model}.")
        for prompt in prompts:
            others: list[tuple[int, ...]] = []
            made = []
            for _ in range(search.count):
                fines = [Counter(one[at] for one in others if at < len(one)) for at in range(search.max_new_tokens)]
                ends = {stop, loaded.tokenizer.eos_token_id}
                ids, logps, why = self._goes_on(loaded, prompt, search, ends, None, fines)
                others.append(ids)
                made.append(_response(loaded, prompt, ids, sum(logps), why))
            found.append(made)
        return found

    def logps(self, model: Any, prompts: Any, tokens: Any, dtype: Any, running: Any) -> Any:
        loaded = kept(model, dtype)
        return [_logps(loaded, prompt, ids) for prompt, ids in zip(prompts, tokens, strict=True)]

    def _goes_on(self, loaded: Any, prompt: Any, how: Any, ends: Any, draws: Any, fines: Any = None) -> Any:
        """Token by token: ids, their log-probs, and why there are none."""
        ids: list[int] = []
        logps: list[float] = []
        asked = _ids(loaded, prompt)
        if len(asked) >= loaded.positions:
            return (), (), f"the prompt has {len(asked)} tokens and the model {loaded.positions} places"
        while len(ids) < min(how.max_new_tokens, loaded.positions - len(asked)) and not ends & set(ids[-1:]):
            logs = _next(loaded, prompt, [*asked, *ids])
            paid = logs.clone()
            paid[loaded.model.config.image_token_id] = -torch.inf  # it could not be read again as a word
            for id, times in (fines[len(ids)] if fines else {}).items():
                paid[id] -= how.penalty * times
            warmth = getattr(how, "temperature", 0.0)
            ids.append(_drawn(paid / warmth, how.top_p, draws) if warmth else int(paid.argmax()))
            logps.append(float(logs[ids[-1]]))
        return tuple(ids), logps, ""


def _ids(loaded: Any, prompt: Any) -> tuple[int, ...]:
    family, words = loaded.family, loaded.tokenizer
    said = [text for turn in prompt.history for text in (turn.question, turn.answer)]
    try:
        refuse_reserved([*said, prompt.question, prompt.begun], words, family)
    except ValueError as error:
        raise HarnessError(f"prompt {prompt.id}: {error}.") from None
    layout = loaded.eyes.layout(prompt.image) if prompt.image else None
    pieces = family.prompt(prompt.question, prompt.history, layout is not None, words.eos_token, prompt.begun)
    return family.encode(words, pieces, layout).ids


def _packed(loaded: Any, prompt: Any, prefix: Any, *branches: Branch) -> Any:
    layout = loaded.eyes.layout(prompt.image) if prompt.image else None
    batch = pack([Tree(prompt.id, prompt.image, tuple(prefix), branches, layout=layout)], loaded)
    return batch.to(loaded.model.device)


@torch.inference_mode()
def _next(loaded: Any, prompt: Any, ids: Any) -> Any:
    """(words,) log-probs of the token after these."""
    policy = Policy(loaded.model)
    return policy.head(policy.hidden(_packed(loaded, prompt, ids))[-1:])[0].float().log_softmax(-1)


@torch.inference_mode()
def _logps(loaded: Any, prompt: Any, ids: Any) -> tuple[float, ...]:
    batch = _packed(loaded, prompt, _ids(loaded, prompt), Branch(tuple(ids), (True,) * len(ids)))
    return tuple(Policy(loaded.model)(batch).tolist())


def _drawn(logs: Any, top_p: float, draws: Any) -> int:
    odds, order = logs.double().softmax(-1).sort(descending=True, stable=True)
    kept = odds * (odds.cumsum(-1) - odds < top_p)
    return int(order[torch.multinomial(kept, 1, generator=draws)])


def _seen(loaded: Any, sampling: Any, blank: bool, image: Any) -> Any:
    """What the model sees of an image."""
    layout = loaded.eyes.layout(image)
    pixels = loaded.eyes.blank(layout) if blank else loaded.eyes.pixels(image)
    if sampling.noise_step and not blank:
        pixels = diffuse(pixels, sampling.noise_step, _seed(sampling.seed, image.sha256))
    return loaded.family.features(loaded.model, pixels, layout)


def _seed(*parts: Any) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")


def _response(loaded: Any, prompt: Any, ids: Any, logp: float | None = None, why: str = "") -> Response:
    ended = loaded.tokenizer.eos_token_id in ids[-1:]
    text = loaded.tokenizer.decode(ids, skip_special_tokens=True).strip()
    read = 0 if why else len(_ids(loaded, prompt))
    return Response(prompt.id, text, len(ids) - ended, read, ids, ended and not why, logp, why)
