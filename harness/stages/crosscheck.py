"""A second opinion on responses."""

from benchmarks._lmms import second_opinion
from harness.benchmark import benchmark_of
from harness.stages.work import Work
from harness.types import Item, Response, Score, Unscored, read_jsonl, write_jsonl


def crosscheck(work: Work) -> None:
    """What lmms-eval's stock tasks say about the same responses."""
    what = work.what
    items = list(read_jsonl(Item, work.folder("items") / "items.jsonl"))
    responses = read_jsonl(Response, work.folder("responses") / "responses.jsonl")
    scores = read_jsonl(Score | Unscored, work.folder("score") / "scores.jsonl")
    said, scored = {r.id: r.text for r in responses}, {score.id: score for score in scores}
    found = second_opinion(what["benchmark"], benchmark_of(what), items, said, scored)
    write_jsonl(work.out / "crosscheck.jsonl", found)
