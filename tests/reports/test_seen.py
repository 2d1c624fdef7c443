"""report.html in a real browser, wide, narrow, light, dark and on paper: nothing is cut, tables scroll alone."""

from collections.abc import Iterator

import pytest

from reports import report as reporting
from reports.runs import opened
from tests.chromium import CHROMIUM, MISSING, WIDTHS, Tab, tab
from tests.fake_run import drawn

pytestmark = pytest.mark.skipif(not CHROMIUM, reason=MISSING)
SKILL = {"baseline": 0.5, "nsft": 0.8, "dpo": 0.3}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page with a better row and a worse one, and long words in what was said."""
    folder = tmp_path_factory.mktemp("page")
    run = drawn(SKILL, benchmarks=("sqa", "gqa", "mmhal"), said={"nsft": "Donaudampfschifffahrtsgesellschaft" * 6})
    with opened([run.write(folder)]) as (one,):
        reporting.pages(one, folder)
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with tab(tmp_path_factory.mktemp("browser")) as one:
        yield one


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out_is_cut_covered_or_faint(seen: Tab, page: str, width: int, scheme: str) -> None:
    seen.open(page, width, scheme)
    assert seen.faults() == []
    seen.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert seen.faults() == []


def test_on_paper_nothing_is_cut_either(seen: Tab, page: str) -> None:
    seen.open(page, 800, media="print")
    assert seen.faults() == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_verdict_is_seen_without_scrolling(seen: Tab, page: str, width: int) -> None:
    """Better, worse, and how far to trust it are on the first screen of 900 pixels."""
    seen.open(page, width)
    bottom = seen.run("document.querySelector('#verdict').getBoundingClientRect().bottom")
    assert 0 < bottom < 900
    words = seen.run("document.querySelector('#verdict').innerText")
    assert "▲ better on" in words and "▼ worse on" in words and "How far to trust it" in words


def test_a_table_that_is_too_wide_scrolls_in_its_own_box_with_its_rows_named(seen: Tab, page: str) -> None:
    seen.open(page, 390)
    wide = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth)"
    assert seen.run(f"{wide}.length") > 0
    name = f"{wide}[0].querySelector('tbody th')"
    before = seen.run(f"{name}.getBoundingClientRect().left")
    seen.run(f"{wide}[0].scrollLeft = 90")
    assert seen.run(f"{wide}[0].scrollLeft") > 0 and seen.run(f"{name}.getBoundingClientRect().left") == before
    assert seen.run("document.documentElement.scrollLeft") == 0


def test_a_table_is_no_wider_than_what_it_holds(seen: Tab, page: str) -> None:
    seen.open(page, 1400)
    boxes = "[...document.querySelectorAll('.scroll')].map(one => one.clientWidth - one.firstElementChild.offsetWidth)"
    assert all(0 <= room <= 1 for room in seen.run(boxes))
