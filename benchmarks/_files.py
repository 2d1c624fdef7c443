"""Reading the official files: a missing or broken one is an error that names it and says what belongs there."""

import json
from pathlib import Path
from typing import Any

from harness.types import UsageError

ENDINGS = (".jpg", ".png", ".jpeg")


def required(folder: Path, name: str, layout: str) -> Path:
    """The file or folder of that name; `layout` is the benchmark's description of its files."""
    path = folder / name
    if not path.exists():
        raise UsageError(f"there is no {path}. The folder should hold: {layout}")
    return path


def read_json(folder: Path, name: str, layout: str) -> Any:
    """The content of a JSON file, or a list where it has one JSON value per line."""
    path = required(folder, name, layout)
    text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise UsageError(f"{path} is not JSON ({error}). The folder should hold: {layout}") from None


def picture(folder: Path, stem: str) -> Path:
    """The image of that name, whatever its ending; the `.jpg` where there is none, for the error to name."""
    paths = [folder / f"{stem}{ending}" for ending in ENDINGS]
    return next((path for path in paths if path.exists()), paths[0])
