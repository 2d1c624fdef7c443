"""Every scorer against real answer files and what the benchmark's own official scorer says of them."""

import csv
import gzip
import json

import pytest
from official_files import Script, computed, lines, official

from benchmarks import textvqa
from benchmarks.chair import COCO, Chair
from benchmarks.mmb import PASS, Mmb
from benchmarks.mme import Mme
from benchmarks.mmhal import HALLUCINATED_BELOW, TYPES, Mmhal, parse
from benchmarks.mmvet import Mmvet
from benchmarks.pope import Pope
from benchmarks.sqa import Sqa
from benchmarks.textvqa import Textvqa
from harness.types import Image, Item, Response, Unscored


def test_mme_lavin() -> None:
    said = []
    for path in sorted((official("mme") / "LaVIN").glob("*.txt")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(keepends=True)):
            image, question, answer, text = line.split("\t")
            facts = {"subtask": path.stem, "answer": answer.lower()}
            said.append((Item(f"{path.stem}/{number}", None, question, f"{path.stem}/{image}", facts), text))
    values = computed(Mme(), said)
    assert len(said) == 2374
    assert values["mme/perception"] == pytest.approx(963.6114445778312, abs=1e-9)
    assert values["mme/cognition"] == pytest.approx(249.64285714285714, abs=1e-9)
    expected = {
        "existence": 185, "count": 88.333333333, "position": 63.333333333, "color": 75, "posters": 79.591836734694,
        "celebrity": 47.352941176, "scene": 136.75, "landmark": 93.5, "artwork": 87.25, "OCR": 107.5,
        "commonsense_reasoning": 87.142857143, "numerical_calculation": 65, "text_translation": 47.5,
        "code_reasoning": 50,
    }  # fmt: skip
    assert {name: values[f"mme/subtask/{name}"] for name in expected} == pytest.approx(expected)
    assert values["mme/perception_max"] == 2000


def test_pope_verbose_replies() -> None:
    rows = json.loads((official("pope") / "verbose_yesno_from_LaVIN_existence.json").read_text())
    said = [
        (Item(f"random/{n}", None, "", f"random/{n}", {"split": "random", "label": row["label"]}), row["text"])
        for n, row in enumerate(rows)
    ]
    values = computed(Pope(), said)
    expected = {"f1": 95.08196721311476, "accuracy": 95.0, "yes_ratio": 51.66666666666667}
    assert {name: values[f"pope/random/{name}"] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("split", ["random", "popular", "adversarial"])
def test_pope_question_files(split: str) -> None:
    rows = lines(official("pope") / f"coco_pope_{split}_3000.jsonl")
    assert len(rows) == 3000
    assert sum(row["label"] == "yes" for row in rows) == 1500


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


def test_mmbench_circular() -> None:
    said = []
    with (official("mmbench") / "first_150_questions.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            index = int(row["index"])
            choices = {letter: row[letter] for letter in "ABCD" if row[letter]}
            facts = {"answer": row["answer"], "choices": choices, "first": index < PASS}
            said.append((Item(str(index), None, "", str(index % PASS), facts), row["prediction"]))
    values = computed(Mmb(), said)
    assert values["mmb/circular"] == pytest.approx(100 * 124 / 150)
    assert values["mmb/single_pass"] >= values["mmb/circular"]
    assert values["mmb/unmatched"] == 0


def test_scienceqa_chain_of_thought() -> None:
    folder = official("scienceqa")
    problems = json.loads((folder / "problems_min_test.json").read_text())
    order = json.loads((folder / "pid_splits_test.json").read_text())["test"]
    with gzip.open(folder / "test_sqa_llava_13b_v0.jsonl.gz", "rt", encoding="utf-8") as file:
        answers = {row["question_id"]: row["text"] for row in map(json.loads, file)}
    said = []
    for id in order:
        image = Image("", id) if problems[id]["image"] else None
        said.append((Item(id, image, "", id, problems[id]), answers[id]))
    values = computed(Sqa(images_only=False), said)
    assert len(said) == 4241
    assert values["sqa/all"] == pytest.approx(100 * 3855 / 4241)
    assert round(values["sqa/img"], 2) == 88.00


def test_textvqa_accuracy() -> None:
    golden = json.loads((official("textvqa") / "vqa_accuracy_synthetic_gt_golden.json").read_text())
    for row in golden["items"]:
        assert textvqa.accuracy(row["pred_answer"], row["gt_answers"]) == pytest.approx(row["official_score"])
    said = [
        (Item(str(n), None, "", str(n), {"answers": row["gt_answers"]}), row["pred_answer"])
        for n, row in enumerate(golden["items"])
    ]
    values = computed(Textvqa(), said)
    assert values["textvqa/all"] / 100 == pytest.approx(golden["official_accuracy"], abs=1e-12)
    assert golden["official_accuracy"] == 0.713066666666665


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
