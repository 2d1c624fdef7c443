"""SHR: sentences as the official script cuts them, labels as it reads them, and what the judge is asked."""

import math
from pathlib import Path

import pytest
from layouts import LAYOUTS, Files, as_json
from official_files import computed

from benchmarks import shr
from harness.comparison.published import rescore
from harness.contracts.judge import Ask
from harness.contracts.records import Item, Response, Unscored
from harness.system.errors import UsageError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A dog. A dog. The cat sits. cat", ["A dog", "The cat sits"]), ("Mr. Smith has 3.5 dogs...",
        ["Mr", "Smith has 3", "5 dogs"]), ("No end", ["No end"]), ("", []), (" . ..", []),
        ("A cat. A cat sits.", ["A cat", "A cat sits"]), ("One.\n\nTwo.", ["One", "Two"]),
    ],
)  # fmt: skip
def test_sentences(text: str, found: list[str]) -> None:
    assert shr.sentences(text) == found


@pytest.mark.parametrize(
    ("reply", "labels"),
    [
        ("Judgement:\n1. Correct: yes\n2. cannot judge: mood", ["correct", "cannot judge"]),
        ("Sure.\n\nJudgement:\n1. hallucination: no: really\n\n2. correct", ["hallucination", "correct"]),
        ("1. correct: no heading\n2. correct: x", None), ("Judgement:\n1. correct: one only", None),
        ("Judgement: 1. correct: x\n2. correct: y", None), ("", None),
        ("Judgement:\n1. Partially correct: x\n2. correct: y", ["partially correct", "correct"]),
    ],
)  # fmt: skip
def test_labels_of_two_sentences(reply: str, labels: list[str] | None) -> None:
    assert shr.parse(reply, 2) == labels


def test_distinct_n_grams() -> None:
    """a b a b c: 3 of 5 words, ab ba ab bc: 3 of 4 pairs; stops, colons, commas and line ends do not count."""
    assert [shr.distinct("a, b. a\n b: c?", n) for n in (1, 2, 6)] == [3 / 5, 3 / 4, 1.0]


class Judge:
    name = "asked"

    def __init__(self, reply: str) -> None:
        self.said = reply
        self.asked: list[Ask] = []

    def reply(self, ask: Ask) -> str | Unscored:
        self.asked.append(ask)
        return self.said


def test_items_hold_regions_and_notes(tmp_path: Path) -> None:
    LAYOUTS["shr"](tmp_path)
    first, second = shr.Shr().items(tmp_path, Files())
    assert (first.id, second.id) == ("8", "7")
    assert first.prompt == "Describe this image in detail."
    assert second.facts == {"regions": "[0.1, 0.1, 0.3, 0.43]: a dog", "facts": "A red dog.\nIt sits."}


def test_shares_of_sentences_and_of_words() -> None:
    """Of 4 labelled sentences 1 hallucinates, of their 2 + 2 + 3 + 1 words 2; one published label is another one."""
    labels = "Judgement:\n1. correct: x\n2. Hallucination: x\n3. cannot judge: x\n4. correct: x"
    published = Item("7", None, "", "7", {"judgement": f"{labels}\n5. partly correct: x"})
    values = computed(shr.Shr(), [(published, "A dog. Two cats. So very nice. Sun. Some more there")])
    assert (values["shr/hallucinated"], values["shr/hallucinated_words"]) == (25, 25)
    assert (values["shr/other_labels"], values["shr/sentences"], values["shr/words"]) == (20, 5, 11)
    live, judge = Item("7", None, "", "7", {"regions": "[0, 0, 1, 1]: a dog", "facts": ""}), Judge(labels)
    assert computed(shr.Shr(), [(live, "A dog. Two cats. So very nice. Sun")], judge)["shr/hallucinated"] == 25
    assert judge.asked[0].prompt.endswith('Sentences:\n1. "A dog"\n2. "Two cats"\n3. "So very nice"\n4. "Sun"\n')


def test_the_mutant_that_leaves_out_what_cannot_be_judged_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shr, "LABELS", ("hallucination", "correct"))
    item, judge = (
        Item("7", None, "", "7", {"regions": "", "facts": ""}),
        Judge("Judgement:\n1. correct: x\n2. hallucination: x\n3. cannot judge: x\n4. correct: x"),
    )
    assert computed(shr.Shr(), [(item, "A dog. Two cats. So very nice. Sun.")], judge)["shr/hallucinated"] != 25


def test_a_sentence_cannot_end_its_fence() -> None:
    judge = Judge("no")
    item = Item("7", None, "", "7", {"regions": "", "facts": ""})
    score = shr.Shr().score(item, Response("7", 'A dog"\n2: correct', 1), judge)
    assert isinstance(score, Unscored)
    assert judge.asked[0].prompt.endswith('Sentences:\n1. "A dog\\"\\n2: correct"\n')


def test_a_response_without_a_sentence_needs_no_judge() -> None:
    item = Item("7", None, "", "7", {"regions": "", "facts": ""})
    assert math.isnan(computed(shr.Shr(), [(item, "")])["shr/hallucinated"])


def test_published_judgements_in_both_forms(tmp_path: Path) -> None:
    """Image a has 1 of 2 hallucinated; of image b one label is missing, so its sentences count in lengths only."""
    raw = "Judgement:\n1. correct: x\n2. hallucination: x"
    answers = {"a": "A dog. Two cats.", "b": "One. Two. Three."}
    run = {id: {"raw_judgement": raw, "mode_response": text, "judgement": []} for id, text in answers.items()}
    as_json(tmp_path / "judgement.json", {"run1": run})
    items = [{"caption": text, "raw_judgement": raw} for text in answers.values()]
    as_json(tmp_path / "items.json", items)
    done = [rescore("shr", [str(tmp_path / name)], [], []) for name in ("judgement.json", "items.json")]
    assert done[0].metrics == done[1].metrics
    values = done[0].metrics
    assert (values["num_images"], values["sents_per_image"], values["hal_sents_ratio"]) == (2, 2.5, 0.5)
    assert (values["hal_words_per_image"], values["hal_words_ratio"]) == (1.0, 0.5)
    assert (done[0].n, done[0].unscored, values["shr/hallucinated"], values["shr/sentences"]) == (1, 1, 50, 2)
    as_json(tmp_path / "other.json", [{"text": "?"}])
    with pytest.raises(UsageError, match=r"official judgement\.json, or a list of items"):
        rescore("shr", [str(tmp_path / "other.json")], [], [])
