"""Every scorer against real answer files and what the benchmark's own official scorer says of them."""

import csv
import json
from pathlib import Path

import pytest
from official_files import lines, official

from benchmarks import llava_bench, shr, textvqa
from benchmarks._coco_objects import mentions
from benchmarks.mmhal import TYPES
from benchmarks.mmstar import CATEGORIES
from benchmarks.mmvet import CAPABILITIES
from harness.comparison.published import rescore


def figures(name: str, *arguments: str) -> dict[str, float]:
    """The figures `harness score` gives for these files."""
    given: dict[str, list[str]] = {"answers": [], "questions": [], "options": []}
    for argument in arguments:
        kind, _, value = argument.partition(" ")
        given[kind].append(value)
    done = rescore(name, **given)
    assert done.unscored == 0
    assert done.notes == ()
    return done.metrics


def test_mme_lavin() -> None:
    folder = official("mme")
    values = figures("mme", f"answers {folder / 'LaVIN'}")
    expected = {
        "existence": 185, "count": 88.333333333, "position": 63.333333333, "color": 75, "posters": 79.591836734694,
        "celebrity": 47.352941176, "scene": 136.75, "landmark": 93.5, "artwork": 87.25, "OCR": 107.5,
        "commonsense_reasoning": 87.142857143, "numerical_calculation": 65, "text_translation": 47.5,
        "code_reasoning": 50,
    }  # fmt: skip
    assert {name: values[name] for name in expected} == pytest.approx(expected)
    assert (values["perception"], values["cognition"]) == (963.6114445778312, 249.64285714285714)
    assert values["mme/perception_max"] == 2000
    template = f"questions {folder / 'ground_truth_template'}"
    assert figures("mme", f"answers {folder / 'LaVIN'}", template) == values


def test_pope_verbose_replies() -> None:
    values = figures("pope", f"answers {official('pope') / 'verbose_yesno_from_LaVIN_existence.json'}")
    expected = {"tp": 29, "fp": 2, "tn": 28, "fn": 1, "accuracy": 0.95, "yes_ratio": 0.5166666666666667}
    assert {name: values[name] for name in expected} == expected
    assert values["f1"] == values["f1_macro"] == 0.9508196721311476


def test_pope_question_files(tmp_path: Path) -> None:
    """Somebody who says Yes to everything: F1 is 2/3 on each of the three files."""
    arguments = []
    for split in ("random", "popular", "adversarial"):
        path = official("pope") / f"coco_pope_{split}_3000.jsonl"
        said = "".join(f'{{"question_id": {row["question_id"]}, "text": "Yes"}}\n' for row in lines(path))
        (tmp_path / split).write_text(said)
        arguments += [f"questions {split}={path}", f"answers {split}={tmp_path / split}"]
    values = figures("pope", *arguments)
    assert values["popular/tp"] == values["random/fp"] == 1500
    assert (values["f1_macro"], values["pope/accuracy_macro3"]) == (pytest.approx(2 / 3), 50)


def test_mmbench_circular() -> None:
    values = figures("mmb", f"answers {official('mmbench') / 'first_150_questions.tsv'}")
    assert (values["correct"], values["count"]) == (124, 150)
    assert values["accuracy"] == values["mmb/circular"] == 100 * 124 / 150 < values["mmb/single_pass"]
    assert values["mmb/valid"] == 100


def test_seed_letters() -> None:
    path = official("seedbench") / "first_2000_image_gpt4v.csv"
    values = figures("seed", f"questions {path}", f"answers {path}")
    assert (values["correct"], values["count"], values["accuracy"]) == (1358, 2000, 67.9)


def test_scienceqa_chain_of_thought() -> None:
    folder = official("scienceqa")
    values = figures(
        "sqa",
        f"questions {folder / 'problems_min_test.json'}",
        f"answers {folder / 'test_sqa_llava_13b_v0.jsonl.gz'}",
        f"options split={folder / 'pid_splits_test.json'}",
    )
    assert (values["correct"], values["count"]) == (3855, 4241)
    assert values["accuracy"] == values["sqa/all"] == 90.8983730252299
    assert round(values["accuracy_img"], 2) == 88.00


def test_textvqa_accuracy() -> None:
    path = official("textvqa") / "vqa_accuracy_synthetic_gt_golden.json"
    golden = json.loads(path.read_text())
    for row in golden["items"]:
        assert textvqa.accuracy(row["pred_answer"], row["gt_answers"]) == row["official_score"]
    values = figures("textvqa", f"answers {path}")
    assert values["accuracy"] == golden["official_accuracy"]
    assert golden["official_accuracy"] == 0.713066666666665


def test_mmvet_grades() -> None:
    folder = official("mmvet")
    values = figures(
        "mmvet",
        f"questions {folder / 'capabilities.json'}",
        f"options grades={folder / 'llava-v1.5-7b_gpt-4-grade-1runs.json'}",
    )
    for name in ("cap", "cap-int"):
        with (folder / f"llava-v1.5-7b_gpt-4-{name}-score-1runs.csv").open() as file:
            theirs = next(row for row in csv.DictReader(file) if row.pop("") == "llava-v1.5-7b")
        del theirs["runs"]
        for column, value in theirs.items():
            known = sorted(column.split("_"), key=(*CAPABILITIES, column).index)
            alone = name == "cap-int" and column in CAPABILITIES
            assert values["_".join(known) + (" alone" if alone else "")] == float(value), column
    assert values["mmvet/all"] == pytest.approx(31.2, abs=0.05)


def test_textvqa_answer_processor() -> None:
    rows = lines(official("textvqa") / "evalai_processor_half.jsonl")
    assert len(rows) == 14642
    assert [row["in"] for row in rows if textvqa.process(row["in"]) != row["out"]] == []


def test_mmhal_reviews() -> None:
    """The official script counts a reply without one rating as 0; ours leaves it unscored and counts it."""
    folder = official("mmhal")
    template, reviews = folder / "mmhal-bench_answer_template.json", folder / "synthetic_reviews.json"
    done = rescore("mmhal", [], [str(template)], [f"reviews={reviews}"])
    values = done.metrics
    assert (values["Average score"], values["Hallucination rate"]) == (2.56, 0.49)
    per_type = [values[f"Average score/{name}"] for name in TYPES]
    assert per_type == [2.67, 3.17, 2.17, 2.42, 2.58, 2.92, 2.08, 2.5]
    assert (done.n, done.unscored, values["mmhal/unread"]) == (85, 11, 11 / 96)
    assert values["mmhal/rating"] * 85 == pytest.approx(values["mmhal/rating@official"] * 96)
    assert [row["question_type"] for row in json.loads(template.read_text())] == [TYPES[n % 8] for n in range(96)]


def test_shr() -> None:
    path = official("shr") / "shr_golden.json"
    golden = json.loads(path.read_text())
    for item in golden["items"]:
        said = shr.sentences(item["caption"])
        labels = shr.parse(item["raw_judgement"], len(said)) or [None] * len(said)
        assert [f"{text}." for text in said] == item["seg_cap"]
        assert labels == [sentence["classification"] for sentence in item["parsed"]]
        assert [shr.distinct(item["caption"], n) for n in shr.GRAMS] == item["gram"]
    done = rescore("shr", [str(path)], [], [])
    theirs = golden["official_metrics"]
    assert {name: done.metrics[name] for name in theirs} == theirs
    assert (done.n, done.unscored) == (56, 5)


@pytest.mark.parametrize(
    ("run", "expected"),
    [(1, (64.7, 59.3, 47.7, 77.6)), (2, (65.3, 59.0, 48.5, 78.8)), (3, (66.3, 59.0, 50.8, 79.6))],
)
def test_llava_bench_reviews(run: int, expected: tuple[float, ...]) -> None:
    """The mean of the three is the published 65.4; ours is not rounded on the way."""
    values = figures("llava_bench", f"answers {official('llava_bench') / f'llava-v1.5-7b-eval{run}.jsonl'}")
    names = ("all", "llava_bench_conv", "llava_bench_detail", "llava_bench_complex")
    assert tuple(values[name] for name in names) == expected
    assert values["llava_bench/relative"] == pytest.approx(values["all"], abs=0.06)


def test_llava_bench_reviews_hold_the_scores_that_the_parse_reads() -> None:
    for row in (row for path in sorted(official("llava_bench").glob("*eval?.jsonl")) for row in lines(path)):
        assert list(llava_bench.parse(row["content"]) or (-1, -1)) == row["tuple"]


def test_mmstar_predictions() -> None:
    """The sheet in the repository's eval/submits."""
    path = official("mmstar") / "llava_next_yi_34b_MMStar.xlsx"
    values = figures("mmstar", f"answers {path}")
    shares = (0.656, 0.52, 0.624, 0.46, 0.332, 0.532)
    assert values["final score"] == 781 / 1500 and values["mmstar/all"] == pytest.approx(100 * 781 / 1500)
    assert tuple(values[name] for name in CATEGORIES) == shares


@pytest.mark.parametrize("model", ["llava-1.5_greedy", "minigpt4_greedy", "shikra_ours"])
@pytest.mark.parametrize(("variant", "theirs"), [("lemma", "lemma"), ("noun", "sima")])
def test_chair(model: str, variant: str, theirs: str) -> None:
    folder = official("chair")
    values = figures(
        "chair",
        f"questions {folder / 'gt_objects_994_images.json'}",
        f"answers {folder / 'captions' / f'{model}.jsonl'}",
        f"options variant={variant}",
    )
    expected = json.loads((folder / "official_scores.json").read_text())[f"{model}_{theirs}"]
    assert {name: values[name] for name in expected} == expected
    mean = 50 * (expected["CHAIRi"] + expected["CHAIRs"])
    assert values[f"chair/mean_is@{variant}"] == pytest.approx(mean, abs=1e-12)


def test_chair_mentions_of_each_caption() -> None:
    folder = official("chair")
    captions = {
        (model, row["image_id"]): row["caption"]
        for model in ("llava-1.5_greedy", "minigpt4_greedy")
        for row in lines(folder / "captions" / f"{model}.jsonl")
    }
    golden = [row for row in lines(folder / "per_caption_golden.jsonl") if row["variant"] == "lemma"]
    assert len(golden) == 1000
    for row in golden:
        assert mentions(captions[row["file"], row["image_id"]], "lemma").objects == row["generated"]
