"""The viewer as a folder that needs no server: a page, its data as small scripts, pictures; opened as a file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.contracts.images import Places
from harness.contracts.records import Image
from harness.viewing.items import PART, Viewed
from harness.viewing.shell import shell
from reports.items import decoded, encoded

SMALL, LARGE = 320, 1024  # pixels of the longer side of a picture in a list, and the most that is kept as it is


def write_folder(viewed: Viewed, out: Path) -> int:
    """Fill an empty folder; returns how many items it has. HarnessError where a stage is damaged."""
    index = viewed.index()
    (out / "data").mkdir()
    (out / "pictures").mkdir()
    (out / "index.html").write_text(shell(index["title"], "script")[0], encoding="utf-8")
    _write(out, "index", index)
    known = dict[str, Mapping[str, str]]()
    for number in range(len(viewed.sets)):
        one = viewed.set(number)

        def pictured(image: Image, places: Places = one.places) -> Mapping[str, str]:
            name = viewed.name(image)
            if name not in known:
                known[name] = _copied(image, places, out, name)
            return known[name]

        _write(out, f"{number}-list", one.listing())
        for part in range(-(-len(one.ids) // PART)):
            _write(out, f"{number}-{part}", one.part(part, pictured))
    return sum(one["items"] for one in index["sets"])


def _write(out: Path, name: str, value: Any) -> None:
    """A value as a script that hands one JSON text over: plain ASCII in a string, so that nothing in it is code."""
    text = json.dumps(json.dumps(value)).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    (out / "data" / f"{name}.js").write_text(f'part("{name}", {text});\n', encoding="ascii")


def _copied(image: Image, places: Places, out: Path, name: str) -> dict[str, str]:
    """Write a picture small, and as large as it is where that is little; both encoded anew."""
    picture = decoded(image, places)
    if picture is None:
        return {"gone": "yes"}
    form, data = encoded(picture, SMALL)
    found = {"small": f"pictures/{name}.{form}"}
    (out / found["small"]).write_bytes(data)
    if SMALL < max(picture.size) <= LARGE:
        form, data = encoded(picture, LARGE)
        found["large"] = f"pictures/{name}-large.{form}"
        (out / found["large"]).write_bytes(data)
    return found
