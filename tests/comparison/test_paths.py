"""Where a path starts: in a testbed's YAML at that file, on a command line at the current folder; then it is absolute.

So an executor may run a stage in any folder, and keys are made of what files hold.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.comparison.plan import plan
from harness.comparison.preflight import check
from harness.comparison.provenance import provenance
from harness.comparison.request import request
from harness.contracts.settings import Testbed
from harness.contracts.steps import Plan
from harness.contracts.testbed_file import read_testbed, setting_of
from harness.judging.hire import kind_for
from harness.store.closure import code
from harness.store.store import Store
from harness.system.errors import UsageError

OUTSIDE = Path(__file__).parents[1] / "outside"
BED = Path(code.__code__.co_filename).parents[1] / "testbeds" / "mini.yaml"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder beside the current one, with a testbed and what it names."""
    there = tmp_path / "there"
    there.mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return there


def testbed(there: Path, **fields: Any) -> Testbed:
    """The embedded testbed with other fields, read from a file in that folder."""
    told = yaml.safe_load(BED.read_text())
    told["models"] = [str(BED.parents[1] / "mini/bases/0")]
    told["clip"] = str(BED.parents[1] / "mini/clip")
    (there / "bed.yaml").write_text(yaml.safe_dump(told | fields))
    return read_testbed("../there/bed.yaml")


def test_paths_in_a_testbed_start_at_its_file(there: Path) -> None:
    backend = {"backend": "./naive.py", "options": {"tables": ["./a.json", "b"], "inner": {"home": "../c"}}}
    bed = testbed(
        there,
        judge="script:said.json",
        writer="script:sub/said.json",
        clip="./clip",
        models=["./base"],
        generation=backend,
        methods={"nsft": {"codebook": "./book.yaml", "max_turns": 3}},
        benchmarks={"mine": {"file": "~/x.json", "n": 1}},
    )
    assert (bed.judge, bed.writer) == (f"script:{there}/said.json", f"script:{there}/sub/said.json")
    assert (bed.clip, bed.models) == (f"{there}/clip", (f"{there}/base",))
    assert bed.generation.backend == f"{there}/naive.py"
    tables, home = [f"{there}/a.json", "b"], {"home": str(there.parent / "c")}
    assert bed.generation.options == {"tables": tables, "inner": home}
    assert bed.methods["nsft"] == {"codebook": f"{there}/book.yaml", "max_turns": 3}
    assert bed.benchmarks["mine"] == {"file": str(Path.home() / "x.json"), "n": 1}


def test_a_judge_that_takes_no_file_keeps_its_words(there: Path) -> None:
    """A server may call its models by paths."""
    assert testbed(there, judge="openai:/models/llama").judge == "openai:/models/llama"
    assert setting_of(testbed(there, judge="openai:./llama"))["judge"] == "openai:./llama"


def words(there: Path, **who: str) -> tuple[Any, Any, Any]:
    """A request whose words have paths that start at the current folder."""
    sets = ["nsft.codebook=../there/book.yaml", "runtime.logging_dir=curves", "nsft.max_turns=2"]
    data = "../there/mine.json"
    return request("nsft", data, "../there/photos", "mini", 1, "gqa", None, None, sets, 1, who)


def test_paths_in_words_start_at_the_current_folder(there: Path) -> None:
    (there / "mine.json").write_text("[]")
    bed, asked, runtime = words(there, judge="script:../there/said.json")
    assert bed.judge == f"script:{there}/said.json"
    assert (asked.data.home, asked.data.images) == (
        Path("../there/mine.json").absolute(),
        Path("../there/photos").absolute(),
    )
    assert asked.methods[0].options == {"codebook": f"{there}/book.yaml", "max_turns": 2}
    assert runtime.logging_dir == str(there.parent / "here" / "curves")


def test_a_method_s_file_of_which_nobody_says_where_it_starts_is_refused(there: Path) -> None:
    (there.parent / "here" / "book.yaml").write_text("level: {}")
    bed, asked, _ = request("nsft", "llava150k", "", "mini", 1, "gqa", 8, 4, ["nsft.codebook=book.yaml"], 1)
    with pytest.raises(UsageError, match=r"nsft reads book\.yaml; write \./book\.yaml"):
        check(asked, bed)


def planned(there: Path) -> Plan:
    """What is planned of files in that folder, given from the current one."""
    (there / "said.json").write_text("{}")
    testbed(there, judge="script:said.json", writer="script:said.json")
    bed, asked, _ = request(
        f"../{there.name}/margin.py", "llava150k", "", f"../{there.name}/bed.yaml", 1, "mmvet", 8, 4, None, 1
    )
    return plan(asked, bed)


def test_equal_files_elsewhere_have_equal_keys_and_no_place_is_told(there: Path, tmp_path: Path) -> None:
    """A run's folder can be given to others: it names what was used, not where it lay."""
    other = tmp_path / "elsewhere"
    other.mkdir()
    for folder in (there, other):
        (folder / "margin.py").write_text((OUTSIDE / "method" / "margin.py").read_text())
    mine, theirs = planned(there), planned(other)
    assert [step.key for step in mine.steps] == [step.key for step in theirs.steps]
    told = provenance(mine, Store(tmp_path / "store"), tmp_path / "out").plain()
    assert told["judge"] == told["writer"] == told["setting"]["judge"] == "script:said.json"
    assert kind_for("judge", mine.testbed).name == "script:said.json"
    assert str(there) not in json.dumps({name: told[name] for name in ("setting", "judges", "judge", "writer", "data")})


def test_data_of_one_s_own_are_called_by_their_name(there: Path) -> None:
    (there / "mine.json").write_text("[]")
    _, asked, _ = words(there)
    assert str(asked.data) == "mine.json"
