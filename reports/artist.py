"""Draws figures in a process beside this one: at a comparison's end nothing else runs, and drawing is half of it."""

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection

from harness.system import lifeline
from reports.figures import Draw, Picture, picture

Drawn = Callable[[], Picture]


@contextmanager
def artist() -> Iterator[Callable[[Sequence[Draw], str], list[Drawn]]]:
    """While open, a process that draws: give it drawings once, with their testbed, and ask for them in their order.

    It imports what it needs from its birth on. What it did not draw, because it failed or was killed, is drawn here.
    """
    context = get_context("spawn")
    line, its = context.Pipe()
    process = context.Process(target=_draw, args=(its, os.getpid()))

    def begun(drawings: Sequence[Draw], testbed: str) -> list[Drawn]:
        def drawn(draw: Draw) -> Picture:
            with suppress(EOFError, OSError):
                if made := line.recv():
                    return made  # type: ignore[no-any-return]
            return picture(draw, testbed)

        with suppress(OSError):
            line.send((list(drawings), testbed))
        return [lambda draw=draw: drawn(draw) for draw in drawings]  # type: ignore[misc]

    try:
        lifeline.start(process)
        its.close()
        yield begun
    finally:
        line.close()
        if process.pid is not None:
            process.kill()
            process.join()


def _draw(line: Connection, parent: int) -> None:
    """The process's life: it goes when its parent is gone."""
    here = parent_process()
    assert here is not None, "it was started by this module"
    lifeline.follow(parent, here.sentinel)
    gc.disable()  # it ends soon
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_pdf
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401 -- while what is to be drawn is not known yet

    with suppress(EOFError, OSError):  # nobody waits for it any more
        drawings, testbed = line.recv()
        for made in [_tried(draw, testbed) for draw in drawings]:  # all first: to send one waits until it is asked for
            line.send(made)


def _tried(draw: Draw, testbed: str) -> Picture | None:
    """None where it fails: who asked draws it, and sees why."""
    try:
        return picture(draw, testbed)
    except Exception:
        return None
