"""A manifest is one class: what it writes it reads, older files and later ones too; every field is explained."""

import ast
import inspect
import json
from pathlib import Path

import pytest

from harness.system.errors import UsageError
from reports.manifest import Asked, Failed, Manifest, ScoredCell, Shared, Trained
from tests.fake_run import FakeRun, manifest

OLDER = Path(__file__).with_name("manifest_0_1_0.json")  # what `harness compare` wrote before this class did


def test_a_file_of_before_this_class_is_read_and_written_byte_by_byte(tmp_path: Path) -> None:
    Manifest.read(OLDER).write(tmp_path / "manifest.json")
    assert (tmp_path / "manifest.json").read_bytes() == OLDER.read_bytes()


def test_what_an_older_version_did_not_write_is_not_made_up(tmp_path: Path) -> None:
    told = json.loads(OLDER.read_text())
    for name in ("finished", "failed", "own", "architectures", "setting", "harness", "python"):
        del told[name]
    (tmp_path / "old.json").write_text(json.dumps(told))
    old = Manifest.read(tmp_path / "old.json")
    assert old.plain() == told and old.finished and old.harness == "not known" and old.own == {}


def test_what_a_later_version_writes_is_kept(tmp_path: Path) -> None:
    told = json.loads(OLDER.read_text()) | {"weather": {"sun": True}}
    told["rows"]["sft"]["colour"] = "red"
    (tmp_path / "new.json").write_text(json.dumps(told))
    Manifest.read(tmp_path / "new.json").unfinished().write(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == told | {"finished": False}


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("finished", "yes", r"finished: Input should be a valid boolean \(given: 'yes'\)"),
        ("harness", 1, "harness: Input should be a valid string"),
        ("stages", ["../../etc"], "stages.0: .*a stage's name is KIND/KEY"),
        ("seeds", [True], "seeds.0: Input should be a valid integer"),
        ("failed", [{"row": "sft"}], "failed.0.label: Field required"),
        ("trained", [{"row": "sft", "seed": 0, "stages": []}], "trained.0.stages: List should have at least 1 item"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, field: str, value: object, said: str) -> None:
    run = FakeRun(spoilt={field: value}).write(tmp_path)
    with pytest.raises(UsageError, match=said) as refused:
        Manifest.read(run / "manifest.json")
    assert str(run / "manifest.json") in str(refused.value) and "\n" not in str(refused.value)


def test_made_up_and_older_ones_have_every_field() -> None:
    """A field that is added must be added to them: what reads it is then tried with it."""
    assert manifest().model_fields_set == {*Manifest.model_fields}
    assert {*Manifest.model_fields} - Manifest.read(OLDER).model_fields_set == {
        "published",
        "shared",
        "fetched",
        "bases",
        "parity",
    }  # younger


@pytest.mark.parametrize("kind", [Manifest, ScoredCell, Trained, Shared, Failed, Asked])
def test_every_field_is_explained(kind: type) -> None:
    [body] = ast.parse(inspect.getsource(kind)).body
    assert isinstance(body, ast.ClassDef)
    pairs = list(zip(body.body, body.body[1:], strict=False))
    told = [one.target.id for one, below in pairs if isinstance(one, ast.AnnAssign) and isinstance(below, ast.Expr)]
    assert told == [*kind.__annotations__]
