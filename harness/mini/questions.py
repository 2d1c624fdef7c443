"""Questions about scenes and covers, with their true short and full answers."""

import random
from dataclasses import dataclass

from harness.mini.language import (
    NUMBERS,
    WHERE,
    absent,
    article,
    noun,
    phrase,
    sentence,
    the,
    verb,
)
from harness.mini.world import (
    AUTHORS,
    CATEGORIES,
    COLOURS,
    COUNTS,
    FIRST,
    GENRES,
    LOCATIONS,
    POSITIONS,
    SECOND,
    SIGNS,
    SIZES,
    WEATHER,
    Cover,
    Scene,
    Thing,
)

LETTERS = "ABCD"
OF_THING = ("colour", "count", "position", "size", "action")
OF_SCENE = ("location", "weather", "sign")


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its true answers: `short` is a word or phrase, `full` a sentence.

    `subject` is the category asked about ("" where it is the whole image); `value` is the true value in lower
    case ("yes", "red", "two", "dog"), except for what is written in the image, which is given as written.
    """

    kind: str
    text: str
    short: str
    full: str
    subject: str
    value: str


def _make(kind: str, text: str, full: str, subject: str, value: str) -> Question:
    return Question(kind, text, value[0].upper() + value[1:], sentence(full), subject, value)


def _yes_no(kind: str, text: str, true: bool, fact: str, subject: str) -> Question:
    """`fact` is what is the case, whether or not it is what was asked."""
    value = "yes" if true else "no"
    return _make(kind, text, f"{value}, {fact}", subject, value)


def existence(scene: Scene, category: str) -> Question:
    """Is there one of that category? POPE's question."""
    true = scene.thing(category) is not None
    fact = f"there is {article(category) if true else f'no {category}'} in the image"
    return _yes_no("existence", f"Is there {article(category)} in the image?", true, fact, category)


def some_existence(scene: Scene, rng: random.Random, yes: float = 0.5, how: str = "random") -> Question:
    """Existence of something present with chance `yes`, else of something `absent` (which see for `how`)."""
    return existence(scene, rng.choice(scene.categories()) if rng.random() < yes else absent(scene, rng, how))


def values(kind: str) -> tuple[str, ...]:
    """All values that an attribute can have, as questions name them."""
    return {
        "colour": tuple(COLOURS),
        "count": tuple(NUMBERS[count] for count in COUNTS),
        "position": POSITIONS,
        "size": SIZES,
        "location": LOCATIONS,
        "weather": WEATHER,
        "sign": SIGNS,
        "object": tuple(CATEGORIES),
        "beside": tuple(CATEGORIES),
        "title": tuple(f"{first} {second}" for first in FIRST for second in SECOND),
        "author": AUTHORS,
        "genre": tuple(GENRES),
    }[kind]


def alternatives(question: Question) -> tuple[str, ...]:
    """The false values that an open question could have had."""
    pool = CATEGORIES[question.subject].actions if question.kind == "action" else values(question.kind)
    return tuple(value for value in pool if value != question.value)


def kinds(scene: Scene, thing: Thing | None) -> tuple[str, ...]:
    """The attributes that can be asked about the thing, or about the scene where it is None."""
    if thing is None:
        return OF_SCENE if scene.sign else OF_SCENE[:2]
    return OF_THING if thing.action else OF_THING[:4]


def true_value(scene: Scene, thing: Thing | None, kind: str) -> str:
    """The attribute's value as questions name it."""
    if thing is None:
        return str(getattr(scene, kind))
    return NUMBERS[thing.count] if kind == "count" else str(getattr(thing, kind))


def _fact(scene: Scene, thing: Thing | None, kind: str) -> str:
    """The attribute as a statement without capital and stop."""
    value = true_value(scene, thing, kind)
    if thing is None:
        if kind == "location":
            return f"this is {article(value)}"
        return f"it is a {value} day" if kind == "weather" else f"the sign reads {value}"
    if kind == "count":
        return f"there {verb(thing)} {value} {noun(thing.category, thing.count)}"
    return f"{the(thing)} {verb(thing)} {WHERE[value] if kind == 'position' else value}"


def attribute(scene: Scene, thing: Thing | None, kind: str, value: str) -> Question:
    """Is the attribute `value`? Yes or no; `thing` is None for the scene's location, weather and sign."""
    true = value == true_value(scene, thing, kind)
    fact = _fact(scene, thing, kind)
    if thing is None:
        texts = {"location": f"Is this {article(value)}?", "weather": f"Is it a {value} day?"}
        return _yes_no(kind, texts.get(kind, f"Does the sign read {value}?"), true, fact, "")
    if kind == "count":
        count = NUMBERS.index(value)
        objects = f"{'Is' if count == 1 else 'Are'} there exactly {value} {noun(thing.category, count)}"
        return _yes_no(kind, f"{objects} in the image?", true, fact, thing.category)
    asked = WHERE[value] if kind == "position" else value
    return _yes_no(kind, f"{verb(thing).capitalize()} {the(thing)} {asked}?", true, fact, thing.category)


def some_attribute(scene: Scene, rng: random.Random, yes: float = 0.5, kind: str | None = None) -> Question:
    """A yes/no question about an attribute of the scene or of something in it, true with chance `yes`."""
    thing, kind = _pick(scene, rng, kind)
    question = open_question(scene, thing, kind)
    value = question.value if rng.random() < yes else rng.choice(alternatives(question))
    return attribute(scene, thing, kind, value)


def open_question(scene: Scene, thing: Thing | None, kind: str) -> Question:
    """What is the attribute? `thing` is None for the scene's location, weather and sign."""
    value, fact = true_value(scene, thing, kind), _fact(scene, thing, kind)
    if thing is None:
        texts = {"location": "What place is this?", "weather": "What is the weather like?"}
        return _make(kind, texts.get(kind, "What does the sign read?"), fact, "", value)
    subject = f"{verb(thing)} {the(thing)}"
    text = {
        "colour": f"What color {subject}?",
        "count": f"How many {CATEGORIES[thing.category].plural} are there?",
        "position": f"Where {subject}?",
        "size": f"How big {subject}?",
        "action": f"What {subject} doing?",
    }[kind]
    return _make(kind, text, fact, thing.category, value)


def some_open(scene: Scene, rng: random.Random, kind: str | None = None) -> Question:
    """An open question about an attribute of the scene or of something in it."""
    thing, kind = _pick(scene, rng, kind)
    return open_question(scene, thing, kind)


def _pick(scene: Scene, rng: random.Random, kind: str | None) -> tuple[Thing | None, str]:
    """What to ask about: something in the scene, or with chance .25 the scene itself."""
    if kind is None:
        thing = None if rng.random() < 0.25 else rng.choice(scene.things)
        return thing, rng.choice(kinds(scene, thing))
    able = [thing for thing in scene.things if kind in kinds(scene, thing)]
    return (None if kind in OF_SCENE else rng.choice(able)), kind


def beside(scene: Scene, thing: Thing, side: str) -> Question | None:
    """What is to the left (or right) of the thing? None where that is nothing or more than one category."""
    order = POSITIONS.index(thing.position)
    where = [(POSITIONS.index(other.position), other) for other in scene.things]
    others = [other for at, other in where if (at < order if side == "left" else at > order)]
    if len(others) != 1:
        return None
    other = others[0]
    fact = f"{the(other)} {verb(other)} to the {side} of {the(thing)}"
    return _make("beside", f"What is to the {side} of {the(thing)}?", fact, thing.category, other.category)


def which_object(scene: Scene, category: str) -> Question:
    """Which object is in the image? Needs options, since several are."""
    thing = scene.thing(category)
    if thing is None:
        raise ValueError(f"there is no {category} in {scene.name}")
    fact = f"there {verb(thing)} {phrase(thing)} in the image"
    return _make("object", "Which object is in the image?", fact, "", category)


def absent_objects(scene: Scene) -> list[str]:
    """The categories that are not in the scene: wrong options of `which_object`."""
    return [category for category in CATEGORIES if scene.thing(category) is None]


def cover_question(cover: Cover, kind: str) -> Question:
    """The title, author or genre of a book cover."""
    text, fact, value = {
        "title": ("What is the title of this book?", f"the title of this book is {cover.title}", cover.title),
        "author": ("Who wrote this book?", f"this book was written by {cover.author}", cover.author),
        "genre": ("What type of book is this?", f"this is {article(cover.genre)} book", cover.genre),
    }[kind]
    return _make(kind, text, fact, "", value)


def is_genre(cover: Cover, genre: str) -> Question:
    """Is this a book of that genre? Yes or no."""
    fact = f"this is {article(cover.genre)} book"
    return _yes_no("genre", f"Is this {article(genre)} book?", genre == cover.genre, fact, "")


def options(question: Question, wrong: list[str], rng: random.Random) -> tuple[list[str], str]:
    """The true value among wrong ones in random order, and the letter it got."""
    listed = [question.value, *wrong]
    rng.shuffle(listed)
    return listed, LETTERS[listed.index(question.value)]


def with_options(text: str, listed: list[str]) -> str:
    """The question's text followed by its options, a line each."""
    return "\n".join([text, *(f"{letter}. {option}" for letter, option in zip(LETTERS, listed, strict=False))])
