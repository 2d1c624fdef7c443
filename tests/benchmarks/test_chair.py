"""CHAIR: which objects a caption mentions, in each variant, and what is counted."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from layouts import LAYOUTS, Files, as_json
from official_files import computed

from benchmarks import _coco_objects
from benchmarks._coco_objects import mentions, objects, tokens
from benchmarks.chair import Chair, accepted, found
from harness.comparison.published import rescore
from harness.contracts.records import Item
from harness.system.errors import UsageError


def item(id: str, *there: str) -> Item:
    return Item(id, None, "", id, {"objects": list(there)})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Two dogs and a puppy.", "dog dog"), ("Buses, a bus, minibuses", "bus bus bus"),
        ("women, children and mice", "person person mouse"), ("Men at work", ""), ("a man and people", "person person"),
        ("knives, oxen, geese, sheep", "knife cow bird sheep"), ("wine glasses; glasses", "wine_glass"),
        ("hot dogs", "hot_dog"), ("hot. dog", "dog"), ("skis", "skis"), ("scissors", "scissors"),
        ("a toilet seat", "toilet"), ("the seat of the toilet", "toilet"), ("seats", "chair"),
        ("a motor bike", ""), ("a motorbike", "motorcycle"), ("a stove top oven", "oven oven"), ("a cheesecake", ""),
        ("baby elephants and a baby", "elephant person"), ("a passenger train on train tracks", "train"),
        ("bow ties", "tie"), ("home plate, a plate", ""), ("an iPhone", ""), ("a cat-like dog/cat", ""),
        ('"Dog." said the cat', "dog cat"), ("a dog.a cat", "cat"), ("the dog's ball", "dog sports_ball"),
        ("parking meters", "parking_meter"), ("potted plants", "potted_plant"), ("", ""), ("\n\n", ""),
    ],
)  # fmt: skip
def test_nouns_and_double_words(text: str, named: str) -> None:
    assert " ".join(name.replace(" ", "_") for name in mentions(text, "noun").objects) == named


@pytest.mark.parametrize(
    ("text", "lemma", "noun"),
    [
        ("A woman is seated at a table.", ["person", "chair", "dining table"], ["person", "dining table"]),
        ("He enjoys skiing down the hill.", ["skis"], []),
        ("There is a wooden seating area.", [], []),
        ("People are skateboarding there.", ["person", "skateboard"], ["person"]),
    ],
)
def test_parts_of_speech_decide_between_the_variants(text: str, lemma: list[str], noun: list[str]) -> None:
    assert (mentions(text, "lemma").objects, mentions(text, "noun").objects) == (lemma, noun)


def test_length_counts_double_words_once() -> None:
    assert mentions("A toilet seat, a seat.", "noun").length == len(["a", "toilet", ",", "a", "seat", "."])


def test_nothing_is_looked_for_on_disk_or_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    import nltk

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("NLTK data was asked for")

    for name in ("find", "load"):
        monkeypatch.setattr(nltk.data, name, refuse)
    monkeypatch.setattr(nltk, "download", refuse)
    for cached in (_coco_objects._tagger, _coco_objects._tokenizers):
        cached.cache_clear()
    assert mentions("Mr. Smith sat. Dogs.", "lemma").objects == ["dog"]


def test_the_lemmas_are_wordnets() -> None:
    """Where NLTK's WordNet is installed: words of the vocabulary and forms of them reduce as they do there."""
    import nltk

    wordnet = nltk.stem.WordNetLemmatizer()
    try:
        wordnet.lemmatize("dogs")
    except LookupError:
        pytest.skip("NLTK's WordNet is not installed")
    words = {word for word in objects() if " " not in word} | {w for name in _coco_objects.DOUBLE for w in name.split()}
    ends = ("", "s", "es", "ies", "ves", "ing", "ed", "er")
    for form in sorted({word[: len(word) - cut] + end for word in words for cut in (0, 1, 2) for end in ends}):
        for part, letter in (("noun", "n"), ("verb", "v"), ("adjective", "a")):
            ours, theirs = _coco_objects._lemmas()[part].get(form, form), wordnet.lemmatize(form, letter)
            assert ours == theirs or not {ours, theirs} & words, (form, part)


def test_tokens_are_lower_case_and_leave_abbreviations_whole() -> None:
    assert tokens("Mr. Hall's dog, No. 4!") == ["mr.", "hall", "'s", "dog", ",", "no", ".", "4", "!"]


LISTED = accepted(
    "dog, dogs, puppy\nhot dog, hot dogs\ntie, bow tie\n\ncat,cats , cat\ntoilet, toilet seat\nchair, seat"
)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("A dog, two DOGS and a puppy.", ["dog", "dog", "dog"]), ("hot dog", ["hot dog"]), ("hot. dog", ["dog"]),
        ("a bow tie on cats", ["tie", "cat"]), ("doghouse, cat-like", []), ("the dog's cat", ["dog", "cat"]), ("", []),
        ("bow ties", []), ("hot hot dogs", ["hot dog"]), ("a seat", ["chair"]), ("a seat, a toilet", ["toilet"]),
    ],
)  # fmt: skip
def test_listed_forms(text: str, named: list[str]) -> None:
    assert [name for name, *_ in found(text, LISTED)] == named


def test_listed_places_are_those_of_the_words() -> None:
    text = "A hot  dog and a cat."
    assert [text[start:stop] for _, start, stop in found(text, LISTED)] == ["hot  dog", "cat"]


@pytest.mark.parametrize("variant", ["noun", "lemma"])
def test_counts_mentions_over_the_corpus(variant: Any) -> None:
    """6 mentions of which cat, cat are made up: i = 2/6; one of two captions: s = 1/2; recall 2 of 3 objects."""
    said = [
        (item("17", "dog", "hot dog"), "A dog and two dogs and a puppy with cats, a cat."),
        (item("23", "cat"), "One kitten."),
    ]
    values = computed(Chair(variant=variant), said)
    assert values[f"chair/i@{variant}"] == pytest.approx(200 / 6)
    assert values[f"chair/s@{variant}"] == 50
    assert values[f"chair/mean_is@{variant}"] == pytest.approx((200 / 6 + 50) / 2)
    assert values[f"chair/recall@{variant}"] == pytest.approx(200 / 3)
    assert values["chair/words"] == 7
    assert [metric.id for metric in Chair(variant=variant).metrics] == list(values)[:4]


def test_one_is_zero_exactly_where_the_other_is() -> None:
    rng = random.Random(0)
    for _ in range(300):
        words = [rng.choice(["a dog", "a cat", "hot dogs", "nothing"]) for _ in range(4)]
        said = [(item(str(n), "dog", "cat"), text) for n, text in enumerate(["a dog", *words])]
        values = computed(Chair(), said)
        assert (values["chair/i@noun"] == 0) == (values["chair/s@noun"] == 0)


def test_prompt_and_variant_are_options(tmp_path: Path) -> None:
    LAYOUTS["chair"](tmp_path)
    read = list(Chair(question="What?").items(tmp_path, Files()))
    assert [(one.id, one.prompt, one.facts) for one in read][1] == ("23", "What?", {"objects": ["cat"]})
    with pytest.raises(UsageError, match=r"chair\.variant=listed and .*synonyms\.txt do not go together"):
        list(Chair(variant="listed").items(tmp_path, Files()))
    (tmp_path / "synonyms.txt").write_text("dog, dogs\ncat, kitten\n")
    (first, second) = Chair(variant="listed").items(tmp_path, Files())
    assert computed(Chair(variant="listed"), [(first, "dogs, a kitten"), (second, "")])["chair/i@listed"] == 50
    with pytest.raises(UsageError, match=r"chair\.variant=noun and"):
        list(Chair().items(tmp_path, Files()))


def annotations(folder: Path) -> Path:
    """Image 5: a dog is segmented, a caption says "kittens"; image 6 is a training image with a bus."""
    folder.mkdir()
    categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": "bus"}]
    for split, image, category, caption in (("val", 5, 1, "Kittens sleep."), ("train", 6, 2, "It stops here.")):
        instances = {"categories": categories, "annotations": [{"image_id": image, "category_id": category}]}
        as_json(folder / f"instances_{split}2014.json", instances)
        as_json(folder / f"captions_{split}2014.json", {"annotations": [{"image_id": image, "caption": caption}]})
    return folder


def test_ground_truth_from_cocos_annotations(tmp_path: Path) -> None:
    folder = annotations(tmp_path / "annotations")
    assert _coco_objects.annotated(folder, ["5", "6", "7"], "noun") == {"5": ["cat", "dog"], "6": ["bus"]}
    (folder / "instances_train2014.json").unlink()
    assert _coco_objects.annotated(folder, ["5"], "noun") == {"5": ["cat", "dog"]}
    with pytest.raises(UsageError, match=r"no .*instances_train2014\.json; it is in annotations_trainval2014\.zip"):
        _coco_objects.annotated(folder, ["6"], "noun")


def test_items_from_cocos_annotations(tmp_path: Path) -> None:
    LAYOUTS["chair"](tmp_path)
    (tmp_path / "gt_objects.json").unlink()
    old, gone = (tmp_path / "images" / f"COCO_val2014_{id:012d}.jpg" for id in (17, 23))
    gone.unlink()
    old.rename(old.with_name("COCO_val2014_000000000005.jpg"))
    annotations(tmp_path / "annotations")
    (read,) = Chair(n=1).items(tmp_path, Files())
    assert (read.id, read.facts) == ("5", {"objects": ["cat", "dog"]})


def val2014(folder: Path, count: int, name: str = "COCO_val2014_{:012d}") -> Path:
    """So many pictures, each with a dog, and ids of COCO's kind."""
    (folder / "images").mkdir(parents=True)
    ids = [name.format(7 * number) for number in range(count)]
    for id in ids:
        (folder / "images" / f"COCO_val2014_{int(id[-12:]):012d}.jpg").write_bytes(b"picture")
    as_json(folder / "gt_objects.json", {id: ["dog"] for id in ids})
    return folder


def asked(folder: Path, **options: Any) -> list[int]:
    return [int(one.id[-12:]) for one in Chair(**options).items(folder, Files())]


def test_500_of_all_pictures_are_asked_about_by_the_seed(tmp_path: Path) -> None:
    """The same ones however ids are written and files are ordered; a smaller draw is a part of a larger one."""
    folder = val2014(tmp_path / "a", 600)
    usual = asked(folder)
    assert len(usual) == len(set(usual)) == 500 and usual == sorted(usual)
    assert asked(val2014(tmp_path / "b", 600, "{}")) == usual
    assert set(asked(folder, n=20)) < set(asked(folder, n=40)) < set(usual)
    assert asked(folder, seed=1) != usual and len(asked(folder, seed=1)) == 500
    gold = json.loads((folder / "gt_objects.json").read_text())
    as_json(folder / "gt_objects.json", dict(reversed(gold.items())))
    assert asked(folder) == usual[::-1]


def test_a_folder_of_no_more_pictures_is_its_own_list(tmp_path: Path) -> None:
    assert asked(val2014(tmp_path, 12), n=12) == [7 * number for number in range(12)]
    with pytest.raises(UsageError, match=r"chair\.n=0"):
        Chair(n=0)


def published(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_published_captions_are_scored_on_their_own_images(tmp_path: Path) -> None:
    """A caption in an images' list twice, or of an image nobody knows, stops the count; more gold objects do not."""
    as_json(tmp_path / "gold.json", {"1": ["dog"], "2": ["cat"], "3": []})
    rows = [{"image_id": 1, "caption": "A dog."}, {"image_id": 2, "caption": "A dog, a cat, a toilet seat."}]
    gold = [str(tmp_path / "gold.json")]
    done = rescore("chair", [str(published(tmp_path, rows))], gold, ["variant=lemma"])
    expected = {"CHAIRs": 0.5, "CHAIRi": 0.5, "Recall": 1.0, "Len": 0.01 * (3 + 9) / 2}
    assert {name: done.metrics[name] for name in expected} == pytest.approx(expected)
    assert (done.n, done.metrics["chair/mean_is@lemma"]) == (2, 50)
    for extra, complaint in (({"image_id": 9, "caption": "."}, "in the answers only: 9"), (rows[0], "more than one")):
        with pytest.raises(UsageError, match=complaint):
            rescore("chair", [str(published(tmp_path, [*rows, extra]))], gold, [])


def test_the_mutant_without_double_words_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_coco_objects, "DOUBLE", {})
    assert mentions("A hot dog, a baby bear, train tracks.", "noun").objects == ["dog", "person", "bear", "train"]
