"""GRPO: what is rewarded by which rule, who leaves a group, advantages, and the records of rollouts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scripted import PICTURE, Scripted

from harness.contracts.judge import Ask
from harness.contracts.method import Role
from harness.contracts.records import Dropped, Example, Prompt, Record, Response, Rollout, Turn, Unscored
from harness.contracts.wordings import OPTION_LETTER, SHORT_ANSWER
from harness.system.errors import UsageError
from harness.training import losses
from methods.grpo import Grpo
from tests.laws import caught

CAPTION = "Please describe this image in detail."


def example(answer: str, question: str = CAPTION, source: str = "llava150k", id: str = "one") -> Example:
    return Example(id, source, PICTURE, (Turn(question, answer),))


class Group(Scripted):
    """A round in which each prompt of a group gets the next of some responses; all of two tokens and an end."""

    def __init__(self, *said: str | Response, **script: Any) -> None:
        super().__init__(**script)
        self.said = said

    def respond(self, prompts: Sequence[Prompt], *rest: Any, **how: Any) -> list[Response]:
        self.prompts += prompts
        given = [self.said[int(prompt.id.rpartition(".")[2])] for prompt in prompts]
        made = [Response("", one, 2, 5, (11, 12, 2)) if isinstance(one, str) else one for one in given]
        return [replace(one, id=prompt.id) for one, prompt in zip(made, prompts, strict=True)]


def built(example: Example, *said: str | Response, script: Any = None, **options: Any) -> Rollout | Dropped:
    """What becomes of an example whose prompt is answered so."""
    [record] = Grpo(group=len(said), **options).build([example], Group(*said, **(script or {})))
    assert isinstance(record, Rollout | Dropped) and record.id == example.id
    return record


def rewards(example: Example, *said: str | Response, **options: Any) -> list[float]:
    """What each response earns."""
    record = built(example, *said, **options)
    assert isinstance(record, Rollout), record
    return list(record.columns["score"][:: len(record.tokens)])


OPTIONS = f"Which animal is it?\nA. dog\nB. cat\nC. cow{OPTION_LETTER}"
CHECKED: dict[str, tuple[Example, list[str], list[float]]] = {
    "letter": (example("B", OPTIONS), ["B", "(B) cat", "B.", "A", "cat", "Both"], [1, 1, 1, 0, 0, 0]),
    "letter that is a word": (example("A", OPTIONS), ["A", "A dog", "a"], [1, 0, 0]),
    "yes or no": (
        example("Yes, there is a dog.", "Is there a dog?"),
        ["yes", "Yes, it is.", "No.", "Yesterday", "I say yes", ""],
        [1, 1, 0, 0, 0, 0],
    ),
    "a word": (example("Red.", "What color is it?"), ["red", "The RED", "red dog", "blue", ""], [1, 1, 0, 0, 0]),
    "a phrase": (
        example("the house at the end of the road", f"What is it?{SHORT_ANSWER}"),
        ["House at the end of the road.", "house"],
        [1, 0],
    ),
    "a long title": (
        example("The Hidden Rivers of the Far North", "What is the title?", "ocrvqa"),
        ["the hidden rivers of far north", "Hidden Rivers"],
        [1, 0],
    ),
    "a caption": (
        example("A dog and two cats sit on a wooden bench in the park."),
        ["A dog and a cat.", "A dog with a frisbee.", "Dogs, dogs, a horse and a frisbee."],
        [0, -1 / 2, -2 / 4],
    ),
}


@pytest.mark.parametrize("case", CHECKED)
def test_a_rule_checks_the_answer(case: str) -> None:
    asked, said, wanted = CHECKED[case]
    assert rewards(asked, *said) == pytest.approx(wanted)


def test_dapo_s_wrong_answers_earn_minus_one() -> None:
    assert rewards(example("Red.", "What color is it?"), "red", "blue", objective="dapo") == [1, -1]


def test_captions_are_rewarded_by_a_list_of_one_s_own(tmp_path: Path) -> None:
    listed = tmp_path / "objects.txt"
    listed.write_text("robot, robots\nlamp, lamps\n")
    asked, options = example("Two robots stand beside each other in a hall."), {"objects": str(listed)}
    assert rewards(asked, "A robot.", "A robot and a lamp.", **options) == [0, -0.5]
    assert Grpo(**options).sources == (listed,) and Grpo().sources == ()
    listed.write_text("\n")
    with pytest.raises(UsageError, match=r"objects\.txt names no object"):
        built(asked, "A robot.", "x", **options)


def count(errors: dict[str, int | str]) -> dict[str, Callable[[Ask], str | Unscored]]:
    """A writer that finds so many errors in a response, or says something else."""

    def reply(ask: Ask) -> str | Unscored:
        many = errors[ask.facts["response"]]
        error = '{"level": "instance", "type": "count", "evidence": ""}'
        return f'{{"errors": [{", ".join([error] * many)}]}}' if isinstance(many, int) else many

    return {"replies": reply}


LONG = example("A red dog lies on the left of a small blue cup in the sun.")


def test_the_writer_counts_errors_where_it_is_told_to() -> None:
    script = count({"good": 0, "bad": 3, "worse": 4})
    assert rewards(LONG, "good", "bad", "worse", captions="judge", script=script) == [0, -3, -4]
    assert Grpo(captions="judge").needs_writer and not Grpo().needs_writer


def test_a_reply_that_is_none_leaves_the_group_and_is_never_0() -> None:
    """Of three responses two are left: their mean is -2, not -4/3."""
    record = built(LONG, "one", "lost", "three", captions="judge", script=count({"one": 1, "lost": "hm", "three": 3}))
    assert isinstance(record, Rollout) and len(record.responses) == 2
    assert record.columns["score"] == (-1.0,) * 3 + (-3.0,) * 3
    assert sum(record.columns["advantage"]) == pytest.approx(0)


UNABLE = Response("", "", 0, unanswered="the prompt is longer than the model")


@pytest.mark.parametrize(
    ("said", "options", "reason"),
    [
        ((UNABLE, UNABLE), {}, "fewer than two responses have a reward: the prompt is longer than the model"),
        (("A dog.", "Nothing."), {}, "fewer than two responses have a reward: it mentions no object"),
        (("A dog.", Response("", "A cat.", 0)), {}, "fewer than two responses have a reward: no token was sampled"),
        (("one", "lost"), {"captions": "judge"}, "fewer than two responses have a reward: the reply is not the JSON "),
        (("A dog.", "Dogs."), {"objective": "dapo"}, "all responses earn the same"),
        ((Response("", "A dog.", 3, 5, (1, 2), False),) * 2, {"overlong": "filter"}, "every response was cut off"),
    ],
)
def test_no_group_is_made_of_one_or_of_nothing(said: Any, options: dict[str, Any], reason: str) -> None:
    made = built(LONG, *said, script=count({"one": 1, "lost": "hm"}), **options)
    assert isinstance(made, Dropped) and made.reason.startswith(reason)


def test_an_empty_response_is_one() -> None:
    """The end token alone was sampled: a wrong answer."""
    nothing = Response("", "", 0, 5, (2,))
    assert rewards(example("Red.", "What color is it?"), "red", "blue", nothing)[1:3] == [0, 0]


@pytest.mark.parametrize("objective", ["grpo", "gspo"])
def test_a_group_of_equal_rewards_has_advantages_of_0(objective: str) -> None:
    """Whatever floats do: 0.1 + 0.2 and 0.3 are one reward."""
    record = built(LONG, "A dog, a cat, a frisbee.", "A dog, a cup.", "A cup.", objective=objective)
    assert isinstance(record, Rollout) and any(record.columns["advantage"])
    record = built(LONG, "A dog.", "A cup.", "Dogs.", objective=objective)
    assert isinstance(record, Rollout) and not any(record.columns["advantage"])
    assert not losses.group_advantages(torch.tensor([0.1 + 0.2, 0.3, 0.3], dtype=torch.float64)).any()


def test_advantages_are_by_group() -> None:
    """Two prompts, one easy, one hard: within each the better response is above, whatever the other prompt's earn."""
    examples = [example("Red.", "What color is it?"), example("A dog sits on a bench in a park.", id="two")]
    colours = {"one": ("red", "blue"), "two": ("A frisbee and a horse.", "A horse and a dog.")}

    class Two(Group):
        def respond(self, prompts: Sequence[Prompt], *rest: Any, **how: Any) -> list[Response]:
            said = [colours[prompt.id.partition("#")[0]][int(prompt.id[-1])] for prompt in prompts]
            return [Response(p.id, text, 2, 5, (11, 12, 2)) for p, text in zip(prompts, said, strict=True)]

    one, two = Grpo(group=2).build(examples, Two())
    assert isinstance(one, Rollout) and isinstance(two, Rollout)
    half = 0.5**0.5  # (R - mean) / std of two
    assert one.columns["advantage"] == pytest.approx((half,) * 3 + (-half,) * 3)
    assert two.columns["advantage"] == pytest.approx((-half,) * 3 + (half,) * 3)


def over_everything(rewards: torch.Tensor, epsilon: float = 0.0) -> torch.Tensor:
    """The mutant: as if both groups, of rewards 1, 0, -1 and -1/2, were one."""
    whole = torch.tensor([1.0, 0.0, -1.0, -0.5])
    return (rewards - whole.mean()) / whole.std()


@pytest.mark.parametrize(
    "wrong", [over_everything, lambda rewards, epsilon=0.0: -right(rewards)], ids=["over the batch", "sign"]
)
def test_other_advantages_would_be_caught(monkeypatch: pytest.MonkeyPatch, wrong: Any) -> None:
    monkeypatch.setattr(losses, "group_advantages", wrong)
    caught(test_advantages_are_by_group)


right = losses.group_advantages


def test_trl_adds_to_the_standard_deviation() -> None:
    record = built(example("Red.", "What color is it?"), "red", "blue", variant="as_shipped")
    assert isinstance(record, Rollout)
    assert record.columns["advantage"][0] == pytest.approx(0.5 / (0.5**0.5 + 1e-4), rel=1e-6)


def long(tokens: int, ended: bool = True) -> Response:
    return Response("", "red", tokens, 5, (7,) * tokens, ended)


def test_dapo_charges_for_length() -> None:
    """Eq. 13 with a limit of 10 and a last part of 4: free up to 6, 1 at 10, and 1 for what was cut off."""
    said = (long(6), long(7), long(8), long(10), long(10, ended=False), "blue")
    options = {"objective": "dapo", "response_length": 10, "overlong_share": 0.4}
    record = built(example("Red.", "What color is it?"), *said, **options)
    assert isinstance(record, Rollout)
    starts = [sum(map(len, record.responses[:at])) for at in range(6)]
    assert [record.columns["score"][at] for at in starts] == pytest.approx([1, 0.75, 0.5, 0, 0, -1])
    kept = built(example("Red.", "What color is it?"), *said, **options, overlong="keep")
    assert isinstance(kept, Rollout) and {*kept.columns["score"]} == {1.0, -1.0}
    assert rewards(example("Red.", "What color is it?"), long(10, False), "blue", response_length=10)[0] == 1


def test_what_was_cut_off_can_leave_the_loss_and_stay_in_the_mean() -> None:
    said = ("red", "blue", long(4, ended=False))
    record = built(example("Red.", "What color is it?"), *said, overlong="filter")
    whole = built(example("Red.", "What color is it?"), *said)
    assert isinstance(record, Rollout) and isinstance(whole, Rollout)
    assert record.responses == whole.responses[:2]
    assert record.columns["advantage"] == whole.columns["advantage"][:6]


def test_a_record_has_what_its_loss_needs() -> None:
    """Log-probs of policy and base for every token of every response; without a divergence the base is not asked."""
    asked = list[Role]()

    def figures(record: Record, role: Role) -> tuple[float, ...]:
        assert isinstance(record, Rollout)
        asked.append(role)
        return tuple(-0.1 * at for at in range(sum(map(len, record.responses))))

    record = built(LONG, "A dog.", long(5), "A horse.", script={"figures": figures})
    assert isinstance(record, Dropped | Rollout) and asked == [Role.POLICY, Role.REFERENCE]
    assert isinstance(record, Rollout) and record.responses == ((11, 12, 2), (11, 12, 2))  # "red" names no object
    assert record.columns["old_policy"] == record.columns["reference"] == pytest.approx([-0.1 * at for at in range(6)])
    asked.clear()
    free = built(LONG, "A dog.", "A horse.", objective="dapo", script={"figures": figures})
    assert isinstance(free, Rollout) and "reference" not in free.columns and asked == [Role.POLICY]


def test_a_group_that_a_model_cannot_read_is_dropped() -> None:
    lost = Dropped("one", "too long for the policy to read")
    assert built(LONG, "A dog.", "A cat.", script={"figures": lambda record, role: lost}) == lost


def test_data_with_nothing_to_check_are_refused_with_the_cure() -> None:
    vague = example("It is lovely, and the weather seems to be fine.")
    with pytest.raises(UsageError, match=r"can reward nothing in 1 examples of llava150k: .*captions=judge: by the"):
        built(vague, "x", "y")
    [one, other] = Grpo(group=2).build([vague, replace(LONG, id="two")], Group("A dog.", "A cat."))
    assert one == Dropped("one", "no rule can check its answer") and isinstance(other, Rollout)


@pytest.mark.parametrize(
    "options", [{"group": 1}, {"steps": 0}, {"inner_epochs": 0}, {"temperature": 0.0}, {"overlong_share": 2.0}]
)
def test_settings_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="grpo"):
        Grpo(**options)


def test_rounds_share_the_prompts_and_sample_afresh() -> None:
    method, numbers = Grpo(group=2), list(range(19))
    parts = [method.lesson(number).part for number in range(method.rounds)]
    assert sorted(n for first, every in parts for n in numbers[first::every]) == numbers
    rounds = [Group("A dog.", "A cat.", number=number) for number in (0, 1)]
    for round in rounds:
        list(method.build([LONG], round))
    assert {p.id for p in rounds[0].prompts}.isdisjoint(p.id for p in rounds[1].prompts)
