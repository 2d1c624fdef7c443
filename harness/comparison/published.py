"""Scores published answers: a benchmark's official files in, its official figures out. Imports no torch.

A benchmark says what its files hold (`published`); pairing, counting and printing are the same for all of them.
"""

import json
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark, Files, Published, computed, totals
from harness.contracts.judge_kind import Hired
from harness.contracts.records import Item, Response, Score, Unscored
from harness.system.errors import HarnessError, UsageError
from harness.system.yamls import parse_yaml
from reports.outcomes import thin

SHOWN = 3  # how many ids a report names


@dataclass(frozen=True, slots=True)
class Rescored:
    """The figures: the official scorer's names first, then this harness's ids. `n` items were scored.

    `notes` say what is not as it should be: ids passed over by --allow-partial, items without a verdict. `withheld`
    stands in a table in place of means over verdicts of which more than 1 % are missing.
    """

    benchmark: str
    metrics: dict[str, float]
    n: int
    unscored: int
    notes: tuple[str, ...]
    withheld: str = ""

    def json(self) -> str:
        """One JSON object, floats exact; a metric without a value (nothing to divide by) is null."""
        metrics = {name: None if math.isnan(value) else value for name, value in self.metrics.items()}
        shown = {"benchmark": self.benchmark, "metrics": metrics, "n": self.n, "unscored": self.unscored}
        return json.dumps(shown, allow_nan=False)


def rescore(
    name: str,
    answers: Sequence[str],
    questions: Sequence[str],
    options: Sequence[str],
    allow_partial: bool = False,
    judge: Hired | None = None,
) -> Rescored:
    """Score answer files given as on the command line, PATH or NAME=PATH; `options` are NAME=VALUE.

    Verdicts among the files go before those of `judge`. Raises UsageError for unknown options, files that are not in
    the format, and ids that do not pair up, unless `allow_partial`.
    """
    benchmark, extras = configured(name, options)
    files = Files(paths(questions, "questions"), paths(answers, "answers"), extras)
    published = benchmark.published(files)
    pairs, notes = paired(published, allow_partial, benchmark.missing_is_wrong)
    if judge and not published.judge:
        from harness.scoring.verdicts import combined, per_run, score_runs  # asks side by side; slow to import

        said, items = {item.id: response for item, response in pairs}, [item for item, _ in pairs]
        runs = score_runs(benchmark, items, said, judge)
        verdicts = combined(runs)
        if len(runs) > 1:
            apart = {name: statistics.stdev(found) for name, found in per_run(benchmark, items, runs).items()}
            told = ", ".join(f"{name} {sd:.4g}" for name, sd in apart.items())
            notes += (f"mean of {len(runs)} runs of the judge; standard deviation between them: {told}",)
    else:
        verdicts = [benchmark.score(item, response, published.judge) for item, response in pairs]
    scored = [(item, got) for (item, _), got in zip(pairs, verdicts, strict=True) if isinstance(got, Score)]
    reasons = [got.reason for got in verdicts if isinstance(got, Unscored)]
    if not scored:
        error = HarnessError if judge else UsageError
        raise error(f"nothing could be scored: {reasons[0] if reasons else 'the files hold no items'}.")
    if reasons:
        notes += (f"{len(reasons)} of {len(pairs)} responses are unscored, e.g.: {reasons[0]}",)
    sums = totals(benchmark.units(scored))
    figures = {**published.official, **benchmark.official(sums), **computed(benchmark, sums)}
    metrics = {id: float(value) for id, value in figures.items()}
    withheld = thin(benchmark, len(reasons) / len(pairs)) if benchmark.judged else ""
    return Rescored(plugins.stem(name), metrics, len(scored), len(published.items) - len(scored), notes, withheld)


def judge_of(name: str, runs: int, budget: float | None, store: Path, sets: Sequence[str] = ()) -> Hired:
    """The judge of that name, "openai:MODEL", "script:FILE" or a file of the user's; replies are kept in the store.

    `sets` are a comparison's "judging.FIELD=VALUE" and "runtime.FIELD=VALUE".
    """
    from harness.comparison.request import settings, validated
    from harness.contracts.judge_kind import Post
    from harness.contracts.settings import Judging, Runtime
    from harness.judging.hire import kind_of

    chosen = settings(list(sets), ["judging", "runtime"])
    chat = validated(Judging(runs=runs), chosen.get("judging", {}))
    try:
        kind = kind_of(name, chat, {})
    except UsageError as error:
        raise UsageError(f"--judge: {error}") from None
    only = f'"{name}" is not available: it knows the images of its own testbed only' if kind.drawn_only else ""
    if problem := kind.unusable() or only:
        raise UsageError(f"--judge: {problem}.")
    if chosen and not kind.told:
        raise UsageError(f"--set is for an LLM that judges; {kind.name} says the same whatever it is told.")
    return kind.hire(Post(validated(Runtime(budget=budget), chosen.get("runtime", {})), store))


def configured(name: str, options: Sequence[str]) -> tuple[Benchmark, dict[str, Path]]:
    """The benchmark with its options set, and the files that options name."""
    cls = plugins.plugin("benchmarks", name, Benchmark)
    known = [field.name for field in fields(cls)]
    extras: dict[str, Path] = {}
    chosen: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise UsageError(f"--option {option}: write NAME=VALUE.")
        if key in cls.extras:
            extras[key] = existing(value, f"--option {key}")
        elif key in known:
            chosen[key] = parse_yaml(value, f"--option {option}")
        else:
            raise plugins.unknown(f"option of {name}", key, [*known, *cls.extras] or ["(it has none)"])
    return plugins.make("benchmarks", name, Benchmark, chosen), extras


def paths(given: Sequence[str], kind: str) -> dict[str, Path]:
    """Name -> path of arguments of the form PATH or NAME=PATH."""
    found: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        named = bool(equals) and "/" not in name and not Path(text).exists()
        name, path = (name, path) if named else ("", text)
        if name in found:
            raise UsageError(f"--{kind} is given twice{f' for {name}' if name else ''}; give files names: NAME=PATH.")
        found[name] = existing(path, f"--{kind}")
    return found


def existing(text: str, option: str) -> Path:
    """The path, if there is something."""
    path = Path(text).expanduser()
    if not path.exists():
        raise UsageError(f"{option}: there is no {path}.")
    return path


def paired(
    published: Published, allow_partial: bool, missing_is_wrong: bool
) -> tuple[list[tuple[Item, Response]], tuple[str, ...]]:
    """Every item with its response, in the items' order; of several responses to one item the last, as in a dict.

    Raises UsageError with a report where ids are missing, double or of no item. With `allow_partial` the report is
    returned instead; items without a response are left out or, with `missing_is_wrong`, paired with an empty one.
    """
    twice = [id for id, count in Counter(item.id for item in published.items).items() if count > 1]
    if twice:
        raise UsageError(f"the questions hold {listed(twice)} more than once.")
    ids = {item.id for item in published.items}
    counts = Counter(response.id for response in published.responses)
    problems = {
        "without a response": [item.id for item in published.items if item.id not in counts],
        "with more than one response": [id for id, count in counts.items() if count > 1],
        "in the answers only": [id for id in counts if id not in ids],
    }
    notes = tuple(f"{len(found)} ids {what}: {listed(found)}" for what, found in problems.items() if found)
    if notes and not allow_partial:
        raise UsageError(
            f"the answers do not fit the {len(ids)} items:\n  " + "\n  ".join(notes) + "\n"
            "Nothing was scored. --allow-partial scores what there is, the last of several responses to an item; "
            f"items without a response are {'wrong' if missing_is_wrong else 'unscored'}."
        )
    said = {response.id: response for response in published.responses}
    if missing_is_wrong:
        said = {item.id: Response(item.id, "", 0) for item in published.items} | said
    return [(item, said[item.id]) for item in published.items if item.id in said], notes


def listed(ids: Sequence[str]) -> str:
    """The first few ids."""
    return ", ".join(ids[:SHOWN]) + (", ..." if len(ids) > SHOWN else "")


def show(done: Rescored) -> None:
    """Print the figures as a table."""
    from rich.table import Column, Table

    from harness.system.console import console

    grid = Table(Column("metric", overflow="fold"), Column("value", no_wrap=True), box=None)
    for id, value in done.metrics.items():
        ours = id.startswith(f"{done.benchmark}/") and not id.endswith("@official")
        grid.add_row(id, done.withheld if done.withheld and ours else f"{value:.10g}")
    shown = console()
    shown.print(grid)
    shown.print(f"{done.benchmark}: {done.n} items scored, {done.unscored} unscored", highlight=False)
