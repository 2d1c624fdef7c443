"""Every file in methods/ and tests/outside/method/ keeps the method's promises: it is tested by being there."""

import dataclasses

import pytest
import torch
from scripted import EXAMPLES, Scripted

from harness.contracts import plugins
from harness.contracts.method import Lesson, Method
from harness.contracts.records import Conversation, Dropped, Pair, Rollout
from harness.contracts.settings import Training
from harness.models.logps import LogProbs
from tests.seams.found import found
from tests.trainings import ROLLOUT

METHODS = found("method")


def made(name: str) -> Method:
    return plugins.make("methods", name, Method, {})


LESSONS = [(name, number) for name in METHODS for number in sorted({0, made(name).rounds - 1})]


@pytest.mark.parametrize(("name", "number"), LESSONS)
def test_a_round_builds_one_record_per_example_of_its_part_in_order(name: str, number: int) -> None:
    first, every = made(name).lesson(number).part
    part = (EXAMPLES * every)[first::every]
    records = list(made(name).build(part, Scripted(number=number)))
    assert [record.id for record in records] == [example.id for example in part]
    assert all(isinstance(record, Conversation | Pair | Rollout | Dropped) for record in records)


def test_the_parts_of_ppo_s_rounds_are_all_examples_once() -> None:
    method, numbers = made("ppo"), list(range(19))
    parts = [method.lesson(number).part for number in range(1, method.rounds)]
    assert sorted(n for first, every in parts for n in numbers[first::every]) == numbers


def logps(lesson: Lesson) -> LogProbs:
    """One record of two tokens an answer, with everything the lesson asks for."""
    answers = sum(lesson.answers) if lesson.unit == "record" and not lesson.sampled else 2
    figures = [-1.0, -2.0, -0.5, -3.0, -1.5, -2.5, -0.7, -0.2][: 2 * answers]
    columns = {name: torch.tensor(figures, requires_grad=True) for name in lesson.columns}
    if "reward" in columns:
        columns["reward"] = torch.tensor([0.5, 0.1], requires_grad=True)
    columns |= {f"reference/{name}": values.detach() - 0.1 for name, values in columns.items() if lesson.reference}
    if lesson.sampled:
        columns |= {name: torch.tensor([-1.1, -2.1, 0.4, -2.9]) for name in ROLLOUT}
    policy = columns.get("policy", torch.zeros(0))
    owner = torch.arange(answers).repeat_interleave(2)
    return LogProbs(policy, columns.get("reference/policy"), owner, torch.zeros(answers, dtype=torch.int64), columns)


@pytest.mark.parametrize(("name", "number"), LESSONS)
def test_a_loss_is_finite_has_one_value_per_unit_and_a_gradient(name: str, number: int) -> None:
    lesson = made(name).lesson(number)
    given = logps(lesson)
    loss = made(name).loss(given)
    assert len(loss.values) == (4 if lesson.unit == "token" else 1)
    loss.values.sum().backward()
    assert torch.isfinite(loss.values).all()
    learnt = [given.columns[column] for column in lesson.columns]
    assert all(values.grad is not None and values.grad.abs().sum() > 0 for values in learnt)
    assert not any(metric.requires_grad for metric in loss.metrics.values())


@pytest.mark.parametrize(("name", "number"), LESSONS)
def test_what_a_lesson_sets_are_training_arguments(name: str, number: int) -> None:
    assert Training.model_validate(dict(made(name).lesson(number).training))


@pytest.mark.parametrize("name", METHODS, ids=plugins.stem)
def test_every_option_says_what_it_is_and_where_its_default_comes_from(name: str) -> None:
    for option in dataclasses.fields(made(name)):
        assert option.metadata.get("help") and option.metadata.get("source"), f"{name}.{option.name}"


@pytest.mark.parametrize("name", METHODS, ids=plugins.stem)
def test_a_method_says_its_label_and_explains_itself(name: str) -> None:
    assert made(name).label
    assert (plugins.module("methods", name).__doc__ or "").strip()
