"""The site in a real browser: no page scrolls sideways or hides words, and it is dark where the reader's system is."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import HOME
from tests.chromium import CHROMIUM, MISSING, WIDTHS, Tab, tab

pytest.importorskip("mkdocs")
pytestmark = [pytest.mark.skipif(not CHROMIUM, reason=MISSING), pytest.mark.heavy]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "-q", "-f", ".github/mkdocs.yml", "-d", str(folder)]
    subprocess.run(words, cwd=HOME, check=True, env={**os.environ, "PYTHONPATH": str(HOME), "NO_MKDOCS_2_WARNING": "1"})
    return folder


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with tab(tmp_path_factory.mktemp("browser")) as one:
        yield one


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_scrolls_sideways(seen: Tab, site: Path, width: int) -> None:
    pages = [file for file in sorted(site.rglob("*.html")) if file.name != "404.html"]
    assert len(pages) > 25
    for page in pages:
        seen.open(page.as_uri(), width)
        wrong = [one for one in seen.faults() if one.startswith(("the page scrolls", "out of the page"))]
        assert wrong == [], page.name


def test_it_is_light_or_dark_as_the_readers_system_is_and_changes_with_it(seen: Tab, site: Path) -> None:
    for scheme, name in (("light", "default"), ("dark", "slate"), ("light", "default")):
        seen.open((site / "index.html").as_uri(), 800, scheme)
        seen.wait(f"document.body.dataset.mdColorScheme === '{name}'")
