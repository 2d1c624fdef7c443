"""What a cell, a heading or a name is in plain characters: the same in every format, whose own syntax comes after.

Strings of models, methods and files are hostile until they have passed here and through their format: control
characters and direction overrides are made visible, and what is too long is cut.
"""

import math
import re
from collections.abc import Callable

from rich.cells import cell_len, set_cell_size

from harness.system.console import visible
from reports.grid import Entry, Head
from reports.numerals import MARKS, numeral

DASH = "–"
SIGNS = {**MARKS, "open": "?", "untested": "–", "failed": "✗"}  # of a verdict
FAILED, REASON = "failed", 120  # the word in place of numbers, and the most of a reason that stands in a row
NOTE = 1000  # the most of a note that is shown


def short(text: str, longest: int = 300) -> str:
    """`visible`, cut to so many columns of a terminal."""
    shown = visible(text[: longest + 1])
    return shown if cell_len(shown) <= longest else set_cell_size(shown, longest - 1) + "…"


def heading(head: Head) -> str:
    """A column's, with the sign that less is better."""
    return short(head.label, 40) + (" ↓" if head.lower else "")


def figures(entry: Entry) -> tuple[str, str, str]:
    """Value, difference with its mark, interval; each may be empty. A text stands in the first place, alone."""
    if entry.text:
        return short(entry.text).strip(), "", ""
    if not math.isfinite(entry.value) and not math.isfinite(entry.delta):
        return DASH, "", ""
    form = ("," if abs(entry.value) >= 10_000 else "") + ("+" if entry.signed else "")
    value = numeral(entry.value, entry.digits, form) if math.isfinite(entry.value) else ""
    value += _covered(entry.coverage) if value else ""
    value = f"({value})" if entry.signed else value
    delta = numeral(entry.delta, entry.digits, "+") if math.isfinite(entry.delta) and not entry.signed else ""
    mark = MARKS.get(entry.mark, "")
    return (value, delta + mark, span(entry)) if delta else (value + mark, "", span(entry))


def shown(entry: Entry, spans: bool = False) -> str:
    """A cell on one line, with its interval or without."""
    value, delta, interval = figures(entry)
    return " ".join(filter(None, (value, delta, interval if spans else "")))


def span(entry: Entry) -> str:
    """The interval, empty where there is none."""
    if entry.text or not (math.isfinite(entry.low) and math.isfinite(entry.high)):
        return ""
    sign = "+" if entry.signed or math.isfinite(entry.delta) else ""
    return f"[{', '.join(numeral(end, entry.digits, sign) for end in (entry.low, entry.high))}]"


def raised(text: str, escape: Callable[[str], str], form: str) -> str:
    """A heading with what follows a ^ set higher, as `form` does; letters and digits alone."""
    parts = enumerate(re.split(r"\^([A-Za-z0-9]+)", text))
    return "".join(form.format(part) if number % 2 else escape(part) for number, part in parts)


def _covered(coverage: float) -> str:
    """The share of units that a judge gave a verdict on, behind a value; nothing where nobody judged."""
    return "" if math.isnan(coverage) else f" ({math.floor(10 * coverage) / 10:g} %)"
