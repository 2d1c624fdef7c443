"""An LLM as judge or writer: what it is asked, what that costs, and what becomes of a question without a reply.

A question is asked once and its reply kept in the journal. One that got no reply has a reason. What no retry can cure
(a wrong key, no quota, an empty purse) stops the run with everything kept.
"""

import asyncio
import base64
import hashlib
import io
import itertools
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image as Pillow

from harness.asking import SERVER, UNREACHED, Answer, call, client, no_access, redact
from harness.config import Chat, Judging, Runtime, Testbed
from harness.digest import file_digest
from harness.images import FORMATS, Places, read_image, resolve
from harness.journal import Journal
from harness.judge import Ask, Judge, Script
from harness.profile import Tick
from harness.types import Denied, Image, Unscored, UsageError, dumps

if TYPE_CHECKING:
    from openai import AsyncOpenAI

GRACE_S = 5.0  # for calls under way when the run must stop: they may be paid for already
BACKOFF_S, MAX_BACKOFF_S = 0.5, 60.0
# No text has more tokens than bytes: that is the bound which reservations keep. Estimates take English, and a reply of
# a paragraph.
LIKELY_BYTES_PER_TOKEN, LIKELY_REPLY_TOKENS = 4, 256
OVERHEAD_TOKENS, IMAGE_TOKENS = 64, 3000
# USD per million tokens (input, output), OpenAI's list prices; a testbed's `prices` go before these.
PRICES: Mapping[str, tuple[float, float]] = {
    "gpt-3.5-turbo-0125": (0.5, 1.5),
    "gpt-4-0314": (30.0, 60.0),
    "gpt-4-0613": (30.0, 60.0),
    "gpt-4-1106-preview": (10.0, 30.0),
    "gpt-4-turbo-2024-04-09": (10.0, 30.0),
    "gpt-4o-2024-08-06": (2.5, 10.0),
    "gpt-4o-2024-11-20": (2.5, 10.0),
    "gpt-4o-mini-2024-07-18": (0.15, 0.6),
    "gpt-4.1-2025-04-14": (2.0, 8.0),
    "gpt-4.1-mini-2025-04-14": (0.4, 1.6),
}


class Llm:
    """One model behind an OpenAI-compatible API (`harness.judge.Panel`).

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
        if runtime.budget is not None and price is None:
            raise UsageError(unpriced(model))
        self.model, self.chat, self.runtime, self.journal = model, chat, runtime, journal
        self.price, self.places, self.tick = price, Places(root, data), tick
        self.failed: dict[str, str] = {}
        self.used: dict[tuple[str, int], dict[str, Any]] = {}
        self._stopped = self._reached = False

    @property
    def name(self) -> str:
        """Who it is, as a testbed names it."""
        return f"openai:{self.model}"

    @property
    def runs(self) -> int:
        """How often a judge is asked each question; a writer is asked once."""
        return self.chat.runs if isinstance(self.chat, Judging) else 1

    @property
    def lost(self) -> list[str]:
        """The reasons of the questions that have no reply, one each."""
        return [reason for key, reason in self.failed.items() if self.journal.get(key) is None]

    def known(self, ask: Ask) -> bool:
        """Whether the question has been asked, here or by another process."""
        key = self.key(ask)
        return key in self.failed or self.journal.get(key) is not None

    def reply(self, ask: Ask) -> str | Unscored:
        """The reply in the journal; asked for now where there is none."""
        if not self.known(ask):
            self.ask_all([ask])
        key = self.key(ask)
        kept = self.journal.get(key)
        if kept is None:
            return Unscored(ask.id, self.failed[key])
        self.used[ask.id, ask.run] = {"id": ask.id, "run": ask.run, "key": key, **kept}
        return str(kept["text"])

    def ask_all(self, asks: Iterable[Ask]) -> None:
        """Ask what is not known yet, side by side; raises HarnessError where going on makes no sense."""
        wanted = {self.key(ask): ask for ask in asks if not self.known(ask)}
        self.afford(wanted.values())
        asyncio.run(self._all(list(wanted.items())))

    def body(self, ask: Ask) -> dict[str, Any]:
        """The request, with the image's digest for the image: whatever decides the reply."""
        shown = {"image": ask.image.sha256} if ask.image and ask.see and self.chat.images else {}
        fields = {"model": self.model, "temperature": self.chat.temperature, "max_tokens": ask.max_tokens}
        given = {name: value for name, value in {**fields, **self.chat.parameters}.items() if value is not None}
        return {**given, "messages": [{"role": "user", "content": redact(ask.prompt), **shown}]}

    def key(self, ask: Ask) -> str:
        """What the reply is kept under: the request and the number of its repeat."""
        return hashlib.sha256(dumps([self.body(ask), ask.run]).encode()).hexdigest()[:32]

    def cost(self, ask: Ask, likely: bool = False) -> float:
        """USD that a call costs at most, or the likely cost."""
        body = self.body(ask)
        [message] = body["messages"]
        prompt = len(message["content"].encode()) / (LIKELY_BYTES_PER_TOKEN if likely else 1)
        prompt += OVERHEAD_TOKENS + (IMAGE_TOKENS if "image" in message else 0)
        reply = body.get("max_completion_tokens", body.get("max_tokens", ask.max_tokens))
        return self.charge(prompt, min(reply, LIKELY_REPLY_TOKENS) if likely else reply)

    def charge(self, prompt_tokens: float, completion_tokens: float) -> float:
        """USD for so many tokens; 0 where the price is not known, which a budget does not allow."""
        into, out = self.price or (0.0, 0.0)
        return (prompt_tokens * into + completion_tokens * out) / 1e6

    def afford(self, asks: Iterable[Ask]) -> None:
        """Refuse, before the first of these calls, what the budget will not hold."""
        estimate = sum(self.cost(ask, likely=True) for ask in asks)
        if self.runtime.budget is not None and self.journal.spent + estimate > self.runtime.budget:
            raise self._broke(f"the next questions would cost about {estimate:.2f}")

    def _broke(self, what: str) -> Denied:
        return Denied(
            f"{self.name}: {self.journal.spent:.2f} of the budget of {self.runtime.budget:.2f} USD are spent, {what}. "
            "Every reply is kept; raise --budget and give the same command again."
        )

    async def _all(self, wanted: Sequence[tuple[str, Ask]]) -> None:
        limit, done = asyncio.Semaphore(self.runtime.ask_concurrency), itertools.count(1)
        # What a call really costs is seen on one before many are under way.
        alone = 1 if self.runtime.budget is not None and not self.journal.dearest else 0
        async with client(self.runtime.ask_timeout_s) as server:
            for wave in (wanted[:alone], wanted[alone:]):
                tasks = [asyncio.create_task(self._one(server, limit, key, ask)) for key, ask in wave]
                for task in tasks if self.tick else ():
                    task.add_done_callback(lambda _: self.tick(next(done), len(wanted)))  # type: ignore[misc]
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
                    if not self._stopped and self.journal.get(key) is None:
                        await self._attempts(server, key, ask)
            except TimeoutError:
                self.failed[key] = f"{self.name}: no reply within {self.runtime.ask_deadline_s:g} s"
            except ValueError as error:  # of an image that cannot be sent
                self.failed[key] = str(error)

    async def _attempts(self, server: "AsyncOpenAI", key: str, ask: Ask) -> None:
        body = {**self.body(ask), "messages": [{"role": "user", "content": self._content(ask)}]}
        for attempt in range(self.runtime.ask_attempts):
            ticket, most = await self._ticket(ask)
            said = await call(server, body, self.runtime.ask_timeout_s)
            if isinstance(said, Answer):
                self._reached = True
                usd = self.charge(*said.tokens) if said.tokens else most
                kept = {**asdict(said), "usd": usd, "server": server.base_url.host, "at": round(time.time())}
                self.journal.settle(ticket, usd, key, kept)
                await self.journal.force()
                return
            self.journal.settle(ticket, most if said.paid else 0.0)
            self.failed[key] = f"{self.name}: {said.reason}"
            if said.cure:
                raise self._stop(said.reason, said.cure)
            last = attempt + 1 == self.runtime.ask_attempts
            if last and said.reason == UNREACHED and not self._reached:
                raise self._stop(said.reason, f"see to the network and {SERVER}")
            if last or self._stopped or not said.retry:
                return
            backoff = random.uniform(0, min(MAX_BACKOFF_S, BACKOFF_S * 2**attempt))
            await asyncio.sleep(said.after_s + backoff)

    async def _ticket(self, ask: Ask) -> tuple[str, float]:
        """A reservation and its USD; waits where calls under way may turn out cheaper than they reserved."""
        most = max(self.cost(ask), self.journal.dearest)
        while (ticket := self.journal.reserve(most, self.runtime.budget)) is None:
            if not self.journal.waiting(self.runtime.ask_timeout_s):
                raise self._broke(f"the next question may cost {most:.4f}")
            await asyncio.sleep(0.1)
        return ticket, most

    def _content(self, ask: Ask) -> Any:
        """What the message says: text, or text and the image as a data URL."""
        [message] = self.body(ask)["messages"]
        if "image" not in message or ask.image is None:
            return message["content"]
        shown = {"type": "image_url", "image_url": {"url": data_url(resolve(ask.image, self.places))}}
        return [{"type": "text", "text": message["content"]}, shown]

    def _stop(self, reason: str, cure: str) -> Denied:
        return Denied(f"{self.name}: {reason}. Every reply is kept; {cure} and give the same command again.")


def data_url(image: Image) -> str:
    """The picture's file as a data URL; ValueError where `read_image` has one."""
    read_image(Path(image.path), image.sha256)
    data = Path(image.path).read_bytes()
    with Pillow.open(io.BytesIO(data), formats=FORMATS) as opened:
        return f"data:{opened.get_format_mimetype()};base64,{base64.b64encode(data).decode()}"


def hire(role: str, testbed: Testbed, runtime: Runtime, root: Path, tick: Tick | None = None) -> Judge:
    """The testbed's `role` ("judge" or "writer") where it is no oracle; `root` is the store's folder."""
    name: str = getattr(testbed, role)
    kind, _, rest = name.partition(":")
    if kind == "script":
        return Script(Path(rest))
    chat = testbed.judging if role == "judge" else testbed.writing
    data = None if testbed.data == "generated" else Path(testbed.data).absolute()
    return Llm(rest, chat, runtime, Journal(root / ".journal"), price_of(testbed, rest), root, tick, data)


def identified(role: str, testbed: Testbed) -> dict[str, Any]:
    """What identifies a judge or writer that is no oracle: a script's content, an LLM's name and settings."""
    name: str = getattr(testbed, role)
    kind, _, rest = name.partition(":")
    if kind == "script":
        return {"script": file_digest(Path(rest))}
    chat = testbed.judging if role == "judge" else testbed.writing
    return {"name": name, **chat.model_dump()}


def price_of(testbed: Testbed, model: str) -> tuple[float, float] | None:
    """USD per million tokens, input and output; None where neither the testbed nor `PRICES` knows."""
    return testbed.prices.get(model, PRICES.get(model))


def unpriced(model: str) -> str:
    """What to do about an unknown price."""
    return (
        f"--budget needs the price of {model}: write `prices: {{{model}: [INPUT, OUTPUT]}}` into the testbed, in USD "
        "per million tokens (0 for a server of your own)."
    )


def unusable(name: str) -> str:
    """What keeps the judge or writer of that name from answering, with the cure; empty where nothing does."""
    kind, _, rest = name.partition(":")
    if kind == "script" and rest:
        return "" if Path(rest).is_file() else f'"{name}": there is no file {rest}'
    if kind != "openai" or not rest:
        return f'"{name or "none"}" is not available; write oracle (embedded testbed), openai:MODEL or script:FILE'
    return f'"{name}" {no_access()}' if no_access() else ""
