"""Objects that are not COCO's, found in a text by a list of all their forms (synonyms.txt)."""

import re
from functools import cache

SEATS = (("seat",), ("seats",))
WORD = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*|[^\sa-z0-9]")
Forms = dict[tuple[str, ...], str]


@cache
def accepted(synonyms: str) -> Forms:
    """Accepted form -> object. A line lists an object's name and then its other forms, between commas."""
    forms: Forms = {}
    for line in synonyms.splitlines():
        names = [name.strip().lower() for name in line.split(",") if name.strip()]
        for name in names:
            forms.setdefault(tuple(name.split()), names[0])
    return forms


def found(text: str, forms: Forms) -> list[tuple[str, int, int]]:
    """The objects a caption mentions by a list of forms and where, from left to right; the longest form wins.

    Places are those of the caption in lower case.
    """
    words = [(match[0], match.start(), match.end()) for match in WORD.finditer(text.lower())]
    longest = max(map(len, forms))
    matched: list[tuple[tuple[str, ...], int, int]] = []
    at = 0
    while at < len(words):
        spans = (words[at : at + size] for size in range(min(longest, len(words) - at), 0, -1))
        span = next((span for span in spans if tuple(word for word, *_ in span) in forms), None)
        if span:
            matched.append((tuple(word for word, *_ in span), span[0][1], span[-1][2]))
        at += len(span) if span else 1
    if any(forms[form] == "toilet" for form, *_ in matched):  # the official exception: such a seat is no chair
        matched = [match for match in matched if match[0] not in SEATS]
    return [(forms[form], start, stop) for form, start, stop in matched]
