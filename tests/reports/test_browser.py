"""The page in a real browser, where one is installed: nothing in it runs, and it follows the reader's light or dark."""

import io
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from reports import report as reporting
from reports.runs import opened
from tests.chromium import CHROMIUM, MISSING, browser
from tests.fake_run import FakeRun

PAYLOAD = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><svg onload=alert(1)>"

pytestmark = pytest.mark.skipif(not CHROMIUM, reason=MISSING)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hostile run's page."""
    folder = tmp_path_factory.mktemp("page")
    with opened([FakeRun(said=dict.fromkeys(("nsft", "dpo"), PAYLOAD)).write(folder)]) as (run,):
        reporting.pages(run, folder)
    return folder / "report.html"


def test_a_models_markup_is_text_and_nothing_runs(page: Path, tmp_path: Path) -> None:
    seen = browser(tmp_path, page.as_uri(), "--dump-dom")
    assert "<title>nSFT, GT-DPO on llava150k</title>" in seen
    assert "&lt;script&gt;document.title" in seen
    assert "<script" not in seen and "<svg" not in seen and '<img src="x"' not in seen


@pytest.mark.skipif(not shutil.which("pdftotext"), reason="no pdftotext is installed: apt-get install poppler-utils")
def test_on_paper_everything_that_is_folded_is_open(page: Path, tmp_path: Path) -> None:
    paper = tmp_path / "page.pdf"
    browser(tmp_path, page.as_uri(), "--no-pdf-header-footer", f"--print-to-pdf={paper}")
    said = subprocess.run(["pdftotext", "-layout", str(paper), "-"], capture_output=True, text=True, check=True).stdout
    order = ["Verdict, against the baseline", "Scores", "Every note on these figures", "Why: items that got worse",
             "Worse than the baseline", "Cost", "Stage by stage", "Fairness card", "Files",
             "What identifies it"]  # fmt: skip
    places = [said.find(words) for words in order]
    assert -1 not in places and places == sorted(places), dict(zip(order, places, strict=True))
    assert "minimum detectable" in said or "images resampled" in said  # a note that was folded
    assert "Contents" not in said


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 500)])
def test_it_is_light_or_dark_as_the_reader_is_on_wide_and_narrow_screens(
    scheme: str, width: int, page: Path, tmp_path: Path
) -> None:
    """preferredColorScheme is Blink's number for the media query: 0 dark, 1 light."""
    shot = tmp_path / "shot.png"
    browser(tmp_path, page.as_uri(), f"--screenshot={shot}", f"--window-size={width},1600",
            f"--blink-settings=preferredColorScheme={int(scheme == 'light')}")  # fmt: skip
    picture = Image.open(io.BytesIO(shot.read_bytes())).convert("L")
    corner, levels = picture.getpixel((2, 2)), picture.histogram()
    assert (corner > 200) if scheme == "light" else (corner < 60)
    assert sum(levels[:100]) > 5000 and sum(levels[150:]) > 5000  # ink on ground: the style sheet was let in
