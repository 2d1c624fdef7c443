"""Memory by formula, whatever the shapes: more work takes no less, and a layout fits wherever one would."""

from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, Qwen3Config

from harness.contracts.settings import Lora, Runtime, Training
from harness.models import footprint
from harness.models.footprint import FILLS, Decoder, Layout, Load, Memory, Shape, generating, laid, most_rows, saved
from tests import true_shapes
from tests.laws import caught, law

PARTS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TARGETS = st.one_of(
    st.just("all-linear"),
    st.sampled_from([r".*layers\.[01]\..*_proj", r".*\.mlp\..*", r".*layers\.0\.self_attn\.[qv]_proj"]),
    st.lists(st.sampled_from(PARTS), min_size=1, unique=True).map(tuple),
)


@st.composite
def decoders(draw: st.DrawFn) -> Decoder:
    """Small shapes, queries in groups as it comes."""
    kv, per, head = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.sampled_from([4, 8]))
    layers, inner, words = draw(st.integers(2, 5)), draw(st.integers(1, 9)), draw(st.integers(40, 90))
    return Decoder(layers, kv * per * head, inner * 8, kv * per, kv, head, words, draw(st.booleans()))


@st.composite
def loras(draw: st.DrawFn) -> Lora:
    dropout = draw(st.sampled_from([0.0, 0.1]))
    return Lora(r=draw(st.integers(1, 9)), lora_dropout=dropout, target_modules=draw(TARGETS))


LOADS = st.builds(Load, st.integers(1, 9), st.integers(1, 300), st.integers(1, 900), st.integers(1, 2))


@st.composite
def trainings(draw: st.DrawFn) -> dict[str, Any]:
    """What `footprint.training` is given, by name."""
    of, how = draw(decoders()), {"dtype": draw(st.sampled_from(["float32", "bfloat16"]))}
    frozen, learns = draw(st.integers(0, 10**6)), draw(st.integers(10**5, 10**7))
    return {
        "shape": Shape(of, frozen + learns, frozen),
        "how": Training.model_validate({**how, "lora": draw(st.none() | loras())}),
        "runtime": Runtime(num_processes=draw(st.integers(1, 4)), zero_stage=draw(st.sampled_from([0, 1, 2, 3]))),
        "load": draw(LOADS),
        "again": draw(st.integers(0, of.layers)),
        "roles": draw(st.integers(1, 2)),
        "fused": draw(st.booleans()),
    }


def config_of(of: Decoder) -> LlavaConfig:
    """A true config of these shapes, with a tower that hardly is one."""
    tower = CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=28, patch_size=14,
        projection_dim=8,
    )  # fmt: skip
    words = (Qwen3Config if of.normed else LlamaConfig)(
        hidden_size=of.width, intermediate_size=of.inner, num_hidden_layers=of.layers, vocab_size=of.words,
        num_attention_heads=of.heads, num_key_value_heads=of.kv_heads, head_dim=of.head,
    )  # fmt: skip
    return LlavaConfig(text_config=words, vision_config=tower)


@law(12)
@given(decoders(), loras())
def test_adapters_have_as_many_weights_as_peft_gives_them(of: Decoder, lora: Lora) -> None:
    """Whichever layers are named, and by a pattern too: each is counted once, where it is."""
    config = config_of(of)
    assert Decoder.of(config) == of
    made = true_shapes.model(config, lora)
    counted = [weight.numel() for name, weight in made.named_parameters() if "lora_" in name]
    assert of.adapters(lora) == sum(counted)
    assert sum(of.adapted(lora).values()) * 2 == len(counted)


GROWS = {
    "rows": lambda load: load._replace(rows=load.rows + 1),
    "length": lambda load: load._replace(length=load.length + 1),
    "scored": lambda load: load._replace(scored=load.scored + 1),
    "passes": lambda load: load._replace(passes=load.passes + 1),
}


@law(150)
@given(trainings(), st.sampled_from(sorted(GROWS)))
def test_a_larger_micro_batch_takes_no_less(given: dict[str, Any], what: str) -> None:
    less, more = (footprint.training(**{**given, "load": load}) for load in (given["load"], GROWS[what](given["load"])))
    assert no_less(more, less)


def no_less(more: Memory, less: Memory) -> bool:
    """In every part, what is kept with what is worked in, and at the worst moment."""
    parts = ([*one._replace(working=one.activations + one.working), one.peak] for one in (more, less))
    return all(a >= b for a, b in zip(*parts, strict=True))


SIZES = ("width", "inner", "kv_heads", "words", "layers")


@law(150)
@given(trainings(), st.sampled_from(SIZES))
def test_a_larger_model_takes_no_less(given: dict[str, Any], what: str) -> None:
    """Its weights are given; what it keeps and learns follows from its shapes."""
    of = given["shape"].decoder
    grown = of._replace(**{what: getattr(of, what) + (8 if what == "width" else 1)})
    more = footprint.training(**{**given, "shape": given["shape"]._replace(decoder=grown)})
    assert no_less(more, footprint.training(**given))


@law(100)
@given(trainings())
def test_a_higher_rank_and_a_second_role_take_no_less_and_more_cards_no_more(given: dict[str, Any]) -> None:
    before = footprint.training(**given)
    how, runtime = given["how"], given["runtime"]
    if how.lora:
        wide = how.model_copy(update={"lora": how.lora.model_copy(update={"r": how.lora.r + 1})})
        assert no_less(footprint.training(**{**given, "how": wide}), before)
        assert no_less(footprint.training(**{**given, "roles": given["roles"] + 1}), before)
    spread = runtime.model_copy(update={"num_processes": runtime.num_processes + 1})
    assert no_less(before, standing(**{**given, "runtime": spread}))
    if runtime.zero_stage in (1, 2):
        sharded = runtime.model_copy(update={"zero_stage": runtime.zero_stage + 1})
        assert no_less(before, standing(**{**given, "runtime": sharded}))


def standing(**given: Any) -> Memory:
    """Without what is gathered of sharded weights for a while, of which a small model has all."""
    return footprint.training(**given)._replace(gathered=0)


@law(100)
@given(decoders(), st.none() | loras(), LOADS, st.sampled_from([2, 4]))
def test_a_layer_that_is_computed_again_keeps_less_by_the_same_each_time(
    of: Decoder, lora: Lora | None, load: Load, size: int
) -> None:
    kept = [saved(of, lora, load, size, again) for again in range(of.layers + 1)]
    *steps, last = (one - other for one, other in pairwise(kept))  # the last one has some parts at few places
    assert len({*steps}) <= 1 and all(step > 0 for step in steps)
    assert last > 0 or load.read < load.places
    assert kept[-1] >= load.passes * of.layers * load.places * size * of.width  # each layer's input, at least


# What is laid out

LENGTHS = st.lists(st.tuples(st.integers(1, 6000), st.integers(0, 400)), min_size=1, max_size=20)


def candidates(given: dict[str, Any], lengths: list[tuple[int, int]]) -> list[Layout]:
    """Every layout that may be chosen, in the order in which they are wanted: found in another way, by their size."""
    how, runtime, of = given["how"], given["runtime"], given["shape"].decoder
    longest = max(lengths)[0]
    full = next(rows for rows in (1 << at for at in range(20)) if rows * longest >= FILLS)
    most = min(full, max(1, how.train_batch_size // runtime.num_processes))
    rows = [most >> at for at in range(20) if most >> at]
    wanted = [(one, 0) for one in rows[:2]] + list(product(rows, range(of.layers + 1)))
    found = []
    for many, again in wanted:
        taken = sorted(lengths, reverse=True)[:many]
        load = Load(len(taken), longest, sum(scored for _, scored in taken), given["load"].passes)
        memory = footprint.training(given["shape"], how, runtime, load, again, given["roles"])
        found.append(Layout(many, again, memory))
    return found


@law(80)
@given(trainings(), LENGTHS, st.floats(0, 1.2), st.randoms(use_true_random=False))
def test_a_layout_fits_wherever_one_would_and_is_the_one_most_wanted(
    given: dict[str, Any], lengths: list[tuple[int, int]], share: float, rng: Any
) -> None:
    known = candidates(given, lengths)
    peaks = [one.memory.peak for one in known]
    room = int(min(peaks) * 0.9 + share * (max(peaks) - min(peaks) * 0.9))
    fitting = [one for one in known if one.memory.peak <= room]
    rng.shuffle(lengths)  # which record comes first is nothing
    passes = given["load"].passes
    found = laid(given["shape"], given["how"], given["runtime"], lengths, room, given["roles"], passes)
    assert found == (fitting[0] if fitting else known[-1])


@law(60)
@given(decoders(), st.integers(0, 10**7), st.integers(1, 900), st.integers(1, 300), st.integers(0, 10**9))
def test_as_many_prompts_as_there_is_room_for(of: Decoder, weights: int, prompt: int, new: int, room: int) -> None:
    shape = Shape(of, weights, 0)
    rows = most_rows(shape, "bfloat16", prompt, new, room)
    assert rows in {1 << at for at in range(10)}
    assert rows == 1 or generating(shape, "bfloat16", rows, prompt, new).peak <= room
    assert rows == 512 or generating(shape, "bfloat16", 2 * rows, prompt, new).peak > room


# Formulas that these laws must catch

real_kept, real_training = footprint.kept_by_layer, footprint.training


def by_named(of: Decoder, lora: Lora) -> dict[str, int]:
    """A mutant: what is named has an adapter in every layer."""
    return {part: of.layers for part in PARTS if part in lora.target_modules or isinstance(lora.target_modules, str)}


def test_adapters_counted_in_every_layer_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Decoder, "adapted", by_named)
    caught(test_adapters_have_as_many_weights_as_peft_gives_them)


def test_a_layout_by_the_first_records_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: the records come as they are given, not the longest first."""
    monkeypatch.setattr(footprint, "sorted", lambda lengths, reverse: list(lengths), raising=False)
    caught(test_a_layout_fits_wherever_one_would_and_is_the_one_most_wanted)


def test_memory_that_falls_with_the_length_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: the square of the length is taken away instead of added."""

    def wrong(of: Decoder, lora: Lora | None, load: Load, size: int, last: bool = False) -> int:
        return real_kept(of, lora, load, size, last) - 2 * size * load.rows * load.length**2

    monkeypatch.setattr(footprint, "kept_by_layer", wrong)
    caught(test_a_larger_micro_batch_takes_no_less)
