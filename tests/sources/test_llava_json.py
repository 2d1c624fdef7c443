"""LLaVA's files as they are: layouts, places of the image token, and records that must not stop a run."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from harness.contracts.records import Dropped, Example, Turn
from harness.contracts.settings import Reading
from harness.contracts.source import Source, declared
from harness.system.errors import UsageError


def picture(path: Path, colour: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.new("RGB", (6, 4), (colour, 90, 200)).save(path)


def record(id: Any = "a", image: Any = "a.jpg", *texts: Any) -> dict[str, Any]:
    said = texts or ("<image>\nWhat is it?", "A cat.")
    conversations = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(said)]
    return {"id": id, "conversations": conversations} | ({} if image is None else {"image": image})


def named(folder: Path, name: str = "llava150k") -> Source:
    return declared(name)(folder)


def source(folder: Path, *records: Any, name: str = "llava150k.json") -> list[Example | Dropped]:
    picture(folder / "images" / "a.jpg")
    (folder / name).write_text(json.dumps(list(records)))
    return list(named(folder).load())


def test_llava150k_as_published(tmp_path: Path) -> None:
    picture(tmp_path / "train2017" / "000000033471.jpg")
    texts = ["What are the colors of the bus?\n<image>", "White and red.", "Where is it?", "In the street."]
    records = [record("000000033471", "000000033471.jpg", *texts)]
    (tmp_path / "llava_instruct_150k.json").write_text(json.dumps(records))
    [example] = named(tmp_path).load()
    assert isinstance(example, Example)
    assert (example.id, example.source) == ("000000033471", "llava150k")
    assert example.turns == (
        Turn("What are the colors of the bus?", "White and red."),
        Turn("Where is it?", "In the street."),
    )
    assert example.image is not None
    assert example.image.path == str(tmp_path / "train2017" / "000000033471.jpg")


def test_mix665k_as_published(tmp_path: Path) -> None:
    """Each source takes its own records from LLaVA's mix, by the folder of their images."""
    names = ["textvqa/train_images/0a.jpg", "ocr_vqa/images/1b.jpg", "coco/train2017/2c.jpg"]
    for name in names[:2]:
        picture(tmp_path / name)
    caption = "<image>\nProvide a one-sentence caption for the provided image.\nReference OCR token: STOP"
    records = [
        record("0a", names[0], caption, "A stop sign."),
        record(
            "1b", names[1], "Who wrote this book?\nAnswer the question using a single word or phrase.\n<image>", "X"
        ),
        record("2c", names[2]),
        record("sharegpt", None, "Hello", "Hi"),
    ]
    (tmp_path / "llava_v1_5_mix665k.json").write_text(json.dumps(records))
    [captioned], [asked] = (list(named(tmp_path, name).load()) for name in ("textcaps", "ocrvqa"))
    assert isinstance(captioned, Example)
    assert isinstance(asked, Example)
    assert captioned.turns[0].question.endswith("Reference OCR token: STOP")
    assert asked.turns == (Turn("Who wrote this book?\nAnswer the question using a single word or phrase.", "X"),)


@pytest.mark.parametrize("name", ["llava150k", "textcaps", "ocrvqa"])
def test_a_missing_file_says_where_to_get_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"needs .*\.json in .*huggingface.co/datasets/liuhaotian"):
        named(tmp_path, name).load()


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "{}", "3", "\xff"])
def test_a_file_that_is_no_list(text: str, tmp_path: Path) -> None:
    (tmp_path / "llava150k.json").write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=r"is not JSON|is not a list|too deeply|not UTF-8"):
        named(tmp_path).load()


@pytest.mark.parametrize(
    "question", ["<image>\nWhat?", "What?\n<image>", "<image> What?", "What? <image>\n", " \n<image>\nWhat?\n"]
)
def test_the_image_token_is_taken_out(question: str, tmp_path: Path) -> None:
    [example] = source(tmp_path, record("a", "a.jpg", question, "A cat."))
    assert isinstance(example, Example)
    assert example.turns == (Turn("What?", "A cat."),)


def test_blanks_around_texts_stay_as_llava_trains_on_them(tmp_path: Path) -> None:
    """Its `preprocess_multimodal` strips the turn that shows the image and no other."""
    records = [record("a", "a.jpg", " <image>\nWhat?\n", "A cat.\n", " Where? ", " On a mat")]
    raw, stripped = source(tmp_path, *records), list(named(tmp_path).load(reading=Reading(texts="stripped")))
    assert [example.turns for example in raw if isinstance(example, Example)] == [
        (Turn("What?", "A cat.\n"), Turn(" Where? ", " On a mat"))
    ]
    assert [example.turns for example in stripped if isinstance(example, Example)] == [
        (Turn("What?", "A cat."), Turn("Where?", "On a mat"))
    ]


def test_pictures_say_how_they_are_read(tmp_path: Path) -> None:
    source(tmp_path, record())
    for images, upright in (("llava", False), ("upright", True)):
        [example] = named(tmp_path).load(reading=Reading(images=images))
        assert isinstance(example, Example)
        assert example.image is not None
        assert example.image.upright == upright


def test_without_an_image(tmp_path: Path) -> None:
    for found in source(tmp_path, record("a", None, "Hello", "Hi"), record("b", None, "Hello", "Hi") | {"image": None}):
        assert isinstance(found, Example)
        assert found.image is None


MALFORMED = {
    "not a JSON object": ["text", None, 3, [record()]],
    "no conversations": [{"id": "a"}, {"id": "a", "conversations": []}, {"id": "a", "conversations": "text"}],
    "turns do not alternate between human and gpt": [
        record("a", "a.jpg", "<image>\nWhat?"),
        record("a", "a.jpg", "<image>\nWhat?", "A cat.", "And?"),
        {"id": "a", "conversations": [{"from": "gpt", "value": "x"}, {"from": "human", "value": "y"}]},
        {"id": "a", "conversations": ["What?", "A cat."]},
        {"id": "a", "conversations": [{}, {}]},
    ],
    "a turn has no text": [record("a", "a.jpg", "<image>\nWhat?", None), record("a", "a.jpg", 3, ["x"])],
    "an empty question or answer": [
        record("a", "a.jpg", "<image>\nWhat?", ""),
        record("a", "a.jpg", "<image>\nWhat?", " \n"),
        record("a", "a.jpg", "<image>", "A cat."),
    ],
    "a text contains the reserved token <image>": [
        record("a", "a.jpg", "<image>\nWhat?", "An <image>."),
        record("a", "a.jpg", "<image><image>\nWhat?", "A cat."),
        record("a", "a.jpg", "What?", "A cat.", "<image>\nAnd?", "A dog."),
        record("a", None),
        record("a", ""),
    ],
    "a text contains the reserved token </s>": [record("a", "a.jpg", "<image>\nWhat?", "A cat.</s> USER: Hi")],
    "a text is not valid Unicode": [record("a", "a.jpg", "<image>\nWhat?", "A \ud800.")],
    "image: not a path": [record("a", 3), record("a", {"bytes": "x"})],
    "2 images; LLaVA-1.5 takes one": [record("a", ["a.jpg", "b.jpg"]), record("a") | {"images": ["b.jpg"]}],
    "image: the path leads out of the image folder": [
        record("a", "../a.jpg"),
        record("a", "/etc/hostname"),
        record("a", "x/../../images/a.jpg"),
        record("a", "a.jpg\0.png"),
    ],
    "image: no such file": [record("a", "b.jpg"), record("a", "."), record("a", "\ud800.jpg")],
    "image: cannot be read": [record("a", "x" * 300)],
}


@pytest.mark.parametrize("reason", MALFORMED)
def test_a_malformed_record_is_dropped_and_named(reason: str, tmp_path: Path) -> None:
    for bad in MALFORMED[reason]:
        dropped, good = source(tmp_path, bad, record("good"))
        assert isinstance(dropped, Dropped), bad
        assert dropped.reason.split(" (")[0] == reason
        assert dropped.id
        assert isinstance(good, Example)


def test_hostile_images_are_dropped(tmp_path: Path) -> None:
    images = tmp_path / "images"
    picture(tmp_path / "secret.jpg")
    picture(images / "whole.jpg")
    (images / "out.jpg").symlink_to("../secret.jpg")
    (images / "circle.jpg").symlink_to("circle.jpg")
    (images / "in.jpg").symlink_to("whole.jpg")
    (images / "text.jpg").write_text("no picture")
    (images / "cut.jpg").write_bytes((images / "whole.jpg").read_bytes()[:-60])
    names = ["out.jpg", "circle.jpg", "text.jpg", "cut.jpg", "in.jpg", "whole.jpg"]
    found = source(tmp_path, *(record(name, name) for name in names))
    reasons = [drop.reason.split(" (")[0] for drop in found if isinstance(drop, Dropped)]
    assert reasons[0] == "image: a link that leads out of its folder"
    assert reasons[1] in ("image: cannot be read", "image: no such file")
    assert reasons[2:] == ["image: not a JPEG, PNG, WebP, BMP or GIF", "image: cannot be decoded"]
    assert [example.id for example in found if isinstance(example, Example)] == ["in.jpg", "whole.jpg"]


def test_ids_do_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    """LLaVA-150k has up to three records per image under one id."""
    records = [record("a", "a.jpg", f"<image>\n{text}", "A cat.") for text in ("What?", "Who?", "Where?")]
    records += [record(7), record(None), record(True, "a.jpg", "<image>\nWhy?", "So.")]
    forward = source(tmp_path, *records)
    backward = source(tmp_path, *reversed(records))
    assert forward == backward[::-1]
    ids = [example.id for example in forward]
    assert len(set(ids)) == 6
    assert [id.startswith("a#") for id in ids] == [True, True, True, False, False, False]
    assert ids[3] == "7"


def test_order_is_the_callers(tmp_path: Path) -> None:
    source(tmp_path, *(record(id) for id in "bca"))
    assert [example.id for example in named(tmp_path).load(lambda id: id)] == ["a", "b", "c"]


def test_the_whole_mix_is_a_source_of_all_its_pictures_and_of_records_without(tmp_path: Path) -> None:
    """Its five folders may be links to where the sets lie; another link leads out."""
    home, sets = tmp_path / "mix665k", tmp_path / "sets"
    names = ["coco/train2017/2c.jpg", "vg/VG_100K_2/3d.jpg", "mine/4e.jpg"]
    for name in names:
        picture(sets / name)
    home.mkdir()
    for part in ("coco", "vg", "mine"):
        (home / part).symlink_to(sets / part)
    said = [record(name, name) for name in names] + [record("words", None, "Why?", "So.") | {"model": "gpt4"}]
    (home / "llava_v1_5_mix665k.json").write_text(json.dumps(said))
    coco, vg, mine, words = named(home, "mix665k").load()
    assert isinstance(coco, Example) and coco.image and coco.image.path == str(home / names[0])
    assert isinstance(vg, Example) and isinstance(words, Example) and words.image is None
    assert isinstance(mine, Dropped) and "leads out of its folder" in mine.reason
