"""The drawn world's questions for judged benchmarks: records as in MM-Vet's, MMHal-Bench's and LLaVA-Bench's files."""

import random
from dataclasses import replace
from typing import Any

from harness.mini import questions as ask
from harness.mini.language import DETAIL, NUMBERS, SHORT, absent, article, detail, phrase
from harness.mini.world import Scene, Thing

# What MM-Vet's questions ask, and the capabilities they need. World knowledge and arithmetic: nothing to ask here.
MMVET = {
    "colour": ("rec",),
    "sign": ("ocr",),
    "position": ("rec", "spat"),
    "detail": ("rec", "gen"),
    "count": ("rec",),
    "beside": ("rec", "spat"),
    "location": ("rec",),
    "action": ("rec",),
    "caption": ("rec", "gen"),
    "size": ("rec",),
}
CONVERSATION = ("colour", "count", "location", "action", "weather", "size")  # kinds of LLaVA-Bench's short questions
MMHAL = tuple("attribute adversarial comparison counting relation environment holistic other".split())


def _everything(seen: Scene) -> list[str]:
    """What a detailed description has to say."""
    things = [phrase(thing, thing.size, thing.colour) for thing in seen.things]
    sign = [f"a sign reading {seen.sign}"] if seen.sign else []
    return [article(seen.location), f"a {seen.weather} day", *things, *sign]


def asked(seen: Scene, rng: random.Random, kind: str) -> ask.Question:
    """A question of that kind, or where the scene has nothing to ask so, one about a colour."""
    if kind == "object":
        return ask.which_object(seen, rng.choice(seen.categories()))
    if kind == "beside":
        pairs = [ask.beside(seen, thing, side) for thing in seen.things for side in ("left", "right")]
        found = [question for question in pairs if question]
        return rng.choice(found) if found else ask.some_open(seen, rng, "colour")
    acting = any(thing.action for thing in seen.things)
    impossible = (kind == "sign" and not seen.sign) or (kind == "action" and not acting)
    return ask.some_open(seen, rng, "colour" if impossible else kind)


def mmvet(seen: Scene, number: int, rng: random.Random) -> dict[str, Any]:
    """The record's question, answer and capability; what is asked follows from the number, if the scene allows."""
    kind = tuple(MMVET)[number % len(MMVET)]
    if kind in ("detail", "caption"):
        things = [phrase(thing, thing.colour) for thing in seen.things[: 1 if seen.sign else 2]]
        sign = [f"a sign reading {seen.sign}"] if seen.sign else []
        elements = _everything(seen) if kind == "detail" else [*things, article(seen.location), *sign]
        needed = ("rec", "ocr", "gen") if seen.sign else MMVET[kind]
        question = DETAIL if kind == "detail" else SHORT
        return {"question": question, "answer": "<AND>".join(elements), "capability": list(needed)}
    made = asked(seen, rng, kind)
    answer = f"{made.value}<OR>{NUMBERS.index(made.value)}" if kind == "count" else made.value
    return {"question": made.text, "answer": answer, "capability": list(MMVET[made.kind])}


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
        kinds = {
            "attribute": "colour",
            "comparison": "size",
            "counting": "count",
            "relation": "beside",
            "environment": rng.choice(("location", "weather")),
            "other": "sign" if seen.sign else "action",
        }
        made = asked(seen, rng, kinds[kind])
        question, answer = made.text, made.full
    record = {"question_type": kind, "question_topic": seen.location, "image_content": content}
    return record | {"question": question, "gt_answer": answer}


def llava_bench(seen: Scene, number: int, rng: random.Random) -> dict[str, Any]:
    """The question, its category, the answer that stands for GPT-4's, and captions of all that is there.

    Categories take turns, as many of each: the world has no world knowledge, so that "complex" asks for a relation.
    """
    category = ("conv", "detail", "complex")[number % 3]
    captions = [detail(seen), f"Things: {', '.join(_everything(seen))}."]
    if category == "detail":
        return {"text": DETAIL, "answer": detail(seen), "category": category, "caption": captions}
    made = asked(seen, rng, "beside" if category == "complex" else rng.choice(CONVERSATION))
    return {"text": made.text, "answer": made.full, "category": category, "caption": captions}
