"""The words of tables and verdicts, explained for people who are no statisticians: glossary.md, by entry."""

import difflib
from importlib.resources import files

from harness.system.errors import UsageError
from reports.numerals import MARKS


def glossary() -> dict[str, str]:
    """Word -> its explanation, in the order of the file."""
    text = files("reports").joinpath("glossary.md").read_text(encoding="utf-8")
    entries = (part.partition("\n") for part in text.split("\n## ")[1:])
    return {word: about.strip() for word, _, about in entries}


def entry(word: str) -> tuple[str, str]:
    """A word of the glossary and its explanation, by a part of its name or by a mark; UsageError names the nearest."""
    named = next((name for name, sign in MARKS.items() if word.strip() == sign), word)
    words, asked = glossary(), named.casefold().strip("* ")
    found = [name for name in words if asked and asked in name.casefold()]
    if len(found) != 1:
        near = found or difflib.get_close_matches(asked, words, 3, 0.5) or list(words)
        raise UsageError(f'no single entry "{word}"; there are: {", ".join(near)}.')
    return found[0], words[found[0]]
