"""The oracle judge and writer: what they say is true, balanced, in the form asked for, and the same every time."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from test_benchsets import Files

from benchmarks import indomain, llava_bench, mmhal, mmvet
from harness.contracts.benchmark import totals
from harness.contracts.judge import Ask
from harness.contracts.records import Image, Response, Score, Unscored
from harness.judging import preference as critic
from harness.mini.language import DETAIL, detail, dirty_detail, short_caption
from harness.mini.oracles import (
    Oracle,
    correction,
    errors,
    facts,
    grade,
    rate,
    rate_both,
    read_scenes,
    two_grades,
    wrong,
)
from harness.mini.sources import write_source
from harness.mini.world import Scene, Thing, cover, scene

SEEN = Scene(
    "test/0/0",
    "beach",
    "rainy",
    "MALL",
    0,
    (
        Thing("dog", "red", "small", 2, "left", "sitting", (8, 12)),
        Thing("ball", "blue", "large", 1, "right", None, (7,)),
        Thing("tree", "green", "large", 1, "right", None, (11,)),
    ),
)
CODEBOOK = {
    "instance": dict.fromkeys(("existence", "count", "colour", "size", "position", "text", "omission"), "..."),
    "image": dict.fromkeys(("location", "event", "action", "relation"), "..."),
}
SCENES: dict[str, Scene] = {str(number): scene(f"oracle/0/{number}") for number in range(150)}


def asked(seen: str, response: str, codebook: object = CODEBOOK, **more: str) -> Ask:
    truth = detail(SCENES[seen])
    told = {"question": DETAIL, "ground_truth": truth, "response": response, "codebook": json.dumps(codebook)}
    return Ask(f"ask-{seen}", "nsft", Image("", seen), "", told | more)


def written(ask: Ask) -> dict[str, list[dict[str, str]]]:
    reply = Oracle(dict(SCENES)).reply(ask)
    assert isinstance(reply, str)
    made: dict[str, list[dict[str, str]]] = json.loads(reply)
    return made


@pytest.mark.parametrize(
    ("question", "reference", "response", "expected"),
    [
        ("What color are the dogs?", "red", "The dogs are red.", "1.0"),
        ("What color are the dogs?", "red", "Red", "1.0"),
        ("What color are the dogs?", "red", "blue", "0.0"),
        ("What color are the dogs?", "red", "", "0.0"),
        ("What color are the dogs?", "red", "I like it.", "0.0"),
        ("How many dogs are there?", "two<OR>2", "2", "1.0"),
        ("How many dogs are there?", "two<OR>2", "There are two dogs.", "1.0"),
        ("How many dogs are there?", "two<OR>2", "There are three dogs.", "0.0"),
        ("Where are the dogs?", "left", "They are on the left.", "1.0"),
        ("What does the sign read?", "MALL", "MALL", "1.0"),
        ("What does the sign read?", "MALL", "mxyz", "0.0"),
        ("What place is this?", "beach", "This is a beach.", "1.0"),
        ("What is to the right of the dogs?", "ball", "The ball is to the right of the dogs.", "1.0"),
        (DETAIL, "two small red dogs<AND>a beach", "There are two small red dogs.", "0.5"),
        (DETAIL, "two small red dogs<AND>a beach", "There are two small red dogs and a cat.", "0.4"),
    ],
)
def test_grades(question: str, reference: str, response: str, expected: str) -> None:
    assert grade(SEEN, question, reference, response) == expected
    assert mmvet.parse(expected) is not None


@pytest.mark.parametrize(
    ("question", "reference", "response", "rating"),
    [
        ("What color are the dogs?", "The dogs are red.", "The dogs are red.", 5),
        ("What color are the dogs?", "The dogs are red.", "Red", 5),
        ("What color are the dogs?", "The dogs are red.", "The dogs are blue.", 0),
        ("What color are the dogs?", "The dogs are red.", "There are dogs.", 3),
        ("What color are the dogs?", "The dogs are red.", "The red dogs see a cat.", 2),
        ("What color are the dogs?", "The dogs are red.", "", 3),
        ("What color is the cat?", "There is no cat in the image.", "There is no cat in the image.", 5),
        ("What color is the cat?", "There is no cat in the image.", "The cat is red.", 0),
        ("What color is the cat?", "There is no cat in the image.", "Red", 0),
        ("What color is the cat?", "There is no cat in the image.", "The dogs are red.", 3),
        ("What is to the left of the ball?", "The dogs are to the left of the ball.", "The tree", 0),
        ("What is to the left of the ball?", "The dogs are to the left of the ball.", "The dogs", 5),
        (DETAIL, detail(SEEN), detail(SEEN), 6),
        (DETAIL, detail(SEEN), short_caption(SEEN), 4),
    ],
)
def test_ratings(question: str, reference: str, response: str, rating: int) -> None:
    assert mmhal.parse(rate(SEEN, question, reference, response)) == rating


@pytest.mark.parametrize(
    ("response", "scores"),
    [("The dogs are red.", "8.5 8.5"), ("The dogs are blue.", "8.5 1"), ("There are dogs.", "8.5 5.5")],
)
def test_scores_of_two_answers(response: str, scores: str) -> None:
    said = rate_both(SEEN, "What color are the dogs?", "The dogs are red.", response)
    assert said.startswith(f"{scores}\n")
    assert llava_bench.verdict(said) == llava_bench.parse(said) is not None


BOOK = cover("oracle/0/0")
LONG = f"{detail(SEEN)} {detail(SEEN)} {detail(SEEN)} {detail(SEEN)}"


@pytest.mark.parametrize(
    ("response", "following", "accuracy"),
    [
        (detail(SEEN), 10, 10), ("", 0, 0), ("There is a dog.", 1, 10), ("There is a cat.", 0, 0), (LONG, 5, 10),
        (detail(SEEN).replace("red", "blue"), 10, 9),
    ],
)  # fmt: skip
def test_two_grades_of_a_description(response: str, following: int, accuracy: int) -> None:
    """Following is the share of what the reference speaks of, less where the response is over twice as long."""
    assert indomain.parse(two_grades(SEEN, DETAIL, detail(SEEN), response)) == (following, accuracy)


@pytest.mark.parametrize(
    ("reference", "response", "following", "accuracy"),
    [
        (BOOK.title, f"{BOOK.title}.", 10, 10), (BOOK.title, "A dog", 0, 0), ("Yes", "Yes.", 10, 10),
        ("Yes", "no", 10, 0), ("Yes", "maybe", 0, 0), (BOOK.author, BOOK.genre, 0, 0),
        (BOOK.genre, BOOK.genre.upper(), 10, 10),
    ],
)  # fmt: skip
def test_two_grades_of_a_cover(reference: str, response: str, following: int, accuracy: int) -> None:
    assert indomain.parse(two_grades(BOOK, "?", reference, response)) == (following, accuracy)


@pytest.mark.parametrize("source", ["llava150k", "textcaps", "ocrvqa"])
def test_held_out_references_get_both_grades_in_full(tmp_path: Path, source: str) -> None:
    write_source(source, "heldout", 0, 25, tmp_path)
    oracle, benchmark = Oracle(read_scenes(tmp_path / "scenes.jsonl")), indomain.Indomain(source=source)
    scored = []
    for item in benchmark.items(tmp_path, Files()):
        score = benchmark.score(item, Response(item.id, item.facts["answer"], 1), oracle)
        assert isinstance(score, Score), score
        scored.append((item, score))
    values = benchmark.compute(totals(benchmark.units(scored)))
    assert (values["indomain/following_worst10"], values["indomain/accuracy_worst10"]) == (10, 10)


@pytest.mark.parametrize(
    ("response", "types"),
    [
        (detail(SEEN), set()),
        (detail(SEEN).replace("red", "blue"), {"colour"}),
        (detail(SEEN).replace("two dogs", "three dogs"), {"count"}),
        (detail(SEEN).replace("small", "large"), {"size"}),
        (detail(SEEN).replace("sitting on the left", "running in the center"), {"action", "position"}),
        (detail(SEEN).replace("beach", "park").replace("rainy", "sunny"), {"location", "event"}),
        (detail(SEEN).replace("MALL", "BANK"), {"text"}),
        (detail(SEEN).replace("to the left of", "to the right of"), {"relation"}),
        (detail(SEEN) + " There is a cat.", {"existence"}),
        (detail(SEEN) + " There is no ball.", {"existence"}),
        ("The image shows a beach on a rainy day.", {"omission"}),
        ("", {"omission"}),
    ],
)
def test_error_types(response: str, types: set[str]) -> None:
    assert {error.type for error in errors(SEEN, detail(SEEN), response)} == types


def test_what_is_true_has_no_error() -> None:
    for seen in SCENES.values():
        assert errors(seen, detail(seen), detail(seen)) == []
        assert wrong(seen, facts(short_caption(seen))) == []


def test_turns_are_true_balanced_and_few() -> None:
    """A denial comes with a confirmation, so nothing is learnt from the answer's first word."""
    answers: Counter[str] = Counter()
    for name, seen in SCENES.items():
        rng = random.Random(name)
        for response in (dirty_detail(seen, rng, 0.3, 0.4, 0.9), detail(seen), "", detail(scene(f"other/0/{name}"))):
            turns = written(asked(name, response))["turns"]
            assert 1 <= len(turns) <= 5
            assert len({turn["question"] for turn in turns}) == len(turns)
            first = Counter(turn["answer"].split(",")[0] for turn in turns)
            assert first["Yes"] == first["No"]
            answers.update(first)
            for turn in turns:
                assert wrong(seen, facts(turn["answer"])) == [], turn
                assert turn["question"].endswith("?")
                assert turn["answer"].endswith(".")
    assert answers["Yes"] > 500


def test_the_limit_holds() -> None:
    for limit in range(1, 5):
        assert len(written(asked("3", "A cat and a dog and a cup.", turns=str(limit)))["turns"]) <= limit


def test_an_error_is_corrected() -> None:
    seen = SCENES["0"]
    missing = next(name for name in ("cat", "boat", "car", "cup") if not seen.thing(name))
    made = written(asked("0", f"{detail(seen)} There is a {missing}."))
    assert made["errors"] == [{"level": "instance", "type": "existence", "evidence": f"says {missing}"}]
    corrected = {
        "question": f"Is there a {missing} in the image?",
        "answer": f"No, there is no {missing} in the image.",
    }
    assert corrected in made["turns"]


def test_only_the_codebook_types_count() -> None:
    response = detail(scene("other/0/1")) + " There is a boat and a cat and a cup and a car."
    few = written(asked("1", response, {"image": {"existence": "..."}}))
    assert {(error["level"], error["type"]) for error in few["errors"]} == {("image", "existence")}
    assert {error["type"] for error in written(asked("1", response, ["colour", "count"]))["errors"]} <= {
        "colour",
        "count",
    }
    assert written(asked("1", response, {}))["errors"] == []
    assert written(asked("1", response, {}))["turns"]


def test_a_sign_that_is_not_there_is_denied() -> None:
    seen = next(seen for seen in SCENES.values() if not seen.sign)
    [fact] = wrong(seen, facts("A sign reads MALL."))
    turns = correction(seen, fact, random.Random(0))
    assert "No, there is no sign in the image." in [turn.full for turn in turns]
    assert {turn.value for turn in turns} == {"yes", "no"}


def test_any_words_of_the_world_get_true_balanced_turns() -> None:
    words = sorted({word for seen in SCENES.values() for word in detail(seen).replace(".", " .").split()})
    words += ["no", "not", "running", "flying", "the", "a", "is", "fifteen", "and"]
    rng = random.Random(4)
    for name, seen in SCENES.items():
        response = " ".join(rng.choices(words, k=40))
        made = written(asked(name, response))
        first = Counter(turn["answer"].split(",")[0] for turn in made["turns"])
        assert first["Yes"] == first["No"]
        assert all(wrong(seen, facts(turn["answer"])) == [] for turn in made["turns"]), made
        assert "None" not in json.dumps(made["turns"])
        reference = detail(seen)
        assert 0 <= float(grade(seen, DETAIL, reference, response)) <= 1
        assert mmhal.parse(rate(seen, DETAIL, reference, response)) is not None


def test_the_same_ask_gets_the_same_reply() -> None:
    ask = asked("5", "A cat and two red dogs.")
    replies = {Oracle(dict(reversed(SCENES.items()))).reply(ask) for _ in range(3)} | {Oracle(dict(SCENES)).reply(ask)}
    assert len(replies) == 1


@pytest.mark.parametrize("response", ["", "\x00" * 1000, "?!" * 500, "no no no", "99999999999999 dogs 7 dogs", "the"])
def test_no_response_upsets_it(response: str) -> None:
    oracle = Oracle(dict(SCENES))
    told = {"question": "Where is the dog?", "reference": "left", "response": response}
    for purpose in ("mmvet", "mmhal"):
        assert isinstance(oracle.reply(Ask("x", purpose, Image("", "0"), "", told)), str)
    assert written(asked("0", response))["turns"]


def test_it_says_when_it_cannot_know() -> None:
    oracle = Oracle({**SCENES, "book": cover("a/b/c")})
    for image in (None, Image("", "elsewhere"), Image("", "book")):
        reply = oracle.reply(Ask("x", "mmvet", image, "", {}))
        assert reply == Unscored("x", "no scene graph for this image")
    other = oracle.reply(Ask("x", "poetry", Image("", "0"), "", {}))
    assert isinstance(other, Unscored)
    assert "mini" in oracle.name


def test_it_reads_what_a_source_wrote(tmp_path: Path) -> None:
    write_source("textcaps", "alignment", 0, 3, tmp_path)
    write_source("ocrvqa", "alignment", 0, 2, tmp_path / "books")
    scenes = read_scenes(tmp_path / "scenes.jsonl")
    assert [seen.name for seen in scenes.values()] == [f"alignment/0/textcaps/{number}" for number in range(3)]
    assert len(read_scenes(tmp_path / "books" / "scenes.jsonl")) == 2


COVER = cover("a/b/c")


def about_the_cover(purpose: str, **told: str) -> str:
    ask = Ask("x", purpose, Image("", "book"), "", {"ground_truth": COVER.author, **told})
    reply = Oracle({"book": COVER}).reply(ask)
    assert isinstance(reply, str)
    return reply


@pytest.mark.parametrize(("response", "types"), [(COVER.author, []), ("Nobody", ["text"])])
def test_a_misread_cover_is_an_error_of_text(response: str, types: list[str]) -> None:
    told = about_the_cover("errors", response=response, codebook=json.dumps(CODEBOOK))
    assert [error["type"] for error in json.loads(told)["errors"]] == types


@pytest.mark.parametrize(
    ("first", "second", "verdict"), [(COVER.author, "Nobody", 1), ("Nobody", COVER.author, 2), ("Nobody", "Me", None)]
)
def test_of_two_answers_about_a_cover_the_right_one_is_preferred(first: str, second: str, verdict: int | None) -> None:
    assert critic.verdict(about_the_cover("preference", first=first, second=second)) == verdict
