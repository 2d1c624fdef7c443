"""An LLM as judge or writer: what it is asked, what that costs, and what becomes of a question without a reply.

A question is asked once and its reply kept in the journal. One that got no reply has a reason. What no retry can cure
(a wrong key, no quota, an empty purse) stops the run with everything kept.
"""

import asyncio
import hashlib
import itertools
import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.contracts.images import Places, resolve
from harness.contracts.judge import Ask, spoken
from harness.contracts.judge_kind import Hired
from harness.contracts.records import Unscored
from harness.contracts.settings import Chat, Judging, Runtime
from harness.judging import prices
from harness.judging.batch import Batches
from harness.judging.batch_api import service
from harness.judging.chat_api import UNREACHED, call, client
from harness.judging.journal import NANO, Journal
from harness.judging.replies import SERVER, Answer, Failure, Usage
from harness.judging.shown import data_url
from harness.system.errors import Denied
from harness.system.jsonl import dumps
from harness.system.profile import Tick
from harness.system.secret import redact

if TYPE_CHECKING:
    from openai import AsyncOpenAI

GRACE_S = 5.0  # for calls under way when the run must stop: they may be paid for already
BACKOFF_S, MAX_BACKOFF_S, POLL_S = 0.5, 60.0, 0.1
PROBE = Ask("probe", "probe", None, "Reply with the word ready.", {}, max_tokens=1)


class Llm(Hired):
    """One model behind an OpenAI-compatible API (`harness.contracts.judge.Panel`).

    `price` is in USD per million tokens, input and output, None where nobody knows it. Images' paths are relative to
    `root` and `data`, the testbed's folder. `failed` says why a question, by its key, got no reply; `used` holds every
    reply that was given out.
    """

    def __init__(
        self,
        model: str,
        chat: Chat,
        runtime: Runtime,
        journal: Journal,
        price: tuple[float, float] | None = None,
        root: Path = Path(),
        tick: Tick | None = None,
        data: Path | None = None,
    ) -> None:
        if runtime.budget is not None:
            limit = prices.limit_of({"max_tokens": 1, **chat.parameters})
            listed = chat.price or not chat.parameters.get("service_tier")  # another tier has another price
            prices.check_budget_of(model, part_of(chat), price if listed else None, limit)
        self.name, self.runs = f"openai:{model}", chat.runs if isinstance(chat, Judging) else 1
        self.model, self.chat, self.runtime, self.journal = model, chat, runtime, journal
        self.price, self.places, self.tick = price, Places(root, data), tick
        self.failed: dict[str, str] = {}
        self.used: dict[tuple[str, int], dict[str, Any]] = {}
        self._stopped = self._reached = self._known_cost = False

    @property
    def lost(self) -> list[str]:
        """The reasons of the questions that have no reply, one each."""
        return [reason for key, reason in self.failed.items() if self.journal.get(key) is None]

    @property
    def replies(self) -> list[dict[str, Any]]:
        """The raw replies, in the order of their questions."""
        return [self.used[name] for name in sorted(self.used)]

    def account(self) -> Mapping[str, Any]:
        """How it was asked, which snapshots at which hosts answered, and what that cost."""
        return {
            **self.chat.model_dump(),
            "snapshots": Counter(f"{reply['model']} {reply['fingerprint']}".strip() for reply in self.replies),
            "servers": sorted({reply["server"] for reply in self.replies}),
            "usd": math.fsum(reply["usd"] for reply in self.replies),
        }

    def known(self, ask: Ask) -> bool:
        """Whether the question has been asked, here or by another process."""
        key = self.key(ask)
        return key in self.failed or self.journal.get(key) is not None

    def reply(self, ask: Ask) -> str | Unscored:
        """The reply in the journal; asked for now where there is none. One with a fault does not stay there."""
        if not self.known(ask):
            self.ask_all([ask])
        key = self.key(ask)
        while (kept := self.journal.get(key)) is not None:
            self.used[ask.id, ask.run] = {"id": ask.id, "run": ask.run, "key": key, **kept}
            text = spoken(kept["text"])
            fault = ask.fault(text) if ask.fault else ""
            if not fault:
                return text
            self.failed[key] = fault
            self.journal.void(key, kept)
        return Unscored(ask.id, self.failed[key])

    def ask_all(self, asks: Iterable[Ask]) -> None:
        """Ask what is not known yet, side by side; raises HarnessError where going on makes no sense."""
        wanted = {self.key(ask): ask for ask in asks if not self.known(ask)}
        self.afford(wanted.values())
        asyncio.run(self._all(wanted))

    def body(self, ask: Ask) -> dict[str, Any]:
        """The request, with the image's key for the image: whatever decides the reply."""
        shown = {"image": ask.image.key} if ask.image and ask.see and self.chat.images else {}
        chat, limit = self.chat, self.chat.max_tokens or ask.max_tokens
        fields = {"model": self.model, "temperature": chat.temperature, "max_tokens": limit, "seed": chat.seed}
        given = {name: value for name, value in {**fields, **chat.parameters}.items() if value is not None}
        return {**given, "messages": [{"role": "user", "content": redact(ask.prompt), **shown}]}

    def key(self, ask: Ask) -> str:
        """What the reply is kept under: the request and the number of its repeat."""
        return hashlib.sha256(dumps([self.body(ask), ask.run]).encode()).hexdigest()[:32]

    def request(self, ask: Ask) -> dict[str, Any]:
        """The request as it is sent; ValueError of an image that cannot be."""
        return {**self.body(ask), "messages": [{"role": "user", "content": self._content(ask)}]}

    def cost(self, ask: Ask, likely: bool = False) -> float:
        """USD that a call costs at most, or the likely cost."""
        count = prices.likely if likely else prices.bound
        return prices.usd(count(self.body(ask), ask.max_tokens), self.price)

    def share(self, asks: int) -> float:
        """The share of their price that so many questions cost: as a batch less."""
        return prices.BATCH_SHARE if 0 < self.runtime.ask_batch <= asks else 1.0

    def usd(self, ask: Ask) -> float | None:
        """The likely cost of one of many; None where the model's price is not known."""
        return self.cost(ask, likely=True) * self.share(self.runtime.ask_batch) if self.price else None

    def charge(self, ask: Ask, usage: Usage) -> float:
        """USD for a call that the server counted so."""
        return prices.usd(prices.charged(self.body(ask), usage, ask.max_tokens), self.price)

    def afford(self, asks: Collection[Ask]) -> None:
        """Refuse, before the first of these calls, what the budget will not hold."""
        estimate = sum(self.cost(ask, likely=True) for ask in asks) * self.share(len(asks))
        if self.runtime.budget is not None and self.journal.spent + estimate > self.runtime.budget:
            raise self._broke(f"the next questions would cost about {estimate:.2f}")

    def broke(self, most: float) -> Denied:
        """That the budget does not hold another question, which may cost so much."""
        return self._broke(f"the next question may cost {most:.4f}")

    def _broke(self, what: str) -> Denied:
        return Denied(
            f"{self.name}: {self.journal.spent:.2f} of the budget of {self.runtime.budget:.2f} USD are spent, {what}. "
            "Every reply is kept; raise --budget and give the same command again."
        )

    async def _all(self, wanted: Mapping[str, Ask]) -> None:
        self._first = asyncio.Lock()
        async with client(self.runtime.ask_timeout_s) as server:
            while wanted:
                called = await self._carried(server, wanted)
                await self._calls(server, called, self.tick)
                wanted = {key: ask for key, ask in called.items() if key in self.journal.carried}  # by others now

    async def _carried(self, server: "AsyncOpenAI", wanted: Mapping[str, Ask]) -> Mapping[str, Ask]:
        """Ask by batches what is to be asked so; what is left for calls."""
        self.journal.refresh()
        if not self.runtime.ask_batch and not wanted.keys() & self.journal.carried.keys():
            return wanted
        async with service(server, self.runtime.ask_timeout_s) as there:
            return await Batches(self, there).carry(wanted)

    async def sound_out(self, server: "AsyncOpenAI", wanted: Mapping[str, Ask]) -> str:
        """Under a budget, call for the first question to see what calls cost here; its key, "" where that is known."""
        if self.runtime.budget is None or self._known_cost:
            return ""
        key, ask = next(iter(wanted.items()))
        await self._calls(server, {key: ask}, None)
        return key

    async def _calls(self, server: "AsyncOpenAI", wanted: Mapping[str, Ask], tick: Tick | None) -> None:
        limit, done = asyncio.Semaphore(self.runtime.ask_concurrency), itertools.count(1)
        tasks = [asyncio.create_task(self._one(server, limit, key, ask)) for key, ask in wanted.items()]
        for task in tasks if tick else ():
            task.add_done_callback(lambda _: tick(next(done), len(wanted)))  # type: ignore[misc]
        if tasks:
            await self._finished(tasks)

    async def _finished(self, tasks: Sequence["asyncio.Task[None]"]) -> None:
        """Wait for all; if one must stop the run, the others may end the calls they have begun, not begin any."""
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        error = next((task.exception() for task in done if task.exception()), None)
        if error is None:
            return
        self._stopped = True
        if others:
            await asyncio.wait(others, timeout=GRACE_S)
        for task in others:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise error

    async def _one(self, server: "AsyncOpenAI", limit: asyncio.Semaphore, key: str, ask: Ask) -> None:
        """Get one reply into the journal, or a reason into `failed`."""
        async with limit:
            try:
                async with asyncio.timeout(self.runtime.ask_deadline_s), self.journal.sole(key):
                    if not self._stopped and self.journal.get(key) is None and key not in self.journal.carried:
                        await self._attempts(server, key, ask)
            except TimeoutError:
                self.failed[key] = f"{self.name}: no reply within {self.runtime.ask_deadline_s:g} s"
            except ValueError as error:  # of an image that cannot be sent
                self.failed[key] = str(error)

    async def _attempts(self, server: "AsyncOpenAI", key: str, ask: Ask) -> None:
        for attempt in range(self.runtime.ask_attempts):
            said = await self._try(server, ask, key)
            if isinstance(said, Answer):
                self._reached = True
                await self.journal.force()
                return
            self.failed[key] = f"{self.name}: {said.reason}"
            if said.cure:
                raise self.stop(said.reason, said.cure)
            last = attempt + 1 == self.runtime.ask_attempts
            if last and not said.sent and not self._reached:
                raise self.stop(said.reason, f"see to the network and {SERVER}")
            if last or self._stopped or not said.retry:
                return
            backoff = random.uniform(0, min(MAX_BACKOFF_S, BACKOFF_S * 2**attempt))
            await asyncio.sleep(said.after_s + backoff)

    async def _try(self, server: "AsyncOpenAI", ask: Ask, key: str = "") -> Answer | Failure:
        """One call, reserved before and settled after it; an answer is kept under `key`, if there is one."""
        body = self.request(ask)
        async with self._turn() as alone:
            ticket, most = await self._ticket(ask, alone)
            try:
                said = await call(server, body, self.runtime.ask_timeout_s, ask.cut)
            except BaseException:  # the question's deadline, or the run stops: it may have been paid for
                self.journal.settle(ticket, most)
                raise
            self.settle(ticket, key, ask, [said], str(server.base_url.host))
        return said

    def settle(
        self, ticket: str, key: str, ask: Ask, said: Sequence[Answer | Failure], host: str, share: float = 1.0
    ) -> None:
        """Close a reservation with what came of it: the first, if it is an answer, is kept; all may have been paid."""
        reserved, bound = self.journal.open[ticket].nano / NANO, self.cost(ask) * share
        usd = sum(self._paid(one, ask, reserved, share) for one in said)
        beyond = (self.model, (usd - bound) / share) if usd > bound else None
        self._known_cost = self._known_cost or any(one.usage is not None for one in said)
        kept = self._kept(said[0], usd, host) if key and isinstance(said[0], Answer) else None
        self.journal.settle(ticket, usd, key, kept, beyond)

    def _paid(self, said: Answer | Failure, ask: Ask, reserved: float, share: float) -> float:
        """USD of one reply, or of a call without one."""
        if said.usage is not None:
            return self.charge(ask, said.usage) * share
        return reserved if isinstance(said, Failure) and said.paid else 0.0

    def _kept(self, said: Answer, usd: float, host: str) -> dict[str, Any]:
        """A reply as the journal has it."""
        told = {name: getattr(said, name) for name in ("text", "model", "fingerprint", "finish")}
        counted = said.usage.prompt, said.usage.completion
        tokens = None if None in counted else counted
        return {**told, "tokens": tokens, "usd": usd, "server": host, "at": round(time.time())}

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[bool]:
        """Under a budget one call at a time until one has shown what calls cost here; whether this is such a one."""
        if self.runtime.budget is None or self._known_cost:
            yield False
            return
        async with self._first:
            yield not self._known_cost

    async def _ticket(self, ask: Ask, alone: bool) -> tuple[str, float]:
        """A reservation and its USD; waits where calls under way may turn out cheaper than they reserved."""
        hope = True
        while True:
            most = self.most(ask)
            if ticket := self.journal.reserve(most, self.runtime.budget, alone):
                return ticket, most
            if not hope:  # asked once more after nobody was under way
                raise self.broke(most)
            if hope := self.journal.waiting():
                await asyncio.sleep(POLL_S)

    def most(self, ask: Ask) -> float:
        """USD to reserve for a call: its bound, and what one has cost beyond."""
        return self.cost(ask) + self.journal.beyond.get(self.model, 0.0)

    def probe(self) -> None:
        """HarnessError where no call can succeed: a wrong key or address, an unknown model, no quota, refused settings.

        One call for one token. What may heal by itself (a busy server, a time-out) is no error, and a budget without
        room for the call is left to the questions: all of them may have been paid for.
        """
        self.journal.refresh()
        if self.runtime.budget is None or self.journal.spent + self.most(PROBE) <= self.runtime.budget:
            asyncio.run(self._probe())

    async def _probe(self) -> None:
        self._first, reason = asyncio.Lock(), UNREACHED
        async with client(self.runtime.ask_timeout_s) as server:
            for attempt in range(self.runtime.ask_attempts):
                said = await self._try(server, PROBE)
                if isinstance(said, Answer) or said.usage is not None:
                    return
                if said.cure or not said.retry:
                    raise self.stop(said.reason, said.cure or f"see to the {part_of(self.chat)} settings")
                if said.sent and not said.foreign:
                    return
                reason = said.reason
                await asyncio.sleep(random.uniform(0, min(MAX_BACKOFF_S, BACKOFF_S * 2**attempt)))
        raise self.stop(reason, f"see to the network and {SERVER}")

    def _content(self, ask: Ask) -> Any:
        """What the message says: text, or text and the image as a data URL."""
        [message] = self.body(ask)["messages"]
        if "image" not in message or ask.image is None:
            return message["content"]
        shown = {"type": "image_url", "image_url": {"url": data_url(resolve(ask.image, self.places))}}
        return [{"type": "text", "text": message["content"]}, shown]

    def stop(self, reason: str, cure: str) -> Denied:
        """That nobody should be asked any more, why, and what the user does about it."""
        return Denied(f"{self.name}: {reason}. Every reply is kept; {cure} and give the same command again.")


def part_of(chat: Chat) -> str:
    """Where the user sets it."""
    return "judging" if isinstance(chat, Judging) else "writing"
