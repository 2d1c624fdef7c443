"""PPO: preferences, shaped rewards and advantages of rollouts, by hand."""

import pytest
import torch
from scripted import EXAMPLES, Scripted

from harness.contracts.method import Role
from harness.contracts.records import Conversation, Dropped, Pair, Prompt, Record, Response, Rollout, Unscored
from methods.ppo import Ppo


def numbered(prompt: Prompt, **how: float) -> str:
    return f"Said {prompt.id} at {how['temperature']:g}."


def test_the_writer_prefers_one_of_two_sampled_responses() -> None:
    round = Scripted(says=numbered, replies=lambda ask: "[[2]]")
    first, *_ = Ppo().build(EXAMPLES, round)
    assert isinstance(first, Pair)
    assert (first.chosen, first.rejected) == ("Said one#2 at 1.", "Said one#1 at 1.")
    assert "A red cup." in round.asked[0].prompt


def test_the_ground_truth_can_stand_in_for_the_writer() -> None:
    round = Scripted(says=numbered)
    first, *_ = Ppo(preferences="ground_truth").build(EXAMPLES, round)
    assert isinstance(first, Pair)
    assert (first.chosen, first.rejected, round.asked) == ("A red cup.", "Said one#2 at 1.", [])


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("both are fine", "the writer names neither response as better"),
        (Unscored("one", "no such image"), "writer: no such image"),
    ],
)
def test_without_a_preference_there_is_no_pair(reply: str | Unscored, reason: str) -> None:
    first, *_ = Ppo().build(EXAMPLES, Scripted(says=numbered, replies=lambda ask: reply))
    assert first == Dropped("one", reason)


def rollouts(method: Ppo, **script: object) -> list[Rollout]:
    round = Scripted(says=numbered, number=1, **script)  # type: ignore[arg-type]
    made = list(method.build(EXAMPLES, round))
    assert all(isinstance(record, Rollout) for record in made)
    return made  # type: ignore[return-value]


def figures(record: Record, role: Role) -> tuple[float, ...]:
    """Three tokens; the reward model gives 1, 2 and 3; policy over reference by .1 at each token; no value yet."""
    if role is Role.REWARD:
        return ({"one": 1.0, "two": 2.0, "three": 3.0}[record.id],)
    return {Role.POLICY: (-0.5,) * 3, Role.REFERENCE: (-0.6,) * 3, Role.CRITIC: (0.0,) * 3}[role]


def test_returns_are_the_reward_to_go() -> None:
    """Score 1 at the end, -0.1 * 0.1 at each of three tokens: returns 0.97, 0.98, 0.99."""
    first, *_ = rollouts(Ppo(), figures=figures)
    assert first.columns["return"] == pytest.approx((0.97, 0.98, 0.99))
    assert first.columns["score"] == (1.0,) * 3
    assert first.columns["old_policy"] == pytest.approx((-0.5,) * 3)
    assert first.tokens == (11, 12, 2)


def test_advantages_are_whitened_over_the_whole_round() -> None:
    made = rollouts(Ppo(), figures=figures)
    whole = torch.tensor([advantage for record in made for advantage in record.columns["advantage"]])
    assert whole.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert whole.std(correction=0).item() == pytest.approx(1.0, abs=1e-5)


def test_the_shipped_variant_clamps_scales_and_counts_padding() -> None:
    """Shaped rewards times ten; a log-ratio below 0 costs nothing; 5 padded places have the end's reward, 10."""
    method, ended = Ppo(variant="as_shipped", response_length=8, length_bonus=0.0), Response("x", "x", 3)
    shaped = method.rewards(torch.tensor([-0.5, -0.7, -0.5]), torch.tensor([-0.6, -0.6, -0.5]), 1.0, ended)
    assert shaped.tolist() == pytest.approx([-0.1, 0.0, 10.0])
    (whitened,) = method.whiten([torch.tensor([9.9, 10.0, 10.0])], [shaped])
    rows = torch.tensor([9.9] + [10.0] * 7)
    assert whitened.tolist() == pytest.approx(((rows - rows.mean()) / rows.std(correction=0))[:3].tolist(), abs=1e-4)


@pytest.mark.parametrize(("ended", "expected"), [(True, 1.0 - 10 * 3 / 30), (False, 1.0 - 10 * 3 / 30 - 8.0)])
def test_stop_and_length_terms_are_added_at_the_end(ended: bool, expected: float) -> None:
    method = Ppo(stop_penalty=-8.0, length_bonus=-10.0, response_length=30)
    shaped = method.rewards(torch.zeros(3), torch.zeros(3), 1.0, Response("x", "x", 3, ended=ended))
    assert shaped.tolist() == pytest.approx([0.0, 0.0, expected])


@pytest.mark.parametrize(("ended", "expected"), [(True, 10 * (1.0 - 10 * 3 / 8)), (False, 10 * (1.0 - 10 * 3 / 8 - 8))])
def test_the_shipped_variant_has_the_script_s_stop_and_length_terms(ended: bool, expected: float) -> None:
    method, said = Ppo(variant="as_shipped", response_length=8), Response("x", "x", 3, ended=ended)
    assert method.rewards(torch.zeros(3), torch.zeros(3), 1.0, said)[-1].item() == pytest.approx(expected)


def test_only_the_reward_model_reads_the_facts() -> None:
    """In its pairs and when it scores; the policy is asked the plain question, and its rollouts have that."""
    scored: list[Record] = []

    def noting(record: Record, role: Role) -> tuple[float, ...]:
        scored.extend([record] if role is Role.REWARD else [])
        return figures(record, role)

    round = Scripted(says=numbered)
    pair, *_ = Ppo().build(EXAMPLES, round)
    assert isinstance(pair, Pair) and pair.question.endswith("### Ground truth: A red cup.")
    assert all("red cup" not in prompt.question for prompt in round.prompts)
    first, *_ = rollouts(Ppo(), figures=noting)
    assert "red cup" not in first.question
    assert isinstance(scored[0], Conversation) and "A red cup." in scored[0].branches[0][0].question


def test_without_facts_the_reward_model_reads_the_plain_question() -> None:
    pair, *_ = Ppo(facts="none").build(EXAMPLES, Scripted(says=numbered))
    assert isinstance(pair, Pair) and pair.question == EXAMPLES[0].turns[0].question


def test_every_round_samples_afresh() -> None:
    asked = [Scripted(says=numbered, number=number, figures=figures) for number in (1, 2)]
    for round in asked:
        list(Ppo().build(EXAMPLES, round))
    assert {prompt.id for prompt in asked[0].prompts}.isdisjoint(prompt.id for prompt in asked[1].prompts)
