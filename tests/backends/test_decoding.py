"""What a batch computes: rows leave it with their last token, and what rows share is read once; no token changes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Lfm2Config, Lfm2ForCausalLM

import harness.backends._decoding as decoding
from harness.backends import _prompts
from harness.backends._rows import Row
from harness.backends.transformers import _batches
from harness.contracts.records import Image, Prompt, Turn
from harness.models import kvcache
from harness.models.load import Loaded, load
from tests.passes import Passes, passes
from tests.perf import work
from tests.small_models import noise

MOST = 30


def rows_of(prompts: Sequence[Prompt], loaded: Loaded) -> list[Row]:
    return [_prompts.row_of(prompt, loaded) for prompt in prompts]


def ending(lengths: Sequence[int], end: int) -> decoding.Draw:
    """Greedy, but that row n says the end token as its token `lengths[n]`."""
    return lambda step, live, scores: scores.argmax(-1).where(torch.tensor(lengths)[live] != step + 1, end)


def said(loaded: Loaded, rows: Sequence[Row], lengths: Sequence[int]) -> list[list[int]]:
    end = loaded.tokenizer.eos_token_id
    return decoding.decoded(loaded, rows, loaded.features, MOST, (end,), ending(lengths, end))


@pytest.fixture
def computed() -> Iterator[Passes]:
    with passes() as seen:
        yield seen


def asked(pictures: list[Image]) -> list[Prompt]:
    texts = ["what is there", "is there a cat near the ball", "zebra?", "a", "what is on the table"]
    return [Prompt(f"q{n}", pictures[n % 4], texts[n % 5], (Turn("what", "a cat"),) * (n % 3)) for n in range(12)]


LENGTHS = (3, 30, 1, 12, 5, 5, 30, 2, 19, 1, 7, 4)


def test_a_row_leaves_with_its_last_token(loaded: Loaded, pictures: list[Image], computed: Passes) -> None:
    rows = rows_of(asked(pictures), loaded)
    assert [len(new) for new in said(loaded, rows, LENGTHS)] == list(LENGTHS)
    assert computed.useful == 1.0


def test_a_batch_that_keeps_its_rows_is_seen(loaded: Loaded, pictures: list[Image], computed: Passes,
                                             monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """The mutant: a batch is computed as a whole until its last row has ended."""
    monkeypatch.setattr(kvcache, "closed_up", lambda going: torch.arange(len(going) if going.any() else 0))
    said(loaded, rows_of(asked(pictures), loaded), LENGTHS)
    assert computed.useful < 0.5


def scored(loaded: Loaded, pictures: list[Image]) -> int:
    """Places of which the head makes scores, where twelve prompts are responded to."""
    places = list[int]()
    hook = loaded.family.head(loaded.model).register_forward_hook(
        lambda head, given, made: places.append(made.shape[:-1].numel())
    )
    said(loaded, rows_of(asked(pictures), loaded), LENGTHS)
    hook.remove()
    return sum(places)


def test_each_token_is_scored_at_one_place(
    loaded: Loaded, pictures: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant scores all of a prompt: of 128 prompts of 600 tokens, ten gigabytes that nobody reads."""
    assert scored(loaded, pictures) == sum(LENGTHS)
    states: Any = decoding._states
    monkeypatch.setattr(decoding, "_scores", lambda loaded, *told: loaded.family.head(loaded.model)(
        states(loaded, *told))[:, -1].float())  # fmt: skip
    assert scored(loaded, pictures) > 2 * sum(LENGTHS)


@pytest.mark.parametrize("mutant", [False, True])
def test_a_token_copies_no_cache(
    loaded: Loaded, pictures: list[Image], monkeypatch: pytest.MonkeyPatch, mutant: bool
) -> None:
    """Of two layers keys and values are laid out once, with room for what comes; without, the mutant, each time."""
    if mutant:
        monkeypatch.setattr(kvcache, "ROOM", 0)
    made, grown = list[Any](), kvcache._grown
    monkeypatch.setattr(kvcache, "_grown", lambda *told: made.append(told) or grown(*told))
    said(loaded, rows_of(asked(pictures), loaded), LENGTHS)
    assert len(made) == 4 if not mutant else len(made) > 4 * 20


def differ(loaded: Loaded, rows: Sequence[Row]) -> int:
    """Rows whose tokens are others in a batch that rows leave than alone."""
    together = said(loaded, rows, LENGTHS)
    alone = [said(loaded, [row], [length])[0] for row, length in zip(rows, LENGTHS, strict=True)]
    return sum(one != other for one, other in zip(together, alone, strict=True))


def test_who_leaves_changes_nobody_s_tokens(loaded: Loaded, pictures: list[Image]) -> None:
    assert differ(loaded, rows_of(asked(pictures), loaded)) == 0


@pytest.mark.parametrize("mutant", ["cache", "layers", "order"])
def test_rows_that_are_moved_wrongly_say_something_else(
    loaded: Loaded, pictures: list[Image], monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    """The cache's rows stay where they are, come from elsewhere, or are taken for others."""
    close_up = kvcache.RoomyLayer.close_up
    if mutant == "cache":
        none = torch.zeros(0, dtype=torch.long)
        wrong: Callable[..., Any] = lambda self, gaps, fillers, count: close_up(self, none, none, count)  # noqa: E731
        monkeypatch.setattr(kvcache.RoomyLayer, "close_up", wrong)
    elif mutant == "layers":
        monkeypatch.setattr(kvcache.RoomyLayer, "close_up", lambda self, g, f, count: close_up(self, g, f - 1, count))
    else:
        order = kvcache.closed_up
        monkeypatch.setattr(kvcache, "close_up", lambda cache, order: [
            layer.reorder_cache(torch.arange(len(order))) for layer in cache.layers])  # fmt: skip
        assert order(torch.tensor([False, True, False, True])).tolist() == [3, 1]
    assert differ(loaded, rows_of(asked(pictures), loaded)) > 0


def test_a_row_has_no_more_tokens_than_there_are_places(loaded: Loaded, pictures: list[Image]) -> None:
    rows = rows_of(asked(pictures), loaded)
    short = loaded._replace(positions=sorted({len(row.ids) for row in rows})[1] + 3)
    fitting = [row for row in rows if len(row.ids) < short.positions]
    left = [min(MOST, short.positions - len(row.ids)) for row in fitting]
    assert [len(new) for new in said(short, fitting, [MOST + 1] * len(fitting))] == left and len({*left}) > 1


def test_equal_prompts_are_read_once(loaded: Loaded, pictures: list[Image], computed: Passes) -> None:
    """As in a group of samples, or a prompt's candidates: one row is read, three are continued."""
    row, other = rows_of(asked(pictures)[:2], loaded)
    lengths = [4, 2, 3, 4]
    (again,) = rows_of(asked(pictures)[:1], loaded)  # of a prompt with a name of its own
    together = said(loaded, [row, other, again, row], lengths)
    assert [rows for rows, _ in computed.read] == [2, 2] and computed.made[0] == (4, 1)
    assert together[0][:1] == together[2][:1] and [len(new) for new in together] == lengths
    assert together[3] == said(loaded, [row], [4])[0]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A small model that sees 576 places of a picture, as LLaVA-1.5 does."""
    return load(work.folder(tmp_path_factory.mktemp("large") / "model", 16))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Image]:
    return noise(tmp_path_factory.mktemp("photos"), ((336, 336),) * 3)


def read(large: Loaded, photos: list[Image], questions: int, size: int, computed: Passes) -> float:
    """Places of the prompts over those that were computed to read them, where `size` prompts are asked at once."""
    texts = [f"is there a {word} in the picture" for word in ("cat", "dog", "red ball", "table", "what", "two")]
    prompts = [Prompt(f"{n}-{at}", photo, texts[at % 6] + " near" * (at // 6))
               for n, photo in enumerate(photos) for at in range(questions)]  # fmt: skip
    by_id = {row.prompt.id: row for row in rows_of(prompts, large)}
    for keys in _batches(by_id, size):
        said(large, [by_id[str(key)] for key in keys], [1] * len(keys))
    return sum(len(row.ids) for row in by_id.values()) / computed.places


@pytest.mark.parametrize(("questions", "size"), [(6, 8), (6, 128), (30, 16), (30, 128)], ids=str)
def test_questions_on_a_picture_read_it_once(
    large: Loaded, photos: list[Image], computed: Passes, questions: int, size: int
) -> None:
    """POPE asks six questions on a picture, GQA thirty: also in batches that do not hold them all."""
    assert read(large, photos, questions, size, computed) > 5


def test_batches_that_cut_pictures_apart_read_them_again(
    large: Loaded, photos: list[Image], computed: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant."""
    batches: Any = lambda asked, size: ([*asked][at : at + size] for at in range(0, len(asked), size))  # noqa: E731
    monkeypatch.setattr(f"{__name__}._batches", batches)
    assert read(large, photos, 6, 4, computed) < 4


def test_prompts_that_agree_beyond_their_picture_are_read_apart_where_they_part(
    loaded: Loaded, pictures: list[Image], computed: Passes
) -> None:
    texts = ["what is on the table near a cat", "what is on the table near a ball", "what is on the"]
    rows = rows_of([Prompt(text, pictures[0], text) for text in texts], loaded)
    together = said(loaded, rows, [6, 6, 6])
    longest = max(len(row.ids) for row in rows)
    (first, shared), (_, apart) = computed.read
    alike = next(at for at, ids in enumerate(zip(*(row.ids for row in rows), strict=False)) if len({*ids}) > 1)
    assert first == 1 and (shared, apart) == (alike, longest - alike)  # and not where the picture ends
    assert together == [said(loaded, [row], [6])[0] for row in rows]


class Hybrid:
    """A small LFM2: short convolutions, whose state runs from token to token, and attention."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        kinds = ["conv", "full_attention", "conv"]
        self.config = Lfm2Config(vocab_size=60, hidden_size=16, intermediate_size=32, num_hidden_layers=3,
                                 num_attention_heads=2, num_key_value_heads=2, layer_types=kinds)  # fmt: skip
        self.model = Lfm2ForCausalLM(self.config).eval()

    def states(self, lines: Sequence[Sequence[int]], going: Sequence[Tensor]) -> list[Tensor]:
        """Scores after each step of greedy decoding, in which rows leave as `going` says."""
        length, cache, found = max(map(len, lines)), kvcache.empty(self.config), []
        ids = torch.tensor([[0] * (length - len(line)) + [*line] for line in lines])
        mask = torch.tensor([[0] * (length - len(line)) + [1] * len(line) for line in lines])
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        for goes in (None, *going):
            if goes is not None:
                order = kvcache.closed_up(goes)
                ids, mask, positions = ids[order], mask[order], positions[order]
                kvcache.close_up(cache, order)
            out = self.model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache)
            found.append(out.logits[:, -1])
            ids = found[-1].argmax(-1, keepdim=True)
            mask, positions = torch.cat([mask, mask.new_ones(len(ids), 1)], -1), positions[:, -1:] + 1
        return found


def test_rows_leave_a_model_whose_state_runs_from_token_to_token() -> None:
    hybrid, lines = Hybrid(), [[5, 6, 7, 8], [9, 10], [11, 12, 13], [14]]
    assert not kvcache.looks_over_padding(kvcache.empty(hybrid.config))
    stays = torch.tensor
    with torch.inference_mode():
        together = hybrid.states(
            lines, [stays([False, True, True, True]), stays([True, False, True]), stays([1, 1]) > 0]
        )
        alone = [hybrid.states([line], [stays([True])] * 3) for line in lines]
    for step, rows in enumerate(([0, 1, 2, 3], [3, 1, 2], [3, 2], [3, 2])):
        assert torch.allclose(together[step], torch.cat([alone[row][step] for row in rows]), atol=1e-5)
