"""Pages in a real browser, where one is installed."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), "")
MISSING = "no Chromium is installed: apt-get install chromium"
WIDTHS = (1400, 800, 390)
FAULTS = Path(__file__).with_name("faults.js").read_text(encoding="utf-8")
SILENT = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --hide-scrollbars"
).split()


def browser(tmp_path: Path, address: str, *more: str) -> str:
    """What Chromium prints about a page; `more` are its options."""
    command = [
        CHROMIUM,
        *SILENT,
        "--virtual-time-budget=4000",
        f"--user-data-dir={tmp_path / 'profile'}",
        *more,
        address,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path).stdout


class Tab:
    """A tab that is told over pipes what to do (Chromium's DevTools protocol)."""

    def __init__(self, asks: int, tells: int) -> None:
        self.asks, self.tells, self.numbers, self.session, self.rest = asks, tells, count(1), "", b""

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """What comes back of a command; RuntimeError with what is wrong."""
        number = next(self.numbers)
        whom = {"sessionId": self.session} if self.session else {}
        told = json.dumps({"id": number, "method": method, "params": params, **whom}).encode() + b"\0"
        while told:
            told = told[os.write(self.asks, told) :]
        while True:
            reply = json.loads(self._read())
            if reply.get("id") == number:
                if "error" in reply or "exceptionDetails" in reply["result"]:
                    raise RuntimeError(f"{method}: {reply}")
                found: dict[str, Any] = reply["result"]
                return found

    def _read(self) -> bytes:
        while b"\0" not in self.rest:
            more = os.read(self.tells, 1 << 20)
            if not more:
                raise RuntimeError("the browser has gone")
            self.rest += more
        text, _, self.rest = self.rest.partition(b"\0")
        return text

    def open(self, address: str, width: int, scheme: str = "light", media: str = "screen") -> None:
        """Load a page as a reader of this width sees it, and wait until it shows what it has to show."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        prefers = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", media=media, features=prefers)
        self.ask("Page.navigate", url="about:blank")  # another fragment of the same page would not load it anew
        self.ask("Page.navigate", url=address)
        ready = "document.readyState === 'complete' && location.href !== 'about:blank'"
        busy = "document.querySelector('#items') && !document.querySelector('#items article')"
        self.wait(f"{ready} && !({busy})")

    def wait(self, condition: str) -> None:
        """Until an expression of JavaScript holds; RuntimeError after 20 s."""
        held = f"() => {{ try {{ return {condition}; }} catch {{ return false; }} }}"
        look = "const look = () => held() || !--n ? done(held()) : setTimeout(look, 50)"
        if not self.run(f"new Promise(done => {{ let n = 400; const held = {held}; {look}; look(); }})"):
            raise RuntimeError(f"never true: {condition}")

    def run(self, expression: str) -> Any:
        """The value of an expression of JavaScript, awaited."""
        found = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        return found["result"].get("value")

    def faults(self) -> list[str]:
        """What is wrong with how the page is laid out."""
        found: list[str] = self.run(FAULTS)
        return found

    def shot(self, file: Path) -> None:
        """A picture of the whole page."""
        found = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def tab(tmp_path: Path) -> Iterator[Tab]:
    """A tab of a browser of its own."""
    (theirs, asks), (tells, mine) = os.pipe(), os.pipe()
    words = [CHROMIUM, *SILENT, "--remote-debugging-pipe", f"--user-data-dir={tmp_path / 'profile'}", "about:blank"]
    shell = ["bash", "-c", f'exec "$@" 3<&{theirs} 4>&{mine} 2>/dev/null', "bash", *words]
    with subprocess.Popen(shell, pass_fds=(theirs, mine), cwd=tmp_path) as process:
        os.close(theirs)
        os.close(mine)
        try:
            made = Tab(asks, tells)
            [page] = [one for one in made.ask("Target.getTargets")["targetInfos"] if one["type"] == "page"]
            made.session = made.ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
            made.ask("Page.enable")
            yield made
        finally:
            process.kill()
            os.close(asks)
            os.close(tells)
