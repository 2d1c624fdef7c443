"""Finds the kind of judge or writer that words name: "openai:MODEL", "script:FILE", or a file of the user's own."""

from collections.abc import Iterator, Mapping
from typing import Literal

from harness import plugins
from harness.config import Chat, Price, Testbed
from harness.contracts.judge_kind import JudgeKind
from harness.types import UsageError

Office = Literal["judge", "writer"]
OFFICES: tuple[Office, ...] = ("judge", "writer")
JUDGES = "harness.judges"


def kind_of(words: str, chat: Chat, prices: Mapping[str, Price]) -> JudgeKind:
    """What the words name, asked as `chat` says; UsageError that lists the kinds where they name nothing."""
    which, rest = plugins.parted(words)
    if not which.endswith(".py") and which not in plugins.installed(JUDGES):
        raise UsageError(
            f'"{words or "none"}" is not available; write {", ".join(forms())} or a file of yours, ./mine.py.'
        )
    cls: type[JudgeKind] = plugins.plugin(JUDGES, which, JudgeKind)
    return cls(plugins.called(words), rest, plugins.source(JUDGES, which), chat, prices)


def kind_for(role: Office, testbed: Testbed) -> JudgeKind:
    """The testbed's."""
    return kind_of(getattr(testbed, role), testbed.judging if role == "judge" else testbed.writing, testbed.prices)


def forms() -> Iterator[str]:
    """How each kind that comes with the harness is written."""
    for name in plugins.installed(JUDGES):
        yield plugins.plugin(JUDGES, name, JudgeKind).form


def problem(role: Office, testbed: Testbed) -> str:
    """What keeps the testbed's judge or writer from answering, with the cure; empty where nothing does."""
    try:
        return kind_for(role, testbed).unusable()
    except UsageError as error:
        return str(error)
