"""What lmms-eval's tasks are kept from while they work here: credentials, network, screen and our random numbers."""

import io
import os
import random
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import numpy as np
from loguru import logger


class Called(BaseException):
    """A task went for the network. No Exception, so that no task takes it for a failed try and scores on."""


NOBODY = {"API_TYPE": "openai", "OPENAI_API_KEY": "none"}  # a client that can be made, and reaches nobody


@contextmanager
def no_credentials() -> Iterator[None]:
    """While open, tasks find no API key: they ask for it when they are imported, or when they score.

    A client they can make. One that were missing would fail in their hands, and what fails there counts as a wrong
    answer; one that is there goes for the network.
    """
    before = {name: os.environ.get(name) for name in NOBODY}
    os.environ.update(NOBODY)
    try:
        yield
    finally:
        for name, told in before.items():
            del os.environ[name]
            if told is not None:
                os.environ[name] = told


@contextmanager
def quiet() -> Iterator[None]:
    """While open, tasks print nothing; afterwards the random state they seed is what it was."""
    state = random.getstate()
    logger.remove()
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        random.setstate(state)


class Drawn:
    """Whether anything was drawn at random."""

    drawn = False


@contextmanager
def seeded(by: str = "") -> Iterator[Drawn]:
    """While open, tasks draw by a word alone and print nothing at all; afterwards the random states are what they were.

    Gives what tells, afterwards, whether anything was drawn.
    """
    told, numpy = Drawn(), np.random.get_state()
    with quiet(), redirect_stderr(io.StringIO()):
        random.seed(by)
        np.random.seed(random.getrandbits(32))
        before = random.getstate(), str(np.random.get_state())
        try:
            yield told
        finally:
            told.drawn = (random.getstate(), str(np.random.get_state())) != before
            np.random.set_state(numpy)


@contextmanager
def unplugged() -> Iterator[None]:
    """While open, looking up a host or connecting to one raises `Called`; and `no_credentials`."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def connected(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            raise Called
        connect(self, address)

    def looked_up(*_: Any, **__: Any) -> Any:
        raise Called

    socket.socket.connect, socket.getaddrinfo = connected, looked_up  # type: ignore[method-assign, assignment]
    try:
        with no_credentials():
            yield
    finally:
        socket.socket.connect, socket.getaddrinfo = connect, look_up  # type: ignore[method-assign]


def until(text: str, asked: Mapping[str, Any]) -> str:
    """The response before the first stop string, as lmms-eval defines the request."""
    stops = asked.get("until") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.split(stop)[0] if stop else text
    return text
