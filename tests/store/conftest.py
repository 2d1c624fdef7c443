"""The toy comparison as it is when nobody disturbs it."""

from pathlib import Path

import pytest
import toy
from test_kill import outputs

from harness.store.store import Store


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every byte of every stage but the manifests, by path."""
    root: Path = tmp_path_factory.mktemp("left_alone") / "store"
    toy.compare(Store(root), root.with_suffix(".log"))
    return outputs(root)
