"""What somebody else answers to a benchmark: a model behind an API, for a row that nobody trains."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.contracts.images import resolved
from harness.contracts.judge import Ask, answered
from harness.contracts.judge_kind import Post
from harness.contracts.records import Item, Response, Unscored
from harness.contracts.stage import Asked, Kind, Work
from harness.judging.hire import answering, hired, identity
from harness.judging.replies import CUT
from harness.scoring.verdicts import MAX_LOST, keep_replies
from harness.store.store import Stage
from harness.system.errors import HarnessError
from harness.system.jsonl import dumps, read_jsonl, write_jsonl
from harness.system.profile import measure


class Answer(Kind):
    """Somebody's responses to a benchmark's items, to the very prompts that models under test are given.

    who: what identifies it, and how it is asked
    max_tokens: how long a response may be
    """

    who: Asked
    max_tokens: int

    @dataclass(frozen=True, kw_only=True)
    class Reads(Kind.Reads):
        """What is asked."""

        items: Stage

    @property
    def asks(self) -> Asked:
        """Who answers."""
        return self.who

    def fill(self, work: Work) -> None:
        """Write `responses.jsonl`, what it took, and the raw replies."""
        kinds = (answering(words, work.testbed) for _, words in work.request.answered)
        kind = next((one for one in kinds if dumps(identity(one)) == dumps(self.who)), None)
        if kind is None:
            raise HarnessError(
                "who answers a row has changed since this comparison began; give the same command again."
            )
        runtime = work.runtime.model_copy(update={"ask_batch": 0})  # a batch has no reply that is cut
        who = hired(kind, Post(runtime, work.store.root, work.places.data, None, work.tick))
        items = list(read_jsonl(Item, work.folder(self.Reads.of(work.step).items) / "items.jsonl"))
        asks = [question(resolved(item, work.places), self.max_tokens) for item in items]
        with measure() as used:
            said = answered(who, lambda judge: [judge.reply(ask) for ask in asks])
        if len(who.lost) > MAX_LOST * len(items):
            raise HarnessError(
                f"{who.name}: {len(who.lost)} of {len(items)} questions have no reply ({who.lost[0]}). Every reply is "
                "kept; the same command asks for the rest."
            )
        kept = {reply.get("id"): reply for reply in who.replies}
        responses = [response(item.id, text, kept.get(item.id, {})) for item, text in zip(items, said, strict=True)]
        write_jsonl(work.out / "responses.jsonl", responses)
        account = keep_replies(work.out, who)
        (work.out / "who.json").write_text(dumps({"name": who.name, **account}), encoding="utf-8")
        profile = used() | {
            "items": len(items),
            "generated_tokens": sum(one.tokens for one in responses),
            "forward_tokens": sum(one.tokens + one.prompt_tokens for one in responses),
        }
        (work.out / "profile.json").write_text(dumps(profile), encoding="utf-8")


def question(item: Item, max_tokens: int) -> Ask:
    """An item as it is asked: its picture and its prompt, and nothing that only a judge may know."""
    return Ask(item.id, "row", item.image, item.prompt, {}, max_tokens, see=True, cut=True)


def response(id: str, said: str | Unscored, reply: Mapping[str, Any]) -> Response:
    """What was said, with the tokens that the server counted, 0 where it does not say; whose they are nobody knows."""
    if isinstance(said, Unscored):
        return Response(id, "", 0, ended=False, unanswered=said.reason)
    prompt, new = reply.get("tokens") or (0, 0)
    return Response(id, said.strip(), new, prompt, ended=reply.get("finish") != CUT)
