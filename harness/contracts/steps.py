"""What a comparison asks for and the steps it takes, as plain data: what planning makes and everybody else reads."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.contracts.executor import Resources
from harness.contracts.settings import MethodSpec, Testbed
from harness.store.closure import Entry
from harness.store.store import Stage

if TYPE_CHECKING:
    from harness.contracts.row import Row
    from harness.contracts.source import Source

ALL_BENCHMARKS = ("sqa", "gqa", "textvqa", "mmvet", "mme", "mmb", "pope", "chair", "mmhal")  # the paper's order


@dataclass(frozen=True)
class Request:
    """What the user asked for. `limit` is a number of benchmark scenes."""

    methods: tuple[MethodSpec, ...]
    data: "Source"
    seeds: int = 1
    first_seed: int = 0
    benchmarks: tuple[str, ...] = ALL_BENCHMARKS
    examples: int | None = None
    limit: int | None = None
    tuning: bool = False
    blank: bool = False
    """Also generate the baseline's responses to blank images: what a model can guess without seeing."""
    pool: int | None = None
    """Examples the embedded world draws for all sizes of one comparison, so that the smaller splits are prefixes."""
    published: tuple[tuple[str, str], ...] = ()
    """Rows that nobody trains here: their names, and the folders of their models."""
    answered: tuple[tuple[str, str], ...] = ()
    """Rows that somebody else answers: their names, and the words of who does ("openai:MODEL")."""
    noise_batch: int = 0
    """Also generate the baseline's responses in batches of this size: what is no method's doing. 0: do not."""


@dataclass(frozen=True)
class Step:
    """One stage and when it can run.

    `derived` are stages it reads too but that follow from its inputs, so that they are not in its key (a cache of
    reference log-probs); `after` are keys it lets go first when they run at all. `row` is the id of the row that
    it is made for where its method makes it; `resources` are what it takes while it runs; `sources` are the modules and
    files whose code is in its key.
    """

    title: str
    stage: Stage
    derived: dict[str, Stage] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    row: str = ""
    resources: Resources = field(default_factory=Resources)
    sources: tuple[Entry, ...] = ()

    @property
    def key(self) -> str:
        """The stage's key."""
        return self.stage.key

    @property
    def reads(self) -> dict[str, Stage]:
        """Every stage that must be finished first, by what it is to this one."""
        return {**self.stage.inputs, **self.derived}


@dataclass(frozen=True)
class Cell:
    """One cell of the table: whose responses to which benchmark's items, and the step that scores them."""

    row: str
    label: str
    seed: int
    benchmark: str
    items: Step
    responses: Step
    score: Step
    crosscheck: Step | None


@dataclass(frozen=True)
class Plan:
    """Steps in an order that respects inputs, the cells of the table, and its report."""

    request: Request
    testbed: Testbed
    rows: "dict[str, Row]"  # by id, resolved
    steps: tuple[Step, ...]
    cells: tuple[Cell, ...]
    splits: tuple[Step, ...]
    trained: "dict[tuple[str, int], tuple[Step, ...]]"  # (row, seed) -> every step that made its policy
    lenses: "dict[tuple[str, int], tuple[Step, ...]]"  # (row, seed) -> what looks at what its training did
    report: Step
    parity: Step | None = None
    """Whether another backend than transformers is the same model, which must be known before it responds."""

    @property
    def goals(self) -> tuple[Step, ...]:
        """What a finished comparison has."""
        return (*([self.parity] if self.parity else []), *(steps[-1] for steps in self.lenses.values()), self.report)
