"""Pages in a real browser, where one is installed."""

import shutil
import subprocess
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), "")
MISSING = "no Chromium is installed: apt-get install chromium"
QUIET = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --hide-scrollbars --virtual-time-budget=4000"
).split()


def browser(tmp_path: Path, address: str, *more: str) -> str:
    """What Chromium prints about a page; `more` are its options."""
    command = [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", *more, address]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path).stdout
