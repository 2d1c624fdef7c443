"""Pages of the docs of which a command makes a part, between two marks; the words around it are written by hand."""

from pathlib import Path


def filled(page: Path, begin: str, end: str, made: str) -> str:
    """The page's text with `made` in place of what stood between its marks; ValueError where it has not each once."""
    before, *rest = page.read_text(encoding="utf-8").split(begin)
    if len(rest) != 1 or end not in rest[0]:
        raise ValueError(f"{page} has lost its marks {begin} and {end}, between which stands what is made.")
    return f"{before}{begin}\n\n{made}\n\n{end}{rest[0].partition(end)[2]}"
