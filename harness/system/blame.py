"""Whose fault an exception is, in one sentence: a plugin's own code (its file and line), the machine's, or ours.

A traceback is never printed unless `--debug` (or HARNESS_DEBUG=1) asks for it. Of a fault of ours it is written to a
file, without keys.
"""

import os
import re
import sys
import tempfile
import traceback
from pathlib import Path
from types import FrameType

from harness.system.errors import HarnessError, Unexpected, UsageError
from harness.system.machine import exhausted

DEBUG = "HARNESS_DEBUG"
POINTER = f"--debug or {DEBUG}=1 shows the traceback"  # from Python there are no options
LONGEST = 300  # of what an exception says of itself
_OUTSIDE = r"(methods|benchmarks|harness\.[a-z]+)_file_"  # how `plugins.module` names a user's files
_PLUGINS = rf"(methods|benchmarks)\.|{_OUTSIDE}"


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    return os.environ.get(DEBUG, "0") not in ("", "0")


def explained(error: Exception) -> HarnessError:
    """The sentence for an exception; prints the traceback where `debugging`, writes it to a file where it is ours."""
    if debugging():
        sys.stderr.write(_traceback(error))
    if isinstance(error, HarnessError):
        known = type(error).__module__ == HarnessError.__module__  # a user's own class is known in no other process
        return error if known else HarnessError(str(error))
    if exhausted(error):
        return HarnessError(
            f"out of memory ({_said(error)}); give the same command again with --workers 1, or smaller batches: "
            "--set runtime.per_device_train_batch_size=4 --set runtime.generate_batch_size=16."
        )
    if theirs := plugin_fault(error):
        return HarnessError(theirs)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return HarnessError(f"{where}{error.strerror}. Finished stages are kept.")
    return Unexpected(f"unexpected {_said(error)}. The traceback is in {written(error)}; please report it.")


def plugin_fault(error: BaseException) -> str:
    """The sentence "FILE:LINE: KeyError: 'x' (in build)" for an exception in a plugin's code, else "".

    The line is the innermost one of the plugin's file, the function the one that this harness called. What our own code
    raises below a plugin of ours is our fault; below a user's file it is most likely what the file asked for.
    """
    walked = [
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if _named(frame, rf"{_PLUGINS}|harness\.")
    ]
    if isinstance(error, NotImplementedError) and walked and (lacking := _left_out(walked[-1][0])):
        return lacking
    frames = [(frame, line) for frame, line in walked if _named(frame, _PLUGINS)]
    if not frames or (walked[-1] != frames[-1] and not _named(frames[-1][0], _OUTSIDE)):
        return ""
    (first, _), (last, line) = frames[0], frames[-1]
    called = first.f_code.co_name.strip("<>")
    return f"{shown(last.f_code.co_filename)}:{line}: {_said(error)} (in {called}); {POINTER}."


def _left_out(frame: FrameType) -> str:
    """The sentence for a user's class that lacks what its contract asks for, where a frame runs the contract's own."""
    kind, contract = type(frame.f_locals.get("self")), str(frame.f_globals.get("__name__"))
    if not contract.startswith("harness.contracts.") or not re.match(_OUTSIDE, kind.__module__):
        return ""
    file = shown(str(sys.modules[kind.__module__].__file__))
    return f"{file}: {kind.__name__} has no {frame.f_code.co_name}, and {contract} says that it must."


def called_exit(stop: BaseException) -> bool:
    """Whether a plugin called sys.exit itself, or raised what is no Exception; not so where a signal's handler did."""
    frames = [frame for frame, _ in traceback.walk_tb(stop.__traceback__)]
    return bool(frames) and _named(frames[-1], _PLUGINS)


def import_fault(error: BaseException, file: Path) -> UsageError:
    """The sentence for a plugin's file that cannot be imported."""
    if debugging():
        sys.stderr.write(_traceback(error))
    if isinstance(error, SyntaxError):
        where = shown(error.filename) if error.filename else shown(str(file))
        return UsageError(f"{where}:{error.lineno or 1}: {type(error).__name__}: {error.msg}.")
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == str(file)]
    return UsageError(f"{shown(str(file))}:{lines[-1] if lines else 1}: {_said(error)} (at import); {POINTER}.")


def _named(frame: FrameType, names: str) -> bool:
    """Whether a frame runs code of a module whose name begins with what a pattern matches."""
    return bool(re.match(names, str(frame.f_globals.get("__name__", ""))))


def shown(file: str) -> str:
    """A file's path as a user would write it: from the current folder where it lies there."""
    path, here = Path(file), Path.cwd()
    if path.is_relative_to(here):
        return f"./{path.relative_to(here)}"
    ours = Path(__file__).resolve().parents[2]
    return str(path.relative_to(ours)) if path.is_relative_to(ours) else str(path)


def written(error: BaseException) -> str:
    """The file into which an exception's traceback was written, without keys."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="harness-traceback-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(_traceback(error))
            return file.name
    except OSError as problem:
        return f"no file ({problem.strerror}); --debug or {DEBUG}=1 shows it"


def _traceback(error: BaseException) -> str:
    from harness.system.secret import redact

    return redact("".join(traceback.format_exception(error)))


def _said(error: BaseException) -> str:
    """An exception's kind and its message on one line."""
    message = " ".join(str(error).split())
    message = message if len(message) <= LONGEST else message[: LONGEST - 1] + "…"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
