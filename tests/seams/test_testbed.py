"""What every kind of testbed keeps, whoever wrote it; a new one in harness/testbeds/ or tests/outside/testbed/ is tried
without a word here. Each promise has a mutant that breaks it."""

import ast
import inspect
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path

import pytest

from harness.contracts import plugins
from harness.contracts.behind import TESTBEDS, behind
from harness.contracts.benchmark import Benchmark
from harness.contracts.images import Places, StoreImages
from harness.contracts.judge_kind import JudgeKind
from harness.contracts.records import Example, Item
from harness.contracts.source import PACKAGE, declared
from harness.contracts.testbed_file import read_testbed
from harness.contracts.testbed_kind import Bar, TestbedKind
from harness.store.closure import NEUTRAL, OURS, SOURCES
from harness.system.jsonl import dumps
from tests.recording import recording
from tests.seams.found import found

ROOT = Path(__file__).parents[2]
KINDS = found("testbed")
YAMLS = [read_testbed(file.stem) for file in ROOT.glob("harness/testbeds/*.yaml")]
OPTIONS = {bed.data: bed.benchmarks for bed in YAMLS}
FEW, SCENES = 3, 24


class Tried:
    """A kind under trial, and what it has drawn so far."""

    def __init__(self, kind: TestbedKind, folder: Path) -> None:
        self.kind, self.folder = kind, folder

    @property
    def draws(self) -> bool:
        """Whether it draws its files."""
        return self.kind.home is None

    def source(self, name: str, split: str = "alignment", seed: int = 0, n: int = FEW, again: str = "") -> Path:
        """A folder with examples of a source, drawn where they are not yet."""
        out = self.folder / f"{name}-{split}-{seed}-{n}{again}"
        if not out.exists():
            out.mkdir()
            self.kind.draw_source(name, split, seed, n, out)
        return out

    def benchmark(self, name: str, split: str = "benchmark", scenes: int = SCENES, again: str = "") -> Path:
        """A folder with a benchmark's files."""
        out = self.folder / f"{name}-{split}-{scenes}{again}"
        if not out.exists():
            out.mkdir()
            self.kind.draw_benchmark(name, split, 0, scenes, out)
        return out

    def folders(self, again: str = "") -> Iterator[Path]:
        """Everything it draws, a little of each."""
        yield from (self.source(name, again=again) for name in self.kind.sources)
        yield from (self.benchmark(name, again=again) for name in self.kind.benchmarks)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tried]:
    """One trial per kind: drawing twice is what one of its promises does."""
    return {name: Tried(behind(words(name)), tmp_path_factory.mktemp("drawn")) for name in KINDS}


def words(name: str) -> str:
    """What a YAML file says to mean the kind."""
    if name.endswith(".py"):
        return name
    return plugins.plugin(TESTBEDS, name, TestbedKind).word or str(ROOT)


def digests(folder: Path) -> dict[str, str]:
    """Digests of the files in a folder, by their places in it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): sha256(file.read_bytes()).hexdigest() for file in files}


def pictures(folder: Path) -> set[str]:
    """Digests of the pictures in a folder."""
    return {digest for file, digest in digests(folder).items() if file.endswith((".png", ".jpg"))}


def examples(name: str, home: Path) -> list[Example]:
    """What a source reads there; whatever it cannot use fails."""
    made = list(declared(name)(home).load())
    assert all(isinstance(one, Example) for one in made), made
    return [one for one in made if isinstance(one, Example)]


def items(name: str, kind: TestbedKind, home: Path, store: Path) -> list[Item]:
    """What a benchmark reads there, with the options that the kind's own testbed has."""
    store.mkdir(exist_ok=True)
    benchmark: Benchmark = plugins.make("benchmarks", name, Benchmark, OPTIONS.get(kind.data, {}).get(name, {}))
    return list(islice(benchmark.items(home, StoreImages(Places(store), store, store)), 50))


def says_what_it_is(tried: Tried) -> None:
    """It has files, or draws some; what it draws has a reader here."""
    kind = tried.kind
    assert type(kind).__doc__ and kind.file.is_file() and type(kind).__name__ in kind.file.read_text()
    assert isinstance(kind.synthetic, bool) and all(isinstance(bar, Bar) for bar in kind.bars)
    assert kind.home.is_absolute() if kind.home else kind.sources or kind.benchmarks
    assert set(kind.sources) <= set(plugins.installed(PACKAGE))
    assert set(kind.benchmarks) <= set(plugins.installed("benchmarks"))


def what_is_not_set_is_a_sentence(tried: Tried) -> None:
    """Nothing is where all is there; of a path with a variable in it the variable, and what it should be."""
    assert tried.kind.unset() == ""
    if tried.kind.home:
        said = type(tried.kind)("/data/$NOWHERE_AT_ALL", tried.kind.file).unset()
        assert said.startswith("$NOWHERE_AT_ALL") and "set it to" in said


def the_same_arguments_draw_the_same_bytes(tried: Tried) -> None:
    """File by file, whatever was drawn in between."""
    for one, other in zip(tried.folders(), tried.folders(again="-again"), strict=True):
        assert digests(one) == digests(other) != {}


def what_is_drawn_can_be_read(tried: Tried) -> None:
    """By the source as so many examples with pictures, by the benchmark as items with an id of their own."""
    for name in tried.kind.sources if tried.draws else ():
        assert len([one for one in examples(name, tried.source(name)) if one.image]) == FEW
    for name in tried.kind.benchmarks if tried.draws else ():
        read = items(name, tried.kind, tried.benchmark(name), tried.folder / "store")
        assert read and len({item.id for item in read}) == len(read) and all(item.prompt for item in read)


def the_first_of_many_are_those_of_fewer(tried: Tried) -> None:
    """So that a longer comparison has a shorter one's examples."""
    for name in tried.kind.sources if tried.draws else ():
        few, many = (examples(name, tried.source(name, n=n)) for n in (FEW, 2 * FEW))
        assert [_plain(one) for one in many[:FEW]] == [_plain(one) for one in few] and len(many) == 2 * FEW


def _plain(example: Example) -> str:
    image = example.image.sha256 if example.image else ""
    return dumps([example.id, image, [[turn.question, turn.answer] for turn in example.turns]])


def no_two_splits_or_seeds_share_a_picture(tried: Tried) -> None:
    """What is trained on is asked about nowhere, and rates are chosen on neither."""
    for name in tried.kind.sources if tried.draws else ():
        splits = ("alignment", "heldout", "tuning", "tuning-heldout")
        drawn = [pictures(tried.source(name, split)) for split in splits]
        drawn.append(pictures(tried.source(name, "alignment", 1)))
        for benchmark in tried.kind.benchmarks:
            both = [pictures(tried.benchmark(benchmark, split)) for split in ("benchmark", "tuning-benchmark")]
            assert not set.intersection(*both)
            assert not set.union(*both) & set.union(*drawn)
        assert sum(map(len, drawn)) == len(set.union(*drawn)) > 0


def what_draws_is_in_its_keys(tried: Tried) -> None:
    """Every function that is called while it draws is of a file in `code`; the kind's own may hand on."""
    if not tried.draws:
        return
    files = tried.kind.code()
    assert files and all(file.is_file() for file in files)
    known = {*SOURCES.files(*files).values(), tried.kind.file, Path(inspect.getfile(TestbedKind))}
    neutral = (ROOT / name.replace(".", "/") for name in NEUTRAL)
    known |= {path for place in neutral for path in (place.with_suffix(".py"), place / "__init__.py")}
    with recording() as called:
        list(tried.folders(again="-recorded"))
    ours = (*(f"{ROOT / package}/" for package in OURS), f"{tried.kind.file.parent}/")
    assert not {Path(file) for file in called if file.startswith(ours)} - known


def who_it_offers_to_ask_is_a_kind_of_judge(tried: Tried) -> None:
    """Each of its words; tests/seams/test_judge.py tries them."""
    for word in tried.kind.judges:
        assert issubclass(tried.kind.judge(word), JudgeKind) and word.isidentifier()


PROMISES: Sequence[Callable[[Tried], None]] = (
    says_what_it_is,
    what_is_not_set_is_a_sentence,
    the_same_arguments_draw_the_same_bytes,
    what_is_drawn_can_be_read,
    the_first_of_many_are_those_of_fewer,
    no_two_splits_or_seeds_share_a_picture,
    what_draws_is_in_its_keys,
    who_it_offers_to_ask_is_a_kind_of_judge,
)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("name", KINDS, ids=plugins.stem)
def test_every_kind_keeps(name: str, promise: Callable[[Tried], None], shared: dict[str, Tried]) -> None:
    promise(shared[name])


PAINTS = (ROOT / "tests" / "outside" / "testbed" / "paints.py").read_text()
BROKEN = {
    "says_what_it_is": ('"llava150k"', '"nobody"'),
    "what_is_not_set_is_a_sentence": ("    sources =", "    def unset(self):\n        return 'x'\n\n    sources ="),
    "the_same_arguments_draw_the_same_bytes": ("random.Random(name)", "random.Random()"),
    "what_is_drawn_can_be_read": ('"human"', '"nobody"'),
    "what_is_drawn_can_be_read ": ('f"{id}.png", "conv', 'f"{id}.jpg", "conv'),
    "the_first_of_many_are_those_of_fewer": ("range(n)", "reversed(range(n))"),
    "no_two_splits_or_seeds_share_a_picture": ('f"{split}-{seed}-{number}"', 'f"{number}"'),
    "what_draws_is_in_its_keys": ("    sources =", "    code = lambda self: [Path(json.__file__)]\n    sources ="),
    "who_it_offers_to_ask_is_a_kind_of_judge": ("    sources =", "    judges = ('eye',)\n    sources ="),
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
def test_a_kind_that_breaks_a_promise_is_found_out(broken: str, tmp_path: Path) -> None:
    old, new = BROKEN[broken]
    assert old in PAINTS
    text = PAINTS.replace(old, new)
    if broken == "what_draws_is_in_its_keys":
        (tmp_path / "brushes.py").write_text("def stroke():\n    return 1\n")
        text = text.replace("def paint(", "import brushes\n\n\ndef paint(").replace(
            "    colour = rng", "    brushes.stroke()\n    colour = rng"
        )
    (tmp_path / "mutant.py").write_text(text)
    [promise] = [one for one in PROMISES if one.__name__ == broken.strip()]
    with pytest.MonkeyPatch.context() as patch, pytest.raises((Exception, pytest.fail.Exception)):
        patch.syspath_prepend(str(tmp_path))
        promise(Tried(behind(str(tmp_path / "mutant.py")), tmp_path))


def test_every_promise_has_a_mutant() -> None:
    assert {name.strip() for name in BROKEN} == {promise.__name__ for promise in PROMISES}


def test_nobody_else_knows_the_words_of_a_kind() -> None:
    """Whoever compares `data` or `judge` with one has a case for it that another kind would need as well."""
    kinds = [behind(words(name)) for name in plugins.installed(TESTBEDS)]
    known = {word for kind in kinds for word in (kind.word, *kind.judges)} - {""}
    homes = [ROOT / "harness" / name for name in ("mini", "testbeds")]
    assert known
    for file in (file for package in OURS for file in (ROOT / package).rglob("*.py")):
        if not any(map(file.is_relative_to, homes)):
            told = {node.value for node in ast.walk(ast.parse(file.read_bytes())) if isinstance(node, ast.Constant)}
            assert not known & told, file
