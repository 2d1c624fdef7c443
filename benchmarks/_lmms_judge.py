"""A judge of ours where one of lmms-eval's tasks asks an LLM, so that its replies are paid, kept and counted as any.

Tasks ask through one door, `lmms_eval.llm_judge`; this file, once imported, stands behind it. A task runs with the
replies that are known. Where it asks for one more it is stopped, the judge is asked, and it runs again: nothing is
asked from within others' code, which takes a call that failed for a wrong answer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lmms_eval.llm_judge import ProviderFactory, Request, Response, ServerInterface

from benchmarks._lmms_guard import Called

Made = TypeVar("Made")


@dataclass(frozen=True)
class Question:
    """What a task asks its judge: the whole text, and how many tokens the reply may have."""

    prompt: str
    max_tokens: int


class NoVerdict(Exception):
    """Why what a judge says comes to nothing."""


class _Stopped(BaseException):
    """A task goes no further: for want of a reply, or for good. No Exception, for the reason that `Called` is none."""

    def __init__(self, want: Question | str) -> None:
        self.want = want


@dataclass
class _Run:
    """A task's code under way: the replies that it may have, in the order of its questions, and how many it had."""

    replies: list[tuple[Question, str]] = field(default_factory=list)
    told: int = 0


_running: list[_Run] = []


class Lent(ServerInterface):  # type: ignore[misc]
    """What a task is given in place of the server that it names."""

    def is_available(self) -> bool:
        """Always."""
        return True

    def evaluate(self, request: Request) -> Response:
        """The reply, where it is known."""
        if not _running:
            raise Called
        run, config = _running[-1], request.config or self.config
        texts = [config.system_prompt, *map(_text, request.messages)]
        if request.images or None in texts[1:]:
            raise _Stopped("the task shows its judge a picture, and judges of tasks are asked in words here")
        question = Question("\n\n".join(filter(None, texts)), config.max_tokens)
        run.told += 1
        if run.told <= len(run.replies):
            return Response(content=run.replies[run.told - 1][1], model_used="")
        again = [reply for asked, reply in run.replies if asked.prompt == question.prompt]
        raise _Stopped(f"the task cannot read the reply {again[-1][-80:]!r}" if again else question)


for _name in ProviderFactory._provider_classes:
    ProviderFactory.register_provider(_name, Lent)


def _text(message: Mapping[str, Any]) -> str | None:
    """A message's text; None where there is anything else in it."""
    parts = message["content"]
    parts = [{"type": "text", "text": parts}] if isinstance(parts, str) else parts
    return "\n".join(part["text"] for part in parts) if all(part.get("type") == "text" for part in parts) else None


def judged(work: Callable[[], Made], ask: Callable[[Question, int], str]) -> Made:
    """What a task's code gives once it has all replies; `ask` gives the reply to a question, and counts them from 0.

    NoVerdict as `ask` raises it, and where the code asks the same again, as it does when it cannot read the reply.
    """
    replies = list[tuple[Question, str]]()
    while True:
        _running.append(_Run(replies))
        try:
            return work()
        except _Stopped as stopped:
            want = stopped.want
        finally:
            _running.pop()
        if isinstance(want, str):
            raise NoVerdict(want)
        replies.append((want, ask(want, len(replies))))
