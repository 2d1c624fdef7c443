"""Questions carried by a service's batch API: half the price, within a day. A reply is what it would be if called for.

The journal has the batch before the service has: what it may cost is reserved in one record, with the questions; then
the file that went up is noted, then the batch's id. So whoever comes after a kill finds the batch under way, by the
file where the id was not noted any more, and asks nothing that is in it. A batch that has ended is settled question by
question; what it left open is asked again.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NoReturn, TypeVar

from harness.contracts.judge import Ask
from harness.judging import batch_api
from harness.judging.batch_api import MAX_BYTES, MAX_REQUESTS, TOO_MANY, UNDER_WAY, Service, State
from harness.judging.prices import BATCH_SHARE
from harness.judging.replies import SERVER, Answer, Failure
from harness.system.secret import KEY

if TYPE_CHECKING:
    from harness.judging.llm import Llm

Told = TypeVar("Told")

FIRST_POLL_S, MAX_POLL_S, WINDOW_S = 1.0, 60.0, 30 * 3600.0  # a batch ends within 24 hours, its files may take more
PATIENCE = 30  # looks in a row without an answer
LOOKS = 3  # for a batch that may have been made, before another is
ONE_BY_ONE, NETWORK = "--set runtime.ask_batch=0", f"see to the network and {SERVER}"


class Batches:
    """The batches of one LLM's questions, one under way at a time."""

    def __init__(self, llm: "Llm", service: Service) -> None:
        self.llm, self.journal, self.service = llm, llm.journal, service
        self.host = str(service.server.base_url.host)
        self.most, self.hope = MAX_REQUESTS, True
        self.tries: Counter[str] = Counter()

    async def carry(self, wanted: Mapping[str, Ask]) -> dict[str, Ask]:
        """Get what is in a batch already, and send what is enough for one; what is left for calls comes back."""
        enough, tries = self.llm.runtime.ask_batch, self.llm.runtime.ask_attempts
        while True:
            self.journal.refresh()
            for batch in sorted({self.journal.carried[key] for key in wanted if key in self.journal.carried}):
                await self._collect(batch, wanted)
            open_ = {key: ask for key, ask in wanted.items() if self.journal.get(key) is None}
            left = {key: ask for key, ask in open_.items() if self.tries[key] < tries}
            if not enough or len(left) < enough:
                return left
            if called := await self.llm.sound_out(self.service.server, left):
                self.tries[called] += tries
            else:
                await self._send(left)

    async def _send(self, wanted: Mapping[str, Ask]) -> None:
        """Make a batch of the first of these questions: as many as a file and the budget hold."""
        lines, batch = self._lines(wanted), uuid.uuid4().hex
        async with self.journal.tending(batch):
            async with AsyncExitStack() as alone:  # nobody else asks them between the look and the record
                for lock in sorted({key[:2] for key in lines}):
                    await alone.enter_async_context(self.journal.sole(lock))
                free = [key for key in lines if self.journal.get(key) is None and key not in self.journal.carried]
                most = {key: self.llm.most(wanted[key]) * BATCH_SHARE for key in free}
                taken = self.journal.reserve_batch(batch, most, self.llm.runtime.budget, self.host)
            if taken:
                self.hope = True
                await self._begin(batch, b"".join(lines[key] for key in self.journal.batches[batch].keys))
            elif free and not self.hope:  # asked once more after nobody was under way
                raise self.llm.broke(most[free[0]])
            elif free:
                self.hope = self.journal.waiting()
                await asyncio.sleep(FIRST_POLL_S)

    def _lines(self, wanted: Mapping[str, Ask]) -> dict[str, bytes]:
        """The file's lines; a picture that cannot be sent is its question's reason."""
        lines, size = dict[str, bytes](), 0
        for key, ask in wanted.items():
            if len(lines) == self.most or size > MAX_BYTES:
                break
            try:
                lines[key] = batch_api.line(key, self.llm.request(ask))
                size += len(lines[key])
            except ValueError as error:
                self._lose(key, str(error), self.llm.runtime.ask_attempts)
        return lines

    async def _begin(self, batch: str, lines: bytes) -> None:
        """Send up the file, and make a batch of it."""
        file = await self._told(lambda: self.service.put(f"harness-{batch}.jsonl", lines))
        if isinstance(file, Failure):
            self._refused(batch, file)
        self.journal.note_batch(batch, file=file)
        said = Failure("it was not tried")
        for _ in range(self.llm.runtime.ask_attempts):
            name = await self.service.begin(file)
            if isinstance(name, Failure):  # it may be there all the same
                said = name
                if said.cure or not said.retry:
                    break
                name = await self._begun(file, said)
            if name:
                self.journal.note_batch(batch, id=name)
                return
        self._refused(batch, said)

    async def _begun(self, file: str, said: Failure) -> str:
        """The id of a batch whose making was not heard of; "" where the service, which may list it late, has none."""
        name = ""
        for _ in range(LOOKS):
            await self._pause(said)
            if name := await self._found(file):
                break
        return name

    async def _found(self, file: str) -> str:
        """The id of the batch of a file; "" where the service has none."""
        name = await self._told(lambda: self.service.find(file))
        if isinstance(name, Failure):
            raise self.llm.stop(f"nobody knows whether a batch is under way: {name.reason}", name.cure or NETWORK)
        return name

    def _refused(self, batch: str, said: Failure) -> NoReturn:
        """The service has no such batch, and nobody pays for it."""
        self.journal.close_batch(batch)
        none = said.status in (404, 405)
        cure = f"the service may have no batch API: ask one by one ({ONE_BY_ONE})" if none else said.cure
        raise self.llm.stop(f"no batch was made: {said.reason}", cure or f"see to it, or ask one by one ({ONE_BY_ONE})")

    async def _collect(self, batch: str, wanted: Mapping[str, Ask]) -> None:
        """Wait for a batch, or for whoever does already, and settle those of its questions that are wanted."""
        async with self.journal.tending(batch):
            mine = {key: wanted[key] for key in self.journal.batches[batch].keys if key in wanted}
            mine = {key: ask for key, ask in mine.items() if self.journal.carried.get(key) == batch}
            if not mine or not (name := await self._name(batch)):
                return
            state = await self._ended(batch, name, len(mine))
            if state is None:
                return
            found, whole = await self._replies(state, mine)
            # of a batch that ended before its time, what has no reply was not begun and is not billed
            none = Failure(
                f"batch {state.id} ({state.status}) has no reply to it", paid=state.status == "completed" or not whole
            )
            lost = [self._settle(f"{batch}/{key}", key, ask, found.get(key, [none])) for key, ask in mine.items()]
            await self.journal.force()
            self._judge(state, mine, [one for one in lost if one])

    async def _name(self, batch: str) -> str:
        """The batch's id; "" where the service has none of it, and its questions are free again."""
        sent = self.journal.batches[batch]
        if self.host != sent.server:
            why = f"{len(sent.keys)} questions are in a batch at {sent.server}, not at {self.host}"
            raise self.llm.stop(why, f"set {SERVER} to where they are")
        if sent.id or not sent.file:
            name = sent.id
        elif name := await self._found(sent.file):
            self.journal.note_batch(batch, id=name)
        if not name:
            self.journal.close_batch(batch)
        return name

    async def _ended(self, batch: str, name: str, size: int) -> State | None:
        """The batch once it has ended; None where it is given up, with all that it may have cost."""
        clock, poll, silent, told = asyncio.get_running_loop(), FIRST_POLL_S, 0, 0
        until = clock.time() + WINDOW_S
        while True:
            state = await self.service.look(name)
            if isinstance(state, State):
                silent, ended = 0, state.status not in UNDER_WAY
                done = size if ended else state.done
                if self.llm.tick and told < done <= size:
                    self.llm.tick(done, size)
                    told = done
                if ended:
                    return state
            elif state.status == 404 and not self.llm.runtime.ask_batch:
                self.journal.close_batch(batch, paid=True)
                return None
            else:
                silent += 1
                if state.cure or not state.retry or silent > PATIENCE:
                    self._silent(name, size, state)
            if clock.time() > until:
                self._silent(name, size, Failure("it has not ended in its time"))
            await asyncio.sleep(poll)
            poll = min(poll * 2, MAX_POLL_S)

    def _silent(self, name: str, size: int, said: Failure) -> NoReturn:
        """A batch that nobody can look at is left as it is."""
        cure = said.cure or f"see to the network, {KEY} and {SERVER}, with which it was sent"
        if said.status == 404:
            cure += f" (or give it up, counted as paid, and ask one by one: {ONE_BY_ONE})"
        raise self.llm.stop(f"batch {name} with {size} questions: {said.reason}", cure)

    async def _replies(self, state: State, mine: Mapping[str, Ask]) -> tuple[dict[str, list[Answer | Failure]], bool]:
        """What the batch's files say of these questions, and whether none of the files is gone or cannot be read."""
        found, whole = dict[str, list[Answer | Failure]](), True
        for file in state.files:
            data = await self._told(lambda file=file: self.service.get(file))  # type: ignore[misc]
            if isinstance(data, Failure):
                if data.status != 404 and not data.reason.startswith("the reply"):
                    self._silent(state.id, len(mine), data)
                data, whole = b"", False
            for key, said in batch_api.outcomes(data, mine).items():
                found.setdefault(key, []).extend(said)
        return found, whole

    def _settle(self, ticket: str, key: str, ask: Ask, said: list[Answer | Failure]) -> Failure | None:
        """Close a question: the first answer counts, and everything that may have been paid for; why there is none."""
        said = sorted(said, key=lambda one: isinstance(one, Failure))
        self.llm.settle(ticket, key, ask, said, self.host, BATCH_SHARE)
        first = said[0]
        if isinstance(first, Failure):
            self._lose(key, f"{self.llm.name}: {first.reason}", 1 if first.retry else self.llm.runtime.ask_attempts)
            return first
        return None

    def _lose(self, key: str, why: str, tries: int) -> None:
        self.llm.failed[key] = why
        self.tries[key] += tries

    def _judge(self, state: State, mine: Mapping[str, Ask], lost: Iterable[Failure]) -> None:
        """Whether it makes sense to go on after this batch."""
        if hopeless := next((one for one in lost if one.cure), None):
            raise self.llm.stop(hopeless.reason, hopeless.cure)
        if state.status == "cancelled":
            raise self.llm.stop(f"batch {state.id} was cancelled", "see who cancelled it")
        if state.status == "failed" and state.code == TOO_MANY and len(mine) > 1:
            self.most = (len(mine) + 1) // 2  # what was too much for the account's queue goes in halves
            self.tries.subtract(mine.keys())
        elif state.status == "failed":
            raise self.llm.stop(f"batch {state.id} failed: {state.why}", f"see to it, or ask one by one ({ONE_BY_ONE})")

    async def _told(self, request: Callable[[], Awaitable[Told | Failure]]) -> Told | Failure:
        """What the service says at last; a failure that another try might cure has had its tries."""
        said = await request()
        for _ in range(1, self.llm.runtime.ask_attempts):
            if not isinstance(said, Failure) or said.cure or not said.retry:
                break
            await self._pause(said)
            said = await request()
        return said

    async def _pause(self, said: Failure) -> None:
        await asyncio.sleep(said.after_s + FIRST_POLL_S)
