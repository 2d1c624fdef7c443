"""What a server does to the connection (bodies without end, redirects, drips, clocks) is bounded, and has a reason."""

import gzip
import struct
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from fake import QUICK, RAW, Server, asked, completion, llm, serving

from harness.contracts.records import Unscored
from harness.judging import chat_api as asking
from harness.judging.journal import Journal
from harness.system.errors import HarnessError

MIB = 1 << 20
ONCE = QUICK.model_copy(update={"ask_attempts": 1})
ANSWER = completion("0.5")


def gzipped_zeros(mib: int) -> bytes:
    """A gzip of so many MiB of zeros, a thousandth of that; made without packing all of them."""
    packer, piece = zlib.compressobj(9, wbits=-15), bytes(MIB)
    packed = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    end = struct.pack("<II", 0, mib * MIB & 0xFFFFFFFF)
    return b"\x1f\x8b\x08" + bytes(7) + packed * mib + packer.flush() + end


def packed(body: bytes, coding: str = "gzip") -> tuple[int, dict[str, str], bytes]:
    return 200, {"content-encoding": coding}, body


def endless() -> Iterator[bytes]:
    while True:
        yield b" " * 65536


def drips(count: int) -> Iterator[bytes]:
    """Blanks, each well within any time-out of its own, and then an answer."""
    for _ in range(count):
        yield b" "
        time.sleep(0.1)
    yield ANSWER


def reply_to(folder: Path, answer: Any, **runtime: Any) -> str | Unscored:
    with serving(lambda body, times: answer):
        return llm(folder, ONCE.model_copy(update=runtime)).reply(asked(1))


def peak_of(folder: Path, answer: Any) -> tuple[float, str | Unscored]:
    """MiB that a reply takes at most, the server's included; and what it was."""
    tracemalloc.start()
    try:
        reply = reply_to(folder, answer)
        return tracemalloc.get_traced_memory()[1] / MIB, reply
    finally:
        tracemalloc.stop()


def test_a_small_gzip_of_gigabytes_is_not_unpacked(tmp_path: Path) -> None:
    bomb = gzipped_zeros(1536)
    assert len(bomb) < 2 * MIB
    peak, reply = peak_of(tmp_path, packed(bomb))
    assert isinstance(reply, Unscored) and "the reply is longer than 4 MiB" in reply.reason
    assert peak < 40


def test_without_the_bound_it_would_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MAX_BODY", 1 << 40)
    peak, _ = peak_of(tmp_path, packed(gzipped_zeros(128)))
    assert peak > 128


def test_a_body_without_end_is_read_as_far_as_a_reply_may_be_long(tmp_path: Path) -> None:
    for name, headers in (("plain", {}), ("packed", {"content-encoding": "gzip"})):
        pieces = endless() if name == "plain" else iter([gzipped_zeros(1)[:-8], *[b"\x03\x00" * 99]] * 10**6)
        reply = reply_to(tmp_path / name, (200, headers, pieces))
        assert isinstance(reply, Unscored) and "the reply" in reply.reason


@pytest.mark.parametrize(
    ("coding", "body", "said"),
    [
        ("gzip", gzip.compress(ANSWER), "0.5"),
        ("GZIP", gzip.compress(ANSWER), "0.5"),
        ("deflate", zlib.compress(ANSWER), "0.5"),
        ("identity", ANSWER, "0.5"),
        ("gzip", gzip.compress(ANSWER)[:-20], "the reply is cut"),
        ("gzip", ANSWER, "the reply is not the gzip that it says"),
        ("br", ANSWER, "the reply is packed as br, which was not asked for"),
        ("gzip, gzip", gzip.compress(gzip.compress(ANSWER)), "packed as gzip, gzip"),
    ],
)
def test_a_packed_reply_is_unpacked_or_has_its_reason(tmp_path: Path, coding: str, body: bytes, said: str) -> None:
    reply = reply_to(tmp_path, packed(body, coding))
    assert said in (reply.reason if isinstance(reply, Unscored) else reply)


def test_errors_are_bounded_too(tmp_path: Path) -> None:
    reply = reply_to(tmp_path, (400, {"content-encoding": "gzip"}, gzipped_zeros(64)))
    assert isinstance(reply, Unscored) and "longer than 4 MiB" in reply.reason


def raw(head: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    return RAW, {}, head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body


CHUNKED, ONE = "HTTP/1.1 200 OK\ntransfer-encoding: chunked", b"%x\r\n" % len(ANSWER) + ANSWER + b"\r\n"
GARBAGE = {
    "nothing": (RAW, {}, b""), "no HTTP": (RAW, {}, b"\x00\xff\x13\r\n\r\n"), "half a status": (RAW, {}, b"HTTP/1.1 2"),
    "a status of 99": raw("HTTP/1.1 099 OK", ANSWER), "a status of 999": raw("HTTP/1.1 999 OK", ANSWER),
    "no content": raw("HTTP/1.1 204 OK"), "a part": raw("HTTP/1.1 206 OK", ANSWER),
    "a body that is cut": raw(f"HTTP/1.1 200 OK\ncontent-length: {len(ANSWER) + 9}", ANSWER),
    "a body that ends early": raw(f"HTTP/1.1 200 OK\ncontent-length: {len(ANSWER) - 9}", ANSWER),
    "two lengths": raw(f"HTTP/1.1 200 OK\ncontent-length: 5\ncontent-length: {len(ANSWER)}", ANSWER),
    "a length below 0": raw("HTTP/1.1 200 OK\ncontent-length: -5", ANSWER),
    "no chunks": raw(CHUNKED, ANSWER), "a chunk too long": raw(CHUNKED, b"7fffffffffffffff\r\n" + ANSWER),
    "chunks without an end": raw(CHUNKED, ONE), "a line of chunks": raw(CHUNKED, b"5;" + b"x" * MIB + b"\r\n"),
    "a long header": raw("HTTP/1.1 200 OK\nx: " + "a" * MIB, ANSWER), "no header": raw("HTTP/1.1 200 OK\nx", ANSWER),
    "a header in Latin 1": raw("HTTP/1.1 200 OK\nx-request-id: \xff\xfe", ANSWER),
    "an error nested deeply": raw("HTTP/1.1 400 OK", b'{"error":' + b"[" * 100_000),
    "an error in no charset": raw("HTTP/1.1 400 OK\ncontent-type: text/plain; charset=idna", b"\xff\xfe"),
    "an error of one object": raw("HTTP/1.1 400 OK", b'{"error": {"code": {}, "message": 5}}'),
}  # fmt: skip


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_a_failure_that_counts_as_paid_and_is_asked_again(tmp_path: Path, name: str) -> None:
    with serving(lambda body, times: GARBAGE[name] if times == 1 else "0.5"):
        failed = llm(tmp_path, ONCE).reply(asked(1))
        journal = Journal(tmp_path)
        assert isinstance(failed, Unscored) and journal.spent > 0 and not journal.replies
        assert llm(tmp_path, ONCE).reply(asked(1)) == "0.5"


def to(server: Server, path: str = "/v1/chat/completions") -> str:
    return f"http://127.0.0.1:{server.server_address[1]}{path}"


def sent(status: int, where: str) -> tuple[int, dict[str, str], bytes]:
    return status, {"location": where}, b""


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_nobody_is_sent_to_another_host_with_the_key(tmp_path: Path, status: int) -> None:
    with serving(lambda body, times: "0.5") as other:
        elsewhere = to(other)
        with serving(lambda body, times: sent(status, elsewhere)) as server, pytest.raises(HarnessError) as caught:
            llm(tmp_path).reply(asked(1))
        assert not other.asked and sum(server.asked.values()) == 1
    assert "OPENAI_BASE_URL: it sends its callers to another address" in str(caught.value)
    assert Journal(tmp_path).spent == 0


def test_without_the_same_origin_the_key_would_go_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_origin", lambda url: "anywhere")
    with serving(lambda body, times: "0.5") as other:
        elsewhere = to(other)
        assert reply_to(tmp_path, sent(307, elsewhere)) == "0.5"
        assert other.asked


def test_a_redirect_on_the_same_host_is_followed_and_not_for_ever(tmp_path: Path) -> None:
    onward = sent(308, "/v1/chat/completions?moved")
    with serving(lambda body, times: "0.5" if times == 3 else onward) as server:
        assert llm(tmp_path / "a").reply(asked(1)) == "0.5"
        assert sum(server.asked.values()) == 3
    with serving(lambda body, times: onward) as server, pytest.raises(HarnessError, match="another address"):
        llm(tmp_path / "b").reply(asked(1))
    assert sum(server.asked.values()) == 1 + asking.MAX_REDIRECTS


def test_a_reply_that_drips_ends_with_the_call_and_counts_as_paid(tmp_path: Path) -> None:
    reply = reply_to(tmp_path, (200, {}, drips(600)), ask_timeout_s=0.5)
    assert isinstance(reply, Unscored) and "no reply within 0.5 s" in reply.reason
    assert Journal(tmp_path).spent > 0 and not Journal(tmp_path).replies


def test_without_a_limit_on_the_whole_call_a_drip_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking.asyncio, "timeout", lambda seconds: nullcontext())
    assert reply_to(tmp_path, (200, {}, drips(10)), ask_timeout_s=0.5) == "0.5"


class Jumping:
    """A clock that goes a year back or ahead at every second look."""

    def __init__(self, jump: float) -> None:
        self.jump, self.looks, self.clock = jump, 0, time.time

    def __call__(self) -> float:
        self.looks += 1
        return self.clock() + self.jump * (self.looks % 2)


def five(folder: Path, deadline_s: float) -> list[str | Unscored]:
    """Five questions side by side under a budget, in a store where somebody has died while sounding out a server."""
    assert Journal(folder).reserve(0.1, 1.0, alone=True)
    judge = llm(folder, QUICK.model_copy(update={"budget": 1.0, "ask_deadline_s": deadline_s}))
    judge.ask_all([asked(number) for number in range(5)])
    return [judge.reply(asked(number)) for number in range(5)]


@pytest.mark.parametrize("jump", [-3e7, 3e7])
def test_no_question_waits_for_a_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    """A server that is busy at first asks to wait for a second, by its own clock."""
    busy = 429, {"date": formatdate(1e9, usegmt=True), "retry-after": formatdate(1e9 + 1, usegmt=True)}, b"{}"
    monkeypatch.setattr(time, "time", clock := Jumping(jump))
    with serving(lambda body, times: busy if times == 1 else "0.5"):
        assert five(tmp_path, 60.0) == ["0.5"] * 5
    assert clock.looks


@pytest.mark.parametrize(
    ("header", "date", "seconds"),
    [
        ("7", "", 7.0), ("1e9", "", 120.0), ("-3", "", 0.0), ("nan", "", 0.0), ("soon", "", 0.0),
        ("Sun, 09 Sep 2001 01:46:45 GMT", "Sun, 09 Sep 2001 01:46:40 GMT", 5.0),
        ("Sun, 09 Sep 2001 01:46:45 GMT", "yesterday", 0.0), ("Sun, 09 Sep 9999 01:46:45 GMT", "", 120.0),
    ],
)  # fmt: skip
def test_a_server_can_ask_for_two_minutes_by_its_own_clock(header: str, date: str, seconds: float) -> None:
    assert asking._retry_after(header, date) == seconds


def test_mutants_wait_for_the_dead_and_for_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One takes everybody who has reserved for alive, one reads a server's date by a clock that is a year behind."""
    with monkeypatch.context() as changed, serving(lambda body, times: "0.5"):
        changed.setattr(Journal, "_lives", lambda *_: True)
        assert all(isinstance(reply, Unscored) for reply in five(tmp_path / "dead", 0.5))
    before, by_ours = asking._retry_after, "Sun, 09 Sep 2001 01:46:40 GMT"
    monkeypatch.setattr(time, "time", lambda: 1e9 - 3e7)
    assert before("Sun, 09 Sep 2001 01:46:45 GMT") == 120.0 and before("Sun, 09 Sep 2001 01:46:45 GMT", by_ours) == 5.0
