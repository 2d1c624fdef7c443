"""Which source files are really at work: for tests of what must be in a key."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def recording() -> Iterator[set[str]]:
    """The files of which a function is called inside; what is imported before counts when it is called."""
    called: set[str] = set()

    def see(frame: FrameType, event: str, _: object) -> None:  # None: calls are told, lines are not
        if frame.f_code.co_name != "<module>":
            called.add(frame.f_code.co_filename)

    before = sys.gettrace()
    sys.settrace(see)
    try:
        yield called
    finally:
        sys.settrace(before)
