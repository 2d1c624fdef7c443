"""The drawn world's newer sets of multiple choice: MMStar, RealWorldQA and CV-Bench in their official records."""

import base64
import csv
import io
from collections.abc import Iterable, Sequence

from harness.mini import opensets
from harness.mini import questions as ask
from harness.mini.pictures import Pictures, multiple_choice, random_of

# What MMStar's questions ask, with its capability and axis. Logic, science and mathematics: nothing to ask here.
MMSTAR = {
    "location": ("coarse perception", "image scene and topic"),
    "count": ("fine-grained perception", "object counting"),
    "size": ("instance reasoning", "single-instance reasoning"),
    "weather": ("coarse perception", "image scene and topic"),
    "object": ("fine-grained perception", "recognition"),
    "beside": ("instance reasoning", "cross-instance relation reasoning"),
    "colour": ("fine-grained perception", "recognition"),
    "position": ("fine-grained perception", "localization"),
    "action": ("instance reasoning", "single-instance reasoning"),
    "sign": ("fine-grained perception", "recognition"),
}
REALWORLDQA = ("colour", "location", "object", "position")  # with options; every other question has none
# CV-Bench's tasks, each with its sources by turns and what it asks. The world is flat: size stands for depth, and what
# is beside for what is nearer.
CVBENCH = (
    ("Count", ("ADE20K", "COCO"), "count", (2,)),
    ("Relation", ("COCO", "ADE20K"), "position", (1, 2)),
    ("Depth", ("Omni3D",), "size", (1,)),
    ("Distance", ("Omni3D",), "beside", (1,)),
)


def table(pictures: Pictures, file: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a tab-separated table."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerows([columns, *rows])
    pictures.write(file, text.getvalue())


def filled(options: Sequence[str]) -> list[str]:
    """A cell for every letter."""
    return [*options, *[""] * (len(ask.LETTERS) - len(options))]


def mmstar(pictures: Pictures, n: int) -> None:
    """VLMEvalKit's columns: the bases know options as lines of their own. Four where there are so many values."""
    rows = []
    for number, (name, seen) in enumerate(pictures.scenes(n)):
        kind = tuple(MMSTAR)[number % len(MMSTAR)]
        kind = kind if seen.sign or kind != "sign" else "colour"
        question, listed, letter = multiple_choice(seen, random_of("mmstar", seen), (kind,), (3,))
        image = base64.b64encode(pictures.data(seen, f"{name}.png")).decode()
        rows.append((number, question.text, *filled(listed), letter, *MMSTAR[question.kind], "mini", image))
    about = ("answer", "category", "l2_category", "bench", "image")
    table(pictures, "MMStar.tsv", ("index", "question", *ask.LETTERS, *about), rows)


def realworldqa(pictures: Pictures, n: int) -> None:
    """VLMEvalKit's columns, by turns with options and with none."""
    rows = []
    for number, (name, seen) in enumerate(pictures.scenes(n)):
        rng = random_of("realworldqa", seen)
        if number % 2:
            question = ask.some_existence(seen, rng) if number % 4 == 1 else opensets.asked(seen, rng, "count")
            listed, answer = list[str](), question.short
        else:
            question, listed, answer = multiple_choice(seen, rng, REALWORLDQA, (2, 3))
        image = base64.b64encode(pictures.data(seen, f"{name}.png")).decode()
        rows.append((number, question.text, *filled(listed), answer, image))
    table(pictures, "RealWorldQA.tsv", ("index", "question", *ask.LETTERS, "answer", "image"), rows)


def cvbench(pictures: Pictures, n: int) -> None:
    """The four tasks by turns, each once at least: the combined figure wants every source."""
    files: dict[str, list[dict[str, object]]] = {"2D": [], "3D": []}
    for number, (name, seen) in enumerate(pictures.scenes(max(n, len(CVBENCH)))):
        task, sources, kind, wrong = CVBENCH[number % len(CVBENCH)]
        type = "3D" if sources == ("Omni3D",) else "2D"
        question, listed, letter = multiple_choice(seen, random_of("cvbench", seen), (kind,), wrong)
        file = f"img/{type}/{task.lower()}/{name}.png"
        pictures.draw(seen, file)
        options = "".join(f"\n({mark}) {words}" for mark, words in zip(ask.LETTERS, listed, strict=False))
        asked = {"question": question.text, "choices": listed, "answer": f"({letter})"}
        asked |= {"prompt": f"{question.text} Select from the following choices.{options}", "filename": file}
        source = sources[number // len(CVBENCH) % len(sources)]
        about = {"idx": number, "type": type, "task": task, "source": source, "source_dataset": "mini"}
        files[type].append({**about, **asked})
    for type, rows in files.items():
        pictures.lines_of(f"test_{type.lower()}.jsonl", rows)
