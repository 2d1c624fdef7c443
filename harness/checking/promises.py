"""What is said of a plugin that breaks its contract: whose fault it is, what was given and what is wanted."""

from collections.abc import Callable
from typing import TypeVar

from harness.system.blame import explained, plugin_fault
from harness.system.errors import HarnessError, UsageError

T = TypeVar("T")


def want(holds: bool, here: str, what: str, wanted: str, thing: object) -> None:
    """UsageError that says what an attribute is and what is wanted, unless it holds."""
    if not holds:
        raise UsageError(f"{here}.{what} is {getattr(thing, what, 'not there')!r}; wanted: {wanted}.")


def asked(here: str, what: str, work: Callable[[], T]) -> T:
    """What a plugin's own code gives; its exception as a sentence with its file and line."""
    try:
        return work()
    except UsageError:
        raise
    except SystemExit as stop:
        raise UsageError(plugin_fault(stop) or f"{here} calls sys.exit in {what}; raise an error instead.") from stop
    except Exception as error:
        raise UsageError(_fault(here, what, error)) from error


def _fault(here: str, what: str, error: Exception) -> str:
    fault = plugin_fault(error)
    if fault or isinstance(error, HarnessError):
        explained(error)  # prints the traceback where one is wanted
        return fault or str(error)
    return f"{here}: {what} gives {type(error).__name__}: {error}."
