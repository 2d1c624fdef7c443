"""Every scorer against real answer files and what the benchmark's own official scorer says of them."""

import csv
import json
from pathlib import Path

import pytest
from official_files import Script, computed, lines, official

from benchmarks import textvqa
from benchmarks.chair import COCO, Chair
from benchmarks.mmhal import HALLUCINATED_BELOW, TYPES, Mmhal, parse
from benchmarks.mmvet import Mmvet
from harness.score import rescore
from harness.types import Item, Response, Unscored


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
    assert values["accuracy"] == pytest.approx(golden["official_accuracy"], abs=1e-14)
    assert golden["official_accuracy"] == 0.713066666666665


def test_mmvet_grades() -> None:
    folder = official("mmvet")
    grades = json.loads((folder / "llava-v1.5-7b_gpt-4-grade-1runs.json").read_text())
    capabilities = json.loads((folder / "capabilities.json").read_text())
    judge = Script({f"mmvet/{id}": grade["content"][0] for id, grade in grades.items()})
    said = [(Item(id, None, "?", id, {"answer": "x", "capability": capabilities[id]}), "a response") for id in grades]
    values = computed(Mmvet(), said, judge)
    tables = []
    for name in ("cap", "cap-int"):
        with (folder / f"llava-v1.5-7b_gpt-4-{name}-score-1runs.csv").open() as file:
            tables.append(next(row for row in csv.DictReader(file) if row[""] == "llava-v1.5-7b"))
    single, integrated = tables
    assert round(values["mmvet/all"], 1) == float(single["total"]) == 31.2
    names = ("rec", "ocr", "know", "gen", "spat", "math")
    for name in names:
        assert round(values[f"mmvet/capability/{name}"], 1) == float(single[name])
    ours = {key.removeprefix("mmvet/integrated/") for key in values if key.startswith("mmvet/integrated/")}
    theirs = {name for name in integrated if name and name not in ("total", "std", "runs")}
    assert ours == {"+".join(sorted(name.split("_"), key=names.index)) for name in theirs}
    for name in theirs:
        mine = "+".join(sorted(name.split("_"), key=names.index))
        assert round(values[f"mmvet/integrated/{mine}"], 1) == float(integrated[name])


def test_textvqa_answer_processor() -> None:
    rows = lines(official("textvqa") / "evalai_processor_half.jsonl")
    assert len(rows) == 14642
    assert [row["in"] for row in rows if textvqa.process(row["in"]) != row["out"]] == []


def test_mmhal_reviews() -> None:
    """The official script counts a reply without one rating as 0; we leave it unscored, so the test puts 0 in."""
    folder = official("mmhal")
    template = json.loads((folder / "mmhal-bench_answer_template.json").read_text())
    replies = [
        row["choices"][0]["message"]["content"] for row in json.loads((folder / "synthetic_reviews.json").read_text())
    ]
    assert [row["question_type"] for row in template] == [TYPES[n % 8] for n in range(96)]
    ratings = []
    for number, (row, reply) in enumerate(zip(template, replies, strict=True)):
        facts = {"answer": row["gt_answer"], "content": row["image_content"], "type": row["question_type"]}
        item = Item(str(number), None, row["question"], str(number), facts)
        score = Mmhal().score(item, Response(item.id, "said", 1), Script({f"mmhal/{number}": reply}))
        assert isinstance(score, Unscored) == (parse(reply) is None)
        ratings.append(0.0 if isinstance(score, Unscored) else score.parts["all/sum"])
    assert round(sum(ratings) / 96, 2) == 2.56
    assert round(sum(rating < HALLUCINATED_BELOW for rating in ratings) / 96, 2) == 0.49
    per_type = [round(sum(ratings[n::8]) / 12, 2) for n in range(8)]
    assert per_type == [2.67, 3.17, 2.17, 2.42, 2.58, 2.92, 2.08, 2.5]


@pytest.mark.parametrize("model", ["llava-1.5_greedy", "minigpt4_greedy", "shikra_ours"])
def test_chair_listed_is_near_the_wordnet_variant(model: str) -> None:
    """Another way to find nouns, so not the same figures; on 500 captions each it stays close."""
    folder = official("chair")
    gold = json.loads((folder / "gt_objects_994_images.json").read_text())
    theirs = json.loads((folder / "official_scores.json").read_text())[f"{model}_sima"]
    synonyms = COCO.read_text()
    said = []
    for row in lines(folder / "captions" / f"{model}.jsonl"):
        id = str(row["image_id"])
        said.append((Item(id, None, "", id, {"objects": gold[id], "synonyms": synonyms}), row["caption"]))
    values = computed(Chair(), said)
    assert values["chair/i@listed"] == pytest.approx(100 * theirs["CHAIRi"], abs=0.5)
    assert values["chair/s@listed"] == pytest.approx(100 * theirs["CHAIRs"], abs=1.0)
    assert values["chair/recall@listed"] == pytest.approx(100 * theirs["Recall"], abs=0.5)
