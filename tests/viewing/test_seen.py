"""The viewer in a real browser, wide and narrow, light, dark and on paper: what must be seen is, and nothing is cut."""

from collections.abc import Iterator

import pytest

from tests.chromium import CHROMIUM, MISSING, WIDTHS, Tab, tab
from tests.commands.conftest import said
from tests.fake_run import FakeRun

PAYLOAD = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><svg onload=alert(1)>"
WORD = "Donaudampfschifffahrtsgesellschaft" * 4
OPEN = "document.querySelectorAll('details').forEach(one => one.open = true)"

pytestmark = pytest.mark.skipif(not CHROMIUM, reason=MISSING)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a judged run's folder: two rows that say much, one word of it very long, and a hostile judge."""
    folder = tmp_path_factory.mktemp("seen")
    run = FakeRun(said={"nsft": f"A {WORD} and a dog. " * 9, "dpo": PAYLOAD}, heard=f"{PAYLOAD} {WORD}\nRating: 4")
    said("view", run.write(folder), "--static", folder / "shared")
    return (folder / "shared" / "index.html").as_uri()


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with tab(tmp_path_factory.mktemp("browser")) as one:
        yield one


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out_is_cut_covered_or_faint(seen: Tab, shared: str, width: int, scheme: str) -> None:
    seen.open(f"{shared}#benchmark=mmhal", width, scheme)
    assert seen.faults() == []
    seen.run(OPEN)
    assert seen.faults() == []
    ground = seen.run("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") is (scheme == "light")


def test_on_paper_there_are_the_items_and_no_controls(seen: Tab, shared: str) -> None:
    seen.open(shared, 800, media="print")
    assert seen.faults() == []
    assert seen.run("document.querySelector('.filters').checkVisibility()") is False
    assert seen.run("document.querySelectorAll('article.item').length") == 4


@pytest.mark.parametrize(("width", "beside"), [(1400, True), (800, True), (390, False)])
def test_two_rows_stand_side_by_side_and_on_a_telephone_one_below_the_other(
    seen: Tab, shared: str, width: int, beside: bool
) -> None:
    seen.open(shared, width)
    tops = seen.run("[...document.querySelector('.pair').children].map(one => one.getBoundingClientRect().top)")
    assert (tops[0] == tops[1]) is beside


def test_what_the_judge_said_is_there_as_text(seen: Tab, shared: str) -> None:
    seen.open(f"{shared}#benchmark=mmhal&row=2", 800)
    seen.run(OPEN)
    assert seen.run("document.title") == "nSFT, GT-DPO on llava150k"
    assert seen.run("document.querySelectorAll('script, svg, img[src=\"x\"]').length") == 1  # ours
    told = seen.run("[...document.querySelectorAll('.pair section:last-child dl')].map(one => one.innerText)")
    assert len(told) == 4
    for words in (PAYLOAD, "Rating: 4", "all/sum 4", "gpt-4-0613 at api.openai.com, 0.012 USD", "impartial judge"):
        assert all(words in one for one in told), words
    seen.open(f"{shared}#benchmark=gqa", 800)
    assert "judge" not in seen.run("document.body.innerText")


def test_a_filter_shows_what_flipped_and_the_address_keeps_it(seen: Tab, shared: str) -> None:
    seen.open(shared, 800)
    seen.run("(() => { const one = document.querySelector('[name=change]'); one.value = 'b'; "
             "one.dispatchEvent(new Event('input', { bubbles: true })); })()")  # fmt: skip
    seen.wait("document.getElementById('count').textContent === '1 of 4 items'")
    assert "▲ flipped to right" in seen.run("document.body.innerText")
    assert "change=b" in seen.run("location.hash")


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        ("one.style.width = '2000px'", "the page scrolls"),
        ("one.style.cssText = 'width: 60px; overflow: hidden; white-space: nowrap'", "cut"),
        ("one.style.cssText = 'position: relative; top: 24px'", "covers"),
        ("one.style.color = '#777'; one.style.background = '#888'", "hardly seen"),
    ],
)
def test_a_page_that_is_spoilt_is_found_out(seen: Tab, shared: str, spoil: str, fault: str) -> None:
    """The mutants of the tests above."""
    seen.open(shared, 800)
    assert seen.faults() == []
    seen.run(f"(() => {{ const one = document.querySelector('.prompt'); {spoil}; }})()")
    assert any(fault in one for one in seen.faults())
