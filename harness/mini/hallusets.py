"""The drawn world's sets about hallucination: AMBER, HallusionBench and Object HalBench in their official records."""

import base64
import random
from collections.abc import Callable, Iterator
from typing import Any

from harness.mini import questions as ask
from harness.mini.language import DETAIL, absent
from harness.mini.pictures import Pictures, random_of
from harness.mini.world import CATEGORIES, Scene

LURES = 3  # categories that are not there and would go with what is
Asked = tuple[ask.Question, ...]


def lures(seen: Scene, rng: random.Random) -> list[str]:
    """Absent categories that go with what is there."""
    found: dict[str, None] = {}
    for _ in range(20):
        if len(found) < LURES:
            found[absent(seen, rng, "adversarial")] = None
    return [*found]


def _pair(seen: Scene, rng: random.Random, kind: str) -> Asked:
    """Is an attribute of something what it is, and is it something else?"""
    able = [thing for thing in seen.things if kind in ask.kinds(seen, thing)]
    if not able:
        return ()
    thing = rng.choice(able)
    truth = ask.open_question(seen, thing, kind)
    return tuple(ask.attribute(seen, thing, kind, v) for v in (truth.value, rng.choice(ask.alternatives(truth))))


def amber(pictures: Pictures, n: int) -> None:
    """A caption of each picture, then the questions kind by kind; existence is asked of what is not there alone."""
    kinds = {
        "discriminative-hallucination": "existence",
        "discriminative-attribute-state": "colour",
        "discriminative-attribute-number": "count",
        "discriminative-attribute-action": "action",
        "relation": "position",  # to the picture: of two things the bases were never asked
    }
    shown = [(pictures.draw(seen, f"image/AMBER_{number}.png"), seen) for number, seen in _numbered(pictures, n)]
    notes, queries = list[dict[str, Any]](), list[dict[str, Any]]()

    def add(image: str, query: str, **note: Any) -> None:
        notes.append({"id": len(notes) + 1, **note})
        queries.append({"id": len(notes), "image": image, "query": query})

    for image, seen in shown:
        hallu = lures(seen, random_of("amber", seen))
        add(image, DETAIL, type="generative", truth=[*seen.categories()], hallu=hallu)
    for type_, kind in kinds.items():
        for image, seen in shown:
            rng = random_of("amber" if kind == "existence" else f"amber/{kind}", seen)
            asked = [ask.existence(seen, name) for name in lures(seen, rng)] if kind == "existence" else ()
            for question in asked or _pair(seen, rng, kind):
                add(image, question.text, type=type_, truth=question.value)
    pictures.json("annotations.json", notes)
    pictures.json("query/query_all.json", queries)
    pictures.json("relation.json", {name: [] for name in CATEGORIES})
    pictures.json("similar.json", {name: [name] for name in CATEGORIES})  # no two words of this world mean the same
    pictures.write("safe_words.txt", "")


def _numbered(pictures: Pictures, n: int) -> Iterator[tuple[int, Scene]]:
    """The first `n` scenes from 1 on."""
    return ((number, seen) for number, (_, seen) in enumerate(pictures.scenes(n), 1))


Question = Callable[[Scene], ask.Question]


def hallusion(pictures: Pictures, n: int) -> None:
    """Sets by turns: the same questions about two pictures, or without a picture and about one.

    Nothing here is edited: the twin of a picture is another one. Without a picture the true answer is no, and that
    nobody knows is right as well.
    """
    rows = list[dict[str, Any]]()
    drawn = iter([*pictures.scenes(max(3, n))])
    for number, (name, seen) in enumerate(drawn):
        category, subcategory = (("VD", "figure"), ("VS", "map"))[number % 2]
        twin = next(drawn, None) if category == "VD" else None
        if category == "VD" and twin is None:
            break
        figures: list[tuple[str, Scene] | None] = [(name, seen), twin] if twin else [None, (name, seen)]
        for place, figure in enumerate(figures):
            file = f"{category}/{subcategory}/{number}_{place}.png"
            if figure:
                pictures.draw(figure[1], file)
            rng = random_of("hallusion", seen)
            for question_id, question in enumerate(_asked(seen, rng)):
                text, truth = question(seen).text, question(figure[1]) if figure else None
                rows.append(
                    {
                        "category": category,
                        "subcategory": subcategory,
                        "visual_input": "0" if not figure else str(1 + (place and category == "VD")),
                        "set_id": str(number),
                        "figure_id": str(place),
                        "sample_note": seen.location,
                        "question_id": str(question_id),
                        "question": text,
                        "gt_answer_details": truth.full if truth else "No, there is no picture.",
                        "gt_answer": str(int(truth is not None and truth.value == "yes")),
                        "filename": f"./{file}" if figure else None,
                    }
                )
    pictures.json("HallusionBench.json", rows)


def _asked(seen: Scene, rng: random.Random) -> list[Question]:
    """Two questions that can be put about any picture: whether there is something that is there, and the place."""
    category = rng.choice(seen.categories())
    return [
        lambda shown: ask.existence(shown, category),
        lambda shown: ask.attribute(shown, None, "location", seen.location),
    ]


def objhal(pictures: Pictures, n: int) -> None:
    """A description of each picture, which lies in the record."""
    rows, there = list[dict[str, Any]](), dict[str, list[str]]()
    for number, seen in _numbered(pictures, n):
        image = base64.b64encode(pictures.data(seen, f"{number}.png")).decode()
        rows.append({"image_id": number, "question": DETAIL, "image": image})
        there[str(number)] = sorted(seen.categories())
    pictures.lines_of("obj_halbench_300_with_image.jsonl", rows)
    pictures.json("gt_objects.json", there)
    pictures.write("synonyms.txt", "".join(f"{name}, {kind.plural}\n" for name, kind in CATEGORIES.items()))
