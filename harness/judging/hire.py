"""Finds the kind of judge or writer that words name: "openai:MODEL", "script:FILE", or a file of the user's own."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from harness.contracts import plugins
from harness.contracts.behind import TESTBEDS, behind
from harness.contracts.judge_kind import JUDGES, Hired, JudgeKind, Post, called
from harness.contracts.settings import Chat, Price, Testbed
from harness.contracts.testbed_kind import TestbedKind
from harness.store.closure import code
from harness.system.errors import UsageError

Office = Literal["judge", "writer"]
OFFICES: tuple[Office, ...] = ("judge", "writer")


def kind_of(words: str, chat: Chat, prices: Mapping[str, Price], testbed: TestbedKind | None = None) -> JudgeKind:
    """What the words name, asked as `chat` says, where `testbed` may have words of its own.

    UsageError that lists the kinds where they name nothing.
    """
    which, rest = plugins.parted(words)
    if testbed and which in testbed.judges:
        cls = testbed.judge(which)
        file = Path(str(sys.modules[cls.__module__].__file__))
    elif which.endswith(".py") and plugins.stem(which) in drawn_judges():
        raise UsageError(f'{which}: "{plugins.stem(which)}" is a judge of a testbed of ours; rename the file.')
    elif which.endswith(".py") or which in plugins.installed(JUDGES):
        cls = plugins.plugin(JUDGES, which, JudgeKind)
        file = plugins.source(JUDGES, which)
    else:
        known = [plugins.plugin(JUDGES, name, JudgeKind).form for name in plugins.installed(JUDGES)]
        listed = ", ".join([*(testbed.judges if testbed else ()), *known])
        raise UsageError(f'"{words or "none"}" is not available; write {listed} or a file of yours, ./mine.py.')
    return cls(called(words), rest, file, chat, prices)


def drawn_judges() -> set[str]:
    """Words for judges that testbeds of ours have."""
    kinds = (plugins.plugin(TESTBEDS, name, TestbedKind) for name in plugins.installed(TESTBEDS))
    return {word for kind in kinds for word in kind.judges}


def kind_for(role: Office, testbed: Testbed) -> JudgeKind:
    """The testbed's."""
    chat = testbed.judging if role == "judge" else testbed.writing
    return kind_of(getattr(testbed, role), chat, testbed.prices, behind(testbed.data))


def answering(words: str, testbed: Testbed) -> JudgeKind:
    """Who answers a row of the table, by its words."""
    return kind_of(words, testbed.answering, testbed.prices)


def identity(kind: JudgeKind) -> dict[str, Any]:
    """What identifies a judge or writer in keys: what it says of itself, and its code."""
    return {**plugins.plain(kind.identity(), kind.name), **code(kind.file)}


def hired(kind: JudgeKind, post: Post) -> Hired:
    """Whoever a kind hires; UsageError where that is nobody who could answer."""
    who = kind.hire(post)
    if not isinstance(who, Hired) or not isinstance(getattr(who, "name", None), str):
        raise UsageError(
            f"{kind.name}.hire gives a {type(who).__name__}; wanted: a harness.contracts.judge_kind.Hired with a name."
        )
    return who


def problem(role: Office, testbed: Testbed) -> str:
    """What keeps the testbed's judge or writer from answering, with the cure; empty where nothing does."""
    try:
        return kind_for(role, testbed).unusable()
    except UsageError as error:
        return str(error)
