"""Asking somebody who is not the model under test: a judge scores, a writer constructs training text.

Both answer through one interface with text in the form the prompt asks for, so that an oracle, a script and an
LLM go through the same parser. Whoever cannot answer says so with `Unscored`; nobody makes a number up.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar, runtime_checkable

from harness.contracts.records import Image, Unscored
from harness.system.errors import HarnessError

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to a judge or writer.

    `purpose` names the rubric ("mmvet", "mmhal", "nsft"); `prompt` is the whole text an LLM reads; `facts` are
    the pieces it was made from (question, reference, response, ...), for those who need no prose. `image` says what
    it is about; an LLM that can see is shown it only with `see`. `max_tokens` bounds the reply; `run` tells repeats
    of one question apart. `fault` says what is wrong with a reply, "" where nothing is: whoever keeps replies keeps
    none with a fault. `cut`: whether a reply that ends at `max_tokens` is one.
    """

    id: str
    purpose: str
    image: Image | None
    prompt: str
    facts: dict[str, str] = field(default_factory=dict)
    max_tokens: int = 1024
    see: bool = False
    run: int = 0
    fault: Callable[[str], str] | None = None
    cut: bool = False


class Judge(Protocol):
    """Scores a response. `name` identifies it (snapshot included) in keys and tables."""

    @property
    def name(self) -> str:
        """Who it is."""
        ...

    def reply(self, ask: Ask) -> str | Unscored:
        """The reply's text, or why there is none."""
        ...


class Writer(Judge, Protocol):
    """Constructs training text (nSFT's G). The interface is the judge's."""


@runtime_checkable
class Panel(Judge, Protocol):
    """A judge that is slow alone: it answers many questions side by side, and keeps what it answered."""

    def known(self, ask: Ask) -> bool:
        """Whether `reply` gives its reply, or the reason for none, at once."""
        ...

    def ask_all(self, asks: Iterable[Ask]) -> None:
        """Make the replies to all of them known."""
        ...


AGAIN = "\n\nYour last reply to this could not be read. Reply with {form} and nothing else."


def verdict(judge: Judge, ask: Ask, read: Callable[[str], Result | None], form: str) -> Result | Unscored:
    """What `read` makes of the reply, or why there is nothing to be made of it.

    `read` gives None, or raises ValueError with the reason, for a reply that is not `form` ("one number from 0.0 to
    1.0"). Then the judge is asked once more and told the form. A second reply like that is a failure: an LLM's is not
    kept, so the same command asks again.
    """

    def told(reply: str) -> Result | Unscored:
        """What a reply says, or what is wrong with it."""
        try:
            made, why = read(reply), repr(reply[-80:])
        except ValueError as error:
            made, why = None, str(error)
        return Unscored(ask.id, f"the reply is not {form}: {why}") if made is None else made

    def fault(reply: str) -> str:
        """The same for whoever keeps replies."""
        made = told(reply)
        return made.reason if isinstance(made, Unscored) else ""

    reasons = []
    prompt = ask.prompt + AGAIN.format(form=form)
    for asked in (ask, replace(ask, id=f"{ask.id}/again", prompt=prompt, fault=fault)):
        reply = judge.reply(asked)
        made = reply if isinstance(reply, Unscored) else told(reply)
        if not isinstance(made, Unscored):
            return made
        reasons.append(made.reason)
        if isinstance(reply, Unscored):
            break
    return Unscored(ask.id, "; asked again: ".join(dict.fromkeys(reasons)))


def answered(judge: Judge, work: Callable[[Judge], Result]) -> Result:
    """`work(judge)`, the questions of it asked side by side: what it gives does not depend on who answers first.

    `work` runs again and again, each time asking what it came to ask, until a pass asks nothing new. So it must ask
    the same of the same replies; it may be plain code that asks one question after another.
    """
    while isinstance(judge, Panel):
        listed = Listed(judge)
        done = work(listed)
        if not listed.asks:
            return done
        judge.ask_all(listed.asks)
    return work(judge)


class Listed:
    """Stands in for a panel: what it does not know yet is listed and left without a reply."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.asks: list[Ask] = []

    @property
    def name(self) -> str:
        """The panel's."""
        return self.panel.name

    def reply(self, ask: Ask) -> str | Unscored:
        """The known reply, or a place in the list."""
        if self.panel.known(ask):
            return self.panel.reply(ask)
        self.asks.append(ask)
        return Unscored(ask.id, "not asked yet")


def reply_of(judge: Judge, ask: Ask) -> str | Unscored:
    """The judge's reply; HarnessError where it is neither a text nor a reason."""
    reply: object = judge.reply(ask)
    if not isinstance(reply, str | Unscored):
        kind = type(reply).__name__
        raise HarnessError(f"{judge.name} replies with a {kind}; wanted: a text, or Unscored with the reason.")
    return reply


@dataclass(frozen=True)
class Repeat:
    """A judge asked for the `run`-th time."""

    judge: Judge
    run: int

    @property
    def name(self) -> str:
        """The judge's."""
        return self.judge.name

    def reply(self, ask: Ask) -> str | Unscored:
        """Its reply in this run."""
        return reply_of(self.judge, replace(ask, run=self.run))


# Marks around what a model thinks before it answers, by those who serve it raw: <think>, [THINK], ◁think▷; and what
# gpt-oss says before its answer.
OPEN, CLOSE = (
    re.compile(rf"[<\[◁]{slash}(?:think|thinking|thought|reasoning)[>\]▷]", re.IGNORECASE) for slash in ("", "/")
)
FINAL = "<|channel|>final<|message|>"


def spoken(reply: str) -> str:
    """What a reply says once its reasoning is over, without blanks around it; "" where it does not come to an end.

    Everything up to the last closing mark is reasoning, whether it was opened or not: some servers leave the opening
    mark to the prompt.
    """
    text = CLOSE.split(reply)[-1]
    text = text.rpartition(FINAL)[2]
    return "" if OPEN.search(text) or text.lstrip().startswith("<|channel|>") else text.strip()
