"""AMBER: the official script's figures worked out by hand, its quirks, and what captions cannot be scored without."""

import json
from pathlib import Path
from typing import Any

import pytest
from layouts import LAYOUTS, Files, as_json
from official_files import computed

from benchmarks import amber
from benchmarks._amber_nouns import nouns
from benchmarks.amber import Amber
from harness.comparison.published import rescore
from harness.contracts.records import Item
from harness.system.errors import UsageError

RELATED = {"dog": ["kid"], "car": ["tire"], "sky": [], "ship": ["boat"], "cat": [], "lamp": [], "sign": [], "cup": []}
ALIKE = {"kid": ["dog"], "cat": ["dog", "kid"], "boat": ["ship", "car"], "cup": ["lamp"]}


def world(folder: Path, notes: list[dict[str, Any]]) -> Path:
    """Annotations with what lies beside them; "sign" is safe."""
    as_json(folder / "annotations.json", notes)
    as_json(folder / "relation.json", RELATED)
    (folder / "safe_words.txt").write_text("sign")
    words = {*RELATED, *(word for beside in RELATED.values() for word in beside)}
    as_json(folder / "similar.json", {word: [word, *ALIKE.get(word, [])] for word in words})
    return folder / "annotations.json"


def scored(folder: Path, notes: list[dict[str, Any]], said: dict[int, str], *options: str) -> Any:
    as_json(folder / "said.json", [{"id": id, "response": text} for id, text in said.items()])
    return rescore("amber", [str(folder / "said.json")], [str(world(folder, notes))], [*options])


def question(id: int, kind: str, truth: str) -> dict[str, Any]:
    return {"id": id, "type": kind, "truth": truth}


STATE, NUMBER, EXISTENCE = (
    "discriminative-attribute-state",
    "discriminative-attribute-number",
    "discriminative-hallucination",
)


def test_figures_of_no_by_hand(tmp_path: Path) -> None:
    """State: of three true No one is said (recall 1/3), of two said No one is true (precision 1/2), 2 of 5 right."""
    truths = ["no", "no", "no", "yes", "yes"]
    notes = [question(n, STATE, truth) for n, truth in enumerate(truths, 1)] + [question(6, EXISTENCE, "no")]
    said = {1: "No", 2: "no", 3: "No.", 4: "No", 5: "Yes", 6: "No"}
    values = scored(tmp_path, notes, said).metrics
    assert (values["State Accuracy"], values["State Precision"], values["State Recall"]) == (40.0, 50.0, 33.3)
    assert values["State F1"] == 40.0  # 2 * .5 * .333 / (.5 + .333 + .0001), in percent
    assert values["amber/state/f1"] == pytest.approx(40) and values["amber/state/recall"] == pytest.approx(100 / 3)
    assert values["Attribute F1"] == 39.9  # its denominators are those of three kinds: 1 of 2.003 is 49.9
    assert "Number F1" not in values and "Relation F1" not in values
    assert (values["Accuracy"], values["Precision"], values["Recall"]) == (50.0, 66.6, 50.0)  # 2 of 3.001 is 66.6
    assert values["amber/precision"] == pytest.approx(200 / 3)
    assert values["amber/state/f1@robust"] == pytest.approx(100 * 2 * 3 / 7)  # "no" and "No." are clear
    assert values["amber/valid"] == 100


def test_existence_has_an_epsilon_of_its_own(tmp_path: Path) -> None:
    """Both 50.0: 50.0 with 0.0001 beside the sum, with 0.001 still 50.0 less 0.05, which is rounded."""
    for kind, name in ((EXISTENCE, "Existence"), (STATE, "State")):
        notes = [question(n, kind, "no") for n in range(1, 3001)]
        said = {n: "No" if n <= 1500 else "Yes" for n in range(1, 3001)}
        values = scored(tmp_path, notes, said).metrics
        assert (values[f"{name} Precision"], values[f"{name} Recall"]) == (100.0, 50.0)
        assert values[f"{name} F1"] == {"Existence": 66.6, "State": 66.7}[name]


def test_nothing_said_is_zero_to_the_script_and_undefined_to_us(tmp_path: Path) -> None:
    values = scored(tmp_path, [question(1, NUMBER, "yes")], {1: "Yes"}).metrics
    assert (values["Number Precision"], values["Number F1"], values["Accuracy"]) == (0.0, 0.0, 99.9)
    done = scored(tmp_path, [question(1, NUMBER, "yes")], {1: "Yes"})
    assert json.loads(done.json())["metrics"]["amber/precision"] is None


CAPTION = {"id": 1, "type": "generative", "truth": ["dog", "sky", "ship"], "hallu": ["cat", "lamp"]}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        # nouns, made up, covered, caught
        ("A dog under the sky.", (2, 0, 2, 0)), ("Two kids play.", (1, 0, 1, 0)),  # an associated word covers
        ("A cat sits.", (1, 0, 1, 1)),  # a lure that is like the truth covers it, and is caught all the same
        ("A lamp, and a lamp.", (2, 2, 0, 1)), ("A cup.", (1, 1, 0, 1)),  # like a lure, and like nothing that is there
        ("A sign.", (1, 0, 0, 0)),  # safe: counted, whatever is there
        ("There are boats by a car.", (2, 1, 1, 0)), ("An elephant flies.", (0, 0, 0, 0)),  # no word of AMBER's
        ("Dogs run. A DOG barks.", (0, 0, 0, 0)),  # capital letters are other words
        ("They ship it.", (0, 0, 0, 0)), ("", (0, 0, 0, 0)),  # a verb
    ],
)  # fmt: skip
def test_what_a_caption_names(tmp_path: Path, text: str, parts: tuple[int, ...]) -> None:
    world(tmp_path, [CAPTION])
    [item] = Amber(part="generative").published(given(tmp_path, {1: text})).items
    counted = amber._counted(item.facts, text)
    assert tuple(counted[name] for name in ("nouns", "made_up", "covered", "caught")) == parts
    assert (counted["there"], counted["lures"]) == (3, 2)


def given(folder: Path, said: dict[int, str]) -> Any:
    from harness.contracts.benchmark import Files as Given

    as_json(folder / "said.json", [{"id": id, "response": text} for id, text in said.items()])
    return Given({"": folder / "annotations.json"}, {"": folder / "said.json"}, {})


def test_captions_by_hand(tmp_path: Path) -> None:
    """Of 2 + 3 nouns 2 are made up, of 3 + 3 objects 3 covered; a lure of 4 is caught; one caption of two is clean."""
    notes = [CAPTION, {**CAPTION, "id": 2}, question(3, STATE, "no")]
    said = {1: "A dog under the sky.", 2: "A dog, a lamp and a car.", 3: "No"}
    values = scored(tmp_path, notes, said, "part=all").metrics
    assert (values["CHAIR"], values["Cover"], values["Hal"], values["Cog"]) == (40.0, 50.0, 50.0, 25.0)
    assert values["amber/score"] == pytest.approx((60 + 100) / 2)
    assert values["amber/words"] == 6


def test_half_of_amber_is_no_amber_score(tmp_path: Path) -> None:
    """With captions alone, or questions alone, the mean of both has no value."""
    alone = scored(tmp_path, [CAPTION], {1: "A dog."}, "part=all")
    assert json.loads(alone.json())["metrics"]["amber/score"] is None and alone.metrics["amber/chair"] == 0
    done = scored(tmp_path, [CAPTION, question(2, STATE, "no")], {2: "No"})
    assert "amber/score" not in done.metrics and (done.n, done.metrics["F1"]) == (1, 99.9)


@pytest.mark.parametrize("part", ["generative", "all"])
def test_captions_are_not_asked_for_without_vectors(tmp_path: Path, part: Any) -> None:
    LAYOUTS["amber"](tmp_path)
    world(tmp_path, json.loads((tmp_path / "annotations.json").read_text()))
    assert len(list(Amber(part=part).items(tmp_path, Files()))) == {"generative": 1, "all": 11}[part]
    (tmp_path / "similar.json").write_text('{"dog": ["dog"]}')
    with pytest.raises(UsageError, match=r"similar\.json has no list for 'boat'; make it anew"):
        list(Amber(part=part).items(tmp_path, Files()))
    (tmp_path / "similar.json").unlink()
    with pytest.raises(UsageError, match=r"no .*similar\.json.*docs/data\.md.*part=discriminative"):
        list(Amber(part=part).items(tmp_path, Files()))
    assert len(list(Amber().items(tmp_path, Files()))) == 10


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ({"id": 1, "type": "poem", "truth": "no"}, "annotation 1 .* of the type 'poem'"),
        ({"id": 1, "type": STATE, "truth": "maybe"}, "has the truth 'maybe'"),
        ({"id": 1, "type": "generative", "truth": ["dog"]}, "truth and hallu should be lists"),
        ({"id": 1, "type": "generative", "truth": ["dog", 2], "hallu": []}, "truth and hallu should be lists"),
        ({"id": 1, "type": STATE}, "record 1 .* has no truth"),
        ({"id": None, "type": STATE, "truth": "no"}, "has no id"),
    ],
)  # fmt: skip
def test_odd_annotations_are_named(tmp_path: Path, note: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        scored(tmp_path, [note], {1: "No"}, "part=all")


def test_ids_that_do_not_pair_up_are_reported(tmp_path: Path) -> None:
    notes = [question(1, STATE, "no"), question(2, STATE, "yes")]
    with pytest.raises(UsageError, match="1 ids without a response: 2"):
        scored(tmp_path, notes, {1: "No"})
    with pytest.raises(UsageError, match="1 ids in the answers only: 7"):
        scored(tmp_path, notes, {1: "No", 2: "Yes", 7: "No"})
    with pytest.raises(UsageError, match=r"annotation 1 of .* stands there twice"):
        scored(tmp_path, [*notes, notes[0]], {1: "No", 2: "Yes"})


def test_nouns_are_nltks() -> None:
    """Plurals by WordNet, "sunglasses" too, which then is no word of AMBER's; proper names as they stand."""
    text = "Three children with knives and sunglasses sit on benches near a TV. Dogs pass the geese."
    assert [noun for noun in nouns(text) if noun[0].islower()] == ["child", "knife", "sunglass", "bench", "goose"]
    assert "Dogs" in nouns("Two white Dogs pass.") and "dog" not in nouns("Dogs are here.")


def test_a_kinder_parse_would_be_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: the robust reading as the official one."""
    item = Item("1", None, "?", "1", {"kind": "state", "answer": "No"})
    assert computed(Amber(), [(item, "No, it is not.")])["amber/f1"] == 0
    monkeypatch.setattr(amber, "yes_or_no", lambda text, official: official)
    assert computed(Amber(), [(item, "No, it is not.")])["amber/f1@robust"] == 0


def test_similarity_that_is_guessed_would_be_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: what is like nothing. A boat that only resembles a car would then be made up."""
    notes = [{**CAPTION, "truth": ["car"]}]
    assert scored(tmp_path, notes, {1: "A boat."}, "part=generative").metrics["CHAIR"] == 0.0
    fate = amber.fate
    monkeypatch.setattr(amber, "fate", lambda noun, truth, lures, alike: fate(noun, truth, lures, ()))
    assert scored(tmp_path, notes, {1: "A boat."}, "part=generative").metrics["CHAIR"] == 99.9
