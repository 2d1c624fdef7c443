"""What holds for all tests."""

import signal

import pytest

from tests.laws import Depth

# What a shell puts in the background ignores Ctrl-C, and so would the commands to which tests send one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Of the laws' examples the usual run tries the first half."""
    Depth.divisor = 2 if config.option.markexpr == "not heavy" else 1
