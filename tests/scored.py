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
}


class Rates:
    """A judge who gives every response the same rating."""

    name = "rates"

    def __init__(self, rating: int) -> None:
        self.rating = rating

    def reply(self, ask: Ask) -> str:
        return f"Rating: {self.rating}"


@cache
def parts(name: str, right: bool, best: int = 6) -> dict[str, float]:
    """What the benchmark makes of a right and of a wrong response; `best` is the rating of a right one."""
    benchmark: Benchmark = plugins.make("benchmarks", name, Benchmark, {})
    text = ({"gqa": "yes", "sqa": "A"} if right else {"gqa": "no", "sqa": "B"}).get(name, "A dog.")
    item = Item("i", None, "Which?", "i", FACTS[name])
    score = benchmark.score(item, Response("i", text, 1), Rates(best if right else 0))
    assert isinstance(score, Score)
    return score.parts
