"""Every benchmark that lmms-eval has reads its dataset as it reads the official files."""

from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark
from harness.contracts.records import Item
from harness.system.errors import UsageError
from tests.benchmarks.layouts import LAYOUTS, Files
from tests.lmms import hub


def items(name: str, folder: Path, **options: object) -> list[Item]:
    benchmark: Benchmark = plugins.make("benchmarks", name, Benchmark, options)
    return list(benchmark.items(folder, Files()))


def without_paths(items: list[Item]) -> list[Item]:
    """Items as they count: a picture is its digest, wherever it lies."""
    return [
        Item(i.id, i.image and Files().of(Path(i.image.path).read_bytes()), i.prompt, i.unit, i.facts) for i in items
    ]


@pytest.mark.parametrize("name", sorted(hub.HUB.keys() & LAYOUTS.keys()))
def test_parquet_gives_the_items_of_the_official_files(name: str, tmp_path: Path) -> None:
    official, clone = tmp_path / "official", tmp_path / "clone"
    official.mkdir()
    LAYOUTS[name](official)
    (official / "synonyms.txt").unlink(missing_ok=True)  # the words of a made-up world are no part of COCO's dataset
    hub.write(name, official, clone)
    expected = items(name, official)
    if not name.startswith("mm") or name in ("mme", "mmvet"):  # whose pictures lie in no file
        expected = without_paths(expected)
    if name == "sqa":  # whose dataset does not tell the problems' ids
        expected = [Item(str(n), i.image, i.prompt, str(n), i.facts) for n, i in enumerate(expected)]
    if name == "seed":  # whose dataset does not name the question types
        expected = [Item(i.id, i.image, i.prompt, i.unit, i.facts | {"type": ""}) for i in expected]
    assert items(name, clone) == expected


def test_sqa_has_text_questions_where_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "official").mkdir()
    LAYOUTS["sqa"](tmp_path / "official")
    hub.write("sqa", tmp_path / "official", tmp_path / "clone")
    both = items("sqa", tmp_path / "clone", images_only=False)
    assert [item.image is None for item in both] == [False, False, True]


def test_one_file_with_any_name_will_do(tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist(hub_rows(tmp_path))
    (tmp_path / "mine").mkdir()
    parquet.write_table(table, tmp_path / "mine" / "vet.parquet")
    assert [item.id for item in items("mmvet", tmp_path / "mine")] == ["v1_0", "v1_1", "v1_2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"capability": None}, 'no column "capability"'),
        ({"image": {"bytes": None, "path": "elsewhere.jpg"}}, "v1_0 has no embedded picture"),
    ],
)
def test_a_wrong_schema_is_a_sentence(change: dict[str, object], message: str, tmp_path: Path) -> None:
    rows = [row | change for row in hub_rows(tmp_path)]
    rows = [{name: cell for name, cell in row.items() if cell is not None} for row in rows]
    (tmp_path / "mine").mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "mine" / "vet.parquet")
    with pytest.raises(UsageError, match=message):
        items("mmvet", tmp_path / "mine")


def test_what_is_no_parquet_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "test.parquet").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(UsageError, match="is not a parquet file"):
        items("mmvet", tmp_path)


def test_a_hub_dataset_is_pinned(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="40-hex commit"):
        items("pope", tmp_path, hub="lmms-lab/POPE")


def test_a_hub_dataset_that_is_not_here_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="Put its parquet files into the benchmark's folder instead"):
        items("pope", tmp_path, hub=f"lmms-lab/POPE@{'0' * 40}")


def hub_rows(folder: Path) -> list[dict[str, object]]:
    """MM-Vet's dataset."""
    LAYOUTS["mmvet"](folder)
    return hub.mmvet(folder)["data/test"]


def test_a_hub_dataset_gives_the_same_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` takes a folder of the working directory for a hub dataset of that name, which needs no network."""
    (tmp_path / "official").mkdir()
    LAYOUTS["mmb"](tmp_path / "official")
    clone = tmp_path / "lmms-lab" / "MMBench"
    hub.write("mmb", tmp_path / "official", clone)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    found = items("mmb", tmp_path / "nowhere", hub=f"lmms-lab/MMBench@{'0' * 40}")
    assert found == items("mmb", clone)
