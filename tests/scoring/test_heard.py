"""What a judge said, shown beside what it was asked: by a real client, with kept replies, whatever the benchmark."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark
from harness.contracts.records import Item, Response, Score
from harness.contracts.settings import Judging
from harness.judging.journal import Journal
from harness.judging.llm import Llm
from harness.mini.benchsets import write_benchmark
from harness.scoring.heard import Heard, heard, kept
from harness.scoring.verdicts import combined, keep_verdicts, score_runs
from tests.benchmarks.layouts import Files
from tests.judging.fake import QUICK, serving

Answers = Callable[[dict[str, Any], int], str]


class World:
    """A judged benchmark of the embedded world, scored by a judge on a server in so many runs, and what it kept."""

    def __init__(self, name: str, folder: Path, answers: Answers, runs: int = 1) -> None:
        self.benchmark: Benchmark = plugins.make("benchmarks", name, Benchmark, {})
        write_benchmark(name, 0, 24, folder / "data")
        self.items: list[Item] = list(self.benchmark.items(folder / "data", Files()))
        self.said = {one.id: Response(one.id, f"It is {one.facts['answer']}, I think.", 5) for one in self.items}
        self.sent: list[str] = []

        def reply(body: dict[str, Any], times: int) -> str:
            self.sent.append(body["messages"][0]["content"])
            return answers(body, times)

        with serving(reply):
            judge = Llm("gpt-4-0613", Judging(runs=runs), QUICK, Journal(folder / "journal"), (30.0, 60.0), folder)
            made = score_runs(self.benchmark, self.items, self.said, judge)
        self.runs = made
        keep_verdicts(folder, self.benchmark, self.items, judge, made, combined(made))
        self.kept = kept(folder / "replies.jsonl")

    def heard(self, item: Item) -> list[Heard]:
        return heard(self.benchmark, item, self.said[item.id], self.kept)


def grades(body: dict[str, Any], times: int) -> str:
    """A verdict of every form, with what it thought before it."""
    return f"<think>hm, {len(body['messages'][0]['content'])}</think> 0.5\nRating: 4"


@pytest.mark.parametrize(("name", "form"), [("mmvet", "0.5"), ("mmhal", "Rating: 4")])
def test_each_item_has_the_prompt_that_was_sent_the_reply_as_it_came_and_its_score(
    name: str, form: str, tmp_path: Path
) -> None:
    world = World(name, tmp_path, lambda body, times: f"<think>hm</think> {form}")
    for item, score in zip(world.items, world.runs[0], strict=True):
        [one] = world.heard(item)
        assert one.question in world.sent and world.said[item.id].text[:6] in one.question
        assert one.reply == f"<think>hm</think> {form}" and one.model.startswith("gpt-4-0613-day1")
        assert one.server == "127.0.0.1" and one.usd
        assert isinstance(score, Score)
        assert one.made == ", ".join(f"{part} {value:g}" for part, value in score.parts.items() if value)
    every = [world.heard(item)[0] for item in world.items]
    assert len({one.question for one in every}) == len(world.items)
    paid = json.loads((tmp_path / "judge.json").read_text())["usd"]
    assert math.fsum(one.usd or 0.0 for one in every) == pytest.approx(paid)


def test_runs_are_told_apart_and_a_reply_that_nobody_could_read_was_asked_again(tmp_path: Path) -> None:
    def answers(body: dict[str, Any], times: int) -> str:
        return "0.25" if "could not be read" in body["messages"][0]["content"] else ["Good.", "1.0"][times - 1]

    world = World("mmvet", tmp_path, answers, runs=2)
    for item in world.items:
        first, again, second = sorted(world.heard(item), key=lambda one: (one.run, "read" in one.question))
        if first.reply != "Good.":  # whose question was the server's second
            continue
        assert (first.made, again.run) == ("not readable, so it was asked again", 0)
        assert "could not be read" in again.question and again.reply == "0.25" and "0.25" in again.made
        assert (second.run, second.reply) == (1, "1.0")


def test_what_is_no_verdict_twice_is_shown_with_the_reason(tmp_path: Path) -> None:
    world = World("mmvet", tmp_path, lambda body, times: "Splendid!" if "colo" not in str(body) else "1.0")
    lost = [told for item in world.items if (told := world.heard(item))[-1].reply == "Splendid!"]
    assert lost and all(len(told) == 2 and told[1].made.startswith("unscored: the reply is not") for told in lost)


def test_with_replies_of_other_items_other_scores_would_be_made(tmp_path: Path) -> None:
    """The mutant: replies that do not go with their questions."""
    world = World("mmvet", tmp_path, lambda body, times: f"0.{len(str(body)) % 10}")
    turned = dict(zip(world.kept, [*list(world.kept.values())[1:], next(iter(world.kept.values()))], strict=True))
    mine = [[one.made for one in world.heard(item)] for item in world.items]
    world.kept = turned
    assert [[one.made for one in world.heard(item)] for item in world.items] != mine


def test_a_question_whose_reply_is_not_kept_says_so(tmp_path: Path) -> None:
    world = World("mmvet", tmp_path, grades)
    item = world.items[0]
    world.kept = {key: reply for key, reply in world.kept.items() if key[0] != f"mmvet/{item.id}"}
    [one] = world.heard(item)
    assert (one.reply, one.made, one.usd) == ("", "unscored: no reply to it is kept", None)


def test_items_of_another_version_are_shown_without(tmp_path: Path) -> None:
    world = World("mmvet", tmp_path, grades)
    assert world.heard(replace(world.items[0], facts={})) == []


def test_a_judge_of_ones_own_may_keep_what_it_likes(tmp_path: Path) -> None:
    lines = ['{"id": "mmvet/1", "text": "0.5"}', '{"verdict": 1}', "[]", "no JSON", '{"id": 1, "text": null}']
    (tmp_path / "replies.jsonl").write_text("\n".join([*lines, '{"id": "mmvet/2", "text": "1", "run": 1, "more": []}']))
    found = kept(tmp_path / "replies.jsonl")
    assert [(key, reply.text, reply.usd) for key, reply in found.items()] == [
        (("mmvet/1", 0), "0.5", None),
        (("mmvet/2", 1), "1", None),
    ]
