"""Several sizes in one command: splits that are prefixes, and work that is found again."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness import rounds, sampler
from harness.data import llava150k
from harness.method import Lesson
from harness.mini.sources import write_source
from harness.plan import plan
from harness.profile import quiet
from harness.request import request
from harness.sizes import parsed
from harness.split import split
from harness.steps import Plan, Step
from harness.store import Stage, Store
from harness.types import Prompt, Response, UsageError


def planned(size: int, pool: int) -> Plan:
    """The plan of one size."""
    bed, asked, _ = request("dpo", "llava150k", "", "mini", 1, "gqa", size, 20, None, 1)
    return plan(replace(asked, pool=pool), bed)


def test_a_smaller_split_is_a_prefix_of_a_larger_one(tmp_path: Path) -> None:
    write_source("llava150k", "alignment", 0, 12, tmp_path)
    small, large = (split(partial(llava150k.load, tmp_path), n, 0).examples for n in (4, 9))
    assert small == large[:4]


def test_sizes_share_data_and_the_baselines_cells_and_nothing_that_depends_on_the_split() -> None:
    small, large = planned(4, 8), planned(8, 8)
    shared = {step.key for step in small.steps} & {step.key for step in large.steps}
    kinds = sorted(step.stage.kind for step in small.steps if step.key in shared and step.stage.kind != "crosscheck")
    assert kinds == ["data", "data", "generate", "items", "score"]
    apart = {step.key for step in planned(4, 4).steps} & {step.key for step in large.steps}
    assert len(apart) == len(shared) - 1  # without a common pool the world draws another source


def test_own_responses_of_a_prefix_are_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def respond(folder: Path, prompts: list[Prompt], *how: Any, **more: Any) -> list[Response]:
        asked.extend(prompt.id for prompt in prompts)
        return [Response(prompt.id, prompt.question, 1) for prompt in prompts]

    monkeypatch.setattr(sampler, "respond", respond)
    monkeypatch.setattr(rounds, "PREFIX", 2)
    bed, _, runtime = request("dpo", "llava150k", "", "mini", 1, "gqa", 4, 20, None, 1)
    round = rounds.OwnRound(
        number=0,
        seed=0,
        asked=rounds.NoWriter(),
        step=Step("build", Stage("build", {"response_tokens": 8, "dtype": "float32"})),
        store=Store(tmp_path),
        testbed=bed,
        runtime=runtime,
        lesson=Lesson(),
        policy=Path("base"),
        policy_key="m",
        base=Path("base"),
        shelf=tmp_path / "features",
        tick=quiet,
    )
    prompts = [Prompt(str(n), None, f"question {n}") for n in range(7)]
    assert round.respond(prompts[:4]) == [Response(str(n), f"question {n}", 1) for n in range(4)]
    assert [response.id for response in round.respond(prompts)] == [str(n) for n in range(7)]
    assert asked == [str(n) for n in range(7)]
    assert round.respond([]) == []


@pytest.mark.parametrize("text", ["", "250", "250,x", "0,5", "5,5"])
def test_sizes_must_be_two_different_numbers(text: str) -> None:
    with pytest.raises(UsageError, match="at least two"):
        parsed(text)
    assert parsed("1000, 250") == [250, 1000]
