"""Readings of a response that forgive its form, beside the official ones: they say what a gain owes to the format.

They take a response for what it plainly says, in English and in Chinese, whatever marks, brackets, widths or markdown
stand around it, and read at least what the official parse reads (`official`). What names two answers, denies the only
one, or does not commit itself is not read: nothing is guessed.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from benchmarks import _wordings as wordings

PHRASE = 10  # words; a longer response is no "single word or phrase"
ARTICLES = ("a", "an", "the")
LETTERS = "ABCDE"


def plain(text: str) -> str:
    """The text with its letters and marks in their usual widths, without markdown, tags and invisible characters."""
    narrow = unicodedata.normalize("NFKC", text)
    seen = "".join(character for character in narrow if unicodedata.category(character) != "Cf")
    return wordings.BLANKS.sub(" ", wordings.LINES.sub("\n", wordings.MARKUP.sub("", seen))).strip()


def yes_or_no(text: str, official: str | None = None) -> str | None:
    """The yes or no that a response begins with, states as its answer, or means by denying; `official` where it names
    neither. None for what names both as alternatives or does not commit itself.
    """
    text = plain(text)
    if (initial := re.sub(r"[\W_]+", "", text).lower()) in ("y", "n"):
        return {"y": "yes", "n": "no"}[initial]
    lead = (
        None
        if wordings.WHETHER.match(text) or wordings.HEDGE.match(text) or wordings.EITHER.search(text)
        else wordings.LEAD.match(text)
    )
    if lead:
        other = wordings.BOTH.match(text, lead.end())
        return None if other and bool(other["no"]) != bool(lead["no"]) else "no" if lead["no"] else "yes"
    if wordings.HEDGE.search(text) or wordings.EITHER.search(text):
        return None
    for sentence in re.split(r"[.。!\n;]+", text):
        if not wordings.WHETHER.match(sentence) and (lead := wordings.LEAD.match(sentence)):
            return "no" if lead["no"] else "yes"
        if re.search(r"\byes\b", sentence, re.IGNORECASE):
            return None if wordings.NEGATION.search(sentence) else "yes"
        if wordings.NEGATION.search(sentence) and not wordings.WHETHER.search(sentence):
            return "no"
        if wordings.AFFIRMED.match(sentence) and not wordings.WHETHER.search(sentence):
            return "yes"
    return official


def letter(text: str, official: str | None = None) -> str | None:
    """The one letter from A to E that a response states, begins with or holds; `official` where it names none."""
    return choice(text, {}, official)


def choice(text: str, choices: Mapping[str, str], official: str | None = None) -> str | None:
    """The letter that a response states, begins with or holds, else that of the one choice whose words it contains.

    `official` where it names none; None where it names several, or denies what the official parse reads.
    """
    text, names = plain(text), "".join(choices) or LETTERS
    denied = {match[1].upper() for match in re.finditer(wordings.ALONE, text) if _denied(text, match)}
    for named in (_bare(text, names), _stated(text, names), _leading(text, names), _same(text, choices)):
        if named:
            return named.pop() if len(named) == 1 else None
    worded, without = _named(text, choices)
    named = _letters(text, names) | worded
    if named:
        return named.pop() if len(named) == 1 else None
    return None if official in denied | without else official


def _bare(text: str, names: str) -> set[str]:
    """The letter that is all there is, in any case and any marks."""
    alone = re.sub(r"[\W_]+", "", text).upper()
    return {alone} if len(alone) == 1 and alone in names else set()


def _stated(text: str, names: str) -> set[str]:
    """The letters that are said to be the answer."""
    found: set[str] = set()
    for pattern in (*wordings.STATED, wordings.RIGHT):
        for match in pattern.finditer(text):
            if not _denied(text, match) and not _is_article(text, match):
                found |= _with_more(text, match)
    return {name for name in found if name in names}


def _leading(text: str, names: str) -> set[str]:
    """The letter that a response begins with, unless it goes on to list the options."""
    match = wordings.LEADING.match(text)
    if (
        not match
        or match[1].upper() not in names
        or _denied(text, match)
        or len(set(wordings.LISTED.findall(text))) > 1
    ):
        return set()
    small = match[1].islower() and not re.match(r"[)\].:]|\W*$", text[match.end(1) :])
    return set() if small else _with_more(text, match)


def _letters(text: str, names: str) -> set[str]:
    """Capital letters that stand alone, without the article and those that are denied."""
    found = (match for match in re.finditer(wordings.ALONE, text) if match[1] in names and not _is_article(text, match))
    bracketed = {match[1].upper() for match in re.finditer(r"[(\[]([a-e])[)\]]", text) if match[1].upper() in names}
    return {match[1] for match in found if not _denied(text, match)} | bracketed


def _with_more(text: str, match: re.Match[str]) -> set[str]:
    """The letter of a match and those that are joined to it: "A or B", "A, B and C", "A和B"."""
    found, end = {match[1].upper()}, match.end(1)
    while more := wordings.MORE.match(text, end):
        if _is_article(text, more) or _denied(text, more):
            break
        found.add(more[1].upper())
        end = more.end(1)
    return found


def _is_article(text: str, match: re.Match[str]) -> bool:
    """Whether the letter is the word "a" before another."""
    return match[1] in "Aa" and bool(wordings.ARTICLE.match(text, match.end(1)))


def _denied(text: str, match: re.Match[str]) -> bool:
    """Whether the letter is said not to be the answer, before it or behind it."""
    before = (text[max(0, place - 60) : place] for place in (match.start(), match.start(1)))
    return bool(wordings.DENIED_AFTER.match(text, match.end(1))) or any(map(wordings.DENIED_BEFORE.search, before))


def _same(text: str, choices: Mapping[str, str]) -> set[str]:
    """The choices that are the whole response, behind their letter or without it; marks, case and articles aside."""
    bare = text.lower().rstrip(" .。")
    same = {name for name, words in choices.items() if plain(words).lower().rstrip(" .。") == bare != ""}
    said, lettered = _words(text), re.match(r"\W*([A-E])\s+(?=\S)", text)
    if lettered and lettered[1] in choices and _words(text[lettered.end() :]) == _words(choices[lettered[1]]):
        return {lettered[1]}
    return same or {name for name, words in choices.items() if said and _words(words) == said}


def _named(text: str, choices: Mapping[str, str]) -> tuple[set[str], set[str]]:
    """The choices whose words stand in the response, and those it only denies; the longer where one holds another."""
    words = _words(text)
    found = {name: list(_places(words, _words(of))) for name, of in choices.items()}
    named, denied = set[str](), set[str]()
    for name, places in found.items():
        others = _others(found, name)
        whole = [(a, b) for a, b in places if not any(c <= a and b <= d and (c, d) != (a, b) for c, d in others)]
        if whole:
            (denied if all(_is_denied(words, start) for start, _ in whole) else named).add(name)
    return named, denied


def _others(found: Mapping[str, Sequence[tuple[int, int]]], name: str) -> list[tuple[int, int]]:
    return [place for other, places in found.items() if other != name for place in places]


def contains(text: str, answer: str) -> bool:
    """Whether the answer's words stand in the text one after the other; marks, case and articles do not count."""
    return any(_places(_words(plain(text)), _words(plain(answer))))


def answers(text: str, answer: str) -> bool:
    """Whether the response's first sentence contains the answer and neither denies it nor offers another beside it; for
    yes and no, whether it says so (`yes_or_no`).
    """
    if answer in ("yes", "no"):
        return yes_or_no(text) == answer
    words, sought = _words(re.split(r"\. |\n|。", plain(text).strip())[0]), _words(plain(answer))
    for start, stop in _places(words, sought):
        beside = "or" in (*words[start - 1 : start], *words[stop : stop + 1]) and "or" not in sought
        if not _is_denied(words, start) and not beside:
            return True
    return False


def is_phrase(text: str) -> bool:
    """Whether the response has the form a short-answer prompt asks for: 1 to 10 words."""
    return 1 <= len(text.split()) <= PHRASE


def _words(text: str) -> list[str]:
    """The words, numbers and Chinese characters, in lower case and without articles."""
    return [word for word in wordings.WORD.findall(text.lower()) if word not in ARTICLES]


def _places(words: Sequence[str], sought: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where (start, stop) the sought words stand one after the other."""
    size = len(sought)
    for start in range(len(words) - size + 1 if size else 0):
        if words[start : start + size] == sought:
            yield start, start + size


def _is_denied(words: Sequence[str], start: int) -> bool:
    """Whether the words before a place deny what stands there."""
    return bool(wordings.DENYING.search(" ".join(words[max(0, start - 2) : start])))
