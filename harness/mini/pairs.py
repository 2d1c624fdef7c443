"""Two responses to one question, of different truthfulness: what a base learns to criticize with.

The responses are made up, with the errors that the bases' own have. The better one makes fewer false statements by the
scene graph; where they make equally many, it is the one that leaves out less.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from harness.contracts.wordings import SHORT_ANSWER
from harness.mini import questions as ask
from harness.mini.language import DETAIL, NUMBERS, SHORT, SINGULAR, detail, imagine, mentions, short_caption
from harness.mini.oracles import Fact, errors
from harness.mini.world import CATEGORIES, COUNTS, POSITIONS, SIGNS, SIZES, Cover, Scene, in_order

NUMBERED = re.compile(rf"\b(?:an|a|two|three) (?=(?:\w+ )?(?:{'|'.join([*CATEGORIES, *SINGULAR])})\b)")


@dataclass(frozen=True, slots=True)
class Judged:
    """A question about an image, its true answer, two responses, and which of them (1 or 2) is the better one."""

    question: str
    reference: str
    first: str
    second: str
    better: int


def _is_short(reference: str) -> bool:
    return not reference.endswith(".")


def _by_sentence(seen: Scene, text: str) -> Iterator[tuple[str, list[Fact]]]:
    """The sentences of a text, each with what it says that is not so."""
    for said in re.split(r"(?<=\.)\s+", text):
        yield said, [error.fact for error in errors(seen, "", said)]


def false_statements(drawn: Scene | Cover, reference: str, response: str) -> list[Fact]:
    """What is not so in a response, each thing once; of a short answer, that it differs from the reference."""
    if isinstance(drawn, Cover) or _is_short(reference):
        same = response.rstrip(".").lower() == reference.lower()
        return [] if same else [Fact("", "answer", response)]
    return list(dict.fromkeys(fact for _, false in _by_sentence(drawn, response) for fact in false))


def better(drawn: Scene | Cover, reference: str, first: str, second: str) -> int | None:
    """1 or 2, whichever response is the better one; None where neither is."""
    false = [len(false_statements(drawn, reference, response)) for response in (first, second)]
    if false[0] != false[1]:
        return 1 if false[0] < false[1] else 2
    wanted = {*mentions(reference)}
    left_out = [len(wanted - {*mentions(response)}) for response in (first, second)]
    if left_out[0] == left_out[1]:
        return None
    return 1 if left_out[0] < left_out[1] else 2


def marks(drawn: Scene | Cover, reference: str, response: str) -> list[tuple[str, bool]]:
    """The words in which a response stands or falls (nouns, signs, short answers), each with whether it is so."""
    if isinstance(drawn, Cover) or _is_short(reference):
        truth = reference.lower().split()
        return [(word, word.lower() in truth) for word in re.findall(r"[A-Za-z]+", response)]
    found: list[tuple[str, bool]] = []
    for said, false in _by_sentence(drawn, response):
        things, misread = {fact.category for fact in false}, any(fact.attribute == "sign" for fact in false)
        for word in re.findall(r"[A-Za-z]+", said):
            category = SINGULAR.get(word.lower(), word.lower())
            if category in CATEGORIES:
                found.append((word, category not in things))
            elif word in SIGNS:
                found.append((word, not misread))
    return found


def _careless(seen: Scene, rng: random.Random, much: float) -> Scene:
    """The scene as a base describes it: things left out, made up, miscounted or named twice, signs misread."""
    imagined = imagine(seen, rng, 0.3 * much, 0.03 * much, 0.45 * much)
    things = list(imagined.things)
    for number, thing in enumerate(things):
        if rng.random() < 0.25 * much:
            things[number] = thing = replace(thing, count=rng.choice([c for c in COUNTS if c != thing.count]))
        if rng.random() < 0.03 * much:
            things[number] = thing = replace(thing, position=rng.choice(POSITIONS))
        if rng.random() < 0.02 * much:
            things[number] = replace(thing, size=rng.choice(SIZES))
    if rng.random() < 0.25 * much:
        twice = rng.choice(things)
        position = rng.choice((twice.position, twice.position, *POSITIONS))
        things.append(replace(twice, count=rng.choice(COUNTS), position=position))
    sign = rng.choice(SIGNS) if seen.sign and rng.random() < 0.25 * much else seen.sign
    return replace(imagined, things=in_order(things), sign=sign)


def _slip(text: str, rng: random.Random) -> str:
    """Now and then a number that its noun does not agree with ("a cups")."""
    return NUMBERED.sub(lambda said: f"{rng.choice(NUMBERS[1:4])} " if rng.random() < 0.04 else said[0], text)


def _captions(seen: Scene, rng: random.Random, say: Callable[[Scene], str]) -> tuple[str, str]:
    """Two descriptions by two witnesses, or one and the same with some more errors."""
    first = _careless(seen, rng, rng.choice((0, 0.5, 1)))
    independent = rng.random() < 0.5
    second = _careless(seen if independent else first, rng, rng.choice((0.5, 1, 1.5) if independent else (0.3, 0.6)))
    return _slip(say(first), rng), _slip(say(second), rng)


def _answers(drawn: Scene | Cover, rng: random.Random) -> Judged:
    """The true and a false short answer."""
    if isinstance(drawn, Cover):
        question = ask.cover_question(drawn, rng.choice(("title", "author", "genre")))
    else:
        question = ask.some_open(drawn, rng)
    false = rng.choice(ask.alternatives(question))
    said = [question.short, false[0].upper() + false[1:]]
    turn = rng.randrange(2)
    return Judged(question.text + SHORT_ANSWER, question.short, said[turn], said[1 - turn], 1 + turn)


def judged(drawn: Scene | Cover, rng: random.Random, details: float = 0.7, answers: float = 0.08) -> Judged:
    """A pair of different responses; `details` and `answers` are the shares of long captions and of short answers."""
    if isinstance(drawn, Cover) or rng.random() < answers:
        return _answers(drawn, rng)
    question, say = (DETAIL, detail) if rng.random() < details else (SHORT, short_caption)
    reference = say(drawn)
    while True:
        said = list(_captions(drawn, rng, say))
        rng.shuffle(said)
        verdict = better(drawn, reference, *said)
        errors = [sum(not holds for _, holds in marks(drawn, reference, response)) for response in said]
        # Near-ties, where the count of statements and that of words disagree, teach nothing clear.
        if verdict and (errors[0] == errors[1] or (errors[0] < errors[1]) == (verdict == 1)):
            return Judged(question, reference, said[0], said[1], verdict)


def simple(drawn: Scene | Cover, rng: random.Random) -> Judged:
    """A pair about at most two things, to begin with."""
    if isinstance(drawn, Scene):
        drawn = replace(drawn, things=drawn.things[:2])
    return judged(drawn, rng, details=0.4)
