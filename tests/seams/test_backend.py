"""What every generation backend keeps, tried on a small random LLaVA: the same responses, however they are asked."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import backends, families
from harness.contracts import plugins
from harness.contracts.backend import Backend, Generated, Running, Sampling, Search
from harness.contracts.records import Image, Prompt, Response, Turn
from harness.contracts.settings import Generation
from harness.contracts.testbed_file import setting_of
from harness.models.load import Loaded, load
from harness.system.errors import HarnessError
from harness.system.profile import quiet
from tests import vllm_environment
from tests.seams.found import found
from tests.seams.test_family import made, pictures

__all__ = ["pictures"]
GREEDY, WARM = Sampling(max_new_tokens=6), Sampling(max_new_tokens=6, temperature=1.0)
SEARCH = Search(count=3, penalty=4.0, stop=".", max_new_tokens=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return made(families.named("llava"), tmp_path_factory.mktemp("llava") / "small", head=32)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Loaded:
    return load(folder)


HEAVY = {"vllm": pytest.mark.heavy}  # a process of its own, which loads for half a minute
OPTIONS = {"vllm": vllm_environment.options()}


PARAMS = [pytest.param(name, marks=HEAVY.get(name, ()), id=Path(name).stem) for name in found("backend")]


@pytest.fixture(scope="module", params=PARAMS)  # one after the other: each keeps its model
def backend(request: pytest.FixtureRequest) -> Backend:
    made = backends.chosen(Generation(backend=request.param, options=OPTIONS.get(request.param, {})))
    if request.param == "vllm":
        return vllm_environment.made()
    if why := made.problem():
        pytest.skip(f"{request.param}: {why}")
    return made


def asked(pictures: Sequence[Image]) -> list[Prompt]:
    texts = ["what is there", "is there a cat near the ball", "a", "two"]
    shown = [Prompt(f"q{n}", pictures[n % 3], text) for n, text in enumerate(texts)]
    return [*shown, Prompt("h", pictures[0], "and", (Turn("what", "a cat"),)), Prompt("n", None, "what", begun="a red")]


def said(
    backend: Backend, folder: Path, prompts: Sequence[Prompt], how: Sampling = GREEDY, size: int = 4
) -> list[Response]:
    return backend.respond(folder, prompts, how, Running(size, quiet)).responses


def prompt_ids(loaded: Loaded, prompt: Prompt) -> tuple[int, ...]:
    layout = loaded.eyes.layout(prompt.image) if prompt.image else None
    told = prompt.question, prompt.history, layout is not None, loaded.tokenizer.eos_token, prompt.begun
    return loaded.family.encode(loaded.tokenizer, loaded.family.prompt(*told), layout).ids


def plain(loaded: Loaded, prompt: Prompt, new: Sequence[int]) -> torch.Tensor:
    """(tokens, words) log-probs of what follows a prompt, by one plain forward pass."""
    ids = (*prompt_ids(loaded, prompt), *new)
    pixels = loaded.eyes.pixels(prompt.image)[None] if prompt.image else None
    with torch.no_grad():
        logits = loaded.model(input_ids=torch.tensor([ids]), pixel_values=pixels).logits[0]
    return logits[len(ids) - len(new) - 1 : -1].log_softmax(-1)


# The promises, each a function of a backend, so that mutants can be held to them.


def in_order(backend: Backend, folder: Path, loaded: Loaded, pictures: list[Image]) -> bool:
    prompts = asked(pictures)
    ahead, back = (said(backend, folder, some) for some in (prompts, prompts[::-1]))
    return [one.id for one in ahead] == [prompt.id for prompt in prompts] and ahead == back[::-1]


def greedy(backend: Backend, folder: Path, loaded: Loaded, pictures: list[Image]) -> bool:
    """Every token is the likeliest by the model itself, up to the end token or the limit."""
    end = loaded.tokenizer.eos_token_id
    for prompt, one in zip(asked(pictures), said(backend, folder, asked(pictures)), strict=True):
        likeliest = plain(loaded, prompt, one.ids).argmax(-1).tolist()
        if tuple(likeliest) != one.ids or one.ended != (one.ids[-1:] == (end,)):
            return False
        if not one.ended and len(one.ids) != GREEDY.max_new_tokens:
            return False
    return True


def told(backend: Backend, folder: Path, loaded: Loaded, pictures: list[Image]) -> bool:
    """Text, counts and ids of a response fit together."""
    for prompt, one in zip(asked(pictures), said(backend, folder, asked(pictures), WARM), strict=True):
        text = loaded.tokenizer.decode(one.ids, skip_special_tokens=True).strip()
        if (one.text, one.tokens, one.prompt_tokens) != (
            text,
            len(one.ids) - one.ended,
            len(prompt_ids(loaded, prompt)),
        ):
            return False
    return True


def alone(backend: Backend, folder: Path, loaded: Loaded, pictures: list[Image]) -> bool:
    """Nothing depends on who is asked beside it, also where tokens are drawn."""
    prompts = asked(pictures)
    return all(
        said(backend, folder, prompts, how) == [said(backend, folder, [prompt], how, 1)[0] for prompt in prompts]
        for how in (GREEDY, WARM)
    )


def seeded(backend: Backend, folder: Path, loaded: Loaded, pictures: list[Image]) -> bool:
    """The same seed draws the same; another seed, or another id, draws something else."""
    prompts = asked(pictures)
    other = [replace(prompt, id=f"{prompt.id}'") for prompt in prompts]
    first = [one.text for one in said(backend, folder, prompts, WARM)]
    again = [one.text for one in said(backend, folder, prompts, WARM)]
    turned = [one.text for one in said(backend, folder, prompts, WARM.model_copy(update={"seed": 1}))]
    return first == again != turned and first != [one.text for one in said(backend, folder, other, WARM)]


def sees(backend: Backend, folder: Path, loaded: Loaded, pictures: list[Image]) -> bool:
    """The picture, nothing instead of it, or it under noise."""
    prompts = [Prompt(f"q{n}", picture, "what is there") for n, picture in enumerate(pictures)]
    clean = [one.ids for one in said(backend, folder, prompts)]
    noised = [one.ids for one in said(backend, folder, prompts, GREEDY.model_copy(update={"noise_step": 900}))]
    blind = [one.ids for one in backend.respond(folder, prompts, GREEDY, Running(4, quiet), True).responses]
    return len(set(blind)) == 1 < len(set(clean)) and clean not in (noised, [blind[0]] * len(clean)) and noised != blind


def refuses(backend: Backend, folder: Path, loaded: Loaded, pictures: list[Image]) -> bool:
    """A control token in a text, and two prompts of one id; a prompt that is too long has no response and says so."""
    spelt = [Prompt("q", None, f"what is {loaded.family.image_token}")]
    for prompts in (spelt, [Prompt("q", None, "a"), Prompt("q", None, "the")]):
        try:
            said(backend, folder, prompts)
            return False
        except HarnessError:
            pass
    long, short = said(backend, folder, [Prompt("l", None, "a cat " * loaded.positions), Prompt("s", None, "a cat")])
    return bool(long.unanswered) and not long.text and not short.unanswered


def told_how_far(backend: Backend, folder: Path, loaded: Loaded, pictures: list[Image]) -> bool:
    ticks: list[tuple[int, int]] = []
    backend.respond(folder, asked(pictures), GREEDY, Running(2, lambda done, total: ticks.append((done, total))))
    return bool(ticks) and ticks == sorted(ticks) and ticks[-1][0] == ticks[-1][1] > 1


def diverse(backend: Backend, folder: Path, loaded: Loaded, pictures: list[Image]) -> bool:
    """Candidates: as many as asked for, the first greedy, not all alike, each with the model's own log-prob."""
    prompts = asked(pictures)[:2]
    found = backend.candidates(folder, prompts, SEARCH, Running(6, quiet))
    first = said(backend, folder, prompts, GREEDY.model_copy(update={"max_new_tokens": 4}))
    for each, one in zip(found, first, strict=True):
        if len(each) != 3 or not one.text.startswith(each[0].text.removesuffix(".")) or len({c.text for c in each}) < 2:
            return False
        if any(candidate.logp is None or candidate.logp > 0 for candidate in each):
            return False
    return True


def measures(backend: Backend, folder: Path, loaded: Loaded, pictures: list[Image]) -> bool:
    """The log-prob of each given token, whoever chose it."""
    prompts = asked(pictures)
    tokens = [tuple(5 + (n * 7 + at) % 40 for at in range(n + 1)) for n in range(len(prompts))]
    found = backend.logps(folder, prompts, tokens, "float32", Running(3, quiet))
    return all(
        ours
        == pytest.approx(plain(loaded, prompt, ids).gather(-1, torch.tensor(ids)[:, None])[:, 0].tolist(), abs=2e-5)
        for prompt, ids, ours in zip(prompts, tokens, found, strict=True)
    )


PROMISES = (in_order, greedy, told, alone, seeded, sees, refuses, told_how_far, diverse, measures)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda one: one.__name__)
def test_a_backend_keeps(backend: Backend, folder: Path, loaded: Loaded, pictures: list[Image], promise: Any) -> None:
    assert promise(backend, folder, loaded, pictures)


def test_its_identity_is_plain_and_its_own(backend: Backend) -> None:
    told = backends.identity(Generation(backend=str(Path(backends.__file__).parent / "transformers.py")))
    assert json.loads(json.dumps(backend.identity())) == backend.identity() and backend.problem() == ""
    assert told["name"] == "transformers"


def test_there_is_a_sentence_for_a_name_that_is_none() -> None:
    with pytest.raises(Exception, match='no backend "transformer"; did you mean "transformers"'):
        backends.chosen(Generation(backend="transformer"))
    with pytest.raises(Exception, match="greed"):
        backends.chosen(Generation(options={"greed": 2}))


# A mutant per promise: transformers with one thing wrong.


class Wrong(Backend):
    """Passes everything on, and changes what `changed` changes."""

    def __init__(self, changed: str) -> None:
        object.__setattr__(self, "changed", changed)
        object.__setattr__(self, "right", backends.chosen(Generation()))
        object.__setattr__(self, "calls", [0])

    def identity(self) -> dict[str, Any]:
        return {}

    def respond(self, model: Any, prompts: Any, sampling: Any, running: Any, blank: bool = False) -> Generated:
        changed, right = self.changed, self.right  # type: ignore[attr-defined]
        self.calls[0] += 1  # type: ignore[attr-defined]
        if changed == "sees":
            blank = False
        if changed == "seeded":
            sampling = sampling.model_copy(update={"seed": 0})
        if changed == "alone" and len(prompts) == 1:
            sampling = sampling.model_copy(update={"max_new_tokens": 5})
        if changed == "greedy":
            sampling = sampling.model_copy(update={"temperature": 0.7})
        if changed == "told_how_far":
            running = running._replace(tick=quiet)
        if changed == "refuses":
            try:
                responses = right.respond(model, prompts, sampling, running, blank).responses
            except HarnessError:
                responses = [Response(prompt.id, "", 0) for prompt in prompts]
        else:
            responses = right.respond(model, prompts, sampling, running, blank).responses
        if changed == "in_order":
            responses = sorted(responses, key=lambda one: len(one.text))
        if changed == "told":
            responses = [replace(one, text=f"{one.text}.") for one in responses]
        return Generated(responses, None)

    def candidates(self, model: Any, prompts: Any, search: Any, running: Any) -> Any:
        found = self.right.candidates(model, prompts, search, running)  # type: ignore[attr-defined]
        return [[each[0]] * len(each) for each in found] if self.changed == "diverse" else found  # type: ignore[attr-defined]

    def logps(self, model: Any, prompts: Any, tokens: Any, dtype: Any, running: Any) -> Any:
        found = self.right.logps(model, prompts, tokens, dtype, running)  # type: ignore[attr-defined]
        return [row[::-1] for row in found] if self.changed == "measures" else found  # type: ignore[attr-defined]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda one: one.__name__)
def test_a_mutant_breaks(folder: Path, loaded: Loaded, pictures: list[Image], promise: Any) -> None:
    assert not promise(Wrong(promise.__name__), folder, loaded, pictures)


@cache
def naive() -> str:
    return next(name for name in found("backend") if name.endswith("naive.py"))


def test_a_backend_of_one_s_own_is_in_the_keys_of_what_it_generates() -> None:
    from harness.comparison.request import request

    usual, own = (
        request("dpo", "llava150k", "", "mini", 1, "pope", 8, 4, sets, 1)[0]
        for sets in ([], [f"generation.backend={naive()}"])
    )
    assert own.generation.backend == naive() and plugins.called(naive()) in json.dumps(setting_of(own))
    assert str(Path(naive()).parent) not in json.dumps(setting_of(own)) and setting_of(usual) != setting_of(own)
