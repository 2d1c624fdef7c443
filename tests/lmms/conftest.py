"""A task of one's own, in an lmms-eval of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import _lmms_task, _lmms_yaml
from harness.contracts import plugins
from tests.lmms.stock import Own


def forget() -> None:
    _lmms_yaml.tasks.cache_clear()
    _lmms_yaml._known.clear()
    _lmms_task._made.cache_clear()
    _lmms_task._scorers.clear()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Own]:
    made = Own(tmp_path)
    monkeypatch.setattr(_lmms_yaml, "home", lambda: tmp_path / "lmms_eval")
    monkeypatch.setattr(plugins, "_adopted", {})
    forget()
    yield made
    forget()
