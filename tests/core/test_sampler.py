"""Responses: the same alone as in a batch, drawn from the right distribution, answered once."""

from collections import Counter
from pathlib import Path

import pytest
import torch

import harness.kvcache
import harness.sampler
from harness.model import Loaded, kept, load
from harness.sampler import Sampling, respond
from harness.template import encode, prompt_text
from harness.types import HarnessError, Image, Prompt, Turn

GREEDY = Sampling(max_new_tokens=8)


def quiet(done: int, total: int) -> None:
    """Nobody listens."""


def prompts(pictures: list[Image]) -> list[Prompt]:
    texts = ["what is there", "is there a cat near the ball", "zebra?", "a", "what is on the table and near the dog"]
    made = [Prompt(f"q{n}", pictures[n % 6] if n % 4 else None, texts[n % 5]) for n in range(12)]
    return [*made, Prompt("h", pictures[0], "and", (Turn("what", "a cat"), Turn("is", "no")))]


def naive(loaded: Loaded, prompt: Prompt, count: int) -> list[int]:
    """Greedy decoding without cache, batch or padding."""
    text = prompt_text(prompt.question, prompt.history, prompt.image is not None, "</s>")
    ids = list(encode(loaded.tokenizer, [(text, False)], loaded.image_tokens).ids)
    pixels = None if prompt.image is None else loaded.pixels(prompt.image)[None]
    new: list[int] = []
    with torch.no_grad():
        while len(new) < count:
            token = int(loaded.model(input_ids=torch.tensor([ids + new]), pixel_values=pixels).logits[0, -1].argmax())
            if token == loaded.tokenizer.eos_token_id:
                break
            new.append(token)
    return new


def test_batched_greedy_is_single_greedy_is_naive(folder: Path, loaded: Loaded, pictures: list[Image]) -> None:
    asked = prompts(pictures)
    together = respond(folder, asked, GREEDY, 5, quiet)
    alone = [respond(folder, [prompt], GREEDY, 1, quiet)[0] for prompt in asked]
    assert [response.id for response in together] == [prompt.id for prompt in asked]
    assert together == alone
    for prompt, response in zip(asked, together, strict=True):
        expected = naive(loaded, prompt, GREEDY.max_new_tokens)
        assert response.text == loaded.tokenizer.decode(expected, skip_special_tokens=True).strip()
        assert response.tokens == len(expected)


def test_equal_prompts_are_answered_once(folder: Path, pictures: list[Image], monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    generate = harness.sampler._generate
    monkeypatch.setattr(harness.sampler, "_generate", lambda m, r, *a: rows.append(len(r)) or generate(m, r, *a))
    asked = [Prompt(f"q{n}", pictures[n % 2], "what is there") for n in range(10)]
    made = respond(folder, asked, GREEDY, 64, quiet)
    assert sum(rows) == 2
    assert [response.id for response in made] == [prompt.id for prompt in asked]
    assert len({response.text for response in made[::2]}) == 1
    rows.clear()
    respond(folder, asked, Sampling(max_new_tokens=2, temperature=1.0), 64, quiet)
    assert sum(rows) == 10


def test_questions_on_one_image_see_it_once(folder: Path, pictures: list[Image]) -> None:
    tower, images = kept(folder).model.model.vision_tower, []
    hook = tower.register_forward_hook(lambda module, args, out: images.append(len(args[0])))
    asked = [Prompt(f"q{n}", pictures[n % 2], "what is there" + " near" * n) for n in range(10)]
    together = respond(folder, asked, GREEDY, 64, quiet)
    assert images == [2]
    assert respond(folder, asked, GREEDY, 1, quiet) == together
    assert images == [2] + [1] * 10
    hook.remove()


def test_responses_outgrow_the_cache_s_room(
    folder: Path, loaded: Loaded, pictures: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness.kvcache, "ROOM", 3)
    asked, long = Prompt("q", pictures[0], "what is there"), Sampling(max_new_tokens=30)
    (made,) = respond(folder, [asked], long, 1, quiet)
    assert made.tokens == 30
    assert made.text == loaded.tokenizer.decode(naive(loaded, asked, 30), skip_special_tokens=True).strip()


def test_a_sampled_response_is_its_prompt_s_alone(folder: Path, pictures: list[Image]) -> None:
    asked, warm = prompts(pictures), Sampling(max_new_tokens=6, temperature=1.0, top_p=0.9, seed=5)
    together = respond(folder, asked, warm, 4, quiet)
    assert [respond(folder, [prompt], warm, 1, quiet)[0] for prompt in asked] == together
    assert respond(folder, asked[::-1], warm, 7, quiet)[::-1] == together
    other = warm.model_copy(update={"seed": 6})
    assert respond(folder, asked, other, 4, quiet) != together


def test_draws_follow_the_distribution() -> None:
    """4,000 draws from odds .5 .3 .2: within four standard errors (.032); with top_p .6 the last is cut off."""
    scores = torch.tensor([[0.2, 0.5, 0.3]]).log().repeat(4000, 1)
    ids, seen = [f"{n}" for n in range(4000)], torch.zeros(4000, 0, dtype=torch.long)
    whole = harness.sampler._draw(ids, Sampling(max_new_tokens=1, temperature=1.0))(seen, scores).argmax(-1)
    share = Counter(whole.tolist())
    assert [share[n] / 4000 for n in range(3)] == pytest.approx([0.2, 0.5, 0.3], abs=0.032)
    nucleus = Sampling(max_new_tokens=1, temperature=1.0, top_p=0.6)
    cut = Counter(harness.sampler._draw(ids, nucleus)(seen, scores).argmax(-1).tolist())
    assert cut[0] == 0
    assert cut[1] / 4000 == pytest.approx(0.625, abs=0.032)
    cold = Sampling(max_new_tokens=1, temperature=0.01)
    assert set(harness.sampler._draw(ids, cold)(seen, scores).argmax(-1).tolist()) == {1}


def test_blank_hides_the_image(folder: Path, pictures: list[Image]) -> None:
    asked = [Prompt(f"q{n}", pictures[n], "what is there") for n in range(6)]
    blind = respond(folder, asked, Sampling(max_new_tokens=6), 8, quiet, blank=True)
    assert len({response.text for response in blind}) == 1
    assert blind != respond(folder, asked, Sampling(max_new_tokens=6), 8, quiet)


def test_the_model_stays_until_another_comes(folder: Path) -> None:
    first = kept(folder)
    assert kept(folder) is first
    load(folder)
    assert kept(folder) is not first


def test_progress_and_order_of_batches(folder: Path, pictures: list[Image]) -> None:
    seen: list[tuple[int, int]] = []
    respond(folder, prompts(pictures), GREEDY, 5, lambda done, total: seen.append((done, total)))
    assert seen == [(3, 13), (8, 13), (13, 13)]  # three of text alone
    assert respond(folder, [], GREEDY, 5, quiet) == []


def test_a_prompt_with_a_control_token_is_named(folder: Path) -> None:
    with pytest.raises(HarnessError, match=r"prompt q7: .*reserved token '<image>'"):
        respond(folder, [Prompt("q7", None, "what is <image>")], GREEDY, 5, quiet)
