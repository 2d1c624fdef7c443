"""The shipped bases can see, make errors worth correcting, and are neither blind nor perfect."""

from pathlib import Path

import pytest

from tests.e2e.conftest import harness


@pytest.mark.heavy
def test_every_base_meets_every_bar(tmp_path: Path) -> None:
    ran = harness("doctor", "--testbed", "mini", "--limit", "200", "--store", str(tmp_path / "store"), timeout=590)
    assert ran.status == 0, ran.stdout
    assert "0 bars fail" in ran.stdout and "(synthetic)" in ran.stdout
