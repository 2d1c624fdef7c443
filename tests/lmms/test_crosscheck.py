"""The stock tasks score our responses, on the embedded testbed's data: alike, or differently for the known reasons."""

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nltk
import pytest
from PIL import ImageFile

from benchmarks._lmms import second_opinion
from benchmarks._lmms_stock import STOCK
from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark, Unit, totals
from harness.contracts.records import Item, Response, Score, Unscored
from harness.mini.benchsets import write_benchmark
from reports.crosscheck import crosscheck
from reports.outcomes import Outcome
from tests.benchmarks.layouts import Files, Fixed, perfect

OPTIONS: dict[str, dict[str, Any]] = {
    "mme": {"subtasks": ["existence", "count", "position", "color", "scene", "OCR"]},
    "chair": {"variant": "listed"},
}
SCORED = ("pope", "mme", "gqa", "textvqa", "sqa", "mmb", "mmvet", "realworldqa", "cvbench")
Rows = dict[str, dict[str, Any]]


class World:
    """A benchmark with items; `both` scores responses by our rule and by the stock tasks."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.benchmark: Benchmark = plugins.make("benchmarks", name, Benchmark, OPTIONS.get(name, {}))
        write_benchmark(name, 0, 12, folder)
        self.items = list(self.benchmark.items(folder, Files()))

    def both(self, said: dict[str, str], unscored: tuple[str, ...] = ()) -> tuple[dict[str, float], Rows]:
        """Our metrics, and the stock tasks' rows by our metric; responses that are not in `said` are perfect."""
        texts = {item.id: said.get(item.id, perfect(self.name, item)) for item in self.items}
        scores: dict[str, Score | Unscored] = {
            item.id: Unscored(item.id, "refused")
            if item.id in unscored
            else self.benchmark.score(item, Response(item.id, texts[item.id], 1), Fixed())
            for item in self.items
        }
        scored = [(item, score) for item in self.items if isinstance(score := scores[item.id], Score)]
        ours = self.benchmark.compute(totals(self.benchmark.units(scored)))
        rows = second_opinion(self.name, self.benchmark, self.items, texts, scores)
        return ours, {row["metric"]: row for row in rows}

    def first(self, **facts: Any) -> Item:
        """The first item with these facts."""
        return next(item for item in self.items if facts.items() <= item.facts.items())


@pytest.fixture
def world(tmp_path: Path) -> Any:
    return lambda name: World(name, tmp_path / name)


@pytest.mark.parametrize("name", SCORED)
def test_bare_responses_get_the_same_score_from_both(name: str, world: Any) -> None:
    made = world(name)
    wrong = {item.id: said for item, said in zip(made.items, WRONG[name] * len(made.items), strict=False)}
    for said in ({}, {id: text for place, (id, text) in enumerate(wrong.items()) if place % 3 == 0}):
        ours, rows = made.both(said)
        assert rows
        for metric, row in rows.items():
            assert row["source"] == "lmms-eval 0.7.3"
            if name != "pope" or not metric.endswith(("yes_ratio_macro3", "f1_macro3")):  # not the same quantity
                assert row["value"] == pytest.approx(ours[metric], abs=1e-9), metric
    metric = made.benchmark.metrics[0]
    assert ours[metric.id] < metric.scale[1] - 1  # some of the responses were wrong


# What is wrong or half right for some items, in the form that the prompt asks for.
WRONG = {
    "pope": ["no", "yes"], "mme": ["Yes", "No"], "gqa": ["zebra", "Red"], "textvqa": ["the Stop!", "nothing"],
    "sqa": ["A", "B. so", "C"], "mmb": ["A", "B", "C"], "mmvet": ["no idea"],
    "realworldqa": ["B", "zebra"], "cvbench": ["no", "(B) so"],
}  # fmt: skip


def test_pope_wants_the_bare_word(world: Any) -> None:
    """Of 18 questions per split, half yes: one right "Yes, it is." is no match, and no missed yes either."""
    made = world("pope")
    yes = made.first(split="random", label="yes")
    ours, rows = made.both({yes.id: "Yes, it is."})
    n = sum(item.facts["split"] == "random" for item in made.items)
    assert ours["pope/random/accuracy"] == 100
    assert rows["pope/random/accuracy"]["value"] == pytest.approx(100 * (n - 1) / n)
    assert rows["pope/random/recall"]["value"] == 100
    assert rows["pope/random/accuracy"]["deviation"].endswith(f"(1 of {n} responses)")
    assert rows["pope/popular/accuracy"]["deviation"] == ""


def test_pope_yes_ratio_is_that_of_the_labels(world: Any) -> None:
    made = world("pope")
    ours, rows = made.both({item.id: "yes" for item in made.items})
    assert ours["pope/yes_ratio_macro3"] == 100
    assert rows["pope/yes_ratio_macro3"]["value"] == 50
    assert rows["pope/yes_ratio_macro3"]["deviation"] == "counts the labels, not the responses"


@pytest.mark.parametrize(
    ("name", "text", "ours_right", "theirs_right"),
    [
        ("sqa", "The answer is {}.", True, False),
        ("sqa", "{}.", False, True),
        ("gqa", '"{}"', False, True),
        ("mme", " {}", True, True),
    ],
)
def test_one_response_that_only_one_rule_reads(
    name: str, text: str, ours_right: bool, theirs_right: bool, world: Any
) -> None:
    made = world(name)
    item = made.items[0]
    ours, rows = made.both({item.id: text.format(perfect(name, item))})
    metric = made.benchmark.metrics[0].id
    full = made.both({})[0][metric]
    assert (ours[metric] == full, rows[metric]["value"] == pytest.approx(full)) == (ours_right, theirs_right)
    assert rows[metric]["deviation"].endswith(f"(1 of {len(made.items)} responses)")


def test_mmbench_draws_letters_and_asks_nobody(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    monkeypatch.setattr("requests.post", forbidden)
    monkeypatch.setattr("requests.Session.request", forbidden)
    made = world("mmb")
    said = {item.id: "no idea" for item in made.items}
    ours, rows = made.both(said)
    again = made.both(said)[1]
    row = rows["mmb/circular"]
    assert ours["mmb/circular"] == 0
    assert row["value"] == again["mmb/circular"]["value"]
    n = len(made.items)
    assert row["deviation"] == f"without its judge the stock task draws a letter at random ({n} of {n} responses)"


def test_mmvet_counts_a_missing_verdict_as_zero(world: Any) -> None:
    made = world("mmvet")
    ours, rows = made.both({}, unscored=(made.items[0].id,))
    n = len(made.items)
    assert ours["mmvet/all"] == 100
    assert rows["mmvet/all"]["value"] == pytest.approx(100 * (n - 1) / n)
    assert rows["mmvet/all"]["deviation"] == f"a response without a verdict counts as 0 (1 of {n} responses)"
    assert rows["mmvet/all"]["note"] == "our judge's verdicts, replayed"


def test_chair_is_equal_in_the_variant_of_the_stock_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any data of NLTK's. "skiing" is a ski to the lemmas of verbs alone; a toilet seat is no chair."""
    monkeypatch.setattr(nltk.data, "path", [])
    said = {
        "1": "Two riders are skiing by their horses. A horse drinks wine from a glass.",
        "2": "A cat sleeps on the toilet seat by a teddy bear and 3 skis.",
        "3": "Nothing but snow.",
    }
    gold = {"1": ["person", "horse"], "2": ["cat", "toilet", "oven"], "3": []}
    for variant in ("lemma", "noun"):
        benchmark: Benchmark = plugins.make("benchmarks", "chair", Benchmark, {"variant": variant})
        items = [Item(id, None, "", id, {"objects": objects}) for id, objects in gold.items()]
        pairs = [(item, benchmark.score(item, Response(item.id, said[item.id], 1), None)) for item in items]
        scores = {item.id: score for item, score in pairs}
        ours = benchmark.compute(totals(benchmark.units([(i, s) for i, s in pairs if isinstance(s, Score)])))
        rows = {row["metric"]: row for row in second_opinion("chair", benchmark, items, said, scores)}
        assert set(rows) == {f"chair/{name}@{variant}" for name in ("i", "s", "recall")}
        same = {metric: row["value"] == pytest.approx(ours[metric]) for metric, row in rows.items()}
        assert same[f"chair/i@{variant}"] == (variant == "lemma")
        assert all(same.values()) or rows[f"chair/i@{variant}"]["deviation"]
        assert all(row["deviation"] == "" for row in rows.values()) == (variant == "lemma")


def test_mmstar_s_task_takes_the_mean_of_axes(world: Any) -> None:
    made = world("mmstar")
    axes = [item.facts["axis"] for item in made.items]
    lost = made.items[0]
    ours, rows = made.both({lost.id: "no letter"})
    share = 1 / axes.count(lost.facts["axis"])
    assert ours["mmstar/all"] == pytest.approx(100 * (1 - 1 / len(axes)))
    assert rows["mmstar/all"]["value"] == pytest.approx(100 * (1 - share / len(set(axes))))
    assert rows["mmstar/all"]["deviation"].endswith("the mean of its axes, not of its questions")
    assert len(rows) == 1 + len({item.facts["category"] for item in made.items})


def test_hallusionbench_s_task_has_our_verdicts_of_the_questions_with_a_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variant in ("lmms", "official"):
        monkeypatch.setitem(OPTIONS, "hallusion", {"variant": variant})
        made = World("hallusion", tmp_path / variant)
        shown = [item for item in made.items if item.facts["record"]["visual_input"] != "0"]
        wrong, unscored = shown[0].id, shown[1].id
        texts = {item.id: perfect("hallusion", item) for item in made.items}
        judged = {id: Fixed("incorrect" if id == wrong else "correct") for id in texts}
        scores = {i.id: made.benchmark.score(i, Response(i.id, texts[i.id], 1), judged[i.id]) for i in made.items}
        pairs = [(item, scores[item.id]) for item in made.items]
        ours = made.benchmark.compute(totals(made.benchmark.units([p for p in pairs if isinstance(p[1], Score)])))
        rows = {row["metric"]: row for row in second_opinion("hallusion", made.benchmark, made.items, texts, scores)}
        assert {f"hallusion/{name}@{variant}" for name in ("aAcc", "qAcc", "fAcc")} == set(rows)
        assert rows[f"hallusion/aAcc@{variant}"]["value"] == pytest.approx(100 * (1 - 1 / len(shown)), abs=1e-3)
        same = {id: row["value"] == pytest.approx(ours[id], abs=1e-3) for id, row in rows.items()}
        assert same[f"hallusion/fAcc@{variant}"] and (all(same.values()) or variant == "official")
        assert bool(rows[f"hallusion/aAcc@{variant}"]["deviation"]) == (variant == "official")
        scores[unscored] = Unscored(unscored, "no reply")
        rows = {row["metric"]: row for row in second_opinion("hallusion", made.benchmark, made.items, texts, scores)}
        assert rows[f"hallusion/aAcc@{variant}"]["value"] == pytest.approx(100 * (1 - 2 / len(shown)), abs=1e-3)
        assert rows[f"hallusion/aAcc@{variant}"]["deviation"].startswith("a response without a verdict is unclear")


def test_llava_bench_s_task_rounds_the_ratio_of_our_scores(world: Any) -> None:
    made = world("llava_bench")
    replies = {item.id: f"{9 - n % 3} {5 + n % 4}" for n, item in enumerate(made.items)}
    scores = {i.id: made.benchmark.score(i, Response(i.id, "so", 1), Fixed(replies[i.id])) for i in made.items}
    ours = made.benchmark.compute(totals(made.benchmark.units([(i, scores[i.id]) for i in made.items])))
    said = dict.fromkeys(replies, "so")
    rows = {row["metric"]: row for row in second_opinion("llava_bench", made.benchmark, made.items, said, scores)}
    assert len(rows) == 4 and all(row["value"] == pytest.approx(ours[id], abs=0.06) for id, row in rows.items())
    lost = scores | {made.items[0].id: Unscored(made.items[0].id, "")}
    rows = {row["metric"]: row for row in second_opinion("llava_bench", made.benchmark, made.items, said, lost)}
    assert abs(rows["llava_bench/relative"]["value"] - ours["llava_bench/relative"]) > 0.06


def test_what_has_no_stock_task_or_no_value_has_a_reason(world: Any) -> None:
    assert world("mmhal").both({})[1]["mmhal/rating"]["withheld"] == "no task of lmms-eval is set beside it"
    made = world("chair")
    rows = made.both({item.id: "Nothing." for item in made.items})[1]
    assert "ZeroDivisionError" in rows["chair/i@listed"]["withheld"]
    assert "value" not in rows["chair/i@listed"]


def test_a_stock_task_that_fails_is_a_reason(world: Any) -> None:
    made = world("mme")
    made.items.pop()
    row = made.both({})[1]["mme/perception"]
    assert row["withheld"] == "the stock task fails: AssertionError: MME only supports pairwise evaluation"


@pytest.mark.parametrize("name", [*SCORED, "chair"])
def test_every_row_is_about_a_metric_that_we_compute(name: str, world: Any) -> None:
    """`results.jsonl` joins the two by our metric's id: a row about another one would be lost."""
    ours, rows = world(name).both({})
    assert rows.keys() <= ours.keys()
    assert name in STOCK or name == "chair"


def test_the_process_stays_as_it_was(world: Any) -> None:
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # as importing lmms_eval leaves it
    random.seed(5)
    state = random.getstate()
    world("mmb").both({})
    assert random.getstate() == state
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert "API_TYPE" not in os.environ


def shown(values: Sequence[tuple[float | None, float | None, str]]) -> str:
    """The report of rows with one metric: (ours, theirs, deviation), by method "m0", "m1", ..."""
    outcomes = []
    for number, (ours, theirs, deviation) in enumerate(values):
        units = (
            []
            if ours is None
            else [Unit("u", "u", {"all/sum": ours, "all/n": 100.0, "valid/sum": 1.0, "valid/n": 1.0})]
        )
        second = {"source": "lmms-eval 0.7.3", "task": "gqa", "task_metric": "exact_match"}
        known = {"value": theirs, "deviation": deviation, "note": ""}
        second |= {"withheld": deviation} if theirs is None else known
        outcomes.append(Outcome(f"m{number}", "", 0, "gqa", units, 0, "", {}, {"gqa/all": second}))
    return crosscheck(outcomes, {"gqa": plugins.make("benchmarks", "gqa", Benchmark, {})})


@pytest.mark.parametrize(
    ("ours", "theirs", "deviation", "line"),
    [
        (62.0, 62.0, "punctuation", "62.00      62.00           0  gqa"),
        (62.0, 61.5, "punctuation", "62.00      61.50       -0.50  gqa   punctuation"),
        (62.0, 61.5, "", "62.00      61.50       -0.50  gqa   NOT EXPLAINED"),
        (62.0, 62.000001, "", "62.00      62.00      +1e-06  gqa   NOT EXPLAINED"),
        (62.0, None, "no judge", "62.00          –           –  gqa   no judge"),
        (None, 61.5, "", "–      61.50           –  gqa   ours: not defined on these units"),
    ],
)
def test_the_report_shows_both_with_the_difference_and_why(
    ours: float | None, theirs: float | None, deviation: str, line: str
) -> None:
    lines = shown([(ours, theirs, deviation)]).splitlines()
    assert lines[1].startswith("gqa/all  m0")
    assert lines[1].endswith(line)


def test_the_report_counts_and_shows_nothing_of_a_model_raw() -> None:
    text = shown([(62.0, 62.0, ""), (62.0, 61.0, ""), (62.0, 61.0, "known"), (62.0, None, "\x1b[31mred")])
    assert "4 pairs: 1 equal, 2 differ (1 of them not explained), 1 have one figure or none." in text
    assert "\x1b" not in text
    assert "lmms-eval was not installed" in shown([])
