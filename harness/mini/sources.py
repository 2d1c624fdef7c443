"""Data sources of the drawn world, in the layout in which LLaVA's own training data come."""

import hashlib
import io
import json
import random
from pathlib import Path
from typing import Any

from harness.contracts.records import Turn
from harness.contracts.wordings import IMAGE, SHORT_ANSWER
from harness.mini import chat
from harness.mini import questions as ask
from harness.mini.draw import draw
from harness.mini.language import DETAIL, SHORT, detail, short_caption
from harness.mini.world import Cover, Scene, cover, scene, seed_of, to_json
from harness.system.errors import HarnessError


def png(drawn: Scene | Cover) -> bytes:
    """The picture as a PNG file."""
    file = io.BytesIO()
    draw(drawn).save(file, "PNG", compress_level=1)
    return file.getvalue()


Made = tuple[Scene | Cover, list[Turn]]


def _llava150k(name: str, rng: random.Random, number: int) -> Made:
    """A detailed description; in every second example two questions follow it."""
    seen = scene(name)
    turns = [Turn(DETAIL, detail(seen))]
    if number % 2:
        yes_no = ask.some_existence(seen, rng) if rng.random() < 0.5 else ask.some_attribute(seen, rng)
        turns += [Turn(question.text, question.full) for question in (yes_no, ask.some_open(seen, rng))]
    return seen, turns


def _textcaps(name: str, rng: random.Random, number: int) -> Made:
    """A caption of one sentence."""
    seen = scene(name)
    return seen, [Turn(SHORT, short_caption(seen))]


def _ocrvqa(name: str, rng: random.Random, number: int) -> Made:
    """Two or three short questions about a cover."""
    seen = cover(name)
    genre = rng.choice(ask.values("genre"))
    questions = [ask.cover_question(seen, kind) for kind in ("title", "author", "genre")]
    questions.append(ask.is_genre(seen, seen.genre if rng.random() < 0.5 else genre))
    asked = rng.sample(questions, rng.choice((2, 3)))
    return seen, [Turn(question.text + SHORT_ANSWER, question.short) for question in asked]


def _mix665k(name: str, rng: random.Random, number: int) -> Made:
    """What the bases were tuned on, with its errors; every eleventh is about a cover, as there."""
    seen = cover(name) if number % 11 == 10 else scene(name)
    return seen, chat.mixed(seen, rng)


SOURCES = {  # by the names of sources of real data
    "llava150k": _llava150k,
    "textcaps": _textcaps,
    "ocrvqa": _ocrvqa,
    "mix665k": _mix665k,
}


def make(source: str, name: str, number: int) -> Made:
    """One example of a source: what is drawn, and the turns about it. `number` is its place in the source."""
    if source not in SOURCES:
        raise HarnessError(f"mini has no source {source!r}; it has {', '.join(SOURCES)}.")
    return SOURCES[source](name, random.Random(seed_of(f"{source}/{name}")), number)


def _conversation(turns: list[Turn]) -> list[dict[str, str]]:
    spoken = []
    for number, turn in enumerate(turns):
        lead = "" if number else f"{IMAGE}\n"
        spoken.append({"from": "human", "value": lead + turn.question})
        spoken.append({"from": "gpt", "value": turn.answer})
    return spoken


def write_source(name: str, split: str, seed: int, n: int, folder: Path) -> None:
    """Write `n` examples of a source: `<name>.json` and `images/` as LLaVA has them, and `scenes.jsonl`.

    `split` is a namespace of the world ("alignment", "tuning", "heldout"): scenes of different splits, seeds
    and sources never coincide. `scenes.jsonl` says what each image shows, by the digest of its file.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    lines = []
    for number in range(n):
        drawn, turns = make(name, f"{split}/{seed}/{name}/{number}", number)
        file, data = f"{name}-{split}-{seed}-{number:06d}.png", png(drawn)
        (folder / "images" / file).write_bytes(data)
        entries.append({"id": file[:-4], "image": file, "conversations": _conversation(turns)})
        record = {"image": file, "sha256": hashlib.sha256(data).hexdigest(), "scene": to_json(drawn)}
        lines.append(json.dumps(record, sort_keys=True) + "\n")
    (folder / f"{name}.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    (folder / "scenes.jsonl").write_text("".join(lines), encoding="utf-8")
