"""MM-Vet and MMHal: grades and reviews that somebody published, several runs of a judge."""

from pathlib import Path
from typing import Any

import pytest
from layouts import as_json

from benchmarks import mmhal
from harness.comparison.published import rescore
from harness.system.errors import UsageError

NEEDS = {"v1_0": ["rec"], "v1_1": ["ocr", "rec"], "v1_2": ["rec"], "v1_3": ["spat", "ocr", "math"]}


def graded(folder: Path, scores: dict[str, list[float]], questions: Any = NEEDS) -> dict[str, float]:
    as_json(folder / "needs.json", questions)
    rows = {id: {"model": ["j"], "content": ["?"], "score": given} for id, given in scores.items()}
    as_json(folder / "grades.json", rows)
    return rescore("mmvet", [], [str(folder / "needs.json")], [f"grades={folder / 'grades.json'}"]).metrics


def test_mmvet_runs_are_averaged_with_their_deviation(tmp_path: Path) -> None:
    """Totals of the runs are 50 and 55: 52.5 with a deviation of 2.5; rec is needed by three items, alone by two."""
    values = graded(tmp_path, {"v1_0": [1.0, 1.0], "v1_1": [0.5, 0.7], "v1_2": [0.0, 0.0], "v1_3": [0.5, 0.5]})
    assert (values["total"], values["std"], values["rec"], values["rec alone"]) == (52.5, 2.5, 53.3, 50.0)
    assert (values["rec_ocr"], values["ocr_spat_math"], values["math"]) == (60.0, 50.0, 50.0)
    assert values["mmvet/all"] == pytest.approx(52.5)
    assert values["mmvet/integrated/rec+ocr"] == pytest.approx(60)


def test_mmvet_total_is_the_weighted_mean_of_the_integrations(tmp_path: Path) -> None:
    values = graded(tmp_path, {"v1_0": [0.3], "v1_1": [0.9], "v1_2": [0.4], "v1_3": [0.1]})
    sizes = {"rec": 2, "rec+ocr": 1, "ocr+spat+math": 1}
    assert {f"mmvet/integrated/{name}" for name in sizes} == {name for name in values if "integrated" in name}
    weighted = sum(values[f"mmvet/integrated/{name}"] * size for name, size in sizes.items()) / 4
    assert weighted == pytest.approx(values["mmvet/all"])


def test_mmvet_reads_capabilities_from_the_questions_too(tmp_path: Path) -> None:
    scores = {id: [1.0] for id in NEEDS}
    questions = {id: {"question": "?", "answer": "x", "capability": needed} for id, needed in NEEDS.items()}
    assert graded(tmp_path, scores, questions) == graded(tmp_path, scores)


def test_mmvet_wants_every_grade(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"1 ids without a response: v1_3"):
        graded(tmp_path, {"v1_0": [0.3], "v1_1": [0.9], "v1_2": [0.4]})
    with pytest.raises(UsageError, match="equally many grades, one per run"):
        graded(tmp_path, {"v1_0": [0.3], "v1_1": [0.9, 0.8], "v1_2": [0.4], "v1_3": [0.1]})


def test_mmvet_answers_need_a_judge_and_the_true_answers(tmp_path: Path) -> None:
    as_json(tmp_path / "answers.json", {"v1_0": "four"})
    as_json(tmp_path / "needs.json", {"v1_0": ["rec"]})
    given = ([str(tmp_path / "answers.json")], [str(tmp_path / "needs.json")], [])
    with pytest.raises(UsageError, match=r"needs mm-vet\.json as --questions"):
        rescore("mmvet", *given)
    as_json(tmp_path / "needs.json", {"v1_0": {"question": "?", "answer": "4", "capability": ["rec"]}})
    with pytest.raises(UsageError, match="mmvet needs a judge and none was given"):
        rescore("mmvet", *given)


def reviewed(folder: Path, *replies: str) -> Any:
    as_json(folder / "reviews.json", [{"choices": [{"message": {"content": reply}}]} for reply in replies])
    return rescore("mmhal", [], [], [f"reviews={folder / 'reviews.json'}"])


def test_mmhal_reviews_count_as_the_script_counts_them(tmp_path: Path) -> None:
    """Ratings 6, 2, -, 4: the script's mean is 12/4 with a rate of 2/4, ours is 12/3 with one unscored and 1/3."""
    done = reviewed(tmp_path, "Fine.\nRating: 6", "rating: 2, wrong", "I cannot say.", "**Rating: 4**")
    assert (done.n, done.unscored) == (3, 1)
    assert (done.metrics["Average score"], done.metrics["Hallucination rate"]) == (3.0, 0.5)
    assert (done.metrics["mmhal/rating"], done.metrics["mmhal/hallucination_rate"]) == (4, pytest.approx(1 / 3))
    assert (done.metrics["Average score/comparison"], done.metrics["mmhal/unread"]) == (0, 0.25)


@pytest.mark.parametrize(
    ("reply", "rating"),
    [("Rating: 4, good", 4), ("Rating:6", 6), ("rating is 3.", 3), ("**Rating:** 2", 2), ("rating: 1\nrating: 5", 5),
     ("Rating: 10", None), ("rating 2.5", None), ("no number", None), ("", None)],
)  # fmt: skip
def test_mmhal_robust_parse(reply: str, rating: int | None) -> None:
    assert mmhal.parse_robust(reply) == rating


def test_mmhal_format_effects_show_in_the_robust_parse(tmp_path: Path) -> None:
    done = reviewed(tmp_path, "Rating: 6", "Rating:6", "Rating is 6")
    assert (done.metrics["Average score"], done.metrics["mmhal/rating@robust"]) == (2.0, 6.0)
    assert (done.metrics["mmhal/unread"], done.metrics["mmhal/unread@robust"]) == (pytest.approx(2 / 3), 0)


def test_mmhal_reviews_pair_with_the_template(tmp_path: Path) -> None:
    as_json(tmp_path / "template.json", [{"question": "?", "gt_answer": "a"}] * 3)
    as_json(tmp_path / "reviews.json", ["Rating: 1", "Rating: 1"])
    with pytest.raises(UsageError, match="1 ids without a response: 2"):
        rescore("mmhal", [], [str(tmp_path / "template.json")], [f"reviews={tmp_path / 'reviews.json'}"])
    as_json(tmp_path / "reviews.json", [{"choices": []}])
    with pytest.raises(UsageError, match="a review should be a chat completion or its text"):
        rescore("mmhal", [], [], [f"reviews={tmp_path / 'reviews.json'}"])
