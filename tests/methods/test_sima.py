"""SIMA: the model's own verdict on its own two responses."""

import pytest
from scripted import EXAMPLES, Scripted

from harness.contracts.records import Dropped, Pair, Prompt
from methods.sima import Sima


def critic(verdict: str):  # type: ignore[no-untyped-def]
    """A model that says "G" greedily and "S" when sampled, and judges as told; {G} is where the greedy one stands."""

    def says(prompt: Prompt, **how: float) -> str:
        if "[[" not in prompt.question:
            return "S" if how["temperature"] else "G"
        place = {"G": 1, "S": 2} if prompt.id.endswith("/greedy") else {"G": 2, "S": 1}
        return verdict.format(**place)

    return says


@pytest.mark.parametrize("order", ["random", "swap", "as_shipped"])
@pytest.mark.parametrize(("verdict", "chosen"), [("better: [[{G}]]", "G"), ("[[{G}]] no, [[{S}]]", "S")])
def test_the_last_verdict_decides_in_every_order(order: str, verdict: str, chosen: str) -> None:
    first, *_ = Sima(order=order).build(EXAMPLES, Scripted(says=critic(verdict)))  # type: ignore[arg-type]
    assert isinstance(first, Pair)
    assert {first.chosen, first.rejected} == {"G", "S"}
    assert first.chosen == chosen


def test_a_verdict_that_follows_the_place_is_dropped_where_both_orders_are_asked() -> None:
    dropped = list(Sima(order="swap").build(EXAMPLES, Scripted(says=critic("[[1]]"))))
    assert {record.reason for record in dropped if isinstance(record, Dropped)} == {
        "critic: the verdict changes with the order"
    }
    assert all(isinstance(record, Pair) for record in Sima().build(EXAMPLES, Scripted(says=critic("[[1]]"))))


@pytest.mark.parametrize("verdict", ["", "better: 1", "[[3]]", "[[1 or 2]]"])
def test_what_is_no_verdict_is_dropped(verdict: str) -> None:
    first, *_ = Sima().build(EXAMPLES, Scripted(says=critic(verdict)))
    assert first == Dropped("one", "critic: no verdict in double brackets")


def test_equal_responses_are_not_judged() -> None:
    round = Scripted()
    first, *_ = Sima().build(EXAMPLES, round)
    assert first == Dropped("one", "greedy and sampled response are the same")
    assert len(round.prompts) == 2 * len(EXAMPLES)


def test_the_order_is_random_by_seed_and_the_critic_sees_image_truth_and_both() -> None:
    firsts = set()
    for seed in range(8):
        round = Scripted(says=critic("[[1]]"), seed=seed)
        list(Sima().build(EXAMPLES[:1], round))
        asked = round.prompts[-1]
        firsts.add(asked.id)
        assert asked.image == EXAMPLES[0].image
        assert all(text in asked.question for text in ("A red cup.", "Response 1: ", "Response 2: "))
    assert firsts == {"one/greedy", "one/sampled"}


def test_the_shipped_rejected_term_reads_the_competitor() -> None:
    assert Sima(rejected_term="competitor").lesson(0).columns == ("policy", "competitor")
    assert Sima().lesson(0).columns == ("policy",)
