"""HallusionBench: the official accuracies by hand, its two siblings, and what three conventions do to one file."""

import json
from pathlib import Path
from typing import Any

import pytest
from layouts import LAYOUTS, Files, Fixed, as_json
from official_files import Script

from benchmarks import hallusion
from benchmarks.hallusion import Hallusion
from harness.comparison.published import rescore
from harness.contracts.benchmark import totals
from harness.contracts.records import Response, Score, Unscored
from harness.system.errors import UsageError

CHECKED = "gpt4v_output_gpt_check"


def row(category: str, figure: int, question: int, said: str = "", checked: int | None = None) -> dict[str, Any]:
    """A record of set 0 as in the official files; visual supplement's figure 0 is none."""
    seen = 0 if category == "VS" and not figure else 1 + (figure > 0 and category == "VD")
    record = {"category": category, "subcategory": "ocr", "visual_input": str(seen), "set_id": "0"}
    record |= {"figure_id": str(figure), "sample_note": "x", "question_id": str(question), "question": "Is it so?"}
    record |= {"gt_answer_details": "It is so.", "gt_answer": "1", "model_prediction": said}
    return record | ({} if checked is None else {CHECKED: str(checked)})


# Verdicts by category, figure and question: two pairs over two figures each.
VERDICTS = {
    ("VD", 0, 0): 1, ("VD", 0, 1): 1, ("VD", 1, 0): 1, ("VD", 1, 1): 2,
    ("VS", 0, 0): 2, ("VS", 0, 1): 0, ("VS", 1, 0): 1, ("VS", 1, 1): 1,
}  # fmt: skip


def judged(folder: Path, verdicts: dict[tuple[str, int, int], int], **more: str) -> list[str]:
    """The two files that the official script saves."""
    for category in ("VD", "VS"):
        rows = [row(*key, checked=value) | more for key, value in verdicts.items() if key[0] == category]
        as_json(folder / f"{category}.json", rows)
    return [f"vd={folder / 'VD.json'}", f"vs={folder / 'VS.json'}"]


def test_official_accuracies_by_hand(tmp_path: Path) -> None:
    """Right are 6 of 8: unclear counts without a figure, and not of VD's. Pairs: VD 0 and VS 0 of four. Figures: VD 0
    and VS 1 of three, for VS 0 is none. Easy (figure 0): all of VD's and one of VS's; hard: one of VD's, both of VS's.
    """
    values = rescore("hallusion", judged(tmp_path, VERDICTS), [], []).metrics
    assert [values[f"Acc per {name}"] for name in ("question", "question pair", "figure")] == [75.0, 50.0, 66.6667]
    assert [values[f"Acc per {name} question"] for name in ("easy", "hard")] == [75.0, 75.0]
    assert values["hallusion/qAcc@official"] == 50 and values["hallusion/fAcc@official"] == pytest.approx(200 / 3)
    assert (values["hallusion/VD/aAcc@official"], values["hallusion/VS/aAcc@official"]) == (75, 75)


def test_lmms_evals_sibling_leaves_out_what_has_no_figure(tmp_path: Path) -> None:
    """Six of eight are left, five of them right; VS's pairs are its figure's questions, so three of four are right."""
    values = rescore("hallusion", judged(tmp_path, VERDICTS), [], ["variant=lmms"]).metrics
    found = [values[f"hallusion/{name}@lmms"] for name in ("aAcc", "qAcc", "fAcc")]
    assert found == pytest.approx([500 / 6, 75, 200 / 3])
    assert not any("@official" in name or name.startswith("Acc per") or "easy" in name for name in values)


def test_vlmevalkits_sibling_goes_by_words_whatever_the_judge_said(tmp_path: Path) -> None:
    """All say "Yes." but one that says both words: 5 of 6, 3 of 4 pairs, 2 of 3 figures; leaderboards take the mean."""
    files = judged(tmp_path, VERDICTS, model_prediction="Yes.")
    rows = json.loads((tmp_path / "VD.json").read_text())
    rows[-1]["model_prediction"] = "No, or rather yes"
    as_json(tmp_path / "VD.json", rows)
    values = rescore("hallusion", files, [], ["variant=vlmevalkit"]).metrics
    found = [values[f"hallusion/{name}@vlmevalkit"] for name in ("aAcc", "qAcc", "fAcc", "mean")]
    assert found == pytest.approx([500 / 6, 75, 200 / 3, (500 / 6 + 75 + 200 / 3) / 3])
    assert values["hallusion/valid"] == 100 and not any("@official" in name for name in values)


def test_three_conventions_share_no_metric_id() -> None:
    variants: tuple[Any, ...] = ("official", "lmms", "vlmevalkit")
    ids = [{metric.id for metric in Hallusion(variant=name).metrics} for name in variants]
    assert not ids[0] & ids[1] and not ids[0] & ids[2] and not ids[1] & ids[2]
    assert [Hallusion(variant=name).official_n for name in variants] == [1129, 951, 951]
    assert [Hallusion(variant=name).judged for name in variants] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes.", "yes"), ("No, they are not.", "no"), ("yes/no", None), ("The answer is (yes)", "yes"), ("", None),
        ("Not at all", None), ("Yes, no doubt", None), ("I say:yes", None), ("nope", None), ("YES!", "yes"),
        ("1,5 yes-or-what", None), ("yes_it_is", "yes"),
    ],
)  # fmt: skip
def test_vlmevalkits_words(text: str, said: str | None) -> None:
    """Marks become blanks, but vanish where one touches a blank, or where digits hold a comma; a colon stays."""
    assert hallusion.extract(text) == said


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("correct", "correct"), ("Incorrect.", "incorrect"), ("It is not correct", "correct"), ("unclear", "unclear"),
        ("I cannot say", "unclear"), ("correct, not incorrect", "incorrect"),
    ],
)  # fmt: skip
def test_the_official_reading_of_a_reply(reply: str, verdict: str) -> None:
    assert hallusion.parse(reply) == verdict


def test_answers_are_judged_with_the_official_questions(tmp_path: Path) -> None:
    """The judge is asked once more where its reply is no verdict; then question, pair and figure go without."""
    LAYOUTS["hallusion"](tmp_path)
    benchmark = Hallusion()
    items = list(benchmark.items(tmp_path, Files()))
    assert [item.image is None for item in items] == [False] * 4 + [True] * 2 + [False] * 2
    replies = {f"hallusion/{item.id}": "correct" for item in items} | {"hallusion/VD_chart_0_1_1": "Well, correct."}
    scored = [(item, benchmark.score(item, Response(item.id, "Yes", 1), Script(replies))) for item in items]
    assert [item.id for item, score in scored if isinstance(score, Unscored)] == ["VD_chart_0_1_1"]
    sums = totals(benchmark.units([(item, score) for item, score in scored if isinstance(score, Score)]))
    assert (sums["questions/n"], sums["pairs/n"], sums["figures/n"], sums["easy/n"], sums["hard/n"]) == (7, 3, 2, 4, 3)
    assert benchmark.compute(sums)["hallusion/aAcc@official"] == 100


def test_parquet_and_official_files_are_one_set(tmp_path: Path) -> None:
    """Columns as in lmms-lab/HallusionBench: a file with figures, one without."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    LAYOUTS["hallusion"](tmp_path)
    rows = json.loads((tmp_path / "HallusionBench.json").read_text())
    for name, bare in (("image", False), ("non_image", True)):
        part = [dict(one) for one in rows if (one["filename"] is None) == bare]
        for one in part if not bare else ():
            one["image"] = {"bytes": (tmp_path / one["filename"]).read_bytes(), "path": None}
        parquet.write_table(pa.Table.from_pylist(part), tmp_path / f"{name}-00000-of-00001.parquet")
    found = {item.id: item for item in Hallusion().items(tmp_path, Files())}
    for file in tmp_path.glob("*.parquet"):
        file.rename(tmp_path / f"{file.stem}.away")
    official = list(Hallusion().items(tmp_path, Files()))
    assert found.keys() == {item.id for item in official} and len(official) == 8
    for item in official:
        twin = found[item.id]
        assert (twin.facts, twin.prompt, twin.unit) == (item.facts, item.prompt, item.unit)
        assert (twin.image and twin.image.sha256) == (item.image and item.image.sha256)
    assert len(list(Hallusion(variant="lmms").items(tmp_path, Files()))) == 6


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({CHECKED: "3"}, [], "record 1 of .* has the verdict '3'"),
        ({"gt_answer": "yes"}, [], "VD_ocr_0_0_0 has the answer 'yes'; it should be 0 or 1"),
        ({"gt_answer": ""}, ["variant=vlmevalkit"], "has the answer ''"),
        ({"model_prediction": ["Yes"]}, [], '"model_prediction" of record 1 .* should be a text'),
        ({"question_id": "1"}, [], "with more than one response: VD_ocr_0_0_1"),
    ],
)
def test_odd_files_are_named(tmp_path: Path, change: dict[str, Any], options: list[str], said: str) -> None:
    files = judged(tmp_path, VERDICTS)
    rows = json.loads((tmp_path / "VD.json").read_text())
    as_json(tmp_path / "VD.json", [rows[0] | change, *rows[1:]])
    with pytest.raises(UsageError, match=said):
        rescore("hallusion", files, [], options)


def test_answers_that_are_missing_or_nobodys_are_reported(tmp_path: Path) -> None:
    files = judged(tmp_path, VERDICTS)
    as_json(tmp_path / "questions.json", [*[row(*key) for key in VERDICTS][1:], row("VD", 0, 7)])
    with pytest.raises(UsageError, match=r"1 ids without a response: VD_ocr_0_0_7") as caught:
        rescore("hallusion", files, [str(tmp_path / "questions.json")], [])
    assert "1 ids in the answers only: VD_ocr_0_0_0" in str(caught.value)
    as_json(tmp_path / "questions.json", [row("VD", 0, 0), row("VD", 0, 0)])
    with pytest.raises(UsageError, match=r"has question VD_ocr_0_0_0 twice"):
        rescore("hallusion", files, [str(tmp_path / "questions.json")], [])
    with pytest.raises(UsageError, match="needs --answers"):
        rescore("hallusion", [], [], [])


def test_a_set_is_resampled_as_one(tmp_path: Path) -> None:
    """A figure's twin shares its pairs, so their questions are of one unit and one cluster."""
    LAYOUTS["hallusion"](tmp_path)
    benchmark = Hallusion()
    scored = [(item, Score(item.id, {"right": 1.0})) for item in benchmark.items(tmp_path, Files())]
    assert [(unit.id, unit.cluster) for unit in benchmark.units(scored)] == [("VD_chart_0",) * 2, ("VS_chart_0",) * 2]


def test_a_mutant_that_counts_half_of_a_pair_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hallusion, "min", lambda parts: sum(parts := [*parts]) / len(parts), raising=False)
    with pytest.raises(AssertionError):
        test_official_accuracies_by_hand(tmp_path)


def test_a_mutant_that_takes_unclear_for_wrong_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hallusion, "_bare", lambda row: False)
    with pytest.raises(AssertionError):
        test_official_accuracies_by_hand(tmp_path)


def test_the_judge_sees_question_reference_and_a_fenced_answer(tmp_path: Path) -> None:
    asked = []

    class Judge(Fixed):
        def reply(self, ask: Any) -> str:
            asked.append(ask)
            return "unclear"

    LAYOUTS["hallusion"](tmp_path)
    items = list(Hallusion().items(tmp_path, Files()))
    right = [Hallusion().score(item, Response(item.id, 'No "x"\ncorrect', 1), Judge()) for item in items]
    assert [score.parts["right"] for score in right if isinstance(score, Score)] == [0, 0, 0, 0, 1, 1, 0, 0]
    assert asked[0].prompt.endswith('Reference answer: It is 0, 0.\nStudent\'s answer: "No \\"x\\"\\ncorrect"\n')
    assert asked[0].max_tokens == 16
