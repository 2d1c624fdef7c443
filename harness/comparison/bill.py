"""What judge and writer will be asked and will cost, before anything has run.

Responses do not exist yet, so their length is assumed. Exact to the question is the estimate that each stage makes
before its first call (`Llm.afford`).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.contracts.behind import behind
from harness.contracts.benchmark import Benchmark, benchmark_of, folder_of
from harness.contracts.judge import Ask, Listed, Panel, Repeat
from harness.contracts.judge_kind import Hired, JudgeKind, Post
from harness.contracts.method import Role
from harness.contracts.records import Dropped, Example, Image, Item, Prompt, Record, Response, Turn, Unscored
from harness.contracts.settings import Runtime, Testbed
from harness.contracts.steps import Plan, Step
from harness.judging.hire import OFFICES, Office, answering, identity, kind_for
from harness.scoring.limit import stratified
from harness.scoring.verdicts import scored
from harness.stages.answer import Answer, question
from harness.stages.build import Build
from harness.stages.items import Items
from harness.stages.lens import Lens
from harness.stages.probe import Probe
from harness.stages.score import Score
from harness.stages.split import Split
from harness.store.store import Stage, Store
from harness.system.errors import UsageError
from harness.system.jsonl import dumps, read_jsonl
from harness.training.lens import PROMPT as LENS

ASSUMED = "word " * 100  # what responses and reference answers are taken to be


@dataclass(frozen=True)
class Bill:
    """The calls of one role, or of a row that is answered elsewhere, and their USD; None where that is not known."""

    role: str
    kind: JudgeKind
    calls: int
    usd: float | None

    @property
    def name(self) -> str:
        """Who is asked."""
        return self.kind.name

    def __str__(self) -> str:
        """One line for the plan."""
        cost = "its price is not known" if self.usd is None else f"about {self.usd:,.2f} USD"
        return f"{self.role} {self.name}: {self.calls:,} calls at most, {cost}"


def bills(planned: Plan, steps: Sequence[Step], store: Store, runtime: Runtime) -> list[Bill]:
    """What whoever is paid will be asked by these steps of the plan: one bill per role or row that is asked at all."""
    found, unbound = [], _unbound(runtime, store)
    for role, kind in _paid(planned.testbed):
        hired = kind.hire(unbound)
        found += _bill(role, kind, hired, _noted(role, planned, steps, store, hired))
    for kind, mine in _answering(planned, steps):
        found += _bill("row", kind, kind.hire(unbound), _prompts(planned, mine, store))
    return found


def _bill(role: str, kind: JudgeKind, hired: Hired, noted: Iterable[tuple[Ask, int]]) -> list[Bill]:
    costs = [(hired.usd(ask), times) for ask, times in noted]
    known = [times * usd for usd, times in costs if usd is not None]
    calls = sum(times for _, times in costs)
    return [Bill(role, kind, calls, sum(known) if len(known) == len(costs) else None)] if calls else []


def _answering(planned: Plan, steps: Sequence[Step]) -> Iterator[tuple[JudgeKind, list[Step]]]:
    """Who is paid for answering a row, and the steps that ask."""
    for words in dict.fromkeys(words for _, words in planned.request.answered):
        kind = answering(words, planned.testbed)
        mine = [step for step, made in Answer.among(steps) if made.who == identity(kind)]
        if kind.paid and mine:
            yield kind, mine


def _prompts(planned: Plan, steps: Sequence[Step], store: Store) -> Iterator[tuple[Ask, int]]:
    """The questions of answer steps, with how often each is asked."""
    for step in steps:
        items, most = Answer.Reads.of(step).items, Answer.of(step).max_tokens
        listed = _items(planned, items, benchmark_of(Items.of(items)), store)
        yield from ((question(item, most), 1) for item in listed or ())
        if listed is None:  # of a world not drawn yet
            asked = question(Item("", Image("", ""), ASSUMED, "", {}), most)
            yield asked, planned.request.limit or planned.testbed.scenes


def asked_by(planned: Plan, steps: Sequence[Step], store: Store, runtime: Runtime) -> dict[str, int]:
    """How many questions these steps ask of whoever is paid, by their keys."""
    found, unbound = dict.fromkeys((step.key for step in steps), 0), _unbound(runtime, store)
    for role, kind in _paid(planned.testbed):
        hired = kind.hire(unbound)
        for step in steps:
            found[step.key] += sum(times for _, times in _noted(role, planned, [step], store, hired))
    for _, mine in _answering(planned, steps):
        for step in mine:
            found[step.key] += sum(times for _, times in _prompts(planned, [step], store))
    return found


def _unbound(runtime: Runtime, store: Store) -> Post:
    return Post(runtime.model_copy(update={"budget": None}), store.root)


def _noted(role: Office, planned: Plan, steps: Sequence[Step], store: Store, hired: Hired) -> Iterator[tuple[Ask, int]]:
    """The questions of steps to a role, with how often each is asked."""
    return _verdicts(planned, steps, store, hired.runs) if role == "judge" else _texts(planned, steps, store)


def _paid(testbed: Testbed) -> Iterator[tuple[Office, JudgeKind]]:
    """The roles whose replies cost something."""
    for role in OFFICES:
        with suppress(UsageError):  # of words that name no kind: whoever needs one has been told
            if (kind := kind_for(role, testbed)).paid:
                yield role, kind


def check_budget(planned: Plan, steps: Sequence[Step], store: Store, runtime: Runtime) -> None:
    """UsageError, before anything runs, where the steps cannot be paid for.

    What earlier runs spent does not count here: a part of these questions may be paid for already.
    """
    budget = runtime.budget
    due = bills(planned, steps, store, runtime) if budget is not None else []
    for bill in due:  # who cannot keep to a budget says so
        bill.kind.hire(Post(runtime, store.root))
    total = sum(bill.usd or 0.0 for bill in due)
    if budget is not None and total > budget:
        asked = "; ".join(map(str, due))
        raise UsageError(f"--budget {budget:g} is not enough ({asked}). Nothing was asked: raise it, or ask for less.")


def check_access(planned: Plan, steps: Sequence[Step], store: Store, runtime: Runtime) -> None:
    """HarnessError, before anything runs, where somebody whom these steps will ask cannot be asked (`Hired.probe`).

    Nobody is called who will be asked nothing: nobody who is free, no judge whose replies are all kept.
    """
    for role, kind in _paid(planned.testbed):
        hired = kind.hire(Post(runtime, store.root))
        if any(_asks(role, planned, step, store, hired) for step in steps):
            hired.probe()
    for kind, _ in _answering(planned, steps):
        kind.hire(Post(runtime, store.root)).probe()


def _asks(role: Office, planned: Plan, step: Step, store: Store, hired: Hired) -> bool:
    """Whether a step will ask this role something that is not answered yet, as far as that can be known."""
    kind = step.stage.kind
    if role == "writer":
        return kind == Lens.kind() or (kind == Build.kind() and planned.rows[step.row].method.needs_writer)
    if kind != Score.kind() or not (benchmark := benchmark_of(Score.of(step))).judged:
        return False
    reads, asked = Score.Reads.of(step), Listed(hired) if isinstance(hired, Panel) else Note()
    if not store.done(reads.responses):
        return True
    responses = read_jsonl(Response, store.path(reads.responses) / "responses.jsonl")
    said = {response.id: response for response in responses}
    for item in read_jsonl(Item, store.path(reads.items) / "items.jsonl"):
        for run in range(hired.runs):
            scored(benchmark, item, said[item.id], Repeat(asked, run))
    return bool(asked.asks)


def _verdicts(planned: Plan, steps: Sequence[Step], store: Store, runs: int) -> Iterator[tuple[Ask, int]]:
    """The questions of score steps, with how often each is asked."""
    for step, score in Score.among(steps):
        if not (benchmark := benchmark_of(score)).judged:
            continue
        note, items = Note(), _items(planned, Score.Reads.of(step).items, benchmark, store)
        for item in items or ():
            benchmark.score(item, Response(item.id, ASSUMED, 100), note)
        if items is None:  # of a world not drawn yet: every scene might have a question
            note.reply(Ask("", score.benchmark, None, 5 * ASSUMED))
        times = runs if items is not None else runs * (planned.request.limit or planned.testbed.scenes)
        yield from ((ask, times) for ask in note.asks)


def _items(planned: Plan, stage: Stage, benchmark: Benchmark, store: Store) -> list[Item] | None:
    """A benchmark's items, from the store or the official files; None of a world not drawn yet."""
    done = store.path(stage) / "items.jsonl"
    if done.is_file():
        return list(read_jsonl(Item, done))
    if Items.Reads.of(stage).data:
        return None
    folder = folder_of(Items.of(stage).benchmark, behind(planned.testbed.data).home, planned.request.data)
    return stratified(list(benchmark.items(folder, Unread())), planned.request.limit, benchmark.stratum)


def _texts(planned: Plan, steps: Sequence[Step], store: Store) -> Iterator[tuple[Ask, int]]:
    """The questions of build and lens steps to the writer, with how often each is asked."""
    for step, build in Build.among(steps):
        if (method := planned.rows[step.row].method).needs_writer:
            split = Build.Reads.of(step).split
            done = store.path(split) / "examples.jsonl"
            if done.is_file():
                samples = [(list(read_jsonl(Example, done)), 1)]
            else:
                turn = Turn("What is in the image?", ASSUMED)
                each = planned.request.data.shares(Split.of(split).n or len(planned.request.data.parts))
                samples = [([Example("", name, None, (turn,))], times) for name, times in each.items()]
            for examples, times in samples:
                round = Taken(build.round, build.seed)
                with suppress(Unmeasured):
                    list(method.build(examples, round))
                yield from ((ask, times) for ask in round.writer.asks)
    for step, lens in Lens.among(steps):  # the errors of two responses to each example
        many = Probe.of(Lens.Reads.of(step).probe).examples
        yield Ask("", "errors", None, f"{LENS} {2 * ASSUMED} {dumps(lens.codebook)}"), 2 * many


class Note:
    """Stands in for a judge or writer: notes what it is asked."""

    name = "note"

    def __init__(self) -> None:
        self.asks: list[Ask] = []

    def reply(self, ask: Ask) -> str | Unscored:
        """Nothing; the question is noted."""
        self.asks.append(ask)
        return Unscored(ask.id, "not asked")


class Unmeasured(Exception):
    """A method came to figures of a model; what it asks its writer, it asked before."""


@dataclass(frozen=True)
class Taken:
    """A round whose responses are taken to be like `ASSUMED`."""

    number: int
    seed: int
    writer: Note = field(default_factory=Note)

    def respond(self, prompts: Sequence[Prompt], *_: Any, **__: Any) -> list[Response]:
        """One such response per prompt, no two alike."""
        return [Response(prompt.id, f"{ASSUMED} {prompt.id}", 100) for prompt in prompts]

    def candidates(
        self, prompts: Sequence[Prompt], count: int, penalty: float, stop: str, max_new_tokens: int
    ) -> list[list[Response]]:
        """None without a model."""
        raise Unmeasured

    def similarity(self, pairs: Sequence[tuple[Image, str]]) -> list[float]:
        """None without a model."""
        raise Unmeasured

    def measure(self, records: Sequence[Record], role: Role) -> list[tuple[float, ...] | Dropped]:
        """None without a model."""
        raise Unmeasured


class Unread:
    """Pictures that nobody looks at."""

    def at(self, path: Path) -> Image:
        """A picture without identity."""
        return Image("", "")

    def of(self, data: bytes) -> Image:
        """A picture without identity."""
        return Image("", "")
