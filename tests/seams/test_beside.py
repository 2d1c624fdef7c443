"""What lies beside a user's file, of any seam: it is found, it counts in keys, and a run holds it to what it was."""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.contracts import plugins
from harness.store.closure import SOURCES, Alone
from harness.system.errors import UsageError
from tests.seams.test_mistakes import SEAMS

COUNTS = "from pathlib import Path\nPath(__file__).with_suffix('.log').open('a').write('x')\n"


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The command is given from another folder; what was loaded is not known to the next test."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    plugins.leave()
    yield
    plugins.leave()


def written(folder: Path, **files: str) -> Path:
    """`mine.py` and the others, by their names without ending; the path of `mine.py`."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder / "mine.py"


def digest(package: str, file: Path) -> str:
    """The file as it counts in keys."""
    return SOURCES.digest(plugins.counted(package, str(file)))


@pytest.mark.parametrize("package", SEAMS)
@pytest.mark.parametrize("text", ["import helper\n", "def work():\n    import helper\n    return helper\n"])
def test_a_module_beside_it_is_found_from_anywhere_and_counts(package: str, text: str, tmp_path: Path) -> None:
    mine = written(tmp_path, mine=text, helper="WORD = 1\n")
    loaded = plugins.module(package, str(mine))
    helper = loaded.work() if "work" in text else loaded.helper
    assert helper.WORD == 1
    before = digest(package, mine)
    written(tmp_path, helper="WORD = 2\n")
    assert digest(package, mine) != before
    again = plugins.module(package, str(mine))
    assert (again.work() if "work" in text else again.helper).WORD == 2


def test_it_is_the_one_beside_it_whatever_the_current_folder_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `python -m harness` would have it first: another command would run other code under the same key."""
    mine = written(tmp_path / "there", mine="from helper import WORD\n", helper="WORD = 'beside'\n")
    written(tmp_path / "here", helper="WORD = 'here'\n")
    monkeypatch.syspath_prepend(str(tmp_path / "here"))
    assert plugins.module("methods", str(mine)).WORD == "beside"


def test_two_of_one_name_are_refused_by_name(tmp_path: Path) -> None:
    """A process has one module of a name: the second file would run the first one's."""
    for folder in ("one", "other"):
        written(tmp_path / folder, mine="import helper\n", helper=f"WORD = '{folder}'\n")
    plugins.module("methods", str(tmp_path / "one" / "mine.py"))
    with pytest.raises(UsageError, match=r"other/helper, and .*one/helper\.py has this name too; rename one"):
        plugins.module("benchmarks", str(tmp_path / "other" / "mine.py"))
    plugins.leave()  # the next comparison
    assert plugins.module("benchmarks", str(tmp_path / "other" / "mine.py")).helper.WORD == "other"


def test_python_s_own_and_installed_modules_are_nobody_else_s(tmp_path: Path) -> None:
    """A user's `random.py` is a method called random; who imports random or numpy means theirs."""
    mine = written(tmp_path, mine="import numpy, random\n", random="WORD = 1\n", numpy="WORD = 1\n")
    loaded = plugins.module("methods", str(mine))
    assert loaded.random is random and hasattr(loaded.numpy, "ndarray")
    assert [*SOURCES.files(mine)] == ["mine.py"]
    assert plugins.module("methods", str(tmp_path / "random.py")).WORD == 1 and sys.modules["random"] is random


@pytest.mark.parametrize("package", SEAMS)
def test_it_is_executed_once_until_it_changes(package: str, tmp_path: Path) -> None:
    mine = written(tmp_path, mine=COUNTS)
    first = plugins.module(package, str(mine))
    assert plugins.module(package, str(mine)) is first and mine.with_suffix(".log").read_text() == "x"
    written(tmp_path, mine=f"{COUNTS}# a comment is no other code\n")
    assert plugins.module(package, str(mine)) is first
    written(tmp_path, mine=f"{COUNTS}WORD = 1\n")
    assert plugins.module(package, str(mine)) is not first and mine.with_suffix(".log").read_text() == "xx"


READS = [
    ("prompt.txt", "PROMPT = Path(__file__).with_name('prompt.txt').read_text()\n"),
    ("mine/prompt.txt", "PROMPT = next(Path(__file__).with_suffix('').iterdir()).read_text()\n"),
    ("prompts/a.txt", "PROMPT = next((Path(__file__).parent / 'prompts').iterdir()).read_text()\n"),
]


@pytest.mark.parametrize("package", [name for name in SEAMS if name not in plugins.HANDED])
@pytest.mark.parametrize(("place", "text"), READS, ids=[place for place, _ in READS])
def test_what_it_reads_beside_itself_counts_and_is_held_to(package: str, place: str, text: str, tmp_path: Path) -> None:
    mine = written(tmp_path, mine=f"from pathlib import Path\n{text}")
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("Grade it.")
    assert plugins.module(package, str(mine)).PROMPT == "Grade it."
    before = digest(package, mine)
    plugins.hold(plugins.editions())
    (tmp_path / place).write_text("Grade it, and be kind.")
    assert digest(package, mine) != before
    with pytest.raises(UsageError, match=r"mine\.py has changed since this comparison began"):
        plugins.module(package, str(mine))
    plugins.leave()
    assert plugins.module(package, str(mine)).PROMPT == "Grade it, and be kind."


@pytest.mark.parametrize("package", plugins.HANDED)
def test_the_folder_that_a_contract_hands_over_counts_with_what_is_made_of_it(package: str, tmp_path: Path) -> None:
    """Items and splits have its content in keys of their own; 100,000 pictures are not looked at for each score."""
    mine = written(tmp_path, mine="", other="")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.json").write_text("{}")
    assert plugins.counted(package, str(mine)) == Alone(mine)
    assert [*SOURCES.files(Alone(mine))] == ["mine.py"] and [*SOURCES.files(mine)] == ["mine.py", "mine.py/a.json"]
    assert plugins.own_folder(package, str(mine)) == tmp_path / "mine"
    assert plugins.own_folder(package, str(tmp_path / "other.py")) is None


def test_moved_it_counts_the_same(tmp_path: Path) -> None:
    text = "import helper\nREADS = 'prompt.txt', '/proc/uptime', '.', ''\n"
    digests = set()
    for folder in (tmp_path / "one", tmp_path / "other"):
        mine = written(folder, mine=text, helper="")
        (folder / "prompt.txt").write_text("?")
        (folder / "unread.txt").write_text(folder.name)
        digests.add(SOURCES.digest(mine))
    assert len(digests) == 1


@pytest.mark.parametrize("package", SEAMS)
def test_a_name_of_ours_is_refused(package: str, tmp_path: Path) -> None:
    """In tables and keys it would pass for ours."""
    for name in plugins.installed(package):
        file = tmp_path / f"{name}.py"
        file.write_text("")
        with pytest.raises(UsageError, match=rf'the [a-z ]+ "{name}" is ours; rename the file'):
            plugins.source(package, str(file))
        assert plugins.source(package, str(plugins.source(package, name)))  # ours by its path is ours


WRONG = {
    "syntax": (b"class Mine(:\n", r"mine\.py:1: SyntaxError"),
    "bytes": (b"# caf\xe9\nx = '\xe9'\n", r"mine\.py:2: SyntaxError: .*'utf-8' codec can't decode"),
    "NUL": (b"x = 1\0\n", r"mine\.py:[01]: \w+: source code string cannot contain null bytes"),
    "exit": (b"import sys\nsys.exit(0)\n", r"mine\.py:2: SystemExit: 0 \(at import\)"),
    "stop": (b"class Stop(BaseException): ...\nraise Stop('enough')\n", r"mine\.py:2: Stop: enough \(at import\)"),
    "lacking": (b"import no_such_module\n", r"mine\.py:1: ModuleNotFoundError"),
}


@pytest.mark.parametrize("package", SEAMS)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_file_that_cannot_be_imported_is_a_sentence(package: str, wrong: str, tmp_path: Path) -> None:
    text, said = WRONG[wrong]
    (tmp_path / "mine.py").write_bytes(text)
    with pytest.raises(UsageError, match=said):
        plugins.module(package, str(tmp_path / "mine.py"))


def test_what_it_prints_is_no_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`harness compare --json` prints one object."""
    plugins.module("methods", str(written(tmp_path, mine="print('hello')\n")))
    assert capsys.readouterr() == ("", "hello\n")
