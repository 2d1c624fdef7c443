"""What holds for all tests."""

import gc
import signal
import sys

import pytest

# What a shell puts in the background ignores Ctrl-C, and so would the commands to which tests send one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole comparisons begin first, or the last of them would be waited for by workers that have nothing left."""
    items.sort(key=lambda item: "/e2e/" not in item.nodeid)


_imported = 0  # modules, when what was there was set aside


def pytest_runtest_setup() -> None:
    """What has been imported stays, and need not be walked over for every model that is let go of."""
    global _imported
    if len(sys.modules) >= _imported + 100:
        gc.collect()
        gc.freeze()
        _imported = len(sys.modules)
