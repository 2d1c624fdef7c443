"""The local server: for this machine, with the token, for reading; what is damaged meanwhile is a sentence."""

import asyncio
import io
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from harness import HOME
from harness.system.errors import UsageError
from harness.viewing import server
from harness.viewing.items import Viewed
from reports.runs import opened
from tests.chromium import CHROMIUM, MISSING, browser
from tests.fake_run import FakeRun

TOKEN = "t0ken"
PAYLOAD = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><svg onload=alert(1)>"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


class Asked:
    """The application, asked without a socket."""

    def __init__(self, viewed: Viewed) -> None:
        self.app = server.application(viewed, TOKEN)

    def __call__(self, path: str, host: str = "127.0.0.1:9", method: str = "GET") -> Reply:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
            "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http",
            "headers": [(b"host", host.encode())], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 9),
        }  # fmt: skip
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Reply(sent[0]["status"], headers, b"".join(one.get("body", b"") for one in sent[1:]))


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Asked]:
    with opened([FakeRun().write(tmp_path)]) as (run,):
        yield Asked(Viewed(run))


def test_it_serves_the_page_its_data_and_its_pictures(ask: Asked) -> None:
    assert b"<title>nSFT, GT-DPO on llava150k</title>" in ask(f"/{TOKEN}/").body
    import json

    assert [one["items"] for one in json.loads(ask(f"/{TOKEN}/data/index.json").body)["sets"]] == [4, 4]
    assert json.loads(ask(f"/{TOKEN}/data/1-list.json").body)["signs"] == ["ssss", "sbss", "sbss"]
    item = json.loads(ask(f"/{TOKEN}/data/0-0.json").body)[2]
    assert item["said"][2]["text"] == "dpo says"
    for name in ("small", "large"):
        picture = ask(f"/{TOKEN}/{item['picture'][name]}")
        assert picture.headers["content-type"] == "image/png"
        assert Pillow.open(io.BytesIO(picture.body)).getpixel((1, 1)) == (2, 90, 120)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9", "127.0.0.1.evil.example", "", "[::1]:9", "localhost.evil:9"]
)
def test_a_name_that_was_turned_to_this_address_is_refused(ask: Asked, host: str) -> None:
    refused = ask(f"/{TOKEN}/data/index.json", host)
    assert refused.status == 400 and b"sets" not in refused.body


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1234"])
def test_this_machines_names_are_answered(ask: Asked, host: str) -> None:
    assert ask(f"/{TOKEN}/", host).status == 200


@pytest.mark.parametrize("path", ["/", "/data/index.json", "/wrong/", "/t0ke/data/index.json", "//", "/t0kené/"])
def test_nothing_is_told_without_the_token(ask: Asked, path: str) -> None:
    refused = ask(path)
    assert refused.status == 404 and b"sets" not in refused.body and b"<title>" not in refused.body


@pytest.mark.parametrize(
    "path", ["data/../../manifest.json", "data/9-0.json", "data/0-x.json", "data/x.json", "data/0-list.json.js",
             "data/٠-0.json", "pictures/" + "0" * 24, "pictures/..%2f..%2fmanifest.json", "manifest.json", "pictures/"],
)  # fmt: skip
def test_what_is_no_part_of_it_is_not_there(ask: Asked, path: str) -> None:
    assert ask(f"/{TOKEN}/{path}").status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_it_only_reads(ask: Asked, method: str) -> None:
    assert ask(f"/{TOKEN}/data/index.json", method=method).status == 405


@pytest.mark.parametrize("path", [f"/{TOKEN}/", f"/{TOKEN}/data/index.json", "/wrong/"])
def test_every_reply_forbids_framing_sniffing_and_anything_from_elsewhere(ask: Asked, path: str) -> None:
    headers = ask(path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and policy.endswith("frame-ancestors 'none'")
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin" and "access-control-allow-origin" not in headers


def test_what_is_damaged_meanwhile_is_a_sentence_and_not_shown(ask: Asked, tmp_path: Path) -> None:
    assert ask(f"/{TOKEN}/data/0-0.json").status == 200
    for file in tmp_path.glob("store/generate/*/responses.jsonl"):
        file.write_bytes(file.read_bytes().replace(b"says", b"lies"))
    refused = ask(f"/{TOKEN}/data/0-0.json")
    assert refused.status == 500 and b"not what was stored" in refused.body and b"lies" not in refused.body


def test_without_its_packages_the_cure_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(UsageError, match=r"\[view\].*--static"):
        server.needs()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The address that `harness view` prints for a hostile run, and its process."""
    run = FakeRun(said=dict.fromkeys(("nsft", "dpo"), PAYLOAD), questions={"item0": PAYLOAD}).write(tmp_path)
    env = {**os.environ, "PYTHONPATH": str(HOME)}
    words = [sys.executable, "-m", "harness", "view", str(run)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=env) as process:
        assert process.stdout
        yield process.stdout.readline().strip(), process
        process.kill()


def test_the_command_serves_on_the_loopback_until_it_is_interrupted(
    served: tuple[str, "subprocess.Popen[str]"],
) -> None:
    address, process = served
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{22}/", address)
    with urllib.request.urlopen(f"{address}data/0-0.json", timeout=30) as reply:
        assert reply.status == 200
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


@pytest.mark.skipif(not CHROMIUM, reason=MISSING)
def test_in_a_browser_items_are_shown_and_a_models_markup_is_text(
    served: tuple[str, "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    seen = browser(tmp_path, served[0], "--dump-dom")
    looked_at(seen)


@pytest.mark.skipif(not CHROMIUM, reason=MISSING)
def test_the_folder_shows_the_same_without_a_server(tmp_path: Path) -> None:
    from tests.commands.conftest import said

    run = FakeRun(said=dict.fromkeys(("nsft", "dpo"), PAYLOAD), questions={"item0": PAYLOAD}).write(tmp_path)
    said("view", run, "--static", tmp_path / "shared")
    looked_at(browser(tmp_path, (tmp_path / "shared" / "index.html").as_uri(), "--dump-dom"))


def looked_at(seen: str) -> None:
    """The four items are there, the payload is text, and nothing of it ran."""
    assert "<title>nSFT, GT-DPO on llava150k</title>" in seen and "owned'" in seen
    assert seen.count('<article class="item">') == 4 and "4 of 4 items" in seen
    assert "&lt;script&gt;document.title" in seen and '<img src="x"' not in seen and "<svg" not in seen
    assert seen.count("<script") == 1 and "flipped to right" in seen
