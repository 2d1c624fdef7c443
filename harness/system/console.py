"""The one way out to a terminal: what is printed is text, and only this program's own styles are more than that.

A model's words, an id, a file's name or a server's message may hold sequences that move the cursor, set a title, write
the clipboard or turn the reading direction. `streams` puts a `Door` on stdout and stderr that makes them all visible,
whoever prints; `console` and `say_styled` go past it, with styles that are added after.
"""

import codecs
import contextlib
import functools
import io
import json
import os
import re
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

if TYPE_CHECKING:
    from rich.console import Console

NOBODY_READS = 141  # as of a program that the signal of a closed pipe ended
NARROWEST = 30  # columns; a name and a number need no less
READ = 100  # columns at most of a sentence
PLAIN_WIDTH = 120  # columns where nobody says how many there are: a pipe or a file
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
BLANKS = re.compile(r"[ \t]+((?:\x1b\[[0-9;]*m)*)\n")  # before the end of a line, and of its style
_STYLE = re.compile(r"(\x1b\[[0-9;]*m)")
_STAND_INS = str.maketrans(
    {"–": "-", "—": "-", "−": "-", "…": "~", "↓": "v", "↑": "^", "Δ": "d", "×": "x", "→": ">"}
    | {"▲": "^", "▼": "!", "│": "|"}
)


class _Visible(dict[int, str]):
    """What each character reads as, by its number; filled as it is asked."""

    def __init__(self, kept: str) -> None:
        super().__init__({ord(sign): sign for sign in kept})

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        self[code] = f"<U+{code:04X}>" if unicodedata.category(sign) in _INVISIBLE else sign
        return self[code]


_ONE_LINE, _LINES = _Visible(""), _Visible("\n\t")


def visible(text: str) -> str:
    """`text` on one line; what has no glyph of its own (ESC, NUL, bidi overrides, surrogates) reads <U+001B>."""
    return text.translate(_ONE_LINE)


def visible_lines(text: str) -> str:
    """`visible`, except that lines stay lines and tabs tabs."""
    return text.replace("\r\n", "\n").translate(_LINES)


def lossy(error: UnicodeError) -> tuple[str, int]:
    """The handler of characters that a console's encoding lacks: one stand-in for each, so that columns stay."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    stand_ins = error.object[error.start : error.end].translate(_STAND_INS)
    return "".join(sign if sign.isascii() else "?" for sign in stand_ins), error.end


class Door(io.TextIOBase):
    """A text stream on which nothing but text leaves. Has no `buffer`: bytes would go round it."""

    def __init__(self, inner: TextIO, essential: bool) -> None:
        """`essential`: without a reader the program ends, quietly; else only what is printed here is lost."""
        super().__init__()
        self.inner, self.essential = inner, essential
        if isinstance(inner, io.TextIOWrapper):
            inner.reconfigure(errors="harness.lossy")

    def write(self, text: str) -> int:
        """Print it, made visible."""
        self.pass_on(visible_lines(text))
        return len(text)

    def pass_on(self, text: str) -> None:
        """Print it as it is."""
        with self._reader():
            self.inner.write(text)

    def flush(self) -> None:
        """Send what is printed so far."""
        with self._reader():
            self.inner.flush()

    @contextlib.contextmanager
    def _reader(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.inner.fileno())  # nor does the interpreter's end complain
            if self.essential:
                gone()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's own."""
        return self.inner.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """The stream's own."""
        return self.inner.errors

    def isatty(self) -> bool:
        """Whether a terminal shows it."""
        return self.inner.isatty()

    def fileno(self) -> int:
        """The stream's own."""
        return self.inner.fileno()

    def writable(self) -> bool:
        """It is."""
        return True


def gone() -> NoReturn:
    """End the program because nobody reads what it prints."""
    raise SystemExit(NOBODY_READS)


@contextlib.contextmanager
def streams() -> Iterator[None]:
    """stdout and stderr behind doors; where one is closed, what is printed there is lost."""
    before = sys.stdout, sys.stderr
    install(essential=True)
    try:
        yield
    finally:
        doors = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = before
        for door in doors:
            door.flush()


def install(essential: bool = False) -> None:
    """The doors alone, for the rest of a process: a worker's, where nobody has to read what is printed."""
    codecs.register_error("harness.lossy", lossy)
    for name in ("stdout", "stderr"):
        inner = getattr(sys, name) or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        setattr(sys, name, Door(inner, essential and name == "stdout"))


def behind_doors(main: Callable[[], None]) -> Callable[[], None]:
    """`main` with its streams behind doors."""

    @functools.wraps(main)
    def run() -> None:
        """`main`, and what was printed passed on."""
        with streams():
            main()

    return run


def say(sentence: str, status: int) -> int:
    """Print an error; returns the status it ends with."""
    import typer

    from harness.system.secret import redact

    typer.echo(f"harness: {redact(sentence)}", err=True)
    return status


def say_styled(text: str) -> None:
    """Print a text that rich has styled, on stdout: of its escape sequences only colours and weights get through."""
    pieces = _STYLE.split(text + "\n")  # every second one is a style
    shown = "".join(piece if at % 2 else visible_lines(piece) for at, piece in enumerate(pieces))
    _past(sys.stdout)(unfilled(shown if sys.stdout.isatty() else _STYLE.sub("", shown)))


def say_json(value: object) -> None:
    """Print one line of JSON; whatever has no glyph is escaped as JSON has it, so that it reads back as it was."""
    print(json.dumps(value, allow_nan=False))  # noqa: T201


def unfilled(text: str) -> str:
    """A text whose lines have no blanks at their ends."""
    return BLANKS.sub(r"\1\n", text)


def _past(stream: Any) -> Callable[[str], object]:
    return stream.pass_on if isinstance(stream, Door) else stream.write


class _Past:
    """A stream as rich wants it, which it writes its own sequences to."""

    def __init__(self, stream: Any) -> None:
        self.pass_on, self.flush, self.isatty = _past(stream), stream.flush, stream.isatty
        self.encoding, self.fileno = getattr(stream, "encoding", None) or "utf-8", stream.fileno

    def write(self, text: str) -> None:
        """Pass a text on, without the blanks that rich fills lines with."""
        self.pass_on(unfilled(text))


def console(err: bool = False) -> "Console":
    """A rich console whose texts are made visible before they are styled; markup in them is text."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class Shown(Console):
        """Makes every text visible as it is rendered."""

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            """rich's segments, those of text with what would act on a terminal made visible."""
            for piece in super().render(renderable, options):
                yield piece if piece.control else piece._replace(text=visible_lines(piece.text))

    stream: Any = _Past(sys.stderr if err else sys.stdout)
    return Shown(file=stream, width=columns(stream), markup=False, emoji=False)


def columns(stream: Any = None) -> int:
    """How wide to print on a stream (stdout): COLUMNS, else the terminal's width, else `PLAIN_WIDTH`."""
    stream, given = stream or sys.stdout, os.environ.get("COLUMNS", "")
    if given.isdigit() and int(given):
        return max(NARROWEST, int(given))
    try:
        return max(NARROWEST, os.get_terminal_size(stream.fileno()).columns) if stream.isatty() else PLAIN_WIDTH
    except OSError:
        return PLAIN_WIDTH


def wrapped(sentence: str) -> str:
    """A sentence in lines of the terminal's width, or shorter ones that are read more easily; the first stands out."""
    width = min(READ, columns())
    return textwrap.fill(sentence, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def duration(seconds: float) -> str:
    """Time in words: 41 s, 3 min 20 s, 5 h 12 min."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
