"""Small data sets of stock tasks, as clones of their repositories on the hub: the same columns, made-up rows."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import yaml
from PIL import Image as Pillow

COLOURS = {"red": (200, 0, 0), "green": (0, 160, 0), "blue": (0, 0, 200), "white": (250, 250, 250)}
NAMES = list(COLOURS)
Rows = list[dict[str, Any]]


def picture(number: int, form: str = "PNG") -> dict[str, Any]:
    """A plain picture of its own, as `datasets` embeds it."""
    file = io.BytesIO()
    Pillow.new("RGB", (48, 48 + number), COLOURS[NAMES[number % 4]]).save(file, form)
    return {"bytes": file.getvalue(), "path": f"{number}.{form.lower()}"}


def ai2d(count: int) -> Rows:
    """No ids, and a filter that reads responses; the figure is a mean."""
    shared = {"options": NAMES}
    return [
        {"question": f"Which colour has {n}?", "answer": str(n % 4), "image": picture(n, "JPEG"), **shared}
        for n in range(count)
    ]


def mmmu(count: int) -> Rows:
    """Up to seven pictures a row, of which these have one; the figure is made of six fields of study."""
    shared = {"question_type": "multiple-choice", "options": str(NAMES), "image_2": None}
    return [
        {
            "id": f"validation_{('Art', 'Physics')[n % 2]}_{n}",
            "question": "<image 1> Which colour is it?",
            "answer": "ABCD"[n % 4],
            "image_1": picture(n),
            **shared,
        }
        for n in range(count)
    ]


def gqa(count: int) -> Rows:
    """Questions alone: the task loads their pictures from another configuration of the same repository."""
    return [
        {"id": f"q{n}", "imageId": f"i{n}", "question": "Which colour is it?", "answer": NAMES[n % 4]}
        for n in range(count)
    ]


def mathvista(count: int) -> Rows:
    """Options, whole numbers and numbers with a place behind the point in turn, as AI4Math/MathVista has them."""
    asked: Rows = [
        {"question_type": "multi_choice", "answer_type": "text", "choices": NAMES, "precision": None},
        {"question_type": "free_form", "answer_type": "integer", "choices": None, "precision": None},
    ]
    about = {"category": "general-vqa", "context": "natural image", "grade": "not applicable", "img_height": 48}
    about |= {"img_width": 48, "language": "english", "source": "made up", "split": "testmini", "task": "counting"}
    return [
        {
            "pid": str(n + 1),
            "question": f"Which is number {n}?",
            "image": f"images/{n + 1}.jpg",
            "decoded_image": picture(n, "JPEG"),
            "unit": None,
            "answer": NAMES[n % 4] if n % 2 == 0 else str(n),
            "query": f"Question: Which is number {n}?",
            "metadata": {**about, "skills": ["arithmetic reasoning"]},
            **asked[n % 2],
        }
        for n in range(count)
    ]


TASKS: dict[str, tuple[Callable[[int], Rows], str]] = {
    "ai2d": (ai2d, "default/test"),
    "mmmu_val": (mmmu, "default/validation"),
    "mathvista_testmini": (mathvista, "data/testmini"),
    "gqa": (gqa, "testdev_balanced_instructions/testdev"),
}


def table(rows: Rows, file: Path) -> None:
    """Rows as a parquet file, with pictures that `datasets` knows for pictures."""
    file.parent.mkdir(parents=True, exist_ok=True)
    made = datasets.Dataset.from_list(rows)
    texts = {name for name, cell in rows[0].items() if isinstance(cell, str)}
    for name in (name for name in made.column_names if "image" in name and name not in texts):
        made = made.cast_column(name, datasets.Image())
    made.to_parquet(file)


def write(task: str, folder: Path, rows: Rows | None = None, count: int = 12) -> Path:
    """The data set of a task, as `hf download` leaves it in a folder."""
    made, place = TASKS[task]
    parts = {place: made(count) if rows is None else rows}
    if task == "gqa":
        parts["testdev_balanced_images/testdev"] = [{"id": f"i{n}", "image": picture(n)} for n in range(count)]
    configs = []
    for at, lines in parts.items():
        config, split = at.split("/")
        table(lines, folder / config / f"{split}-00000-of-00001.parquet")
        configs.append({"config_name": config, "data_files": [{"split": split, "path": f"{config}/{split}-*"}]})
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n")
    return folder


YAML = """\
task: mine
dataset_path: somebody/mine
test_split: test
output_type: generate_until
doc_to_visual: !function utils.visual
doc_to_text: !function utils.text
doc_to_target: answer
process_results: !function utils.score
metric_list:
  - {metric: right, aggregation: mean, higher_is_better: true}
metadata: {version: 1.5}
"""
CODE = """\
def visual(doc):
    return [doc["image"].convert("RGB")]

def text(doc):
    return doc["question"]

def score(doc, results):
    return {"right": float(results[0] == doc["answer"])}
"""


class Own:
    """A task that nobody else has, in an lmms-eval of its own; `data` is the folder of its rows."""

    def __init__(self, folder: Path) -> None:
        self.tasks, self.data = folder / "lmms_eval" / "tasks" / "mine", folder / "mine"
        self.tasks.mkdir(parents=True)
        self.declare()
        self.rows()

    def declare(self, code: str = "", **changes: str) -> None:
        """The task with texts of its YAML changed, and functions in place of those above."""
        text = YAML
        for old, new in changes.items():
            text = text.replace(next(line for line in text.splitlines() if line.startswith(old)), new)
        (self.tasks / "mine.yaml").write_text(text)
        (self.tasks / "utils.py").write_text(f"{CODE}\n{code}")

    def rows(self, count: int = 12, **more: Any) -> None:
        """Its documents, with further columns."""
        known = [{"question": f"{n}?", "answer": NAMES[n % 4], "image": picture(n)} for n in range(count)]
        table([{**row, **more} for row in known], self.data / "test.parquet")
