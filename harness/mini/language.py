"""What is said about the drawn world: captions from scenes, and claims and mentions from text."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cache

from harness.mini.world import (
    CATEGORIES,
    COLOURS,
    COUNTS,
    LOCATIONS,
    POSITIONS,
    SIGNS,
    SIZES,
    WEATHER,
    Scene,
    Thing,
    home,
    in_order,
    scene,
)

DETAIL = "Please describe this image in detail."
SHORT = "Provide a one-sentence caption for the provided image."
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen".split()
ACTIONS = tuple(action for category in CATEGORIES.values() for action in category.actions)
WHERE = {"left": "on the left", "center": "in the center", "right": "on the right"}
AT = {"kitchen": "in", "office": "in", "beach": "on", "park": "in", "street": "on"}
LIGHT = {"sunny": "bright", "rainy": "weak", "cloudy": "dim"}
SINGULAR = {category.plural: name for name, category in CATEGORIES.items()}


def article(word: str) -> str:
    """The word with "a" or "an" before it."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def noun(category: str, count: int) -> str:
    """The category's singular or plural."""
    return category if count == 1 else CATEGORIES[category].plural


def phrase(thing: Thing, *words: str) -> str:
    """A noun phrase such as "a red dog" or "two small cups": a number, the given words, and the noun."""
    text = " ".join((*words, noun(thing.category, thing.count)))
    return article(text) if thing.count == 1 else f"{NUMBERS[thing.count]} {text}"


def verb(thing: Thing) -> str:
    """ "is" or "are", whichever the thing needs."""
    return "is" if thing.count == 1 else "are"


def the(thing: Thing) -> str:
    """The thing as a definite noun phrase: "the dog", "the cups"."""
    return f"the {noun(thing.category, thing.count)}"


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def clause(thing: Thing) -> str:
    """All about a thing, without capital and stop. The noun comes first: small models lose track otherwise."""
    doing = f" {thing.action}" if thing.action else ""
    where = WHERE[thing.position]
    return f"there {verb(thing)} {phrase(thing)}{doing} {where}, {thing.size} and {thing.colour}"


def _arrangement(things: tuple[Thing, ...]) -> str:
    ordered = sorted(things, key=lambda thing: POSITIONS.index(thing.position))
    first, last = ordered[0], ordered[-1]
    if first.position == last.position:
        return f"everything is {WHERE[first.position]}"
    return f"{the(first)} {verb(first)} to the left of {the(last)}"


def detail(scene: Scene) -> str:
    """The true detailed caption, the answer to `DETAIL`."""
    parts = [f"the image shows {article(scene.location)} on a {scene.weather} day"]
    parts += [clause(thing) for thing in scene.things]
    parts.append(_arrangement(scene.things))
    if scene.sign:
        parts.append(f"a sign reads {scene.sign}")
    total = sum(thing.count for thing in scene.things)
    objects = "is one object" if total == 1 else f"are {NUMBERS[min(total, 15)]} objects"
    parts.append(f"there {objects}, and the light is {LIGHT[scene.weather]}")
    return " ".join(sentence(part) for part in parts)


def short_caption(scene: Scene) -> str:
    """The true one-sentence caption, the answer to `SHORT`; names the sign where there is one."""
    things = " and ".join(phrase(thing, thing.colour) for thing in scene.things[: 1 if scene.sign else 2])
    sign = f" with a sign reading {scene.sign}" if scene.sign else ""
    return sentence(f"{things} {AT[scene.location]} {article(scene.location)}{sign}")


def imagine(scene: Scene, rng: random.Random, omit: float, wrong: float, insert: float) -> Scene:
    """The scene as a careless witness has it: things left out, wrong colours, absent partners put in.

    `omit` and `wrong` are chances per thing, `insert` per thing whose partner is absent. What is put in has no
    cells.
    """
    kept = [thing for thing in scene.things if rng.random() >= omit] or [scene.things[0]]
    kept = [replace(t, colour=rng.choice(tuple(COLOURS))) if rng.random() < wrong else t for t in kept]
    named = list(scene.categories())
    for thing in tuple(kept):
        partner = CATEGORIES[thing.category].partner
        if partner in named or rng.random() >= insert:
            continue
        named.append(partner)
        actions = CATEGORIES[partner].actions
        colour, size, position = rng.choice(tuple(COLOURS)), rng.choice(SIZES), rng.choice(POSITIONS)
        action = rng.choice(actions) if actions else None
        kept.append(Thing(partner, colour, size, rng.choices(COUNTS, (8, 2, 0))[0], position, action, ()))
    return replace(scene, things=in_order(kept))


def dirty_detail(scene: Scene, rng: random.Random, omit: float = 0.12, wrong: float = 0.05, insert: float = 0.5) -> str:
    """A detailed caption with the errors that base models are trained on; see `imagine`."""
    return detail(imagine(scene, rng, omit, wrong, insert))


@cache
def popularity() -> tuple[str, ...]:
    """All categories, the most frequent in the world first."""
    seen = dict.fromkeys(CATEGORIES, 0)
    for number in range(2000):
        for category in scene(f"popularity/0/{number}").categories():
            seen[category] += 1
    return tuple(sorted(seen, key=lambda category: (-seen[category], category)))


def absent(scene: Scene, rng: random.Random, how: str) -> str:
    """A category that is not in the scene, chosen as POPE does.

    "random": any; "popular": one of the four most frequent; "adversarial": a partner of something present, or
    else something at home there.
    """
    present = scene.categories()
    missing = [category for category in CATEGORIES if category not in present]
    if how == "popular":
        return rng.choice([category for category in popularity() if category in missing][:4])
    if how == "adversarial":
        partners = [CATEGORIES[category].partner for category in present]
        close = [category for category in missing if category in partners]
        return rng.choice(close or [c for c in missing if home(c, scene.location)] or missing)
    return rng.choice(missing)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a text says about one category; None where it says nothing."""

    category: str
    colour: str | None = None
    size: str | None = None
    count: int | None = None
    position: str | None = None
    action: str | None = None


@dataclass(frozen=True, slots=True)
class Claims:
    """What a text says: things in order of first mention, categories it denies, and the scene's own facts."""

    things: tuple[Claim, ...] = ()
    denied: tuple[str, ...] = ()
    location: str | None = None
    weather: str | None = None
    sign: str | None = None

    def thing(self, category: str) -> Claim | None:
        """The claim about that category, or None."""
        return next((claim for claim in self.things if claim.category == category), None)


def mentions(text: str) -> list[str]:
    """Categories named in the text, singular or plural, in order and with repetition."""
    words = re.findall(r"[a-z]+", text.lower())
    return [SINGULAR.get(word, word) for word in words if word in CATEGORIES or word in SINGULAR]


def _attribute(word: str) -> dict[str, str | int]:
    """What an adjective, number, position or participle says, by the name of the Claim's field."""
    tables = {"colour": COLOURS, "size": SIZES, "position": POSITIONS, "action": ACTIONS}
    for name, table in tables.items():
        if word in table:
            return {name: word}
    if word in ("a", "an"):
        return {"count": 1}
    return {"count": NUMBERS.index(word)} if word in NUMBERS[1:] else {}


def _merge(old: Claim, new: Claim) -> Claim:
    """The first thing said about each attribute stands."""
    said = {field.name: getattr(old, field.name) for field in fields(old)}
    return Claim(**{name: getattr(new, name) if value is None else value for name, value in said.items()})


def _sentence_claims(text: str) -> Iterator[tuple[Claim, bool]]:
    """Claims of one sentence, each with whether it is denied; words before a noun and after it are its own."""
    ahead: dict[str, str | int] = {}
    claim, denied, deny_next, joined = None, False, False, False
    for word in re.findall(r"[a-z]+", re.sub(r"to the (left|right) of", "beside", text)):
        category = SINGULAR.get(word, word)
        if category in CATEGORIES:
            if claim:
                yield claim, denied
            claim, denied = Claim(category, **ahead), deny_next  # type: ignore[arg-type]
            ahead, deny_next, joined = {}, False, False
        elif word in ("no", "not", "without"):
            deny_next = True
        elif word in ("and", "but", "with"):
            joined, ahead = True, {}
        elif word in (*NUMBERS, "a", "an", "the") or joined or not claim:
            ahead = {**({} if word == "the" else ahead), **_attribute(word)}
        else:
            claim = replace(claim, **_attribute(word))  # type: ignore[arg-type]
            ahead = {**ahead, **_attribute(word)}
    if claim:
        tail = {name: value for name, value in ahead.items() if joined and name != "count"}
        yield _merge(claim, Claim(claim.category, **tail)), denied  # type: ignore[arg-type]


def claims(text: str) -> Claims:
    """What a response claims, caption or answer; tolerant of anything else in it."""
    things: dict[str, Claim] = {}
    denied: list[str] = []
    for part in re.split(r"[.!?;:\n]+", re.sub(r"^\s*(yes|no)\b,?", "", text.lower())):
        for claim, negative in _sentence_claims(part):
            if negative:
                denied.append(claim.category)
            else:
                things[claim.category] = _merge(things.get(claim.category, claim), claim)
    words = re.findall(r"[A-Za-z]+", text)
    read = re.search(r"\bread(?:s|ing)?:? \W?([A-Za-z]+)", text)
    shown = [word for word in words if word in SIGNS]
    lower = [word.lower() for word in words]
    return Claims(
        tuple(things.values()),
        tuple(denied),
        next((word for word in lower if word in LOCATIONS), None),
        next((word for word in lower if word in WEATHER), None),
        read[1].upper() if read else shown[0] if shown else None,
    )
