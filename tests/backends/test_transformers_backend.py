"""Responses: the same alone as in a batch, drawn from the right distribution, answered once."""

from collections import Counter
from pathlib import Path

import pytest
import torch

import harness.backends.transformers
import harness.models.kvcache
import harness.models.load
from harness.contracts.backend import Sampling, Search
from harness.contracts.family import Layout
from harness.contracts.records import Cropped, Image, Prompt, Turn
from harness.families.llava import Llava
from harness.models.load import Loaded, kept, load
from harness.system.errors import HarnessError
from harness.system.profile import quiet
from tests.responding import candidates, respond

GREEDY = Sampling(max_new_tokens=8)


def prompts(pictures: list[Image]) -> list[Prompt]:
    texts = ["what is there", "is there a cat near the ball", "zebra?", "a", "what is on the table and near the dog"]
    made = [Prompt(f"q{n}", pictures[n % 6] if n % 4 else None, texts[n % 5]) for n in range(12)]
    return [*made, Prompt("h", pictures[0], "and", (Turn("what", "a cat"), Turn("is", "no")))]


def tokens(loaded: Loaded, prompt: Prompt) -> list[int]:
    """A prompt's tokens, by its text as a whole."""
    pieces = Llava().prompt(prompt.question, prompt.history, prompt.image is not None, "</s>")
    text = "".join(piece for piece, _ in pieces) + (f" {prompt.begun}" if prompt.begun else "")
    return list(Llava().encode(loaded.tokenizer, [(text, False)], Layout(4) if prompt.image else None).ids)


def naive(loaded: Loaded, prompt: Prompt, count: int) -> list[int]:
    """Greedy decoding without cache, batch or padding."""
    ids = tokens(loaded, prompt)
    pixels = None if prompt.image is None else loaded.eyes.pixels(prompt.image)[None]
    new: list[int] = []
    with torch.no_grad():
        while len(new) < count:
            token = int(loaded.model(input_ids=torch.tensor([ids + new]), pixel_values=pixels).logits[0, -1].argmax())
            if token == loaded.tokenizer.eos_token_id:
                break
            new.append(token)
    return new


def test_a_model_responds_in_the_dtype_that_is_asked_for(folder: Path, pictures: list[Image]) -> None:
    for dtype in ("bfloat16", "float32"):
        respond(folder, prompts(pictures)[:1], GREEDY.model_copy(update={"dtype": dtype}), 1, quiet)
        [loaded] = harness.models.load._kept.values()
        assert loaded.model.dtype == getattr(torch, dtype)


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
    decoded = harness.backends.transformers.decoded
    monkeypatch.setattr(
        harness.backends.transformers, "decoded", lambda m, r, *a: rows.append(len(r)) or decoded(m, r, *a)
    )
    asked = [Prompt(f"q{n}", pictures[n % 2], "what is there") for n in range(10)]
    made = respond(folder, asked, GREEDY, 64, quiet)
    assert sum(rows) == 2
    assert [response.id for response in made] == [prompt.id for prompt in asked]
    assert len({response.text for response in made[::2]}) == 1
    rows.clear()
    respond(folder, asked, Sampling(max_new_tokens=2, temperature=1.0), 64, quiet)
    assert sum(rows) == 10


def test_a_part_of_a_picture_is_not_the_picture(folder: Path, pictures: list[Image]) -> None:
    """Nor is it answered once with it, though both are one file."""
    parts = [Cropped(one.path, one.sha256, box=(0.0, 0.0, 0.3, 0.3)) for one in pictures]
    whole, cropped = ([Prompt(f"{n}{at}", one, "what is there") for n, one in enumerate(some)]
                      for at, some in (("w", pictures), ("c", parts)))  # fmt: skip
    together = respond(folder, [*whole, *cropped], GREEDY, 12, quiet)
    assert together == [respond(folder, [prompt], GREEDY, 1, quiet)[0] for prompt in (*whole, *cropped)]
    assert [one.ids for one in together[:6]] != [one.ids for one in together[6:]]


def test_an_image_is_seen_once_and_by_itself_however_often_it_is_asked_about(
    folder: Path, pictures: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness.models.load, "_kept", {})
    tower, images = kept(folder).model.model.vision_tower, []
    hook = tower.register_forward_hook(lambda module, args, out: images.append(len(args[0])))
    asked = [Prompt(f"q{n}", pictures[n % 2], "what is there" + " near" * n) for n in range(10)]
    together = respond(folder, asked, GREEDY, 64, quiet)
    assert images == [1, 1]
    assert respond(folder, asked, GREEDY, 1, quiet) == together
    assert images == [1, 1]
    hook.remove()


def test_noised_and_blank_images_are_no_image_s_features(
    folder: Path, pictures: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are seen anew, and leave nothing where the clean images' features are kept."""
    monkeypatch.setattr(harness.models.load, "_kept", {})
    asked = prompts(pictures)
    clean = respond(folder, asked, GREEDY, 64, quiet)
    made = kept(folder).features.made
    assert respond(folder, asked, GREEDY.model_copy(update={"noise_step": 900}), 64, quiet) != clean
    assert respond(folder, asked, GREEDY, 64, quiet, blank=True) != clean
    assert respond(folder, asked, GREEDY, 64, quiet) == clean
    assert kept(folder).features.made == made


def test_responses_outgrow_the_cache_s_room(
    folder: Path, loaded: Loaded, pictures: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness.models.kvcache, "ROOM", 3)
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
    ids, all_of_them = [f"{n}" for n in range(4000)], torch.arange(4000)
    whole = harness.backends.transformers._draw(ids, Sampling(max_new_tokens=1, temperature=1.0))(
        0, all_of_them, scores
    )
    share = Counter(whole.tolist())
    assert [share[n] / 4000 for n in range(3)] == pytest.approx([0.2, 0.5, 0.3], abs=0.032)
    nucleus = Sampling(max_new_tokens=1, temperature=1.0, top_p=0.6)
    cut = Counter(harness.backends.transformers._draw(ids, nucleus)(0, all_of_them, scores).tolist())
    assert cut[0] == 0
    assert cut[1] / 4000 == pytest.approx(0.625, abs=0.032)
    cold = Sampling(max_new_tokens=1, temperature=0.01)
    assert set(harness.backends.transformers._draw(ids, cold)(0, all_of_them, scores).tolist()) == {1}


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
    assert seen == [(3, 13), (7, 13), (11, 13), (13, 13)]  # three of text alone, then pictures of one to three prompts
    assert respond(folder, [], GREEDY, 5, quiet) == []


def test_a_prompt_with_a_control_token_is_named(folder: Path) -> None:
    with pytest.raises(HarnessError, match=r"prompt q7: .*reserved token '<image>'"):
        respond(folder, [Prompt("q7", None, "what is <image>")], GREEDY, 5, quiet)


def test_ids_are_the_generated_tokens_with_the_end_token(folder: Path, loaded: Loaded, pictures: list[Image]) -> None:
    warm = Sampling(max_new_tokens=40, temperature=1.0, seed=1)
    for response in respond(folder, prompts(pictures), warm, 8, quiet):
        assert response.ended == (response.ids[-1] == loaded.tokenizer.eos_token_id)
        assert len(response.ids) == response.tokens + response.ended
        assert loaded.tokenizer.decode(response.ids, skip_special_tokens=True).strip() == response.text


def test_noise_is_the_image_s_own_and_changes_what_is_said(folder: Path, pictures: list[Image]) -> None:
    asked = prompts(pictures)
    noised = Sampling(max_new_tokens=8, noise_step=500)
    together = respond(folder, asked, noised, 5, quiet)
    assert together == [respond(folder, [prompt], noised, 1, quiet)[0] for prompt in asked]
    clean = respond(folder, asked, GREEDY, 5, quiet)
    seen = [one != other for one, other, prompt in zip(together, clean, asked, strict=True) if prompt.image]
    blind = [one != other for one, other, prompt in zip(together, clean, asked, strict=True) if not prompt.image]
    assert any(seen)
    assert not any(blind)
    assert together != respond(folder, asked, noised.model_copy(update={"seed": 1}), 5, quiet)


def test_a_response_goes_on_from_what_is_begun(folder: Path, loaded: Loaded, pictures: list[Image]) -> None:
    begun = Prompt("b", pictures[0], "what is there", begun="a red dog")
    (made,) = respond(folder, [begun], GREEDY, 1, quiet)
    ids = tokens(loaded, begun)
    with torch.no_grad():
        first = loaded.model(input_ids=torch.tensor([ids]), pixel_values=loaded.eyes.pixels(pictures[0])[None])
    assert made.text.startswith(loaded.tokenizer.decode([int(first.logits[0, -1].argmax())]).strip())


def search(penalty: float = 3.0, count: int = 4) -> Search:
    return Search(count=count, penalty=penalty, stop=".", max_new_tokens=6)


def test_candidates_are_greedy_first_then_diverse_and_alone_as_in_a_batch(folder: Path, pictures: list[Image]) -> None:
    asked = prompts(pictures)
    found = candidates(folder, asked, search(), 16, quiet)
    for prompt, together in zip(asked, found, strict=True):
        (alone,) = candidates(folder, [prompt], search(), 1, quiet)
        assert [response.text for response in together] == [response.text for response in alone]
        assert [r.logp for r in together] == pytest.approx([r.logp for r in alone], abs=1e-4)
    assert [len(each) for each in found] == [4] * len(asked)
    assert all(len({response.text for response in each}) > 1 for each in found)
    for each, response in zip(found, respond(folder, asked, Sampling(max_new_tokens=6), 5, quiet), strict=True):
        assert response.text.startswith(each[0].text.removesuffix("."))


def test_without_a_penalty_all_candidates_are_the_greedy_one(folder: Path, pictures: list[Image]) -> None:
    for each in candidates(folder, prompts(pictures), search(penalty=0.0), 16, quiet):
        assert len({(response.text, response.logp) for response in each}) == 1


def test_a_candidate_s_log_prob_is_the_model_s(folder: Path, loaded: Loaded, pictures: list[Image]) -> None:
    """Summed over its tokens by a plain forward pass, without the penalty that chose them."""
    prompt = Prompt("q", pictures[0], "what is there")
    ids = tokens(loaded, prompt)
    for response in candidates(folder, [prompt], search(), 4, quiet)[0]:
        new = loaded.tokenizer(" " + response.text, add_special_tokens=False)["input_ids"]
        if loaded.tokenizer.decode(new).strip() != response.text or len(new) != response.tokens or response.ended:
            continue  # bytes that are no text cannot be encoded back
        with torch.no_grad():
            pixels = loaded.eyes.pixels(prompt.image)[None]
            logps = loaded.model(input_ids=torch.tensor([ids + new]), pixel_values=pixels).logits[0].log_softmax(-1)
        expected = sum(float(logps[len(ids) + n - 1, token]) for n, token in enumerate(new))
        assert response.logp == pytest.approx(expected, abs=1e-3)


def test_diversity_by_hand() -> None:
    """Odds .6 .3 .1 and a penalty of 1: the second pays e^-1 on the first's token (.22 < .3), the third on both."""
    draw = harness.backends.transformers._Diverse(search(penalty=1.0, count=3), 3)
    scores = torch.tensor([[0.6, 0.3, 0.1]]).log().repeat(3, 1)
    kept = draw(0, torch.arange(3), scores).tolist()
    assert kept == [0, 1, 0]
    assert draw.logps[0] == pytest.approx(torch.tensor([0.6, 0.3, 0.6]).log().tolist())
    over = draw(1, torch.tensor([2, 1]), scores[1:]).tolist()
    assert over == [1, 0]  # who has ended takes no token from the others


def test_a_stop_that_is_no_token_is_named(folder: Path, pictures: list[Image]) -> None:
    strange = Search(count=2, penalty=1.0, stop="no such token", max_new_tokens=2)
    with pytest.raises(HarnessError, match="no such token"):
        candidates(folder, [Prompt("q", pictures[0], "what")], strange, 4, quiet)
