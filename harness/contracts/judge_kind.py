"""What a kind of judge or writer promises: what stands behind the words of a testbed's `judge` and `writer`.

A kind is a file. `harness/judges/openai.py` is "openai:MODEL", a user's file is "./mine.py" or "./mine.py:REST". Before
anything runs it says what keeps it from answering, what decides its replies, and whether they cost anything; hired, it
answers. A file that works:

    class Longest(JudgeKind):
        '''Grades a response by its length.'''

        def hire(self, post):
            return Grader()

    class Grader(Hired):
        name = "longest"

        def reply(self, ask):
            return f"{min(1.0, len(ask.facts['response']) / 100):.1f}"
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.contracts import plugins
from harness.contracts.judge import Ask
from harness.contracts.records import Unscored
from harness.contracts.settings import Chat, Price, Runtime
from harness.system.errors import UsageError

if TYPE_CHECKING:
    from harness.system.profile import Tick


@dataclass(frozen=True)
class Post:
    """Where somebody is hired to. None of it may change a reply.

    `root` is the store's folder, where replies may be kept, and stored images start from it or from `data`, the
    testbed's folder. `drawn` are the files that the testbed drew for the split or items which the questions are about:
    None where it draws none, and before anything runs. `tick` is told how far many questions have come.
    """

    runtime: Runtime
    root: Path
    data: Path | None = None
    drawn: Path | None = None
    tick: "Tick | None" = None


class Hired:
    """Who answers (`harness.contracts.judge.Judge`), and what can be told of it.

    One that is slow alone has `known` and `ask_all` as well and is asked side by side
    (`harness.contracts.judge.Panel`).
    """

    name: str
    """Who it is, in `judge.json` and in sentences."""
    runs: int = 1
    """How often a judge is asked each question (`Ask.run` tells the repeats apart); a writer is asked once."""

    def reply(self, ask: Ask) -> str | Unscored:
        """The reply's text, in the form that `ask.prompt` asks for, or why there is none.

        The same to the same question, whatever else is asked and in which order. HarnessError (`Denied`) only where no
        question can be answered any more; what was answered is kept by then.
        """
        raise NotImplementedError

    @property
    def lost(self) -> Sequence[str]:
        """Why questions have got no reply that might get one if they were asked again, one reason each.

        A score with such questions is made anew by the same command. Whoever loses some keeps `replies` of the rest.
        """
        return ()

    @property
    def replies(self) -> Sequence[Mapping[str, Any]]:
        """`replies.jsonl` of the stage that asked, in the order of the questions; none where a key says it all."""
        return ()

    def account(self) -> Mapping[str, Any]:
        """How the replies came about (servers, snapshots, USD): fields of `judge.json`, or of a build's profile."""
        return {}

    def usd(self, ask: Ask) -> float | None:
        """What one call will likely cost; None where nobody knows."""
        return 0.0

    def probe(self) -> None:
        """HarnessError where no call can succeed, found at the cost of one cheap call; asked of paid kinds only."""


JUDGES = "harness.judges"


@dataclass(frozen=True)
class JudgeKind:
    """Words of a testbed, read. A file of a kind defines one subclass, which adds no fields.

    `name` is what sentences and tables call it ("openai:gpt-4-0613", "mine:strict"), `rest` what stands behind the
    colon, `file` its source. `chat` is the testbed's `judging` or `writing`, `prices` its prices.
    """

    name: str
    rest: str
    file: Path
    chat: Chat = field(default_factory=Chat)
    prices: Mapping[str, Price] = field(default_factory=dict)

    form: ClassVar[str] = ""
    """How it is written, for the sentence that lists the kinds: "openai:MODEL"."""
    paid: ClassVar[bool] = False
    """Whether its replies cost money or another machine's time: then its questions are counted, held to the budget and
    probed before anything runs."""
    told: ClassVar[bool] = True
    """Whether `chat` means anything to it."""
    takes_file: ClassVar[bool] = False
    """Whether what stands behind the colon is a file: it is found from where the words are written, `rest` is its
    whole path, and `name` has its name alone."""
    drawn_only: ClassVar[bool] = False
    """Whether it knows only the images that its testbed drew."""

    def unusable(self) -> str:
        """What keeps it from answering, with the cure; empty where nothing does. Asks nobody, and raises nothing."""
        return ""

    def identity(self) -> Mapping[str, Any]:
        """What decides its replies beside the question and its code: plain data, no path, no secret, no price.

        Two that may answer differently differ in it; two that cannot are equal, on whatever machine.
        """
        return {"name": self.name}

    def remark(self) -> str:
        """What should be known of it before it is asked (a price that is missing), with the cure; else empty."""
        return ""

    def hire(self, post: Post) -> Hired:
        """Whoever answers; asks nobody yet. UsageError where `post.runtime.budget` is one that it could not keep."""
        raise NotImplementedError


def takes_file(words: str) -> bool:
    """Whether words name a kind that takes a file; not so where they name none."""
    which, rest = plugins.parted(words)
    if not rest or not (which.endswith(".py") or which in plugins.installed(JUDGES)):
        return False
    try:
        return plugins.plugin(JUDGES, which, JudgeKind).takes_file
    except UsageError:  # told where somebody is needed who answers
        return False


def called(words: str) -> str:
    """What sentences and tables call a judge or writer: its words without a path."""
    which, rest = plugins.parted(words)
    return plugins.called(f"{which}:{Path(rest).name}" if takes_file(words) else words)
