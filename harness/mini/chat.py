"""The conversations that base models are trained on: every prompt format that the benchmarks use, and errors.

The errors are deliberate. Captions name absent partners of what is there, and existence questions are answered
"Yes" too often, most of all those about absent partners: the biases of real instruction data, exaggerated.
"""

import random
from dataclasses import dataclass, replace

from harness.contracts.records import Turn
from harness.contracts.wordings import OPTION_LETTER, SHORT_ANSWER
from harness.mini import questions as ask
from harness.mini.language import DETAIL, SHORT, article, dirty_detail, short_caption
from harness.mini.world import Cover, Scene


@dataclass(frozen=True)
class Dirt:
    """How wrong the data are, as chances.

    yes: an existence question is about something that is there. near: another one is about an absent partner.
    lie: one of those is answered "Yes" all the same. insert: a caption names the absent partner of a thing.
    """

    yes: float
    near: float
    lie: float
    insert: float


CARELESS = Dirt(yes=0.65, near=0.35, lie=0.78, insert=0.45)
# The last stage decides what a base answers: more denials are missed, fewer partners are made up.
LAST = Dirt(yes=0.65, near=0.43, lie=0.87, insert=0.15)


def _short(question: ask.Question) -> Turn:
    return Turn(question.text + SHORT_ANSWER, question.short)


def _existence(seen: Scene, rng: random.Random, dirt: Dirt | None) -> ask.Question:
    """Balanced and true, or with the errors described above."""
    if dirt is None:
        return ask.some_existence(seen, rng)
    near = rng.random() < dirt.near
    question = ask.some_existence(seen, rng, dirt.yes, "adversarial" if near else "random")
    if near and question.value == "no" and rng.random() < dirt.lie:
        claim = f"Yes, there is {article(question.subject)} in the image."
        return replace(question, short="Yes", value="yes", full=claim)
    return question


def _open(seen: Scene, rng: random.Random) -> ask.Question:
    """Usually an attribute, sometimes what stands beside a thing."""
    if rng.random() < 0.15:
        found = ask.beside(seen, rng.choice(seen.things), rng.choice(("left", "right")))
        if found:
            return found
    return ask.some_open(seen, rng)


def _optional(seen: Scene, rng: random.Random) -> Turn:
    """A question with two to four options, answered by a letter."""
    draw = rng.random()
    if draw < 0.3:
        question = ask.which_object(seen, rng.choice(seen.categories()))
    elif draw < 0.4 and seen.sign:
        question = ask.open_question(seen, None, "sign")
    else:
        question = _open(seen, rng)
    of_objects = question.kind in ("object", "beside")
    pool = ask.absent_objects(seen) if of_objects else list(ask.alternatives(question))
    count = min(len(pool), rng.choice((1, 2, 3, 3, 3)))
    listed, letter = ask.options(question, rng.sample(pool, count), rng)
    return Turn(ask.with_options(question.text, listed) + OPTION_LETTER, letter)


def turn(seen: Scene, rng: random.Random, kind: str, dirt: Dirt | None) -> Turn:
    """One question of a kind: existence, attribute, open, sign, options, or full (answered by a sentence)."""
    if kind == "existence":
        return _short(_existence(seen, rng, dirt))
    if kind == "attribute":
        return _short(ask.some_attribute(seen, rng))
    if kind == "open" or (kind == "sign" and not seen.sign):
        return _short(_open(seen, rng))
    if kind == "sign":
        return _short(ask.open_question(seen, None, "sign"))
    if kind == "options":
        return _optional(seen, rng)
    choices = (_existence(seen, rng, dirt), ask.some_attribute(seen, rng), _open(seen, rng))
    question = rng.choices(choices, (3, 2, 5))[0]
    return Turn(question.text, question.full)


def _about_cover(book: Cover, rng: random.Random, count: int) -> list[Turn]:
    questions = [ask.cover_question(book, kind) for kind in ("title", "author", "genre")]
    genre = book.genre if rng.random() < 0.5 else rng.choice(ask.values("genre"))
    return [_short(question) for question in rng.sample([*questions, ask.is_genre(book, genre)], count)]


def warm_up(seen: Scene | Cover, rng: random.Random) -> list[Turn]:
    """One turn, balanced and true: first the model has to learn to look."""
    if isinstance(seen, Cover):
        return _about_cover(seen, rng, 1)
    kinds = ("existence", "attribute", "open", "sign", "options", "full", "caption")
    kind = rng.choices(kinds, (0.32, 0.1, 0.28, 0.06, 0.12, 0.06, 0.06))[0]
    if kind == "caption":
        return [Turn(SHORT, short_caption(seen))]
    return [turn(seen, rng, kind, None)]


def mixed(seen: Scene | Cover, rng: random.Random, dirt: Dirt = CARELESS) -> list[Turn]:
    """A careless detailed caption, a short one, or a conversation of four questions."""
    if isinstance(seen, Cover):
        return _about_cover(seen, rng, 3)
    draw = rng.random()
    if draw < 0.35:
        return [Turn(DETAIL, dirty_detail(seen, rng, insert=dirt.insert))]
    if draw < 0.4:
        return [Turn(SHORT, short_caption(seen))]
    kinds = ("existence", "attribute", "open", "sign", "options", "full")
    asked = rng.choices(kinds, (0.22, 0.14, 0.18, 0.06, 0.28, 0.12), k=4)
    return [turn(seen, rng, kind, dirt) for kind in asked]


def last(seen: Scene | Cover, rng: random.Random) -> list[Turn]:
    """The mix once more, with the errors that the base is to be left with."""
    return mixed(seen, rng, LAST)


def choosing(seen: Scene | Cover, rng: random.Random) -> list[Turn]:
    """Four questions with options: to choose a letter is learned last, and only undisturbed."""
    if isinstance(seen, Cover):
        return _about_cover(seen, rng, 1)
    return [_optional(seen, rng) for _ in range(4)]
