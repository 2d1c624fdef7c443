"""What a judge was asked about an item and said, as it came: the replies that a score stage kept, scored once more.

Scoring runs again, with the kept replies for answers: so the question beside each reply is the whole prompt that the
judge read, and what was made of it is what scoring makes of it, not a guess from ids.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.contracts.benchmark import Benchmark
from harness.contracts.judge import Ask, Repeat, spoken
from harness.contracts.records import Item, Response, Score, Unscored
from harness.scoring.verdicts import REPLIES, scored
from harness.system.jsonl import loads
from harness.system.untrusted import DATA, fits, opened

__all__ = ["REPLIES", "Heard", "Kept", "heard", "kept"]


@dataclass(frozen=True, slots=True)
class Reply:
    """A line of `replies.jsonl`: whose question it answers, and where the judge's account says so, who and for what."""

    id: str
    text: str
    run: int = 0
    model: str = ""
    server: str = ""
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """A question, the raw reply ("" where none is kept) and what was made of it; `usd` None where nobody knows."""

    run: int
    question: str
    reply: str
    made: str
    model: str
    server: str
    usd: float | None


Kept = Mapping[tuple[str, int], Reply]


def kept(file: Path) -> Kept:
    """The replies of a stage by question and run. A judge may keep what it likes; other lines are none."""
    found = dict[tuple[str, int], Reply]()
    with opened(file, limit=DATA) as lines:
        for line in lines:
            fits(text := line.decode("utf-8"), str(file))
            try:
                reply = loads(Reply, text)
            except ValueError:
                continue
            found[reply.id, reply.run] = reply
    return found


@dataclass
class Replay:
    """A judge who says what was kept, and remembers what it was asked."""

    replies: Kept
    name: str = "replayed"
    asked: list[tuple[Ask, Reply | None]] = field(default_factory=list)

    def reply(self, ask: Ask) -> str | Unscored:
        """The kept reply, without its reasoning; Unscored where there is none."""
        found = self.replies.get((ask.id, ask.run))
        self.asked.append((ask, found))
        return (found and spoken(found.text)) or Unscored(ask.id, "no reply to it is kept")


def heard(benchmark: Benchmark, item: Item, response: Response, replies: Kept) -> list[Heard]:
    """What was asked about a response, run by run; empty where nothing was, or items are of another version."""
    told = list[Heard]()
    for run in range(1 + max((run for _, run in replies), default=-1)):
        replay = Replay(replies)
        try:
            score = scored(benchmark, item, response, Repeat(replay, run))
        except (KeyError, TypeError, AttributeError, ValueError):
            return []
        for number, (ask, reply) in enumerate(replay.asked, 1):
            made = _made(score) if number == len(replay.asked) else "not readable, so it was asked again"
            who = (reply.model, reply.server, reply.usd) if reply else ("", "", None)
            told.append(Heard(run, ask.prompt, reply.text if reply else "", made, *who))
    return told


def _made(score: Score | Unscored) -> str:
    """A score in words: its parts that are not 0, or why there is none."""
    if isinstance(score, Unscored):
        return f"unscored: {score.reason}"
    return ", ".join(f"{name} {value:g}" for name, value in score.parts.items() if value) or "every part 0"
