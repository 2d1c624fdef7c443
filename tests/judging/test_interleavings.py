"""Money and verdicts under any interleaving: a journal's histories, askers side by side, replies of any shape."""

import asyncio
import gc
import json
import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from fake import QUICK
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from harness.contracts.judge import Ask, Judge, answered, spoken, verdict
from harness.contracts.records import Unscored
from harness.contracts.settings import Chat
from harness.judging import journal as journals
from harness.judging import llm as llms
from harness.judging import prices, replies
from harness.judging.journal import NANO, Journal
from harness.judging.llm import Llm
from harness.judging.replies import WHOLE, Answer, Failure, Usage, read
from harness.system.errors import HarnessError
from tests.laws import caught, law, play

CENT = 10_000_000  # billionths
BUDGET = 0.10


@dataclass
class Known:
    """What is true of a journal, whoever reads it."""

    settled: int = 0
    open: dict[str, tuple[int, int, bool]] = field(default_factory=dict)
    """Ticket -> billionths, whose it is, alone."""
    replies: dict[str, str] = field(default_factory=dict)

    @property
    def spent(self) -> int:
        return self.settled + sum(nano for nano, *_ in self.open.values())


class Histories(RuleBasedStateMachine):
    """Several processes at one journal (an object each), under one budget. `kind` is the journal that plays."""

    kind: ClassVar[type[Journal]] = Journal

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp(prefix="journal-"))
        self.known = Known()
        self.living: dict[int, Journal] = {}
        self.born = 0
        self.torn = False
        self.lines = self.sent = 0

    def teardown(self) -> None:
        self.living.clear()
        shutil.rmtree(self.folder)

    def one(self, which: int) -> tuple[int, Journal]:
        """One of the processes; a new one where there is none."""
        if not self.living or (which % 5 == 4 and len(self.living) < 4):
            self.born += 1
            self.living[self.born] = self.kind(self.folder)
        number = sorted(self.living)[which % len(self.living)]
        return number, self.living[number]

    @rule(which=st.integers(0, 9), cents=st.integers(0, 4), alone=st.booleans(), bound=st.booleans())
    def reserve(self, which: int, cents: int, alone: bool, bound: bool) -> None:
        number, journal = self.one(which)
        held = any(sole and whose in self.living for _, whose, sole in self.known.open.values())
        fits = self.known.spent + cents * CENT <= round(BUDGET * NANO)
        ticket = journal.reserve(cents / 100, BUDGET if bound else None, alone)
        assert bool(ticket) == (not bound or (fits and not held))
        if ticket:
            self.known.open[ticket] = (cents * CENT, number, alone)
            self.wrote()

    @precondition(lambda self: any(whose in self.living for _, whose, _ in self.known.open.values()))
    @rule(
        which=st.integers(0, 99),
        share=st.integers(0, 100),
        key=st.sampled_from(["", "a", "b"]),
        text=st.text(max_size=5),
    )
    def settle(self, which: int, share: int, key: str, text: str) -> None:
        mine = [(ticket, whose) for ticket, (_, whose, _) in self.known.open.items() if whose in self.living]
        ticket, whose = mine[which % len(mine)]
        nano = self.known.open.pop(ticket)[0] * share // 100
        self.living[whose].settle(ticket, nano / NANO, key, {"text": text} if key else None)
        self.known.settled += nano
        if key:
            self.known.replies.setdefault(key, text)  # the first that was paid for stays
        self.wrote()

    @rule(
        which=st.integers(0, 9),
        keys=st.lists(st.sampled_from("abcdef"), min_size=1, unique=True),
        cents=st.integers(0, 4),
        bound=st.booleans(),
    )
    def send(self, which: int, keys: list[str], cents: int, bound: bool) -> None:
        """A batch of questions that are in no other: the first of them that fit."""
        number, journal = self.one(which)
        keys = [key for key in keys if key not in self.carried]
        held = any(sole and whose in self.living for _, whose, sole in self.known.open.values())
        room = round(BUDGET * NANO) - self.known.spent if bound and not held else -1 if bound else 10**18
        count = sum((number + 1) * cents * CENT <= room for number in range(len(keys)))
        self.sent += 1
        batch = f"batch-{self.sent}"
        told = journal.reserve_batch(batch, dict.fromkeys(keys, cents / 100), BUDGET if bound else None, "host")
        assert told == bool(count)
        self.known.open |= {f"{batch}/{key}": (cents * CENT, number, False) for key in keys[:count]}
        if told:
            self.wrote()

    @property
    def carried(self) -> dict[str, str]:
        """Key -> its batch, of those still open."""
        return {key: batch for batch, _, key in (ticket.partition("/") for ticket in self.known.open) if key}

    @precondition(lambda self: bool(self.carried))
    @rule(which=st.integers(0, 9), what=st.integers(0, 99), share=st.integers(0, 100), text=st.text(max_size=5))
    def collect(self, which: int, what: int, share: int, text: str) -> None:
        """Whoever comes settles a question of a batch, also one whose process is gone."""
        _, journal = self.one(which)
        key, batch = sorted(self.carried.items())[what % len(self.carried)]
        nano = self.known.open.pop(f"{batch}/{key}")[0] * share // 100
        journal.settle(f"{batch}/{key}", nano / NANO, key, {"text": text})
        self.known.settled += nano
        self.known.replies.setdefault(key, text)
        self.wrote()

    @precondition(lambda self: bool(self.carried))
    @rule(which=st.integers(0, 9), what=st.integers(0, 99), paid=st.booleans())
    def close(self, which: int, what: int, paid: bool) -> None:
        """Nobody will settle what is open of a batch."""
        _, journal = self.one(which)
        batch = sorted(set(self.carried.values()))[what % len(set(self.carried.values()))]
        journal.close_batch(batch, paid)
        for ticket in [ticket for ticket in self.known.open if ticket.startswith(f"{batch}/")]:
            self.known.settled += self.known.open.pop(ticket)[0] * paid
        self.wrote()

    @rule(which=st.integers(0, 9), key=st.sampled_from(["a", "b"]), own=st.booleans())
    def void(self, which: int, key: str, own: bool) -> None:
        """A reply that cannot be read is taken back; one that is no longer there is nobody's to take."""
        _, journal = self.one(which)
        told = self.known.replies.get(key)
        reply = {"text": told if own and told is not None else "something else entirely"}
        journal.void(key, reply)
        if told is not None and reply["text"] == told:
            del self.known.replies[key]
        self.wrote()

    @precondition(lambda self: bool(self.living))
    @rule(which=st.integers(0, 9))
    def die(self, which: int) -> None:
        """SIGKILL: the system lets go of its lock, and what it had reserved is spent."""
        number = sorted(self.living)[which % len(self.living)]
        journal = self.living.pop(number)
        if journal._life is not None:
            journal._life.release()
        journal._life = None

    @rule(cut=st.integers(1, 60), what=st.sampled_from(["reserve", "settle"]))
    def tear(self, cut: int, what: str) -> None:
        """A process dies in the middle of a line."""
        line = journals._sealed({what: "0" * 32, "nano": 5 * CENT, "key": "a", "reply": {"text": "never"}})
        if self.folder.exists() and not self.torn:
            with (self.folder / "replies.jsonl").open("ab") as file:
                file.write(line[: min(cut, len(line) - 2)])
            self.torn = True

    def wrote(self) -> None:
        if self.torn:
            self.torn, self.lines = False, self.lines + 1

    @invariant()
    def everybody_knows_the_same(self) -> None:
        fresh = self.kind(self.folder)
        for journal in (fresh, *self.living.values()):
            journal.refresh()
            assert round(journal.spent * NANO) == self.known.spent
            assert {key: reply["text"] for key, reply in journal.replies.items()} == self.known.replies
            assert journal.carried == self.carried
            assert {ticket: one.nano for ticket, one in journal.open.items()} == {
                ticket: nano for ticket, (nano, *_) in self.known.open.items()
            }
        assert fresh.damaged == self.lines

    @invariant()
    def who_may_still_settle_is_waited_for(self) -> None:
        under_way = any(whose in self.living for _, whose, _ in self.known.open.values())
        assert self.kind(self.folder).waiting() == under_way


def journals_agree(kind: type[Journal], histories: int = 25) -> None:
    class Game(Histories):
        pass

    Game.kind = kind
    play(Game, histories)


def test_no_history_makes_two_journals_differ_or_spends_too_much() -> None:
    journals_agree(Journal)


class Forgetful(Journal):
    """A mutant: what a dead process had reserved is free again."""

    @property
    def spent(self) -> float:
        lives = (one.nano for one in self.open.values() if self._lives(one.by))
        return (self.settled + sum(lives)) / NANO


class Careless(Journal):
    """A mutant: it appends where a dead writer stopped."""

    def _append(self, record: dict[str, Any]) -> None:
        with self.file.open("ab") as file:
            file.write(journals._sealed(record))
        self.refresh()


class Generous(Journal):
    """A mutant: calls under way cost nothing yet."""

    def reserve(self, usd: float, budget: float | None, alone: bool = False) -> str | None:
        more = sum(one.nano for one in self.open.values()) / NANO
        return super().reserve(usd, None if budget is None else budget + more, alone)


class Latest(Journal):
    """A mutant: the last reply counts, so that a table changes under a reader."""

    def _take(self, line: bytes) -> None:
        record = journals._unsealed(line)
        if record and "settle" in record and "key" in record:
            self.replies.pop(record["key"], None)
        super()._take(line)


class Grabbing(Journal):
    """A mutant: whoever cannot read a reply takes away whatever stands there now."""

    def void(self, key: str, reply: dict[str, Any]) -> None:
        super().void(key, self.replies.get(key, reply))


class Stale(Journal):
    """A mutant: it decides by what it read when it began."""

    def reserve(self, usd: float, budget: float | None, alone: bool = False) -> str | None:
        before = (self.settled + sum(one.nano for one in self.open.values())) / NANO
        if budget is not None and before + usd > budget:
            return None
        return super().reserve(usd, None, alone)


class Wholesale(Journal):
    """A mutant: a batch goes whole where its first question fits."""

    def reserve_batch(self, batch: str, usd: Mapping[str, float], budget: float | None, server: str) -> bool:
        first = dict([next(iter(usd.items()))]) if usd else {}
        return super().reserve_batch("", first, budget, server) and super().reserve_batch(batch, usd, None, server)


class Waiving(Journal):
    """A mutant: what is given up of a batch costs nothing."""

    def close_batch(self, batch: str, paid: bool = False) -> None:
        super().close_batch(batch)


@pytest.mark.parametrize("kind", [Forgetful, Careless, Generous, Latest, Grabbing, Stale, Wholesale, Waiving])
def test_a_wrong_journal_loses(kind: type[Journal]) -> None:
    caught(journals_agree, kind, 80)


# Askers side by side

PRICE = (30.0, 60.0)


def question(number: int) -> Ask:
    return Ask(f"q/{number}", "toy", None, f"Grade {number}. " + "x" * (number * 37 % 400), {}, 16 + number % 50)


class Bank:
    """Bills what it likes within a token per byte and the limit, says what it likes about it, and sometimes fails."""

    def __init__(self, seed: int) -> None:
        self.random, self.billed, self.answers = random.Random(seed), 0.0, Counter[str]()
        self.lock = threading.Lock()

    async def call(self, client: Any, body: dict[str, Any], timeout: float, cut: bool = False) -> Answer | Failure:
        with self.lock:
            wait, fault, lie = self.random.random() / 200, self.random.random(), self.random.randint(0, 4)
            prompt = self.random.randint(1, len(body["messages"][0]["content"].encode()) + prices.OVERHEAD_TOKENS)
            said = self.random.randint(1, body["max_tokens"])
        await asyncio.sleep(wait)
        if fault < 0.1:
            return Failure("no connection", sent=False)
        with self.lock:
            self.billed += prices.usd((prompt, said), PRICE)
            if fault < 0.3:
                return Failure("HTTP 500: broken", paid=True)
            self.answers[body["messages"][0]["content"]] += 1
        counts = [(prompt, said), (None, None), (0, 0), (1, 1), (prompt, None)][lie]
        usage = Usage(*counts, None if lie else prompt + said, visible=3)
        return Answer("0.5", "m", "", "stop", usage)


@asynccontextmanager
async def nobody(timeout: float) -> Any:
    yield SimpleNamespace(base_url=SimpleNamespace(host="bank"))


def ask_side_by_side(folder: Path, bank: Bank, budget: float, askers: int, questions: int, width: int) -> list[str]:
    """Several runs at once, each with all questions; what each ended with."""
    ends: list[str] = []

    def work(turn: int) -> None:
        runtime = QUICK.model_copy(update={"budget": budget, "ask_concurrency": width, "ask_attempts": 3})
        judge = Llm("gpt-4-0613", Chat(), runtime, Journal(folder), PRICE, folder)
        judge.afford = lambda asks: None  # type: ignore[method-assign]
        asks = [question(number) for number in range(questions)]
        random.Random(turn).shuffle(asks)
        try:
            judge.ask_all(asks)
            ends.append("")
        except HarnessError as error:
            ends.append(str(error))

    threads = [threading.Thread(target=work, args=(turn,)) for turn in range(askers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    gc.collect()
    return ends


def spends(folder: Path, seed: int, cents: int, askers: int, width: int) -> tuple[Bank, float]:
    bank, budget = Bank(seed), cents / 100
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llms, "call", bank.call)
        patch.setattr(llms, "client", nobody)
        patch.setattr(llms, "BACKOFF_S", 0.001)
        patch.setattr(llms, "POLL_S", 0.003)
        ends = ask_side_by_side(folder, bank, budget, askers, 14, width)
    assert len(ends) == askers
    assert all(not end or "of the budget of" in end or "no connection" in end for end in ends)
    return bank, budget


@law(10)
@given(st.integers(0, 10**6), st.integers(4, 60), st.integers(1, 3), st.sampled_from([1, 3, 16]))
def test_no_interleaving_bills_more_than_the_budget_or_pays_twice(
    tmp_path_factory: pytest.TempPathFactory, seed: int, cents: int, askers: int, width: int
) -> None:
    folder = tmp_path_factory.mktemp("money")
    bank, budget = spends(folder, seed, cents, askers, width)
    told = Journal(folder)
    assert bank.billed <= budget + 1e-9
    assert bank.billed <= told.spent + 1e-9 <= budget + 2e-9
    assert not bank.answers or max(bank.answers.values()) == 1  # a reply in the journal is never asked for again
    assert len(told.replies) == len(bank.answers)
    assert not told.waiting()


def test_an_asker_that_takes_the_server_at_its_word_would_be_caught(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prices, "charged", lambda body, usage, _: (usage.prompt or 0, usage.completion or 0))
    caught(test_no_interleaving_bills_more_than_the_budget_or_pays_twice, tmp_path_factory)


def test_an_asker_without_a_lock_on_its_question_would_be_caught(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def free(self: Journal, key: str) -> Any:
        yield

    monkeypatch.setattr(Journal, "sole", free)
    caught(test_no_interleaving_bills_more_than_the_budget_or_pays_twice, tmp_path_factory)


# Prices

TEXTS = st.text(max_size=200)


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """Requests with parameters and perhaps an image."""
    model = draw(st.sampled_from(["gpt-4-0613", "gpt-4o-mini-2024-07-18", "mine"]))
    message: dict[str, Any] = {"role": "user", "content": draw(TEXTS)}
    if draw(st.booleans()):
        message["image"] = "digest"
    body: dict[str, Any] = {"model": model, "messages": [message]}
    limit = draw(st.sampled_from(["max_tokens", "max_completion_tokens", None]))
    if limit:
        body[limit] = draw(st.integers(1, 500))
    if draw(st.booleans()):
        body["response_format"] = {"schema": draw(TEXTS)}
    return body


COUNTS = st.one_of(st.none(), st.integers(0, 10**6))


@law(200)
@given(bodies(), st.data())
def test_what_an_honest_server_bills_is_within_the_bound_and_is_what_is_charged(
    body: dict[str, Any], data: st.DataObject
) -> None:
    """Honest: a token is one to four bytes of what it read and wrote, and its reply keeps to the limit."""
    most = prices.bound(body, 300)
    sent = prices.prompt_bytes(body)
    prompt = data.draw(st.integers(max(1, -(-sent // 4)), most[0]))
    completion = data.draw(st.integers(1, most[1]))
    visible = data.draw(st.integers(0, 4 * completion))
    charged = prices.charged(body, Usage(prompt, completion, prompt + completion, visible), 300)
    assert charged == (prompt, completion)
    assert prices.usd(charged, PRICE) <= prices.usd(most, PRICE)
    assert prices.usd(prices.likely(body, 300), PRICE) <= prices.usd(most, PRICE) + 1e-12


@law(200)
@given(bodies(), COUNTS, COUNTS, COUNTS, st.integers(0, 5000))
def test_whatever_a_server_says_it_is_charged_for_what_went_over_the_wire(
    body: dict[str, Any], prompt: int | None, completion: int | None, total: int | None, visible: int
) -> None:
    charged = prices.charged(body, Usage(prompt, completion, total, visible), 300)
    assert charged[0] >= prices.prompt_bytes(body) // 4 and charged[1] >= visible // 4
    assert sum(charged) >= (total or 0)
    for said, paid in ((prompt, charged[0]), (completion, charged[1])):
        assert said is None or paid >= said or paid >= 1
    nothing = prices.charged(body, Usage(None, None, None, visible), 300)
    assert nothing[0] == prices.bound(body, 300)[0] and nothing[1] >= prices.bound(body, 300)[1]


# Replies of any shape

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=8,
)
NAMES = "choices message content role refusal tool_calls function_call finish_reason usage prompt_tokens type text"
FIELDS = st.sampled_from([*NAMES.split(), "completion_tokens", "total_tokens", "error", "code", "model", "index"])
WHOLE_REPLY = {
    "id": "x",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "0.5"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
}


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of everything in a JSON value."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from places(one, (*at, name))


def put(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    """The value with another at a path."""
    if not at:
        return new
    made = dict(value) if isinstance(value, dict) else list(value)
    made[at[0]] = put(value[at[0]], at[1:], new)
    return made


def fair(said: Answer | Failure) -> None:
    """What holds of whatever came."""
    if isinstance(said, Failure):
        assert said.reason and said.reason.isprintable() and len(said.reason) < 400
        assert said.paid or said.cure
        return
    assert said.finish in WHOLE and spoken(said.text)
    for count in (said.usage.prompt, said.usage.completion, said.usage.total):
        assert count is None or (isinstance(count, int) and 0 <= count <= 2 * replies.MOST_TOKENS)
    assert said.usage.visible >= 0


@law(300)
@given(st.sampled_from(list(places(WHOLE_REPLY))), JSON)
def test_one_thing_of_a_reply_replaced_is_an_answer_only_where_it_says_so(at: tuple[Any, ...], new: Any) -> None:
    """A verdict is never made up: another text comes out only where another content went in."""
    said = read(json.dumps(put(WHOLE_REPLY, at, new)).encode())
    fair(said)
    if isinstance(said, Answer) and at[:1] != ("choices",):
        assert said.text == "0.5" or at == ()
    if isinstance(said, Answer) and said.text != "0.5":
        assert at in ((), ("choices",), ("choices", 0), ("choices", 0, "message"), ("choices", 0, "message", "content"))


@law(200)
@given(st.dictionaries(FIELDS, JSON, max_size=5), st.lists(st.tuples(FIELDS, JSON), max_size=3))
def test_any_object_is_an_answer_or_a_failure(top: dict[str, Any], inner: list[tuple[str, Any]]) -> None:
    for name, value in inner:
        top.setdefault("choices", [{}])
        if isinstance(top["choices"], list) and top["choices"] and isinstance(top["choices"][0], dict):
            top["choices"][0][name] = value
    fair(read(json.dumps(top).encode()))


@law(200)
@given(st.integers(0, 10**6), st.binary(max_size=4), st.integers(0, 6))
def test_any_bytes_are_an_answer_or_a_failure(at: int, new: bytes, gone: int) -> None:
    whole = json.dumps(WHOLE_REPLY).encode()
    at %= len(whole)
    fair(read(whole[:at] + new + whole[at + gone :]))
    fair(read(new * 40))


def test_a_reader_that_guesses_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant as found in the wild: the first text anywhere in the reply is the answer."""

    def wrong(body: bytes) -> Answer | Failure:
        try:
            value = json.loads(body)
        except ValueError:
            return Failure("the reply is not JSON", paid=True)
        found = list(texts(value))
        return Answer(found[-1], "m", "", "stop", Usage()) if found and found[-1].strip() else Failure("x", paid=True)

    def texts(value: Any) -> Iterator[str]:
        for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]:
            if isinstance(one, str):
                yield one
            elif isinstance(one, dict | list):
                yield from texts(one)

    monkeypatch.setitem(globals(), "read", wrong)
    caught(test_one_thing_of_a_reply_replaced_is_an_answer_only_where_it_says_so)


def test_a_reader_that_does_not_ask_whether_it_is_whole_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def lenient(self: Any, finish: Any) -> None:
        self.finish = finish if isinstance(finish, str) else "?"

    monkeypatch.setattr(replies._Said, "_check_end", lenient)
    caught(test_one_thing_of_a_reply_replaced_is_an_answer_only_where_it_says_so)


PLAIN = st.text(st.characters(exclude_characters="<>[]◁▷|", exclude_categories=["Cs"]), max_size=20)
MARKS = st.sampled_from(["think", "Thinking", "THOUGHT", "reasoning"])
BRACKETS = st.sampled_from(["<>", "[]", "◁▷"])


@law(200)
@given(PLAIN, st.text(max_size=20), MARKS, BRACKETS, st.booleans())
def test_what_is_thought_before_an_answer_is_no_part_of_it(
    answer: str, thought: str, mark: str, around: str, opened: bool
) -> None:
    """Whatever stands in the thoughts, marks too; and an answer alone is itself."""
    begin, end = f"{around[0]}{mark}{around[1]}", f"{around[0]}/{mark}{around[1]}"
    assume("<|channel|>" not in thought)
    assert spoken(answer) == answer.strip()
    assert spoken(f"{begin if opened else ''}{thought}{end}{answer}") == answer.strip()
    assert spoken(f"{answer}{begin}{answer}") == ""
    assert spoken(spoken(f"{thought}{end}{answer}")) == answer.strip()


# Verdicts


@dataclass
class Scripted:
    """Says these, one after another; then nothing more."""

    said: list[str | None]
    asked: list[Ask] = field(default_factory=list)
    name: str = "scripted"

    def reply(self, ask: Ask) -> str | Unscored:
        self.asked.append(ask)
        told = self.said[len(self.asked) - 1] if len(self.asked) <= len(self.said) else None
        return Unscored(ask.id, "no reply") if told is None else told


def number(text: str) -> float | None:
    """A grade from 0 to 1, ValueError for another number, None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    if not 0 <= value <= 1:
        raise ValueError("out of range")
    return value


SAID = st.one_of(st.none(), st.sampled_from(["0.5", "1", "0", "7", "nan", "", "yes", "-0.1", "inf"]))


@law(150)
@given(st.lists(SAID, min_size=2, max_size=3))
def test_a_verdict_is_what_was_said_or_a_reason_and_takes_two_questions_at_most(said: list[str | None]) -> None:
    judge = Scripted(said)
    found = verdict(judge, question(1), number, "one number")

    def good(text: str | None) -> bool:
        return text in ("0.5", "1", "0")

    asked = 1 if said[0] is None or good(said[0]) else 2
    assert len(judge.asked) == asked
    last = said[asked - 1]
    if good(last):
        assert found == float(last or "x")
    else:
        assert isinstance(found, Unscored) and found.id == "q/1" and found.reason
    assert asked == 1 or "Reply with one number and nothing else" in judge.asked[1].prompt
    for one in judge.asked[1:]:
        assert one.fault and not one.fault("0.5") and one.fault("seven") and one.fault("7")


class Slow:
    """A panel: it knows what it was asked to know, and counts how often each question went out."""

    name = "slow"

    def __init__(self, seed: int) -> None:
        self.seed, self.sent, self.told = seed, Counter[str](), dict[str, str | Unscored]()
        self.passes = 0

    def known(self, ask: Ask) -> bool:
        return f"{ask.id} {ask.run}" in self.told

    def reply(self, ask: Ask) -> str | Unscored:
        if not self.known(ask):
            self.ask_all([ask])
        return self.told[f"{ask.id} {ask.run}"]

    def ask_all(self, asks: list[Ask]) -> None:
        self.passes += 1
        for ask in asks:
            name = f"{ask.id} {ask.run}"
            if name not in self.told:
                self.sent[name] += 1
                drawn = random.Random(f"{self.seed} {name}").random()
                self.told[name] = Unscored(ask.id, "no verdict") if drawn < 0.2 else str(int(drawn * 4))


def program(seed: int) -> Callable[[Judge], list[str]]:
    """Plain code that asks one question after another, which ones depends on what was answered."""

    def work(judge: Judge) -> list[str]:
        told = []
        for start in range(6):
            at = start + 10 * (seed % 7)
            for _ in range(1 + seed % 4):
                reply = judge.reply(question(at))
                told.append(reply.reason if isinstance(reply, Unscored) else reply)
                if isinstance(reply, Unscored):
                    break
                at = at * 3 + int(reply) + 1
        return told

    return work


@law(80)
@given(st.integers(0, 10**6))
def test_asked_side_by_side_a_program_gives_what_it_gives_one_by_one(seed: int) -> None:
    """However the next question hangs on the last answer; and no question goes out twice."""
    panel, alone = Slow(seed), Slow(seed)
    together = answered(panel, program(seed))
    assert together == program(seed)(alone)
    assert panel.sent == alone.sent  # nothing is asked that would not have been
    assert max(panel.sent.values()) == 1
    assert panel.passes <= 1 + seed % 4  # as many passes as the longest chain, not as many as questions


def test_a_panel_s_place_holder_taken_for_an_answer_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant of `answered` that runs the work once."""

    def once(judge: Any, work: Callable[[Judge], Any]) -> Any:
        from harness.contracts.judge import Listed

        listed = Listed(judge)
        work(listed)
        judge.ask_all(listed.asks)
        return work(Listed(judge))

    monkeypatch.setitem(globals(), "answered", once)
    caught(test_asked_side_by_side_a_program_gives_what_it_gives_one_by_one)


def test_repeats_are_other_questions() -> None:
    """The run is part of what a reply is kept under, the name of who asks is not."""
    judge = Llm("gpt-4-0613", Chat(), QUICK, Journal(Path(mkdtemp())), PRICE)
    one = question(1)
    keys = {judge.key(replace(one, run=run)) for run in range(5)}
    assert len(keys) == 5
    assert judge.key(replace(one, id="other", purpose="other", facts={"a": "b"})) == judge.key(one)
    assert judge.key(replace(one, prompt=one.prompt + " ")) != judge.key(one)
    assert judge.key(replace(one, max_tokens=17)) != judge.key(replace(one, max_tokens=18))
