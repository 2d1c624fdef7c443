"""What a user reads whose own file of a seam is wrong: a sentence with the file, never "please report it"."""

import re
from pathlib import Path
from typing import Any

import pytest

from harness import backends
from harness.contracts import plugins
from harness.contracts.judge import Ask, reply_of
from harness.contracts.judge_kind import Hired, JudgeKind, Post
from harness.contracts.records import Prompt, Response
from harness.contracts.settings import Reading, Runtime
from harness.contracts.source import Source
from harness.judging.hire import hired
from harness.system.blame import called_exit, explained, plugin_fault
from harness.system.errors import HarnessError, Unexpected, UsageError

SEAMS = ["methods", "benchmarks"]
SEAMS += [f"harness.{name}" for name in ("backends", "executors", "families", "judges", "sources", "testbeds")]


def outside(folder: Path, package: str, text: str, name: str = "mine") -> Any:
    """The module of a user's file."""
    file = folder / f"{name}.py"
    file.write_text(text)
    return plugins.module(package, str(file))


@pytest.mark.parametrize("package", SEAMS)
def test_an_exception_of_any_seam_is_told_with_its_file_and_line(package: str, tmp_path: Path) -> None:
    mine = outside(tmp_path, package, "def work():\n    return {}['x']\n")
    with pytest.raises(KeyError) as raised:
        mine.work()
    said = explained(raised.value)
    assert not isinstance(said, Unexpected) and re.search(r"mine\.py:2: KeyError: 'x' \(in work\)", str(said)), said


@pytest.mark.parametrize("package", SEAMS)
@pytest.mark.parametrize("stop", ["SystemExit(0)", "type('Stop', (BaseException,), {})('enough')"])
def test_what_is_no_exception_is_its_own_doing_and_ends_nobody_else(package: str, stop: str, tmp_path: Path) -> None:
    mine = outside(tmp_path, package, f"def work():\n    raise {stop}\n")
    with pytest.raises(BaseException) as raised:
        mine.work()
    assert called_exit(raised.value) and "mine.py:2" in plugin_fault(raised.value)


def test_what_a_class_lacks_is_named(tmp_path: Path) -> None:
    text = "from harness.contracts.{0} import {1}\n\n\nclass Mine({1}):\n    pass\n"
    mine = outside(tmp_path, "harness.judges", text.format("judge_kind", "JudgeKind"))
    with pytest.raises(NotImplementedError) as raised:
        mine.Mine("mine", "", tmp_path).hire(Post(Runtime(), tmp_path))
    assert "mine.py: Mine has no hire, and harness.contracts.judge_kind says" in str(explained(raised.value))
    mine = outside(tmp_path, "harness.sources", text.format("source", "Source"))
    with pytest.raises(NotImplementedError) as raised:
        mine.Mine(tmp_path, tmp_path).load()
    assert "Mine has no records" in str(explained(raised.value))


@pytest.mark.parametrize("given", [None, {"x": object()}, {"x": {1, 2}}, {"x": float("nan")}, ["x"], {("a",): 1}])
def test_an_identity_that_no_key_could_have_is_refused(given: Any) -> None:
    with pytest.raises(UsageError, match=r"mine\.identity gives .* wanted: a dict of texts"):
        plugins.plain(given, "mine")


def test_responses_are_one_for_each_prompt_in_their_order() -> None:
    """Methods tell them apart by their place: two that have changed places would each be trained on as the other's."""
    prompts = [Prompt(id, None, "?") for id in ("a", "b", "c")]
    said = [Response(id, "yes", 1) for id in ("a", "b", "c")]
    backends.insist(said, prompts)
    backends.insist([said[0], said[0], said[1], said[1], said[2], said[2]], prompts, 2)
    for wrong in (said[::-1], said[:2], [*said, said[0]], [], [said[0], said[1], said[1]]):
        with pytest.raises(HarnessError, match="in the order of the prompts"):
            backends.insist(wrong, prompts)
    with pytest.raises(HarnessError, match="part at number 4"):  # one candidate too few for b, one too many for c
        backends.insist([said[at] for at in (0, 0, 1, 2, 2, 2)], prompts, 2)
    for strange in (None, ["yes"], "yes"):
        with pytest.raises(HarnessError, match="for a Response"):
            backends.insist(strange, prompts)


class One(Hired):
    """Replies what it was given."""

    def __init__(self, reply: Any) -> None:
        self.given = reply

    def reply(self, ask: Ask) -> Any:
        return self.given


@pytest.mark.parametrize("reply", [1, 0.5, None, b"1", ["1"]])
def test_a_reply_that_is_no_text_is_refused_under_the_name_of_who_gave_it(reply: Any) -> None:
    who = One(reply)
    who.name = "mine"
    with pytest.raises(HarnessError, match=r"mine replies with a .*; wanted: a text, or Unscored"):
        reply_of(who, Ask("a", "mmvet", None, "?"))


@pytest.mark.parametrize("who", [None, "somebody", One("without a name")])
def test_who_is_hired_can_answer_and_has_a_name(who: Any, tmp_path: Path) -> None:
    class Mine(JudgeKind):
        def hire(self, post: Post) -> Any:
            return who

    with pytest.raises(UsageError, match=r"mine\.hire gives a .*; wanted: a .*Hired with a name"):
        hired(Mine("mine", "", tmp_path), Post(Runtime(), tmp_path))


@pytest.mark.parametrize("given", [None, 7, [("a", "b", "c")], ["ab"], [(1, "record")], {"a": 1}])
def test_records_of_a_source_are_pairs(given: Any) -> None:
    class Mine(Source):
        def records(self, reading: Reading) -> Any:
            return given

    with pytest.raises(UsageError, match="records must give pairs: a text, which is the id"):
        Mine().load()
