"""Which of lmms-eval's stock tasks stand beside which benchmark: items in their schema, and why the two can differ."""

import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.contracts.benchmark import Benchmark
from harness.contracts.records import Item, Score, Unscored

REPLAYED = "our judge's verdicts, replayed"
POOLED = "the three splits pooled, where ours is the mean of three; and exact match"
# Metric of the stock task -> (ours, what makes it ours, why the two can differ).
Pairs = Mapping[str, tuple[str, float, str]]


@dataclass(frozen=True, slots=True)
class Stock:
    """A stock task, and how it relates to a benchmark of ours.

    `row` gives an item in the schema of the task's dataset and `keep` says which items it has. `touched` says whether
    the two score a response by different rules; without it the difference is in what they compute. `note` goes with
    every value.
    """

    yaml: str
    row: Callable[[Item], dict[str, Any]]
    pairs: Pairs
    touched: Callable[[Item, str, Score | Unscored], bool] | None = None
    keep: Callable[[Item], bool] = lambda item: True
    note: str = ""


def stocks_of(name: str, benchmark: Benchmark) -> tuple[Stock, ...]:
    """The stock tasks of a benchmark."""
    return made(benchmark) if (made := MADE.get(name)) else STOCK.get(name, ())


def _pope(split: str) -> Stock:
    exact = 'only the bare word "yes" or "no" counts'
    missed = f"{exact}; any other response is wrong but in neither precision nor recall"
    ours = {"accuracy": exact, "f1": missed, "precision": missed, "recall": missed}
    pairs = {f"pope_{'f1_score' if m == 'f1' else m}": (f"pope/{split}/{m}", 100.0, why) for m, why in ours.items()}
    return Stock(
        f"pope/pope_{ {'random': 'random', 'popular': 'pop', 'adversarial': 'adv'}[split] }.yaml",
        _pope_row,
        pairs,
        touched=lambda item, text, score: text.lower().strip() not in ("yes", "no"),
        keep=lambda item: bool(item.facts["split"] == split),
    )


def _pope_row(item: Item) -> dict[str, Any]:
    return {"question_id": item.id, "answer": item.facts["label"]}


def _mmb_row(item: Item) -> dict[str, Any]:
    known = {"index": int(item.id), "hint": "nan", "source": "nan", "split": "dev", "answer": item.facts["answer"]}
    levels = {"category": item.facts.get("category", ""), "L2-category": item.facts.get("l2-category", "")}
    return {**known, **levels, **{letter: item.facts["choices"].get(letter, "nan") for letter in "ABCD"}}


def _mmb(language: str, metric: str) -> Stock:
    return Stock(
        f"mmbench/mmbench_{language}_dev.yaml",
        _mmb_row,
        {"gpt_eval_score": (metric, 1.0, "without its judge the stock task draws a letter at random")},
        touched=lambda item, text, score: bool(isinstance(score, Score) and not score.parts["valid"]),
    )


def _chair(benchmark: Any) -> tuple[Stock, ...]:
    """The stock task has one way to reduce words, "lemma"; our metric's id names ours."""
    pairs = {"coco_cap_chair_i": "i", "coco_cap_chair_s": "s", "coco_cap_recall": "recall"}
    why = {
        "lemma": "",
        "noun": 'finds objects by the variant "lemma"',
        "listed": "knows COCO's 80 objects only, ours are the words of synonyms.txt",
    }[benchmark.variant]
    return (
        Stock(
            "coco_cap_chair/coco_cap_chair.yaml",
            lambda item: {"question_id": int(item.id), "gt_object": item.facts["objects"]},
            {theirs: (f"chair/{ours}@{benchmark.variant}", 1.0, why) for theirs, ours in pairs.items()},
            note="with chair_data/ for NLTK's data",
        ),
    )


def _hallusion(benchmark: Any) -> tuple[Stock, ...]:
    """The stock task asks the questions that have a figure, with a judge: VLMEvalKit's rule has none to replay."""
    if not benchmark.judged:
        return ()
    whole = benchmark.variant == "official"
    why = "a response without a verdict is unclear" + ("; of the questions with a figure alone" if whole else "")
    touched = None if whole else lambda item, text, score: isinstance(score, Unscored)
    return (
        Stock(
            "hallusion_bench/hallusion_bench_image.yaml",
            lambda item: {**item.facts["record"], "gt_answer_details": item.facts["answer"], "item": item.id},
            {name: (f"hallusion/{name}@{benchmark.variant}", 1.0, why) for name in ("aAcc", "qAcc", "fAcc")},
            touched,
            keep=lambda item: bool(item.facts["record"]["visual_input"] != "0"),
            note=REPLAYED,
        ),
    )


def _mmstar() -> Stock:
    why = "reads a letter anywhere; the mean of its axes, not of its questions"
    names = ["coarse perception", "fine-grained perception", "instance reasoning", "logical reasoning"]
    ours = {name: name.replace(" & ", "_").replace(" ", "_") for name in [*names, "science & technology", "math"]}
    return Stock(
        "mmstar/mmstar.yaml",
        lambda item: {
            "index": item.id,
            "answer": item.facts["answer"],
            "category": item.facts["category"],
            "l2_category": item.facts["axis"],
        },
        {theirs: (f"mmstar/{of}", 100.0, why) for theirs, of in {"average": "all", **ours}.items()},
    )


def _llava_bench() -> Stock:
    why = "rounds the ratio to a decimal, its means to three; a response without a verdict has twice −1 for a score"
    groups = {"all": "", "conv": "/conv", "detail": "/detail", "complex": "/complex"}
    return Stock(
        "llava-in-the-wild/llava-in-the-wild.yaml",
        lambda item: {
            "question_id": item.id,
            "gpt_answer": item.facts["answer"],
            "caption": item.facts["context"],
            "category": item.facts["category"],
        },
        {f"gpt_eval_llava_{of}": (f"llava_bench/relative{end}", 1.0, why) for of, end in groups.items()},
        note=REPLAYED,
    )


def _punctuated(item: Item, text: str, score: Score | Unscored) -> bool:
    """Whether GQA's two rules can differ: beyond the last full stops, which both remove."""
    inner = text.rstrip(".")
    return inner != inner.strip() or any(mark in inner + item.facts["answer"] for mark in string.punctuation)


def _read_by_one(item: Item, text: str, score: Score | Unscored) -> bool:
    """Whether only one of ScienceQA's two parsers finds a letter."""
    theirs = re.match(r"[A-Za-z]\Z|[A-Z]\.", text.strip())
    ours = re.match(r"[A-E]\Z|[A-E]\. ", text) or "The answer is" in text
    return bool(theirs) != bool(ours)


STOCK: dict[str, tuple[Stock, ...]] = {
    "pope": (
        *(_pope(split) for split in ("random", "popular", "adversarial")),
        Stock(
            "pope/pope.yaml",
            _pope_row,
            {
                "pope_f1_score": ("pope/f1_macro3", 100.0, POOLED),
                "pope_accuracy": ("pope/accuracy_macro3", 100.0, POOLED),
                "pope_yes_ratio": ("pope/yes_ratio_macro3", 100.0, "counts the labels, not the responses"),
            },
        ),
    ),
    "mme": (
        Stock(
            "mme/mme.yaml",
            lambda item: {
                "question_id": item.unit,
                "category": item.facts["subtask"],
                "answer": item.facts["answer"],
            },
            {
                "mme_perception_score": ("mme/perception", 1.0, "removes blanks and full stops, and reads y and n"),
                "mme_cognition_score": ("mme/cognition", 1.0, "removes blanks and full stops, and reads y and n"),
            },
            touched=lambda item, text, score: text != text.strip().replace(".", "") or text.lower() in ("y", "n"),
        ),
    ),
    "gqa": (
        Stock(
            "gqa/gqa.yaml",
            lambda item: {"answer": item.facts["answer"]},
            {"exact_match": ("gqa/all", 100.0, "removes all punctuation and outer blanks")},
            touched=_punctuated,
        ),
    ),
    "textvqa": (
        Stock(
            "textvqa/textvqa_val.yaml",
            lambda item: {"question_id": int(item.id), "answers": item.facts["answers"], "ocr_tokens": []},
            {"exact_match": ("textvqa/all", 100.0, "")},
        ),
    ),
    "sqa": (
        Stock(
            "scienceqa/scienceqa_img.yaml",
            lambda item: {"hint": "", "choices": item.facts["choices"], "answer": item.facts["answer"]},
            {"exact_match": ("sqa/img", 100.0, 'no "The answer is X."; reads lower case and "A." without a blank')},
            touched=_read_by_one,
            keep=lambda item: item.image is not None,
        ),
    ),
    "mmb": (_mmb("en", "mmb/circular"),),
    "mmb_cn": (_mmb("cn", "mmb_cn/circular"),),
    "mmvet": (
        Stock(
            "mmvet/mmvet.yaml",
            lambda item: {
                "question_id": item.id,
                "answer": item.facts["answer"],
                "capability": ",".join(item.facts["capability"]),
            },
            {"gpt_eval_score": ("mmvet/all", 1.0, "a response without a verdict counts as 0")},
            touched=lambda item, text, score: isinstance(score, Unscored),
            note=REPLAYED,
        ),
    ),
    "seed": (
        Stock(
            "seedbench/seedbench.yaml",
            lambda item: {
                "question_id": item.id,
                "data_type": "image",
                "answer": item.facts["answer"],
                **{f"choice_{letter}": "" for letter in "abcd"},
            },
            {"seed_image": ("seed/all", 100.0, "the first character is the letter, in any case, whatever follows")},
            touched=lambda item, text, score: text[:1].upper() in ("A", "B", "C", "D") and text not in "ABCD",
        ),
    ),
    "mmstar": (_mmstar(),),
    "realworldqa": (
        Stock(
            "realworldqa/realworldqa.yaml",
            lambda item: {"answer": item.facts["answer"]},
            {"exact_match": ("realworldqa/lmms_eval", 100.0, "")},
        ),
    ),
    "cvbench": (
        Stock(
            "cv_bench/cv_bench.yaml",
            lambda item: {
                "idx": item.id,
                "prompt": item.prompt,
                "choices": list(item.facts["choices"].values()),
                "answer": f"({item.facts['answer']})",
                "type": "",
                "task": item.facts["task"],
                "source": item.facts["source"],
            },
            {"cv_bench_acc": ("cvbench/lmms_eval", 100.0, "")},
        ),
    ),
    "llava_bench": (_llava_bench(),),
}
MADE: dict[str, Callable[[Benchmark], tuple[Stock, ...]]] = {"chair": _chair, "hallusion": _hallusion}
