"""What cannot be learnt from is dropped with its reason; too much of it stops the run before any training."""

from pathlib import Path

import pytest

from harness.contracts.method import Role
from harness.contracts.records import Conversation, Dropped, Pair, Record, Rollout, Turn
from harness.models.load import kept
from harness.system.errors import HarnessError
from harness.training.rounds import readable, refuse_malformed, trainable

BASE = Path(__file__).parents[2] / "harness" / "mini" / "bases" / "0"
GOOD = [Pair(str(n), None, "What is it?", "a dog", "a cat") for n in range(200)]
SPELT = Conversation("spelt", None, ((Turn("What is it?", "An <image> of a dog."),),))


def built(records: list[Record | Dropped]) -> list[Record | Dropped]:
    loaded = kept(BASE)
    return [trainable(record, loaded) for record in records]


def test_a_good_record_stays() -> None:
    assert built([GOOD[0]]) == [GOOD[0]]


def test_a_pair_with_equal_sides_is_dropped_whatever_method_made_it() -> None:
    assert built([Pair("x", None, "What is it?", "a dog", "a dog")]) == [
        Dropped("x", "chosen and rejected are the same")
    ]


def test_an_answer_that_spells_the_image_token_is_dropped() -> None:
    [dropped] = built([SPELT])
    assert isinstance(dropped, Dropped) and dropped.id == "spelt" and "<image>" in dropped.reason


def test_a_sampled_picture_s_token_or_too_many_cost_one_record_and_not_the_round() -> None:
    loaded = kept(BASE)
    shown = Rollout("shown", None, "What is it?", (5, loaded.model.config.image_token_id), {})
    assert readable(shown, loaded, Role.POLICY) == Dropped("shown", "the response is empty or holds an image token")
    long = Rollout("long", None, "What is it?", (5,) * 9, {})
    assert readable(long, loaded, Role.CRITIC, 9) == Dropped("long", "too long for the critic to read")
    assert not isinstance(readable(long, loaded, Role.CRITIC), Dropped)


def test_more_than_one_percent_malformed_stops_the_run() -> None:
    two, three = [*GOOD[:198], SPELT, SPELT], [*GOOD[:197], SPELT, SPELT, SPELT]
    refuse_malformed(two, built(two))
    with pytest.raises(HarnessError, match="3 of 200 records are malformed, the first spelt"):
        refuse_malformed(three, built(three))


def test_what_a_method_drops_itself_only_counts() -> None:
    mostly: list[Record | Dropped] = [*GOOD[:100], *(Dropped(str(n), "own filter") for n in range(100))]
    refuse_malformed(mostly, built(mostly))
