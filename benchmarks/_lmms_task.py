"""A task of lmms-eval as a benchmark, "lmms:gqa": its documents, prompts, post-processing and aggregation are its own.

Figures are on the task's own scale. A metric that is the mean of the documents' has parts that add up, so intervals and
tests like any other's; another is one figure of the whole set, without either (`Metric.whole`). Responses are greedy
and end before the task's stop strings. What a task draws, such as an option where it reads none, it draws by the item's
id, alike for every row; "drawn" is the share of documents where it did. Where a task asks an LLM, a judge of ours
replies (`benchmarks/_lmms_judge.py`).
"""

import hashlib
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from functools import cache
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from benchmarks import _lmms_yaml as yamls
from benchmarks._lmms_answers import Unseen, answered
from benchmarks._lmms_yaml import Declared
from harness.contracts.benchmark import Benchmark, Files, Group, Images, Metric, Published, Totals, Unit, cluster, ratio
from harness.contracts.borrowed import Listed
from harness.contracts.judge import Ask, Judge, reply_of
from harness.contracts.offered import Hub
from harness.contracts.records import Image, Item, Response, Score, Unscored
from harness.system.errors import UsageError
from harness.system.jsonl import dumps

if TYPE_CHECKING:
    from benchmarks._lmms_run import Task

Made = TypeVar("Made")
USUAL_TOKENS = 1024  # where a task names no number
OWN_IDS = ("question_id", "id", "qid", "pid", "index", "idx", "uid", "data_id", "sample_id")
_scorers: dict[type, "Task"] = {}


class Judged(Score):
    """A score with all that the task made of the response, in each run of the judge, which its aggregation reads.

    It is stored without.
    """

    __slots__ = ("results",)
    results: tuple[dict[str, Any], ...]

    def __init__(self, id: str, parts: dict[str, float], results: tuple[dict[str, Any], ...]) -> None:
        super().__init__(id, parts)
        object.__setattr__(self, "results", results)

    @classmethod
    def mean(cls, scores: Sequence[Score]) -> Score:
        """The mean of the parts, with what the task made of it in every run."""
        runs = tuple(made for score in scores if isinstance(score, Judged) for made in score.results)
        return cls(scores[0].id, Score.mean(scores).parts, runs)


@dataclass(frozen=True)
class LmmsTask(Benchmark):
    """What every task has; `made` gives it the rest."""

    hub: str = field(default="", metadata={"help": "its data set in the hub's cache, owner/name@<40-hex commit>"})
    lmms_eval: str = field(default="", metadata={"help": "the version of lmms-eval; a comparison writes it down"})
    version: str = field(default="", metadata={"help": "the task's own version; a comparison writes it down"})
    content: str = field(default="", metadata={"help": "digest of the task's files; a comparison writes it down"})

    task: ClassVar[Declared]
    group: ClassVar[Group] = "comprehension"
    official_n: ClassVar[int] = 0  # a task's YAML does not say how many documents there are
    protocol: ClassVar[str] = "as lmms-eval's task asks"

    @classmethod
    def pinned(cls) -> dict[str, Any]:
        """Which lmms-eval, and which files of it."""
        return {"lmms_eval": yamls.version(), "version": cls.task.version, "content": cls.task.content}

    def items(self, folder: Path, images: Images) -> Iterator[Item]:
        """A question per document of the task's split, in its order."""
        from benchmarks._lmms_run import documents

        self._same()
        found = list[tuple[Image | None, str, dict[str, Any]]]()
        for number, one in enumerate(documents(self.task, folder, self.hub, self.told(folder))):
            facts: dict[str, Any] = {"answer": one.target, "document": number, "targets": one.targets, "row": one.row}
            found.append((images.of(one.picture) if one.picture else None, one.text, facts))
        own, seen = _own_id([facts["row"] for *_, facts in found]), Counter[str]()
        for image, text, facts in found:
            name = str(facts["row"][own]) if own else _digest(facts["row"], image)
            seen[name] += 1
            name = name if seen[name] == 1 else f"{name}-{seen[name]}"  # the same document once more
            yield Item(name, image, text, name, facts)

    def score(self, item: Item, response: Response, judge: Judge | None) -> Score | Unscored:
        """Sum and number of each metric that the task gives for the document, as far as they are means."""
        from benchmarks._lmms_run import results

        try:
            task = self._scorer(item)
            told = self._judged(lambda: results(self.task, task, item.facts, item.id, response.text), item, judge)
        except UsageError:
            raise
        except Exception as error:  # what the task's own code raises is its answer to this response
            said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            return Unscored(item.id, f"lmms-eval's task fails: {said}")
        if isinstance(told, Unscored):
            return told
        made, drawn = told
        parts = {"documents": 1.0, "drawn": float(drawn)}
        for name in (name for name, whole in self._keys() if not whole and name in made):
            value = made[name]
            if not isinstance(value, Real | np.bool_) or not math.isfinite(value):
                return Unscored(item.id, f"lmms-eval's task gives {value!r:.80} for {name}, which is no number")
            parts |= {f"{name}/sum": float(value), f"{name}/n": 1.0}
        return Judged(item.id, parts, (made,))

    def _judged(self, work: Callable[[], Made], item: Item, judge: Judge | None) -> Made | Unscored:
        """What the task's code gives; where it asks an LLM, with what our judge replies."""
        if not self.task.judged:
            return work()
        from benchmarks._lmms_judge import NoVerdict, Question, judged

        def reply(question: Question, number: int) -> str:
            """The judge's words; NoVerdict where there are none."""
            if judge is None:
                raise NoVerdict(f"{self.label} needs a judge and none was given")
            id = f"{self.label}/{item.id}" + (f"/{number + 1}" if number else "")
            given = reply_of(judge, Ask(id, self.label, None, question.prompt, {}, question.max_tokens, fault=_empty))
            if isinstance(given, Unscored):
                raise NoVerdict(given.reason)
            return given

        try:
            return judged(work, reply)
        except NoVerdict as lost:
            return Unscored(item.id, str(lost))

    def units(self, scored: Sequence[tuple[Item, Score]]) -> list[Unit]:
        """One per document; the first holds the figures of the whole set, of how many documents they are.

        Such a figure is the mean over the runs of a judge.
        """
        from benchmarks._lmms_run import aggregate

        made = [Unit(item.id, cluster(item), dict(score.parts)) for item, score in scored]
        runs = list(zip(*(score.results for _, score in scored if isinstance(score, Judged)), strict=True))
        for name in (name for name, whole in self._keys() if whole):
            got = [[results[name] for results in run if name in results] for run in runs]
            values = [aggregate(self.task, self._scorer(scored[0][0]), name, run) for run in got if run]
            if values and all(isinstance(value, Real) and math.isfinite(value) for value in values):
                made[0].parts.update({f"{name}/whole": statistics.fmean(values), f"{name}/of": float(len(made))})
        return made

    def compute(self, totals: Totals) -> dict[str, Any]:
        """Means of sums; a figure of the whole set only where the sums are of the whole set, and are no replicates."""
        n = totals["documents"]
        values: dict[str, Any] = {f"{self.label}/drawn": ratio(totals["drawn"], n, 1.0)}
        for (name, whole), metric in zip(self._keys(), self.metrics, strict=True):
            if not whole:
                values[metric.id] = ratio(totals.get(f"{name}/sum", 0.0), totals.get(f"{name}/n", 0.0), 1.0)
            elif np.ndim(n) or n != totals.get(f"{name}/of"):
                values[metric.id] = np.full(np.shape(n), math.nan)[()]
            else:
                values[metric.id] = totals[f"{name}/whole"]
        return values

    def published(self, files: Files) -> Published:
        """The task's data set (a clone, or a file of the split's rows; none where `hub` names it), and responses to it:
        lmms-eval's samples, or a question_id (or id) and a text in each record.
        """
        folder = Path() if self.hub else files.one("questions")
        items = list(self.items(folder, Unseen()))
        return Published([replace(item, image=None) for item in items], answered(files.one("answers"), items))

    @classmethod
    def _keys(cls) -> list[tuple[str, bool]]:
        """What results are called, and whether they are figures of the whole set; in the order of `metrics`."""
        several = len(cls.task.filters) > 1
        names = [(one, of) for one in cls.task.measures for of in (cls.task.filters if several else ("",))]
        return [(f"{one.name}@{of}" if of else one.name, not one.mean) for one, of in names]

    def _scorer(self, item: Item) -> "Task":
        """The task in this process; UsageError where it is not the one that the comparison wrote down."""
        from benchmarks._lmms_run import scorer

        if type(self) not in _scorers:
            self._same()
            _scorers[type(self)] = scorer(self.task, item.facts["row"])
        return _scorers[type(self)]

    def _same(self) -> None:
        for name, here in self.pinned().items():
            if getattr(self, name) not in ("", here):
                raise UsageError(
                    f"{self.label}: {name.replace('_', '-')} is {here} here, and was {getattr(self, name)} when this "
                    "was planned; the same command again plans with what there is."
                )


def made(name: str) -> type[LmmsTask]:
    """The benchmark of a task; UsageError where lmms-eval has none of the name, or one that cannot be a benchmark."""
    task = yamls.declared(name)
    return _made(name, task.content)


@cache
def _made(name: str, content: str) -> type[LmmsTask]:
    """The benchmark of a task whose files have this content."""
    task = yamls.declared(name)
    if task.refused:
        raise UsageError(f"lmms:{name} cannot be a column: {task.refused}.")
    local = task.dataset in yamls.BUILDERS
    config = f", configuration {task.config['dataset_name']}" if task.config.get("dataset_name") else ""
    offered = None if local else Hub(task.dataset, ("*",), "")
    clone = f"a clone of the hub's data set {task.dataset}{config}"
    there = f"the files that {task.file.name} names" if local else clone
    label = f"lmms:{name}"
    namespace = {
        "__module__": __name__,
        "__doc__": f"lmms-eval {yamls.version()}'s task {name}, version {task.version or 'not told'}.",
        "task": task,
        "label": label,
        "metrics": tuple(_metrics(label, task)),
        "max_new_tokens": int(task.kwargs.get("max_new_tokens") or USUAL_TOKENS),
        "judged": task.judged,
        "layout": f"{there}, split {task.split}, or one file {task.split}.parquet, .json or .jsonl of such rows.",
        "offered": offered,
    }
    return make_dataclass(f"Lmms_{name}", [], bases=(LmmsTask,), namespace=namespace, frozen=True)


def members(name: str) -> tuple[str, ...]:
    """The tasks of a group; none of a name that is no group."""
    return yamls.members(name)


def listed() -> Iterator[Listed]:
    """Every task with its version and data set, and what its column would be."""
    for name, task in yamls.tasks().items():
        first = next(iter(task.measures), None)
        figure = f"{first.name}{'' if first.mean else ', no interval'}" if first and not task.refused else ""
        figure += ", with a judge" if figure and task.judged else ""
        yield Listed(name, task.version, task.dataset, figure, task.refused)


def _metrics(label: str, task: Declared) -> Iterator[Metric]:
    """Metrics without known ends: a task's YAML does not say them."""
    for one in task.measures:
        for of in task.filters:
            name = f"{one.name}@{of}" if len(task.filters) > 1 else one.name
            ends = (-math.inf, math.inf) if one.higher else (math.inf, -math.inf)
            yield Metric(f"{label}/{name}", f"{label} {name}", ends, digits=4, whole=not one.mean)


def _empty(reply: str) -> str:
    """What is wrong with an empty reply: it is not to be kept."""
    return "" if reply.strip() else "it is empty"


def _digest(row: dict[str, Any], image: Image | None) -> str:
    """What a document is called that has no id of its own: it stays so in another order, or among others."""
    return hashlib.sha256(dumps([row, image.sha256 if image else ""]).encode()).hexdigest()[:16]


def _own_id(rows: Sequence[dict[str, Any]]) -> str:
    """The column that tells every document from all others; empty where there is none."""
    for name in OWN_IDS:
        ids = [row.get(name) for row in rows]
        if all(type(id) in (str, int) for id in ids) and len({str(id) for id in ids}) == len(ids):
            return name
    return ""
