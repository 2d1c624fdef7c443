"""lmms-eval's stock tasks as a second opinion on saved responses.

A stock task comes from its own YAML file and scores with its own `process_results` and aggregation. Only what it would
fetch is replaced: its rows are made from our items in its dataset's schema, its judge is never called, and NLTK's data
are those in chair_data/. What a task cannot score here gets a reason in place of a value.
"""

import inspect
import math
import re
import string
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import lmms_eval.api.metrics  # registers them
from lmms_eval.api.model import lmms as Model
from lmms_eval.api.task import ConfigurableTask
from lmms_eval.utils import load_yaml_config
from PIL import ImageFile

from benchmarks._coco_objects import lemma, tagged, tokens
from benchmarks._lmms_guard import no_credentials, quiet
from harness.contracts.benchmark import Benchmark
from harness.contracts.records import Item, Score, Unscored

__all__ = ["Model", "model_manifest", "second_opinion"]

SOURCE = f"lmms-eval {version('lmms-eval')}"
TASKS = Path(lmms_eval.__file__).parent / "tasks"
NO_REPLY = "Failed to obtain answer via API"  # what MMBench's evaluator gets from a judge that cannot be reached
POOLED = "the three splits pooled, where ours is the mean of three; and exact match"
Scores = Mapping[str, Score | Unscored]
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


class Task(ConfigurableTask):  # type: ignore[misc]
    """A stock task over rows that we have, with nobody to ask."""

    def __init__(self, stock: Stock, items: Sequence[Item]) -> None:
        self._rows = [{"question": item.prompt, **stock.row(item)} for item in items]
        with no_credentials():
            super().__init__(config=load_yaml_config(str(TASKS / stock.yaml)))

    def download(self, dataset_kwargs: dict[str, Any] | None = None) -> None:
        """Take the rows for the dataset."""
        rows = datasets.Dataset.from_list(self._rows)
        self.dataset = self.dataset_no_image = {self.config.test_split: rows}


def second_opinion(
    name: str, benchmark: Benchmark, items: Sequence[Item], said: Mapping[str, str], scores: Scores
) -> list[dict[str, Any]]:
    """What the stock tasks of a benchmark say about responses (`said`: item id -> text).

    One dict per metric that both have: "metric" (ours), "source", "task", "task_metric", and "value" on our metric's
    scale with "deviation", the known reason where the two can differ ("" where they should not); or "withheld", the
    reason for no value. `scores` are ours: their verdicts are replayed to a task that needs a judge.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # importing lmms_eval lets the process read half pictures
    found: list[dict[str, Any]] = []
    stocks = stocks_of(name, benchmark)
    for stock in stocks:
        mine = [item for item in items if stock.keep(item)]
        common = {"source": SOURCE, "task": Path(stock.yaml).stem}
        try:
            values = replayed(stock, mine, said, scores)[2] if mine else {}
        except Exception as error:  # what others' code raises is its answer to these responses
            for metric, (ours, _, _) in stock.pairs.items():
                found.append({**common, "metric": ours, "task_metric": metric, "withheld": sentence(error)})
            continue
        touched = sum(stock.touched(item, said[item.id], scores[item.id]) for item in mine) if stock.touched else None
        for metric, value in values.items():
            ours, factor, reason = stock.pairs[metric]
            row = {**common, "metric": ours, "task_metric": metric}
            if math.isfinite(value):
                known = {"deviation": _deviation(reason, touched, len(mine)), "note": stock.note}
                found.append(row | {"value": float(value) * factor} | known)
            else:
                found.append(row | {"withheld": f"the stock task's value is {value}"})
    if not stocks:
        row = {"source": SOURCE, "task": "", "metric": benchmark.metrics[0].id, "task_metric": ""}
        found.append(row | {"withheld": "no task of lmms-eval is set beside it"})
    return found


def stocks_of(name: str, benchmark: Benchmark) -> tuple[Stock, ...]:
    """The stock tasks of a benchmark."""
    return _chair(benchmark) if name == "chair" else STOCK.get(name, ())


def replayed(
    stock: Stock, items: Sequence[Item], said: Mapping[str, str], scores: Scores
) -> tuple[Task, list[dict[str, Any]], dict[str, float]]:
    """The stock task over items, what it makes of each response, and its metrics that have a counterpart."""
    with quiet(), tempfile.TemporaryDirectory() as folder:
        task, verdict = Task(stock, items), [""]
        _cut_off(task, verdict)
        results = []
        for item, row in zip(items, task.task_docs, strict=True):
            score = scores[item.id]
            verdict[0] = str(score.parts.get("all/sum", "")) if isinstance(score, Score) else ""
            # without the decorator that tries a failing row five times
            results.append(ConfigurableTask.process_results.__wrapped__(task, row, [said[item.id]]))
        values = {}
        for metric, aggregate in task.aggregation().items():
            got = [result[metric] for result in results if metric in result]
            if got and metric in stock.pairs:
                files = {"args": SimpleNamespace(output_path=folder)}
                values[metric] = aggregate(got, **(files if "args" in inspect.signature(aggregate).parameters else {}))
        return task, results, values


def _cut_off(task: Task, verdict: list[str]) -> None:
    """Leave nobody to ask: MM-Vet's judge repeats `verdict` ("": no reply), MMBench's is gone, NLTK's data are ours."""
    for function in (task.config.process_results, *task.aggregation().values()):
        names = getattr(function, "__globals__", {})  # of this task's own copy of its module
        if "get_chat_response" in names:
            names["get_chat_response"] = lambda *_, **__: (verdict[0], "replayed")
        if "mmbench_evaluator" in names:
            names["mmbench_evaluator"].get_chat_response = lambda *_, **__: NO_REPLY
        if "wordnet" in names:  # what NLTK would look up in data that it downloads
            names["nltk"] = SimpleNamespace(word_tokenize=tokens, pos_tag=tagged)
            names["wordnet"] = SimpleNamespace(NOUN="noun", VERB="verb", ADJ="adjective", ADV="adverb")
            names["WordNetLemmatizer"] = lambda: SimpleNamespace(lemmatize=lambda word, pos: lemma(word, pos))


def sentence(error: Exception) -> str:
    """An error in one line."""
    return f"the stock task fails: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _deviation(reason: str, touched: int | None, n: int) -> str:
    """Why two values can differ on these responses; empty where they should not."""
    if touched is None or not reason:
        return reason
    return f"{reason} ({touched} of {n} responses)" if touched else ""


def model_manifest(name: str, path: str) -> Any:
    """What lmms-eval's registry of models takes; `path` is "module.Class"."""
    from lmms_eval.models.registry_v2 import ModelManifest  # loads every entry point, ours too, so not while we load

    return ModelManifest(name, simple_class_path=path)


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
            note="our judge's verdicts, replayed",
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
}
