"""The drawn world's questions for judged benchmarks: records as in MM-Vet's and MMHal-Bench's files."""

import random
from dataclasses import replace
from typing import Any

from harness.mini import questions as ask
from harness.mini.language import DETAIL, NUMBERS, SHORT, absent, article, detail, phrase
from harness.mini.world import Scene, Thing

# What MM-Vet's questions ask, and the capabilities they need. World knowledge and arithmetic: nothing to ask here.
MMVET = (
    ("colour", ("rec",)),
    ("sign", ("ocr",)),
    ("position", ("rec", "spat")),
    ("detail", ("rec", "gen")),
    ("count", ("rec",)),
    ("beside", ("rec", "spat")),
    ("location", ("rec",)),
    ("action", ("rec",)),
    ("caption", ("rec", "gen")),
    ("size", ("rec",)),
)
MMHAL = tuple("attribute adversarial comparison counting relation environment holistic other".split())


def _everything(seen: Scene) -> list[str]:
    """What a detailed description has to say."""
    things = [phrase(thing, thing.size, thing.colour) for thing in seen.things]
    sign = [f"a sign reading {seen.sign}"] if seen.sign else []
    return [article(seen.location), f"a {seen.weather} day", *things, *sign]


def _beside(seen: Scene, rng: random.Random) -> ask.Question | None:
    """What is beside something, where that is one thing."""
    pairs = [ask.beside(seen, thing, side) for thing in seen.things for side in ("left", "right")]
    found = [question for question in pairs if question]
    return rng.choice(found) if found else None


def mmvet(seen: Scene, number: int, rng: random.Random) -> dict[str, Any]:
    """The record's question, answer and capability; what is asked follows from the number, if the scene allows."""
    kind, capability = MMVET[number % len(MMVET)]
    if kind in ("detail", "caption"):
        things = [phrase(thing, thing.colour) for thing in seen.things[: 1 if seen.sign else 2]]
        elements = _everything(seen) if kind == "detail" else [*things, article(seen.location)]
        if kind == "caption" and seen.sign:
            elements.append(f"a sign reading {seen.sign}")
        needed = ("rec", "ocr", "gen") if seen.sign else capability
        question = DETAIL if kind == "detail" else SHORT
        return {"question": question, "answer": "<AND>".join(elements), "capability": list(needed)}
    question_of = _beside(seen, rng) if kind == "beside" else None
    impossible = {"sign": not seen.sign, "action": not any(thing.action for thing in seen.things)}
    if impossible.get(kind) or (kind == "beside" and not question_of):
        kind, capability = MMVET[0]
    asked = question_of or ask.some_open(seen, rng, kind)
    answer = f"{asked.value}<OR>{NUMBERS.index(asked.value)}" if kind == "count" else asked.value
    return {"question": asked.text, "answer": answer, "capability": list(capability)}


def _unreal(seen: Scene, rng: random.Random) -> tuple[str, str]:
    """A question about the colour of something absent, and the answer that it is not there."""
    category = absent(seen, rng, "adversarial")
    thing: Thing = replace(seen.things[0], category=category, count=1)
    denial = ask.existence(seen, category).full.removeprefix("No, ")
    return ask.open_question(seen, thing, "colour").text, denial[0].upper() + denial[1:]


def mmhal(seen: Scene, number: int, rng: random.Random) -> dict[str, Any]:
    """The record's question, answer, type and contents; the type follows from the number (modulo 8)."""
    kind = MMHAL[number % 8]
    content = [*seen.categories(), *(["sign"] if seen.sign else [])]
    if kind == "adversarial":
        question, answer = _unreal(seen, rng)
    elif kind == "holistic":
        question, answer = DETAIL, detail(seen)
    else:
        acting = any(thing.action for thing in seen.things)
        kinds = {
            "attribute": "colour",
            "comparison": "size",
            "counting": "count",
            "relation": "position",
            "environment": rng.choice(("location", "weather")),
            "other": "sign" if seen.sign else "action" if acting else "colour",
        }
        beside = _beside(seen, rng) if kind == "relation" else None
        asked = beside or ask.some_open(seen, rng, kinds[kind])
        question, answer = asked.text, asked.full
    record = {"question_type": kind, "question_topic": seen.location, "image_content": content}
    return record | {"question": question, "gt_answer": answer}
