"""A user's `HARNESS_DATA`, small: photographs in the forms that files have, official layouts, models that say a little.

Photographs are those that scikit-image ships. Benchmarks are the sets of their own tests with photographs in place of
plain squares; sources are laid out as LLaVA publishes them. A model is a random one of a family which our own training
has taught to end its answers, so that methods that ask a model have something to work with; it knows of no picture.
"""

import io
import json
import re
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import PIL.Image
import skimage

from harness.contracts.family import Family
from harness.contracts.records import Conversation, Image, Turn
from harness.contracts.settings import Runtime, Training
from harness.judging import preference
from harness.store.digest import file_digest
from harness.system.jsonl import write_jsonl
from harness.training.engine import train
from harness.training.job import Job
from tests.benchmarks.layouts import laid_out
from tests.small_models import made

CLIP = Path(__file__).parents[1] / "harness" / "mini" / "clip"
DETAIL = "Please describe this image in detail."
CAPTIONS = (
    "A smiling astronaut in an orange suit. She sits in front of a flag.",
    "A cup of coffee on a table. A spoon lies beside it.",
    "A cat looks to the side. Its eyes are green.",
    "A rocket stands on its pad at night. It is lit by lamps.",
)
SHORT = "\nAnswer the question using a single word or phrase."


@cache
def photographs(side: int = 160) -> list[PIL.Image.Image]:
    """Those of scikit-image that are a .png or .jpg, at most so many pixels wide and high."""
    found = []
    for path in sorted((Path(skimage.__file__).parent / "data").iterdir()):
        if path.suffix in (".png", ".jpg"):
            photo = PIL.Image.open(path).convert("RGB")
            photo.thumbnail((side, side))
            found.append(photo)
    return found


def encoded(number: int, side: int) -> bytes:
    """A photograph in one of the forms that are found under a picture's name."""
    photo = photographs(side)[number % len(photographs(side))]
    turned = PIL.Image.Exif()
    turned[0x0112] = 6  # orientation: a quarter to the right
    forms: tuple[tuple[PIL.Image.Image, str, Mapping[str, Any]], ...] = (
        (photo, "JPEG", {"quality": 90}),
        (photo.convert("L"), "JPEG", {}),
        (photo, "JPEG", {"exif": turned}),
        (photo.convert("CMYK"), "JPEG", {}),
        (photo.convert("RGBA"), "PNG", {}),
        (photo.convert("P"), "PNG", {"transparency": 3}),
        (photo.convert("1"), "PNG", {}),
        (photo.resize((150, 9)), "PNG", {}),
        (photo.resize((7, 5)), "PNG", {}),
        (photo, "JPEG", {"progressive": True}),
        (photo, "WEBP", {}),
    )
    picture, form, options = forms[number % len(forms)]
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def written(path: Path, number: int, side: int = 160) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(number, side))


def said(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[at % 2], "value": text} for at, text in enumerate(texts)]


def llava150k(folder: Path, pictures: int, side: int) -> None:
    """Three records of one id for each picture, whose place in the question differs."""
    records = []
    for number in range(pictures):
        name, caption = f"{100_000 + 37 * number:012d}", CAPTIONS[number % len(CAPTIONS)]
        written(folder / "train2017" / f"{name}.jpg", number, side)
        asked = "What is the main thing?\n<image>" if number % 2 else "<image>\nWhat is the main thing?"
        for talk in (
            said(asked, f"The main thing is number {number}.", "Is it indoors?", "No.", "Why?", "There is a sky."),
            said(f"{DETAIL}\n<image>", f"{caption}\n\nIt is picture {number}."),
            said("<image>\nWhat might happen next?", f"Nothing soon, since {caption} — é, 你好, {number} %."),
        ):  # fmt: skip
            records.append({"id": name, "image": f"{name}.jpg", "conversations": talk})
    (folder / "llava_instruct_150k.json").write_text(json.dumps(records), encoding="utf-8")


def mix665k(folder: Path, kind: str, pictures: int, side: int) -> None:
    """LLaVA-1.5's mix, in which two sources are found by their pictures' folders."""
    records: list[dict[str, Any]] = []
    for number in range(pictures):
        book, photo = f"ocr_vqa/images/{1_560_000_000 + number}.jpg", f"textvqa/train_images/{number:016x}.jpg"
        written(folder / (book if kind == "ocrvqa" else photo), 5 + number, side)
        asked = said(f"Who wrote this book?\n<image>{SHORT}", f"A. Writer {number}", "Is it for travel?", "No")
        records.append({"id": f"{number}", "image": book, "conversations": asked})
        asked = said(
            f"<image>\nProvide a one-sentence caption.\nReference OCR token: STOP, {number}", CAPTIONS[number % 4]
        )
        records.append({"id": f"{number:016x}", "image": photo, "conversations": asked})
        records.append({"id": f"share{number}_0", "conversations": said("Write a haiku", "An old silent pond")})
        asked = said("<image>\nIs it day?", "Yes")
        records.append({"id": f"coco{number}", "image": f"coco/train2017/{number:012d}.jpg", "conversations": asked})
    (folder / "llava_v1_5_mix665k.json").write_text(json.dumps(records), encoding="utf-8")


def laid(home: Path, benchmarks: tuple[str, ...] = ("pope",), pictures: int = 12, side: int = 160) -> Path:
    """A folder with `sources/`, `benchmarks/` and CLIP, as `docs/llava.md` has it."""
    llava150k(home / "sources" / "llava150k", pictures, side)
    for kind in ("ocrvqa", "textcaps"):
        mix665k(home / "sources" / kind, kind, pictures, side)
    for name in benchmarks:
        (home / "benchmarks" / name).mkdir(parents=True)
        laid_out(name, home / "benchmarks" / name)
    shown = (path for path in sorted((home / "benchmarks").rglob("*.*")) if path.suffix in (".jpg", ".png"))
    for number, path in enumerate(shown):
        written(path, number)
    shutil.copytree(CLIP, home / "models" / "clip-vit-large-patch14-336")
    return home


def taught(family: Family, folder: Path, home: Path, epochs: int = 30) -> Path:
    """A small model of a family, taught answers that end, about pictures of a laid folder, and verdicts."""
    shown = [
        Image(str(path), file_digest(path)) for path in sorted((home / "sources/llava150k/train2017").iterdir())[:4]
    ]
    talks = [(DETAIL, caption) for caption in CAPTIONS]
    talks += [(f"Is there a {thing}?{SHORT}", word) for thing, word in (("dog", "No"), ("cat", "Yes"))]
    for number, (one, other) in enumerate((CAPTIONS[:2], CAPTIONS[2:])):
        talks.append((preference.prompt(DETAIL, one, other, one), f"Better response: [[{number + 1}]]"))
    records = [
        Conversation(f"t{at}", shown[at % len(shown)], ((Turn(asked, answer),),))
        for at, (asked, answer) in enumerate(talks)
    ]
    known = " ".join(text for pair in talks for text in pair)
    work = folder.with_name(f"{folder.name}.training")
    (work / "out").mkdir(parents=True)
    write_jsonl(work / "records.jsonl", records)
    training = Training(learning_rate=1e-2, train_batch_size=len(records), num_train_epochs=epochs)
    runtime = Runtime(zero_stage=0, per_device_train_batch_size=4)
    job = Job(
        method="sft", options={}, records=str(work / "records.jsonl"), model=str(made(family, work / "random", known)),
        training=training, runtime=runtime, seed=0, out=str(work / "out"), work=str(work / "work"),
    )  # fmt: skip
    with mock.patch.dict("os.environ", {"LOCAL_RANK": "0"}):
        train(job)
    (work / "out" / "checkpoint").rename(folder)
    shutil.rmtree(work)
    return folder


def replies(body: dict[str, Any], times: int) -> str:
    """What writer and judge say over HTTP, by what they are asked."""
    content = body["messages"][-1]["content"]
    text = content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
    if "turns" in text and "errors" in text:
        turn = {"question": "Is there a dog in the image?", "answer": "No, there is none."}
        return json.dumps({"errors": [{"level": "instance", "type": "existence", "evidence": "dog"}], "turns": [turn]})
    if "Better response" in text:
        return f"Better response: [[{1 + len(text) % 2}]]"
    return "Fine.\nRating: 3" if re.search("Rating", text) else "0.5"
