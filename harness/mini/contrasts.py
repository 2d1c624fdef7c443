"""Pairs of sentences about a scene of which one is true and the other has one thing wrong."""

import random
from dataclasses import replace
from typing import Any

from harness.mini import questions as ask
from harness.mini.language import WHERE, absent, article, clause, phrase, sentence, the, verb
from harness.mini.world import CATEGORIES, COUNTS, POSITIONS, Scene, Thing

KINDS = ("object", "colour", "size", "count", "position", "action", "relation", "location", "weather", "sign")


def _plain(thing: Thing) -> str:
    return phrase(thing, thing.colour)


def _full(thing: Thing) -> str:
    doing = f" {thing.action}" if thing.action else ""
    return f"there {verb(thing)} {phrase(thing, thing.size, thing.colour)}{doing} {WHERE[thing.position]}"


def _bare(thing: Thing) -> str:
    return f"there {verb(thing)} {phrase(thing)} in the image"


FORMS = {  # how a thing is spoken of, by what may be wrong with it
    "object": (clause, _full, _plain, _bare),
    "colour": (clause, _full, _plain),
    "size": (clause, _full),
    "count": (clause, _full, _plain, _bare),
    "position": (clause, _full),
    "action": (clause, _full),
}


def _altered(seen: Scene, thing: Thing, kind: str, rng: random.Random) -> Thing:
    if kind == "object":
        category = absent(seen, rng, rng.choice(("random", "adversarial")))
        actions = CATEGORIES[category].actions
        return replace(thing, category=category, action=rng.choice(actions) if actions else None)
    if kind == "count":
        return replace(thing, count=rng.choice([count for count in COUNTS if count != thing.count]))
    changed: dict[str, Any] = {kind: rng.choice(ask.alternatives(ask.open_question(seen, thing, kind)))}
    return replace(thing, **changed)


def _of_scene(seen: Scene, kind: str, rng: random.Random) -> tuple[str, str]:
    changed: dict[str, Any] = {kind: rng.choice(ask.alternatives(ask.open_question(seen, None, kind)))}
    other = replace(seen, **changed)
    if kind == "sign":
        return f"a sign reads {seen.sign}", f"a sign reads {other.sign}"
    true, false = (f"the image shows {article(one.location)} on a {one.weather} day" for one in (seen, other))
    return true, false


def _relation(seen: Scene, rng: random.Random) -> tuple[str, str] | None:
    ordered = sorted(rng.sample(seen.things, 2), key=lambda thing: POSITIONS.index(thing.position))
    left, right = ordered
    if left.position == right.position:
        return None
    true, false = (f"{the(a)} {verb(a)} to the left of {the(b)}" for a, b in ((left, right), (right, left)))
    return true, false


def contrast(seen: Scene, kind: str, rng: random.Random) -> tuple[str, str] | None:
    """A true sentence and the same with a false object, colour, ... ; None where the scene has nothing of the kind."""
    if kind in ("location", "weather", "sign"):
        pair = None if kind == "sign" and not seen.sign else _of_scene(seen, kind, rng)
    elif kind == "relation":
        pair = _relation(seen, rng)
    else:
        things = [thing for thing in seen.things if kind != "action" or thing.action]
        thing = rng.choice(things) if things else None
        form = rng.choice(FORMS[kind])
        pair = (form(thing), form(_altered(seen, thing, kind, rng))) if thing else None
    return (sentence(pair[0]), sentence(pair[1])) if pair else None


def some_contrast(seen: Scene, rng: random.Random) -> tuple[str, str]:
    """A contrast of a random kind, object and colour oftener than others."""
    while True:
        found = contrast(seen, rng.choices(KINDS, (5, 2, 1, 2, 2, 1, 1, 1, 1, 2))[0], rng)
        if found:
            return found
