"""Readings of a response that forgive its form, beside the official ones: they say what a gain owes to the format."""

import re
import string
from collections.abc import Mapping

PHRASE = 10  # words; a longer response is no "single word or phrase"
MARKS = str.maketrans(dict.fromkeys(string.punctuation, " "))
ARTICLES = ("a", "an", "the")


def yes_or_no(text: str) -> str | None:
    """The first word that is yes or no in any case; None where there is none."""
    found = re.search(r"\b(yes|no)\b", text.lower())
    return found[1] if found else None


def letter(text: str) -> str | None:
    """A letter from A to E in any case that begins the response and is followed by nothing or a mark, or the last
    "answer is X"; None where there is neither.
    """
    first = re.match(r"\W*([A-Ea-e])(?:\s*$|\s*[.:,)])", text)
    said = re.findall(r"answer is:?\s*\(?([A-Ea-e])\b", text, re.IGNORECASE)
    found = first[1] if first else said[-1] if said else None
    return found.upper() if found else None


def choice(text: str, choices: Mapping[str, str]) -> str | None:
    """The letter, else the letter of the one choice whose words the response contains."""
    named = [name for name, words in choices.items() if contains(text, words)]
    return letter(text) or (named[0] if len(named) == 1 else None)


def contains(text: str, answer: str) -> bool:
    """Whether the answer's words stand in the text one after the other; marks, case and articles do not count."""
    words = f" {' '.join(_words(answer))} "
    return words.strip() != "" and words in f" {' '.join(_words(text))} "


def answers(text: str, answer: str) -> bool:
    """Whether the response's first sentence contains the answer; for yes and no, whether the first of them is it."""
    if answer in ("yes", "no"):
        return yes_or_no(text) == answer
    return contains(text.strip().split(". ")[0].split("\n")[0], answer)


def is_phrase(text: str) -> bool:
    """Whether the response has the form a short-answer prompt asks for: 1 to 10 words."""
    return 1 <= len(text.split()) <= PHRASE


def _words(text: str) -> list[str]:
    return [word for word in text.lower().translate(MARKS).split() if word not in ARTICLES]
