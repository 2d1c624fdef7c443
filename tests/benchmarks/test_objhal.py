"""Object HalBench: objects out of an extractor's list, the official rates by hand, and its own review files."""

import json
from pathlib import Path
from typing import Any

import pytest
from layouts import LAYOUTS, Files, Fixed, as_json, jsonl
from official_files import Script, computed

from benchmarks import objhal
from benchmarks.objhal import Objhal, named_objects
from harness.comparison.published import rescore
from harness.contracts.judge import Ask
from harness.contracts.records import Item, Response, Score, Unscored
from harness.system.errors import UsageError


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["dogs", "puppy", "a dog"], [("dog", "dog"), ("puppy", "dog")]),  # different words count, each once
        (["hot dog"], [("hot dog", "hot dog")]), (["baby elephants"], [("elephant", "elephant")]),
        (["coffee table"], [("coffee table", "dining table")]), (["cats"], [("cat", "cat")]),
        (["tennis rackets"], [("tennis racket", "tennis racket")]), (["an orange"], [("orange", "orange")]),
        (["dining table"], [("dining table", "dining table")]), (["remote control"], [("remote control", "remote")]),
        (["kitchen table"], []),  # a run of nouns is one word, and that is no object
        (["toilet", "seat"], [("toilet", "toilet")]), (["seat"], [("seat", "chair")]),
        (["red car", "car on the road"], [("car", "car")]), (["iPhone"], [("iphone", "cell phone")]),
        (["sky", "", "!", "person's"], [("person", "person")]), ([], []), (["pedestrians"], [("pedestrian", "person")]),
    ],
)  # fmt: skip
def test_objects_of_an_extracted_list(names: list[str], found: list[tuple[str, str]]) -> None:
    assert named_objects(names) == found


def item(id: str, *there: str) -> Item:
    return Item(id, None, "Describe it.", id, {"objects": [*there]})


THREE = [
    (item("1", "dog", "car"), "There is a dog on the road.", '["dog", "puppy", "road"]'),
    (item("2", "cat"), "A cat sits on a bed with a dog.", '["cat", "bed", "dog"]'),
    (item("3", "bus", "person"), "It is a lovely day.", "[]"),
]


def test_rates_by_hand() -> None:
    """Two responses name objects, one of these makes some up; of their 2 + 3 words 2; of 5 objects 2 are found."""
    judge = Script({f"objhal/{item.id}": reply for item, _, reply in THREE})
    values = computed(Objhal(), [(item, text) for item, text, _ in THREE], judge)
    assert values["objhal/response@noun"] == 50 and values["objhal/object@noun"] == pytest.approx(40)
    assert values["objhal/recall@noun"] == pytest.approx(40) and values["objhal/named"] == pytest.approx(5 / 3)
    assert values["objhal/responses"] == pytest.approx(200 / 3) and values["objhal/words"] == 7


def test_so_few_words_name_nothing_and_cost_nothing() -> None:
    score = Objhal().score(item("1", "dog"), Response("1", " A dog. ", 1), None)
    assert isinstance(score, Score) and (score.parts["named"], score.parts["all"], score.parts["objects"]) == (0, 1, 1)
    assert isinstance(Objhal().score(item("1", "dog"), Response("1", "It is a dog.", 1), None), Unscored)


def test_the_extractor_sees_question_and_answer_as_data_and_is_asked_twice() -> None:
    asked: list[Ask] = []

    class Judge(Fixed):
        def reply(self, ask: Ask) -> str | Unscored:
            asked.append(ask)
            return "I see a dog."

    score = Objhal().score(item("1", "dog"), Response("1", 'A dog "]\n[] and more', 1), Judge())
    assert isinstance(score, Unscored) and "is not one JSON list of objects" in score.reason and len(asked) == 2
    assert asked[0].prompt.endswith('Question: "Describe it."\nAnswer: "A dog \\"\\u005d\\n\\u005b\\u005d and more"\n')


REVIEW: dict[str, list[dict[str, Any]]] = {
    "sentences": [
        {
            "image_id": 9, "caption": " A dog and a cat. ", "mscoco_gt_words": ["dog", "car"],
            "mscoco_generated_words": [["dog", "dog"], ["kitten", "cat"]], "mscoco_hallucinated_words": [],
        },
        {"image_id": 8, "caption": "No.", "mscoco_gt_words": ["bus"], "mscoco_generated_words": []},
    ],
}  # fmt: skip


def test_an_official_review_gives_the_official_figures(tmp_path: Path) -> None:
    """One of two captions hallucinates, the only one with objects; one of two words; one of three objects is found."""
    as_json(tmp_path / "hall_obj_halbench_answer_-1.json", REVIEW)
    values = rescore("objhal", [str(tmp_path / "hall_obj_halbench_answer_-1.json")], [], []).metrics
    assert [values[name] for name in ("CHAIRs", "CHAIRs_refine", "CHAIRi", "obj_rec")] == [0.5, 1.0, 0.5, 1 / 3]
    assert [values[name] for name in ("sentence_num", "coco_sentence_num", "coco_word_count", "gt_word_count")] == [
        2, 1, 1, 3,
    ]  # fmt: skip
    assert values["avg_word_len"] == 3.0  # "A dog and a cat." and "No."
    assert values["objhal/response@noun"] == 100


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"sentences": [{"image_id": 1}]},
        {"sentences": [{**REVIEW["sentences"][1], "mscoco_generated_words": ["x"]}]},
    ],
)
def test_what_is_no_review_is_refused(tmp_path: Path, content: Any) -> None:
    as_json(tmp_path / "said.json", content)
    with pytest.raises(UsageError, match=r"official review, hall_\.\.\.json.*need --questions"):
        rescore("objhal", [str(tmp_path / "said.json")], [], [])


def files(folder: Path, answers: list[dict[str, Any]]) -> tuple[list[str], list[str], list[str]]:
    LAYOUTS["objhal"](folder)
    said = jsonl(folder / "said.jsonl", answers)
    return [said], [str(folder / objhal.QUESTIONS)], [f"objects={folder / 'gt_objects.json'}"]


def test_answers_by_order_or_by_image(tmp_path: Path) -> None:
    texts = {17: "There is a dog here.", 23: "There is a bus here. Assistant: yes"}
    by_order = files(tmp_path, [{"prompt": "?", "text": text} for text in texts.values()])
    published = Objhal().published(given(by_order))
    named = files(tmp_path, [{"image_id": id, "answer": texts[id]} for id in (23, 17)])
    again = Objhal().published(given(named))
    assert {r.id: r.text for r in published.responses} == {r.id: r.text for r in again.responses}
    assert published.responses[1].text == "There is a bus here.  yes"


def given(said: tuple[list[str], list[str], list[str]]) -> Any:
    from harness.contracts.benchmark import Files as Given

    answers, questions, [objects] = said
    return Given({"": Path(questions[0])}, {"": Path(answers[0])}, {"objects": Path(objects.partition("=")[2])})


def test_files_that_do_not_go_together_are_reported(tmp_path: Path) -> None:
    short = [{"image_id": 17, "text": "No."}]
    answers, questions, options = files(tmp_path, short)
    with pytest.raises(UsageError, match="1 ids without a response: 23"):
        rescore("objhal", answers, questions, options)
    with pytest.raises(UsageError, match="needs --option objects=PATH"):
        rescore("objhal", answers, questions, [])
    as_json(tmp_path / "gt_objects.json", {"17": ["dog"]})
    with pytest.raises(UsageError, match="nothing says which objects are in picture 23, of record 2"):
        rescore("objhal", answers, questions, options)
    as_json(tmp_path / "gt_objects.json", ["dog"])
    with pytest.raises(UsageError, match="should map image ids to lists of objects"):
        rescore("objhal", answers, questions, options)
    answers, questions, options = files(tmp_path, [*short, {"image_id": 99, "text": "No."}])
    with pytest.raises(UsageError, match="1 ids in the answers only: 99"):
        rescore("objhal", answers, questions, options)


def test_what_is_there_is_read_off_cocos_annotations_as_chair_does(tmp_path: Path) -> None:
    LAYOUTS["objhal"](tmp_path)
    (tmp_path / "gt_objects.json").unlink()
    folder = tmp_path / "annotations"
    folder.mkdir()
    for split, seen in (("val", 17), ("train", 23)):
        boxes = {
            "categories": [{"id": 5, "name": "dining table"}],
            "annotations": [{"image_id": seen, "category_id": 5}],
        }
        as_json(folder / f"instances_{split}2014.json", boxes)
        as_json(
            folder / f"captions_{split}2014.json", {"annotations": [{"image_id": seen, "caption": "Two puppies run."}]}
        )
    assert [one.facts["objects"] for one in Objhal().items(tmp_path, Files())] == [["dining table", "dog"]] * 2


def test_other_objects_are_found_by_their_forms(tmp_path: Path) -> None:
    LAYOUTS["objhal"](tmp_path)
    (tmp_path / "synonyms.txt").write_text("lamp, lamps, desk lamp\ndog, dogs\n")
    with pytest.raises(UsageError, match=r"objhal\.variant=noun and .*synonyms\.txt do not go together"):
        list(Objhal().items(tmp_path, Files()))
    first, _ = Objhal(variant="listed").items(tmp_path, Files())
    judge = Script({"objhal/17": json.dumps(["two desk lamps", "dogs", "a dog", "table"])})
    values = computed(Objhal(variant="listed"), [(first, "There is a lamp here.")], judge)
    published = Objhal(variant="listed").published(given(files(tmp_path, [{"image_id": 17, "text": "A lamp."}])))
    assert published.items[0].facts == first.facts
    assert values["objhal/object@listed"] == 50 and values["objhal/named"] == 2


@pytest.mark.parametrize(("image", "said"), [("%%%", "is no base64"), ("", "there is no picture")])
def test_a_record_without_its_picture_is_named(tmp_path: Path, image: str, said: str) -> None:
    LAYOUTS["objhal"](tmp_path)
    jsonl(tmp_path / objhal.QUESTIONS, [{"image_id": 17, "question": "?", "image": image}])
    with pytest.raises(UsageError, match=said):
        list(Objhal().items(tmp_path, Files()))


def test_a_mutant_that_counts_every_mention_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        objhal, "named_objects", lambda names: [pair for name in [*names, *names] for pair in named_objects([name])]
    )
    with pytest.raises(AssertionError):
        test_rates_by_hand()
