"""What a machine runs out of: disk, the right to write there, memory. Native code says it in many ways."""

import errno
import gc
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from harness.system.errors import Full, HarnessError, UsageError

Item = TypeVar("Item")
Made = TypeVar("Made")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
# Native writers raise no OSError. Rust's (safetensors, tokenizers) number the error; torch's zip writer says that a
# write came short or that its stream failed, its older writer gives the error's text.
_NATIVE = re.compile(
    rf"os error ({'|'.join(str(number) for number in sorted(_FULL))})\b"
    r"|write\(\): fd \d+ failed with (No space left on device|File too large|Disk quota exceeded)"
    r"|inline_container\.cc.*(unexpected pos|failed writing|file write failed)|basic_ios::clear: iostream error"
)
_MEMORY = re.compile(r"can't allocate memory|not enough memory: you tried to allocate")


def full(error: BaseException) -> bool:
    """Whether a write failed because the disk, a quota or the largest size of a file is reached."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return _NATIVE.search(str(error)) is not None


def exhausted(error: BaseException) -> bool:
    """Whether memory ran out, the machine's or an accelerator's."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's
    return named or (isinstance(error, RuntimeError) and _MEMORY.search(str(error)) is not None)


def halved(items: Sequence[Item], work: Callable[[Sequence[Item]], Made]) -> Iterator[tuple[Sequence[Item], Made]]:
    """`work` of all items at once or, where memory runs out, of their halves, one behind the other; with the items."""
    try:
        found = [(items, work(items))]
    except Exception as error:
        if len(items) < 2 or not exhausted(error):
            raise
        found = []
    if found:
        yield from found
        return
    reclaim()  # out of the exception, whose traceback holds what did not fit
    middle = len(items) // 2
    yield from halved(items[:middle], work)
    yield from halved(items[middle:], work)


def gpus() -> tuple[str, ...]:
    """This machine's GPUs that a command may use, as CUDA_VISIBLE_DEVICES has them; asks no driver."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is None:
        return tuple(str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*")))))
    named = [name.strip() for name in told.split(",")]
    return tuple(itertools.takewhile(lambda name: name not in ("", "-1"), named))


def reclaim() -> None:
    """Give back what nobody holds any more, to an accelerator too."""
    gc.collect()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def seldom_collected() -> Iterator[None]:
    """While open, garbage is looked for a hundred times less often: where much is read and kept, and no model lies."""
    usual = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """Turns what a full or forbidden disk under `root` raises into a sentence; other errors pass."""
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:
        name = getattr(error, "filename", None)
        inside = name is not None and Path(str(name)).is_relative_to(root)
        if any(full(one) for one in _chain(error)):
            reason = getattr(error, "strerror", None) or "a file could not be written, the disk or a quota is full"
            raise Full(
                f"{name if inside else root}: {reason}. No finished stage is damaged; free some space and give the "
                "same command again."
            ) from error
        if isinstance(error, OSError) and error.errno in _FORBIDDEN and inside:
            raise UsageError(
                f"{name} cannot be written: {error.strerror}. Choose another store, or ask for the right to write "
                "there."
            ) from error
        raise


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those it was raised from or while handling."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
