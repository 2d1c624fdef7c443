"""Has alignment quality regressed? An accepted comparison against a new one, by a policy: non-inferiority with margins.

A row regresses where the 95 % interval of its paired difference lies beyond the margin as a whole (and the sign-flip
test, which holds for a handful of images too, finds a difference), and passes where it lies within as a whole. Between
the two nothing is known at this n: inconclusive, which is no pass and no failure.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark, Metric
from harness.contracts.row_names import BASELINE, NOISE
from harness.contracts.settings import Fixed
from harness.system.errors import UsageError
from reports.accepted import Card
from reports.estimates import Estimate, estimate
from reports.gate_items import Lost, lost
from reports.numerals import numeral
from reports.outcomes import Outcome
from reports.runs import BY_NAME, Run, differences, other_policies
from reports.statistics import LEVEL

MUST_AGREE = ("testbed", "synthetic", "protocol"), ("judges", "benchmarks")
SAID = ("harness", "source", "packages", "data", *(name for name in BY_NAME if name not in MUST_AGREE[1]))


SHARE = 0.02  # of a metric's scale: how much worse may be by default
DEFAULTS = (
    f"no gate.yaml here, so the defaults: a benchmark may be worse by {100 * SHARE:g} % of its scale, in every row; "
    "inconclusive passes; 99 % of the units must be scored in both; no budgets"
)
Margin = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Budget(Fixed):
    """The most that any one stage of a kind may take."""

    seconds: float | None = Field(None, gt=0)
    """Wall time."""
    peak_host_gib: float | None = Field(None, gt=0)
    """Memory of the machine."""
    peak_device_gib: float | None = Field(None, gt=0)
    """Memory of a GPU."""


class Policy(Fixed):
    """What a gate asks."""

    margins: dict[str, Margin]
    """Benchmark (its column) or metric id -> how much worse may be, in the metric's own units."""
    rows: tuple[str, ...] = ()
    """Rows that are gated, by default all of the accepted run."""
    inconclusive: Literal["pass", "fail"] = "pass"
    """What a check does that cannot tell at this number of items."""
    coverage: float = Field(0.99, gt=0, le=1)
    """The share of the units that must have been scored in both runs."""
    stale_days: int = Field(90, gt=0)
    """The days after which an accepted run is called stale, a warning."""
    budgets: dict[str, Budget] = Field({})
    """Kind of stage (train, generate, ...) -> the most that one may take."""


def default_policy(benchmarks: Mapping[str, Benchmark]) -> Policy:
    """Where nobody wrote one: no row may be worse by more than `SHARE` of a benchmark's scale, in its own column.

    A benchmark whose scale has no known ends is not gated.
    """
    scales = {name: benchmark.metrics[0].scale for name, benchmark in benchmarks.items()}
    sizes = {name: abs(best - worst) for name, (worst, best) in scales.items()}
    return Policy(margins={name: SHARE * size for name, size in sizes.items() if math.isfinite(size)})


class Verdict(StrEnum):
    """The outcome of one check."""

    PASSED = "passed"
    INCONCLUSIVE = "inconclusive"
    REGRESSED = "regressed"
    OVER = "over budget"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Check:
    """One question of a policy and its answer, in words and in figures (NaN where there are none)."""

    row: str
    what: str
    verdict: Verdict
    said: str
    digits: int = 1
    accepted: float = math.nan
    now: float = math.nan
    low: float = math.nan
    high: float = math.nan
    margin: float = math.nan
    lower: bool = False
    """Whether less is better."""
    weak: str = ""
    """Why a row that did not change may well not pass, and how many items would do; "" where it would."""

    @property
    def moved(self) -> str:
        """ "better" or "worse" where the whole interval lies on one side of no difference, else ""."""
        if self.low > 0 or self.high < 0:
            return "better" if (self.low > 0) != self.lower else "worse"
        return ""


@dataclass(frozen=True)
class Gate:
    """All checks, how the runs differ in what made them, and what was scored but not asked about.

    `assumed` says by which policy, where none was written; `accepted` when the other run was accepted, where that is
    known; `warnings` why a verdict is worth less than it looks; `lost` are items that got worse.
    """

    checks: tuple[Check, ...]
    differ: tuple[str, ...]
    ungated: tuple[str, ...]
    inconclusive_fails: bool = False
    assumed: str = ""
    accepted: str = ""
    warnings: tuple[str, ...] = ()
    lost: tuple[Lost, ...] = ()

    def fails(self, check: Check) -> bool:
        """Whether a check alone fails the gate."""
        inconclusive = check.verdict == Verdict.INCONCLUSIVE and self.inconclusive_fails
        return inconclusive or check.verdict in (Verdict.REGRESSED, Verdict.OVER)

    @property
    def status(self) -> int:
        """The exit status: 1 something failed, 3 something could not be judged, else 0."""
        if any(self.fails(check) for check in self.checks):
            return 1
        return 3 if any(check.verdict == Verdict.INCOMPLETE for check in self.checks) else 0


def gate(
    accepted: Run,
    now: Run,
    policy: Policy | None,
    profile: Mapping[str, Any],
    card: Card | None = None,
    today: date | None = None,
) -> Gate:
    """Every check of the policy, of `default_policy` without one; `profile` is the new run's.

    `card` says when the accepted run was accepted, where it has one, and `today` what day it is.

    UsageError where the policy names what is not there, or where the runs did not measure the same thing.
    """
    before, after = accepted.manifest.plain(), now.manifest.plain()
    wrong = differences(before, after, *MUST_AGREE)
    if wrong:
        raise UsageError(
            f"{now.name} did not measure what was accepted: {'; '.join(wrong)}. Accept a new baseline (--accept)."
        )
    benchmarks = accepted.benchmarks()
    assumed = "" if policy else DEFAULTS
    policy = policy or default_policy(benchmarks)
    metrics = {name: _metric(name, benchmarks) for name in policy.margins}
    for row in policy.rows:
        if row not in accepted.rows:
            raise plugins.unknown("row", row, list(accepted.rows))
    rows = policy.rows or tuple(row for row in accepted.rows if row != NOISE)
    old, new = _by_cell(accepted.outcomes()), _by_cell(now.outcomes())
    checks = []
    for row in rows:
        for (name, metric), margin in zip(metrics.values(), policy.margins.values(), strict=True):
            sides = old.get((row, name), {}), new.get((row, name), {})
            checks.append(_compare(accepted.rows[row], benchmarks[name], metric, *sides, margin, policy.coverage))
    checks += _budgets(policy.budgets, profile)
    if not checks:
        raise UsageError("the policy asks nothing; give it margins or budgets.")
    gated = {name for name, _ in metrics.values()}
    today = today or datetime.now(UTC).date()
    return Gate(
        tuple(checks),
        (*differences(before, after, (), SAID), *other_policies(accepted, now)),
        tuple(benchmark.label for name, benchmark in benchmarks.items() if name not in gated),
        policy.inconclusive == "fail",
        assumed,
        card.told(today) if card else "",
        (*_stale(card, today, policy.stale_days), *dict.fromkeys(check.weak for check in checks if check.weak)),
        lost(accepted, now, rows, [name for name in benchmarks if name in gated]),
    )


def _stale(card: Card | None, today: date, days: int) -> Iterator[str]:
    if card and card.age(today) > days:
        yield (
            f"the accepted run is stale: it was accepted {card.age(today)} days ago, more than {days}; see whether "
            "what has changed since was wanted, and accept a new one"
        )


def _metric(name: str, benchmarks: Mapping[str, Benchmark]) -> tuple[str, Metric]:
    """The benchmark and the metric that a key of `margins` names."""
    known = {of: (of, benchmark.metrics[0]) for of, benchmark in benchmarks.items()}
    known |= {metric.id: (of, metric) for of, benchmark in benchmarks.items() for metric in benchmark.metrics}
    if name not in known:
        raise plugins.unknown("benchmark or metric of the accepted run", name, list(known))
    return known[name]


def _by_cell(outcomes: Sequence[Outcome]) -> dict[tuple[str, str], dict[int, Outcome]]:
    """(row, benchmark) -> seed -> outcome."""
    found: dict[tuple[str, str], dict[int, Outcome]] = {}
    for outcome in outcomes:
        found.setdefault((outcome.method, outcome.benchmark), {})[outcome.seed] = outcome
    return found


def _compare(
    label: str,
    benchmark: Benchmark,
    metric: Metric,
    old: Mapping[int, Outcome],
    new: Mapping[int, Outcome],
    margin: float,
    coverage: float,
) -> Check:
    """One row's metric, new against accepted, by seed and on the units of both."""
    gaps = {seed: _gap(old.get(seed), new.get(seed), coverage) for seed in sorted(old.keys() | new.keys())}
    said = "; ".join(f"seed {seed}: {gap}" for seed, gap in gaps.items() if gap) or ("" if gaps else "was not scored")
    if said:
        return Check(label, metric.id, Verdict.INCOMPLETE, said, metric.digits)
    sides = ((BASELINE, old), ("now", new))
    paired = [replace(outcome, method=side) for side, outcomes in sides for outcome in outcomes.values()]
    both = {side: metrics[metric.id] for side, metrics in estimate(benchmark, paired, (metric.id,)).items()}
    return judge(label, metric, both[BASELINE].value, both["now"], margin, benchmark.official_units)


def judge(label: str, metric: Metric, accepted: float, now: Estimate, margin: float, most: int = 0) -> Check:
    """The verdict on one difference; `margin` is how much worse may be, `most` how many units there are at all."""
    sign = 1 if metric.higher_is_better else -1
    worst, best = sorted((sign * now.low, sign * now.high))
    if math.isnan(now.delta) or math.isnan(worst):
        verdict, said = (
            Verdict.INCOMPLETE,
            "the metric has no interval on these units: they are too few, or it is not defined",
        )
    elif best < -margin and now.p < LEVEL:
        verdict, said = Verdict.REGRESSED, "the whole interval is beyond the margin"
    elif worst >= -margin:
        verdict, said = Verdict.PASSED, "the whole interval is within the margin"
    else:
        verdict, said = Verdict.INCONCLUSIVE, f"not resolved at n = {now.n:,}"
    figures = (accepted, now.value, now.low, now.high, margin)
    weak = "" if verdict == Verdict.REGRESSED else _weak(metric, now, margin, most)
    return Check(label, metric.id, verdict, said, metric.digits, *figures, not metric.higher_is_better, weak)


def _weak(metric: Metric, now: Estimate, margin: float, most: int) -> str:
    """Why a row that did not change may well not pass, by the spread seen, which shrinks as 1 / sqrt(n).

    Of such rows 80 % pass a margin as large as the difference that is detected with a power of 80 %.
    """
    least = now.detectable()
    if not least > margin:  # NaN where nothing varied
        return ""
    shown = numeral(least, metric.digits), numeral(margin, metric.digits)
    said = (
        f"too few items for {metric.id}: at n = {now.n:,} it takes a margin of {shown[0]} for four in five rows that "
    )
    said += f"did not change to pass, and it is {shown[1]}; "
    if not margin:
        return said + "no number of items shows that nothing at all changed, so give a margin"
    if len(now.deltas) > 1:
        return said + "more items or seeds would do"
    wanted = math.ceil(now.n * (least / margin) ** 2)
    round_to = 10 ** max(0, len(str(wanted)) - 2)
    wanted = math.ceil(wanted / round_to) * round_to
    if most and wanted > most:
        return said + f"about {wanted:,} would do, and the set has {most:,}: widen the margin"
    return said + f"about {wanted:,} would do"


def _gap(old: Outcome | None, new: Outcome | None, coverage: float) -> str:
    """Why two cells cannot be compared: one is missing, other images, or too few units with a verdict in both."""
    if not old or not new:
        return "not scored in the accepted run" if new else "not scored"
    clusters = {unit.id: unit.cluster for unit in old.units}
    both = [unit for unit in new.units if unit.id in clusters]
    if any(clusters[unit.id] != unit.cluster for unit in both):
        return "the items are about other images"
    share = len(both) / max(*(len(o.units) + o.unscored for o in (old, new)), 1)
    return "" if share >= coverage else f"{share:.1%} of the units are scored in both, {coverage:.1%} are wanted"


def _budgets(budgets: Mapping[str, Budget], profile: Mapping[str, Any]) -> Iterator[Check]:
    """The stage of each kind that took most, against what it may take."""
    for kind, budget in budgets.items():
        stages = [stage for stage in profile["stages"] if stage["stage"] == kind]
        for field, most in budget.model_dump(exclude_none=True).items():
            measured = {stage["title"]: stage[field] for stage in stages if field in stage}
            if not measured:
                yield Check("budget", f"{kind} {field}", Verdict.INCOMPLETE, "was not measured", 2, margin=most)
                continue
            title = max(measured, key=lambda name: measured[name])
            verdict = Verdict.OVER if measured[title] > most else Verdict.PASSED
            yield Check("budget", f"{kind} {field}", verdict, title, 2, now=measured[title], margin=most)
