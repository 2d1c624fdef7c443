"""What every kind of judge and writer keeps, whoever wrote it; a new one in harness/judges/ or tests/outside/judge/ is
tried without a word here. Each promise has a mutant that breaks it."""

import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from unittest import mock

import pytest

from harness.comparison.bill import Note
from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark
from harness.contracts.images import Places, StoreImages
from harness.contracts.judge import Ask, Panel
from harness.contracts.judge_kind import Hired, JudgeKind, Post
from harness.contracts.records import Response, Unscored
from harness.contracts.settings import Judging, Runtime
from harness.judging import hire
from harness.mini.benchsets import write_benchmark
from harness.scoring.verdicts import keep_replies
from harness.system.errors import HarnessError, UsageError
from harness.system.jsonl import dumps, read_jsonl
from tests.judging.fake import CANARY, refusal, serving
from tests.seams.found import found, worlds

OFFERED = {word: world for world in worlds() for word in world.judges}  # by testbeds, for their own images
KINDS = [*found("judge"), *OFFERED]
QUICK = Runtime(ask_timeout_s=10, ask_deadline_s=30, ask_attempts=2)


@dataclass(frozen=True)
class Tried:
    """A kind under trial, questions for it, and the folder that the drawn ones are about."""

    kind: JudgeKind
    asks: Sequence[Ask]
    drawn: Path
    folder: Path

    def hired(self, store: str = "store", runtime: Runtime = QUICK) -> Hired:
        """Somebody of the kind, with a store of that name."""
        (self.folder / store).mkdir(exist_ok=True)
        return self.kind.hire(Post(runtime, self.folder / store, drawn=self.drawn))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that the embedded world drew."""
    folder = tmp_path_factory.mktemp("drawn")
    write_benchmark("mmvet", 0, 40, folder)
    return folder


@pytest.fixture(scope="module")
def asks(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Ask]:
    """What MM-Vet asks about good and bad responses, and a question that nobody has a rubric for."""
    store, note = tmp_path_factory.mktemp("images"), Note()
    benchmark: Benchmark = plugins.make("benchmarks", "mmvet", Benchmark, {})
    items = islice(benchmark.items(drawn, StoreImages(Places(store), store, store)), 4)
    for number, item in enumerate(items):
        benchmark.score(item, Response(item.id, item.facts["answer"] if number % 2 else "No idea.", 4), note)
    return [*note.asks, Ask("odd/1", "odd", None, "What is odd?")]


@pytest.fixture
def tried(request: pytest.FixtureRequest, tmp_path: Path, drawn: Path, asks: list[Ask]) -> Iterator[Tried]:
    """The kind of that name, told what its form says it is told, beside a server that answers by the question."""
    with serving(lambda body, times: f"0.{len(body['messages'][0]['content']) % 10}"):
        yield Tried(made(request.param, tmp_path, asks), asks, drawn, tmp_path)


def made(name: str, folder: Path, asks: Sequence[Ask], other: bool = False) -> JudgeKind:
    """A kind as words name it; with `other`, told something else."""
    world = OFFERED.get(name)
    kind = world.judge(name) if world else plugins.plugin("harness.judges", name, JudgeKind)
    form = kind.form.partition(":")[2]
    saved = folder / f"saved{other:d}.json"
    saved.write_text(json.dumps({ask.id: f"0.{number + other}" for number, ask in enumerate(asks[1:])}))
    rest = {"": "", "FILE": str(saved)}.get(form, f"some-{form.lower()}-{other:d}")
    return hire.kind_of(f"{name}:{rest}" if rest else name, Judging(images=True), {}, world)


def says_what_it_is(tried: Tried) -> None:
    """Name, source and class vars."""
    kind = tried.kind
    assert kind.name and os.sep not in plugins.parted(kind.name)[0]
    assert kind.file.is_file() and type(kind).__name__ in kind.file.read_text()
    assert (kind.__doc__ or "").strip() and type(kind).__doc__ != JudgeKind.__doc__


def nobody_is_asked_before_a_question(tried: Tried) -> None:
    """Usable, identity, remark and hiring touch no network."""
    with mock.patch.object(socket.socket, "connect", side_effect=AssertionError("somebody was called")):
        assert tried.kind.unusable() == ""
        tried.kind.identity(), tried.kind.remark()
        assert tried.hired().name


def what_keeps_it_from_answering_is_a_sentence(tried: Tried) -> None:
    """Without a key, and without what it must be told, it says so and raises nothing."""
    with mock.patch.dict(os.environ):
        for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
            os.environ.pop(name, None)
        for rest in ("", "\x00", "no/such/thing.json"):
            said = replace(tried.kind, rest=rest).unusable()
            assert isinstance(said, str) and "\n" not in said


def its_identity_is_plain_and_has_no_place_secret_or_price(tried: Tried) -> None:
    """The same on every machine, and never more than decides a reply."""
    kind = tried.kind
    known = dumps(kind.identity())
    assert json.loads(known) == json.loads(dumps(kind.identity())) and known != "{}"
    assert str(tried.folder) not in known and str(kind.file.parent) not in known and CANARY not in known
    assert dumps(replace(kind, prices={kind.rest: (1.0, 2.0)}).identity()) == known
    priced = kind.chat.model_copy(update={"price": (1.0, 2.0)})
    assert dumps(replace(kind, chat=priced).identity()) == known


def told_something_else_it_is_somebody_else(tried: Tried) -> None:
    """Two that may answer differently have two identities; the same file elsewhere has one."""
    kind = tried.kind
    if not kind.rest:
        return
    if Path(kind.rest).is_file():
        before, file = dumps(kind.identity()), Path(kind.rest)
        moved = file.rename(file.with_name("moved.json"))
        assert dumps(replace(kind, rest=str(moved)).identity()) == before
        file.write_text('{"mmvet/other": "0.1"}')
    else:
        before, kind = dumps(kind.identity()), replace(kind, name=f"{kind.name}-2", rest=f"{kind.rest}-2")
    assert dumps(kind.identity()) != before


def a_reply_is_text_or_a_reason(tried: Tried) -> None:
    """Never an exception, never somebody else's id; and it answers at all."""
    judge, given = tried.hired(), []
    for ask in tried.asks:
        reply = judge.reply(ask)
        assert isinstance(reply, str) or (isinstance(reply, Unscored) and reply.id == ask.id and reply.reason)
        given.append(reply)
    assert any(isinstance(reply, str) for reply in given)


def replies_do_not_depend_on_what_else_is_asked(tried: Tried) -> None:
    """In another order, and of somebody hired anew elsewhere."""
    one, other = tried.hired("one"), tried.hired("other")
    forwards = [one.reply(ask) for ask in tried.asks]
    assert [other.reply(ask) for ask in reversed(tried.asks)][::-1] == forwards
    assert [one.reply(ask) for ask in tried.asks] == forwards


def what_a_stage_keeps_of_it_can_be_read_again(tried: Tried) -> None:
    """`replies.jsonl` and the fields of `judge.json`; whoever loses questions has replies to count them against."""
    judge = tried.hired()
    for ask in tried.asks:
        judge.reply(ask)
    out = tried.folder / "out"
    out.mkdir()
    assert json.loads(dumps(keep_replies(out, judge))) is not None and type(judge.runs) is int and judge.runs >= 1
    kept = list(read_jsonl(dict, out / "replies.jsonl")) if judge.replies else []
    assert len(kept) == len(judge.replies) and all(isinstance(why, str) for why in judge.lost)
    assert judge.replies or not judge.lost
    assert CANARY not in "".join(path.read_text() for path in out.iterdir())


def who_is_paid_counts_and_is_paid_once(tried: Tried) -> None:
    """A cost per call or none that is known; the second time it is asked nothing is called. Others cost nothing."""
    judge, ask = tried.hired(), tried.asks[0]
    if not tried.kind.paid:
        assert judge.usd(ask) == 0
        return
    cost = judge.usd(ask)
    assert cost is None or cost >= 0
    assert isinstance(judge, Panel), "whoever is paid is asked side by side"
    first = judge.reply(ask)
    with mock.patch.object(socket.socket, "connect", side_effect=AssertionError("paid twice")):
        assert tried.hired().reply(ask) == first


def who_cannot_be_asked_is_found_by_a_probe(tried: Tried) -> None:
    """Before anything runs, and only of those who are paid."""
    with serving(lambda body, times: refusal(401, "invalid_api_key")) as server:
        if tried.kind.paid:
            with pytest.raises(HarnessError):
                tried.hired("fresh").probe()
            assert sum(server.asked.values()) == 1
        else:
            tried.hired("fresh").probe()
            assert not server.asked


def who_knows_drawn_images_only_says_so(tried: Tried) -> None:
    """Hired where nothing was drawn it is a sentence, not a KeyError; others need no drawing."""
    post = Post(QUICK, tried.folder)
    if tried.kind.drawn_only:
        with pytest.raises(UsageError):
            tried.kind.hire(post)
    else:
        assert tried.kind.hire(post).name


PROMISES: Sequence[Callable[[Tried], None]] = (
    says_what_it_is,
    nobody_is_asked_before_a_question,
    what_keeps_it_from_answering_is_a_sentence,
    its_identity_is_plain_and_has_no_place_secret_or_price,
    told_something_else_it_is_somebody_else,
    a_reply_is_text_or_a_reason,
    replies_do_not_depend_on_what_else_is_asked,
    what_a_stage_keeps_of_it_can_be_read_again,
    who_is_paid_counts_and_is_paid_once,
    who_cannot_be_asked_is_found_by_a_probe,
    who_knows_drawn_images_only_says_so,
)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("tried", KINDS, indirect=True, ids=plugins.stem)
def test_every_kind_keeps(tried: Tried, promise: Callable[[Tried], None]) -> None:
    promise(tried)


def kind_with(hired: str = "", body: str = "") -> str:
    """A small kind's source, with lines put into whom it hires and into itself."""
    return f"""
import itertools, socket
from harness.contracts.judge_kind import Hired, JudgeKind
from harness.contracts.records import Unscored
class One(Hired):
    name = "one"
    def reply(self, ask):
        return "0.5"
{hired}
class Kind(JudgeKind):
    '''Says 0.5.'''
    def hire(self, post):
        return One()
{body}
"""


ASKS_EARLY = "    def unusable(self):\n        socket.create_connection(('127.0.0.1', 9), 0.1)"
CHATTY = "    def unusable(self):\n        if not self.rest: raise KeyError(self.rest)\n        return ''"
PLACED = "    def identity(self):\n        return {'file': str(self.file)}"
PRICED = "    def identity(self):\n        return {**self.chat.model_dump()}"
SAME = "    form = 'mine:NAME'\n    def identity(self):\n        return {'name': 'one'}"
RAISES = "    def reply(self, ask):\n        return ask.facts['question'] and '1'"
COUNTS = "    said = itertools.count()\n    def reply(self, ask):\n        return str(next(self.said))"
LOSES = "    lost = ['no reply']"
SECRET = "    replies = [{'set': {1}}]"
TWICE = "    def usd(self, ask):\n        return None"
FORGETS = "    paid = True"
NEEDY = "    def hire(self, post):\n        return One() if post.drawn else None"
BROKEN = {
    "says_what_it_is": kind_with(body="    __doc__ = ''"),
    "nobody_is_asked_before_a_question": kind_with(body=ASKS_EARLY),
    "what_keeps_it_from_answering_is_a_sentence": kind_with(body=CHATTY),
    "its_identity_is_plain_and_has_no_place_secret_or_price": kind_with(body=PLACED),
    "its_identity_is_plain_and_has_no_place_secret_or_price ": kind_with(body=PRICED),
    "told_something_else_it_is_somebody_else": kind_with(body=SAME),
    "a_reply_is_text_or_a_reason": kind_with(RAISES),
    "replies_do_not_depend_on_what_else_is_asked": kind_with(COUNTS),
    "what_a_stage_keeps_of_it_can_be_read_again": kind_with(LOSES),
    "what_a_stage_keeps_of_it_can_be_read_again ": kind_with(SECRET),
    "who_is_paid_counts_and_is_paid_once": kind_with(TWICE),
    "who_cannot_be_asked_is_found_by_a_probe": kind_with(body=FORGETS),
    "who_knows_drawn_images_only_says_so": kind_with(body=NEEDY),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_kind_that_breaks_a_promise_is_found_out(broken: str, tmp_path: Path, drawn: Path, asks: list[Ask]) -> None:
    mutant = tmp_path / "mutant.py"
    mutant.write_text(BROKEN[broken])
    [promise] = [one for one in PROMISES if one.__name__ == broken.strip()]
    with serving(lambda body, times: "0.5"), pytest.raises((Exception, pytest.fail.Exception)):
        promise(Tried(made(str(mutant), tmp_path, asks), asks, drawn, tmp_path))


def test_every_promise_has_a_mutant_and_the_mutants_source_is_sound(
    tmp_path: Path, drawn: Path, asks: list[Ask]
) -> None:
    """So that what finds a mutant out is what was put into it."""
    assert {name.strip() for name in BROKEN} == {promise.__name__ for promise in PROMISES}
    (tmp_path / "sound.py").write_text(kind_with())
    for number, promise in zip(count(), PROMISES, strict=False):
        folder = tmp_path / str(number)
        folder.mkdir()
        with serving(lambda body, times: "0.5"):
            promise(Tried(made(str(tmp_path / "sound.py"), folder, asks), asks, drawn, folder))
