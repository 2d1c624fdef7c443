"""What `harness data inspect` and `leaks` count, against counting by hand: any records, any pictures."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from harness.checking import inspecting, leaks
from harness.checking.drawn import Files
from harness.checking.inspecting import SHOWN, Contents, contents
from harness.checking.leaks import NEAR, Pictures, dhash, leak, mirrored
from harness.contracts.records import Dropped, Example, Image, Turn
from harness.store.digest import file_digest
from harness.training.split import DUPLICATE
from tests.laws import caught, law


def picture(number: int) -> Image:
    """A small picture, each of another size."""
    file = Path(mkdtemp(prefix="counted-")) / f"{number}.png"
    Pillow.new("RGB", (3 + number, 9 - number), (number, 0, 0)).save(file)
    return Image(str(file), file_digest(file))


PICTURES = [picture(number) for number in range(4)]
TEXTS = st.sampled_from(["", "a", "red cup", "No. " * 3])
TURNS = st.lists(st.builds(Turn, st.just("What is it?"), TEXTS), min_size=1, max_size=2).map(tuple)
MADE = st.one_of(
    st.builds(
        Example,
        id=st.integers(0, 30).map(str),
        source=st.sampled_from(["one", "two"]),
        image=st.none() | st.sampled_from(PICTURES),
        turns=TURNS,
        rejected=st.none() | st.just("blue cup"),
    ),
    st.builds(Dropped, st.integers(0, 30).map(str), st.sampled_from(["no image (x.png)", "no image (y.png)", "empty"])),
)


@st.composite
def records(draw: st.DrawFn) -> list[Example | Dropped]:
    """Any records, and some of them again under another id."""
    made = draw(st.lists(MADE, max_size=30))
    again = draw(st.lists(st.sampled_from(made), max_size=6)) if made else []
    return made + [replace(one, id=f"copy {number}") for number, one in enumerate(again)]


RECORDS = records()


@dataclass
class Given:
    """A source whose records are given; it remembers which pictures were let go."""

    made: list[Example | Dropped]
    gone: list[Image] = field(default_factory=list)

    def examples(self, seed: int) -> Iterator[Example | Dropped]:
        return iter(self.made)

    def forget(self, image: Image) -> None:
        self.gone.append(image)


def looked(made: list[Example | Dropped], n: int | None = None) -> tuple[Contents, Given]:
    source = Given(made)
    return contents(cast(Files, source), 0, n, words=lambda text: len(text.split())), source


@law(120)
@given(RECORDS, st.none() | st.integers(0, 50))
def test_every_figure_is_the_one_counted_by_hand(made: list[Example | Dropped], n: int | None) -> None:
    found, _ = looked(made, n)
    told, taken = found.plain(), made[:n]
    examples = [one for one in taken if isinstance(one, Example)]
    usable = [one for at, one in enumerate(examples) if one.id not in {before.id for before in examples[:at]}]
    said = [(one.turns, one.rejected, one.image.sha256 if one.image else "") for one in usable]
    reasons = Counter(one.reason.partition(" (")[0] for one in taken if isinstance(one, Dropped))
    twice = {DUPLICATE: len(examples) - len(usable)} if len(examples) > len(usable) else {}
    shown = {one.image for one in usable if one.image}
    assert told["records"] == len(taken) and told["usable"] == len(usable)
    assert told["by_source"] == Counter(one.source for one in usable)
    assert told["without_picture"] == sum(one.image is None for one in usable)
    assert told["with_rejected_answer"] == sum(one.rejected is not None for one in usable)
    assert told["pictures"] == len(shown)
    assert told["same_content_under_another_id"] == len(said) - len(set(said))
    assert told["dropped"] == {**reasons, **twice}
    assert [one["id"] for one in told["examples"]] == [one.id for one in usable[:SHOWN]]
    lengths = {
        "turns": [len(one.turns) for one in usable],
        "question, characters": [len(turn.question) for one in usable for turn in one.turns],
        "answer, tokens": [len(turn.answer.split()) for one in usable for turn in one.turns],
        "rejected answer, characters": [len(one.rejected) for one in usable if one.rejected is not None],
        "longer side": [max(Pillow.open(image.path).size) for image in shown],
    }
    for name, values in lengths.items():
        assert found.lengths.get(name, Counter()) == Counter(values), name


@law(60)
@given(RECORDS)
def test_a_picture_that_is_shown_is_kept_and_the_others_are_let_go(made: list[Example | Dropped]) -> None:
    found, source = looked(made)
    kept = {one.image for one in found.shown if one.image}
    assert not kept & set(source.gone)
    assert set(source.gone) | kept >= {one.image for one in found.shown if one.image}
    pictured = {one.image for one in made if isinstance(one, Example) and one.image}
    assert set(source.gone) <= pictured


@law(40)
@given(RECORDS, st.randoms(use_true_random=False))
def test_the_order_of_records_changes_no_total(made: list[Example | Dropped], rng: Any) -> None:
    """Of records with one id the first counts, so that these are left out here."""
    alone = list({one.id: one for one in made}.values())
    turned = list(alone)
    rng.shuffle(turned)
    one, other = (looked(given)[0].plain() for given in (alone, turned))
    unordered = {"examples", "dropped", "by_source"}
    assert {k: v for k, v in one.items() if k not in unordered} == {
        k: v for k, v in other.items() if k not in unordered
    }
    assert one["by_source"] == other["by_source"] and one["dropped"] == other["dropped"]


# Pictures that two sets share

BASES = st.sampled_from([0x0F0F_3C3C_55AA_1234, 0xFEDC_BA98_0000_FFFF])
FLIPS = st.lists(st.integers(0, 63), max_size=6, unique=True)
HASH = st.builds(lambda base, flips: base ^ sum(1 << bit for bit in flips), BASES, FLIPS)


@st.composite
def pictures(draw: st.DrawFn, whose: str) -> Pictures:
    """Some pictures by digest, each with a hash unless it is plain, some with COCO ids."""
    found = Pictures()
    for number, digest in enumerate(draw(st.lists(st.sampled_from("abcdefgh"), max_size=8, unique=True))):
        found.whose[digest] = f"{whose}{number}"
        if draw(st.booleans()):
            found.hashes[digest] = draw(HASH)
        if draw(st.booleans()):
            found.coco.setdefault(draw(st.sampled_from(["1", "2", "3"])), f"{whose}{number}")
    return found


def distance(one: int, other: int) -> int:
    return sum((one >> bit & 1) != (other >> bit & 1) for bit in range(64))


def turned(value: int) -> int:
    """The hash of the mirror image, bit by bit: rows run backwards, and what rises falls."""
    bits = [value >> (63 - at) & 1 for at in range(64)]
    rows = [bits[8 * row : 8 * row + 8] for row in range(8)]
    return sum((1 - bit) << (63 - at) for at, bit in enumerate(bit for row in rows for bit in reversed(row)))


@law(150)
@given(pictures("q"), pictures("t"), st.integers(1, 4))
def test_what_is_shared_is_what_is_found_pair_by_pair(asked: Pictures, trained: Pictures, rows: int) -> None:
    """Whatever the size of a block: the nearest of all, the first of several as near."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaks, "ROWS", rows)
        found = leak("x", asked, trained)
    assert found.same == [(id, trained.whose[digest]) for digest, id in asked.whose.items() if digest in trained.whose]
    near = []
    for digest, value in asked.hashes.items():
        ranked = sorted(trained.hashes, key=lambda one: distance(value, trained.hashes[one]))
        if digest not in trained.whose and ranked and distance(value, trained.hashes[ranked[0]]) <= NEAR:
            near.append((asked.whose[digest], trained.whose[ranked[0]]))
    assert found.near == near
    assert found.coco == [(id, trained.coco[of]) for of, id in asked.coco.items() if of in trained.coco]
    others = [turned(value) for value in asked.hashes.values()]
    assert found.chance == sum(any(distance(one, its) <= NEAR for its in trained.hashes.values()) for one in others)


@law(60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 40), st.booleans())
def test_a_hash_knows_no_size_no_brightness_and_turns_with_its_picture(
    seed: int, times: int, lighter: int, grey: bool
) -> None:
    """An enlarged picture, a lighter one, and one in grey have the very bits of the first."""
    small = (np.random.default_rng(seed).permutation(72).reshape(8, 9) * 2).astype(np.uint8)
    first = Pillow.fromarray(small)
    large = first.resize((9 * times, 8 * times), Pillow.Resampling.NEAREST)
    assert dhash(large if grey else large.convert("RGB")) == dhash(first)
    assert dhash(Pillow.fromarray(small + lighter)) == dhash(first)
    assert mirrored(dhash(first)) == turned(dhash(first)) == dhash(first.transpose(Pillow.Transpose.FLIP_LEFT_RIGHT))


# Ways to count that these laws must catch


@pytest.mark.parametrize(
    ("module", "name", "wrong", "law_of"),
    [
        (inspecting, "_digest", lambda text: text[:1].encode(), test_every_figure_is_the_one_counted_by_hand),
        (inspecting, "replace", lambda made, **left: made, test_every_figure_is_the_one_counted_by_hand),
        (leaks, "NEAR", NEAR - 1, test_what_is_shared_is_what_is_found_pair_by_pair),
        (leaks, "mirrored", lambda value: value, test_what_is_shared_is_what_is_found_pair_by_pair),
    ],
    ids=["short digests", "by id", "nearer", "not mirrored"],
)
def test_another_way_to_count_would_be_caught(
    module: Any, name: str, wrong: Any, law_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, wrong)
    caught(law_of)
