"""Parts of a real benchmark's score, so that made-up runs hold what real ones hold."""

from functools import cache

from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark
from harness.contracts.judge import Ask
from harness.contracts.records import Item, Response, Score

FACTS = {
    "gqa": {"answer": "yes", "types": {}},
    "sqa": {"answer": 0, "choices": ["dog", "cat"], "where": "img"},
    "mmhal": {"answer": "A dog.", "content": ["Dog"], "type": "attribute"},
    "textvqa": {"answers": ["yes"] * 10},
    "mmvet": {"answer": "A dog.", "capability": ["rec"]},
    "mme": {"subtask": "count", "answer": "yes"},
    "mmb": {"choices": {"A": "dog", "B": "cat"}, "answer": "A", "passes": 1, "first": True},
    "pope": {"label": "yes"},
    "chair": {"objects": ["dog"]},
}
SPLITS = {"pope": ("random", "popular", "adversarial"), "mme": ("one", "other")}  # these ask so many times
RIGHT = {"sqa": "A", "mmb": "A", "chair": "A dog.", **dict.fromkeys(("gqa", "textvqa", "mme", "pope"), "yes")}
WRONG = {"sqa": "B", "mmb": "B", "chair": "A cat.", **dict.fromkeys(("gqa", "textvqa", "mme", "pope"), "no")}


class Rates:
    """A judge who gives every response the same rating, and as a grade the share that it is of the best."""

    name = "rates"

    def __init__(self, rating: int) -> None:
        self.rating = rating

    def reply(self, ask: Ask) -> str:
        return f"{self.rating / 6:.1f}" if ask.purpose == "mmvet" else f"Rating: {self.rating}"


@cache
def parts(name: str, right: bool, best: int = 6) -> dict[str, float]:
    """What the benchmark makes of a right and of a wrong response; `best` is the rating of a right one."""
    benchmark: Benchmark = plugins.make("benchmarks", name, Benchmark, {})
    said = Response("i", (RIGHT if right else WRONG).get(name, "A dog."), 1)
    items = [Item("i", None, "Which?", "i", FACTS[name] | {"split": split}) for split in SPLITS.get(name, ("",))]
    scores = [benchmark.score(item, said, Rates(best if right else 0)) for item in items]
    scored = [(item, score) for item, score in zip(items, scores, strict=True) if isinstance(score, Score)]
    assert len(scored) == len(items)
    return {part: value for unit in benchmark.units(scored) for part, value in unit.parts.items()}
