"""A base model is a folder or a commit of the hub's cache; nothing is fetched, and equal bytes have equal keys."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

import harness.mini
from harness.comparison.face import Wanted
from harness.contracts.testbed_file import read_testbed, weights
from harness.models.load import revision
from harness.store.digest import file_digest
from harness.system.errors import UsageError

BASE = Path(harness.mini.__file__).parent / "bases" / "0"
COMMIT = "0123456789" * 4


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache with one small model in it: files are links to what they hold, as its client leaves them."""
    root = tmp_path / "models--someone--small"
    for file in BASE.iterdir():
        blob = root / "blobs" / file_digest(file)
        link = root / "snapshots" / COMMIT / file.name
        for folder in (blob.parent, link.parent):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, blob)
        link.symlink_to(Path("../../blobs") / blob.name)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return root / "snapshots" / COMMIT


def planned(model: str, tmp_path: Path) -> set[str]:
    wanted = Wanted.of("sft", model=model, benchmarks="pope", examples=4, limit=2, store=tmp_path / "store")
    return {step.key for step in wanted.plan().steps}


def test_a_commit_is_the_folder_that_the_cache_has(cache: Path, tmp_path: Path) -> None:
    folder = weights(f"someone/small@{COMMIT}", Path())
    assert Path(folder) == cache and revision(folder) == revision(BASE)
    assert planned(f"someone/small@{COMMIT}", tmp_path) == planned(str(BASE), tmp_path)


def test_what_is_not_in_the_cache_is_not_fetched_but_said(cache: Path, tmp_path: Path) -> None:
    other = "f" * 40
    assert weights(f"someone/small@{other}", Path()) == f"someone/small@{other}"
    with pytest.raises(UsageError, match=f"hf download someone/small --revision {other}"):
        planned(f"someone/small@{other}", tmp_path)


def test_a_folder_that_is_none_says_how_to_fetch_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no Hugging Face model folder at .*/nowhere"):
        planned(str(tmp_path / "nowhere"), tmp_path)


@pytest.mark.parametrize("model", ["liuhaotian/llava-v1.5-7b", f"liuhaotian/llava-v1.5-13b@{COMMIT}"])
def test_llavas_own_layout_has_a_twin(model: str) -> None:
    with pytest.raises(UsageError, match=r"the same model in Hugging Face's is llava-hf/llava-1\.5-\d+b-hf"):
        weights(model, Path())


def test_several_bases_are_one_for_each_seed(tmp_path: Path) -> None:
    both = [str(BASE.with_name(name)) for name in ("1", "2")]
    wanted = Wanted.of("sft", model=",".join(both), seeds=2, store=tmp_path)
    assert wanted.testbed.models == tuple(both) != read_testbed("mini").models
