"""Replies that are there already: "script:FILE"."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.contracts.judge import Ask, spoken
from harness.contracts.judge_kind import Hired, JudgeKind, Post
from harness.contracts.records import Unscored
from harness.store.digest import file_digest
from harness.system.errors import UsageError
from harness.system.untrusted import DATA, json_object


class Scripted(JudgeKind):
    """A JSON file of replies by the ids of their questions."""

    form = "script:FILE"
    told = False
    takes_file = True

    def unusable(self) -> str:
        """That no file is named, or none is there."""
        if not self.rest:
            return f'"{self.name}" names no file; write {self.form}'
        return "" if Path(self.rest).is_file() else f'"{self.name}": there is no file {self.rest}'

    def identity(self) -> Mapping[str, Any]:
        """What the file says, wherever it lies."""
        return {"script": file_digest(Path(self.rest))}

    def hire(self, post: Post) -> "Script":
        """The file, read."""
        return Script(Path(self.rest))


class Script(Hired):
    """Replies from a JSON file that maps an ask's id ("mmvet/v1_0") to a reply: saved ones, or made up for a test.

    A number is read as its text. UsageError, which names the record, for anything else that is no text.
    """

    def __init__(self, path: Path) -> None:
        self.name = f"script:{path.name}"
        self.saved: dict[str, str] = {}
        for id, reply in json_object(path, "script of replies", DATA).items():
            number = isinstance(reply, int | float) and not isinstance(reply, bool)
            if not number and not isinstance(reply, str):
                told = type(reply).__name__ if isinstance(reply, dict | list) else json.dumps(reply)
                raise UsageError(f'{path}: the reply to "{id}" is no text but {told}; write its text, or leave it out.')
            self.saved[id] = json.dumps(reply) if number else reply

    def reply(self, ask: Ask) -> str | Unscored:
        """The reply in the file, whatever the run."""
        if ask.id not in self.saved:
            return Unscored(ask.id, f"{self.name} has no reply to {ask.id}")
        return spoken(self.saved[ask.id]) or Unscored(ask.id, f"{self.name} has an empty reply to {ask.id}")
