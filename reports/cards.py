"""The fairness card, the profile, the totals by size: what was given, what was taken, what came of it."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from harness.contracts.method import Role
from harness.contracts.row_names import BASELINE
from harness.system.console import duration
from reports.facts import RowFacts
from reports.findings import GROUPS, Cell, Findings
from reports.grid import Entry, Grid, Head, Line
from reports.layouts import method as method_of
from reports.manifest import Agreed
from reports.sheet import entry_of
from reports.statistics import mean

KINDS = ("build", "reference", "train", "generate", "score")
MADE = ("build", "reference", "train")
PEAKS = {"peak_device_gib": "GPU", "peak_host_gib": "main"}
CARD = {  # heading: (stages, figure); summed over rounds, mean over seeds
    "examples": (("build",), "examples"),
    "records": (("build",), "records"),
    "supervised tokens": (("train",), "supervised_tokens"),
    "optimiser steps": (("train",), "steps"),
    "writer calls": (("build",), "writer_calls"),
    "judge calls": (("score",), "judge_calls"),
    "tokens generated": (("build",), "generated_tokens"),
    "forward tokens": (MADE, "forward_tokens"),
}
REASONS = 3  # how many reasons for leaving examples out are written out
THINGS = ("records", "items", "examples")
TOKENS = ("forward_tokens", "generated_tokens")


def scaling(points: Sequence[tuple[int, str, Findings]]) -> Grid:
    """Totals by data source, method and number of examples; differences where no total's benchmarks are all there."""
    columns = list(dict.fromkeys(column for *_, findings in points for column in findings.columns))
    totals = [column for column in columns if column.metric == "total"]
    lines = []
    for size, data, findings in points:
        for row in findings.rows:
            if row.method != BASELINE:
                cells = dict(zip(findings.columns, row.cells, strict=True))
                whole = (entry_of(column, cells.get(column, Cell())) for column in totals or columns)
                entries = (replace(entry, value=entry.delta, delta=math.nan, signed=True) for entry in whole)
                lines.append(Line((row.label, f"{size:,}"), tuple(entries), data))
    heads = [Head(GROUPS[column.group][0], rank=False) for column in totals]
    heads = heads or [Head(column.label, rank=False) for column in columns]
    notes = points[-1][2].notes if points else ()
    title = "Figure 4: totals" if totals else "Figure 4: differences to the baseline"
    return Grid(title, ("Method", "examples"), tuple(heads), tuple(lines), notes, "Alignment data", spans="beside")


def fairness(facts: Sequence[RowFacts]) -> Grid:
    """Per method what it consumed and spent; the notes say whether every method had the same examples."""
    heads = (*(Head(name, rank=False) for name in CARD), Head("trainable parameters", rank=False))
    lines = []
    for label, members in by_row(facts):
        counts = [mean_of(members, kinds, name) for kinds, name in CARD.values()]
        counts[0] = mean([math.nan if row.consumed is None else row.consumed for row in members])
        sizes = [size for facts in members if (size := facts.peak(("train",), "trainable_parameters")) is not None]
        lines.append(Line((label,), tuple(Entry(value, 0) for value in (*counts, mean(sizes)))))
    return Grid("Fairness card", ("Method",), heads, tuple(lines), tuple(_card_notes(facts)))


def _card_notes(facts: Sequence[RowFacts]) -> Iterator[str]:
    yield from apart(joints(facts))
    yield from unequal(facts) or [f"every method consumed the same examples: {_locks(facts)}"]
    for label, members in by_row(facts):
        reasons = sum((stage.dropped for row in members for stage in row.of("build")), Counter[str]())
        if reasons:
            shown = "; ".join(f"{count:,} {reason[:80]}" for reason, count in reasons.most_common(REASONS))
            rest = sum(count for _, count in reasons.most_common()[REASONS:])
            yield f"{label} left out, all seeds and rounds: {shown}{f'; {rest:,} for other reasons' if rest else ''}"
        records, tokens = (
            sum(row.total(("train",), name) or 0 for row in members) for name in ("cut_records", "cut_tokens")
        )
        if records:
            yield f"{label}: max_length cut {tokens:,.0f} tokens off {records:,.0f} records, all seeds and rounds"
        yield from _joined(label, members)
        if errors := sum((stage.errors for row in members for stage in row.of("build")), Counter[str]()):
            shown = ", ".join(f"{kind} {count:,}" for kind, count in errors.most_common())
            yield f"{label}: errors of own responses by the codebook, all seeds: {shown}"
    for label, members in by_row(facts):
        yield from preferences(label, {row.seed: stage.rejected for row in members for stage in row.of("build")[:1]})
    yield "per seed, summed over rounds; tokens generated: own responses, asked for by several methods but made once"
    yield (
        "forward tokens: own responses and what a build scores (each prompt counted for itself), reference log-probs "
        "and training (policy and critic each); –: not measured, or not part of the method"
    )


def _joined(label: str, members: Sequence[RowFacts]) -> Iterator[str]:
    """What a row learnt together with its records."""
    records, lost = (mean_of(members, ("train",), f"joint_{what}") for what in ("records", "dropped"))
    tokens, all_of_them = (mean_of(members, ("train",), name) for name in ("joint_tokens", "supervised_tokens"))
    if records > 0:
        names = ", ".join(sorted({stage.joint for row in members for stage in row.of("train") if stage.joint}))
        yield (
            f"{label} learnt {records:,.0f} examples of {names} together with its records, per seed, {lost:,.0f} left "
            f"out: {tokens / all_of_them:.0%} of its supervised tokens"
        )


def apart(joint: Mapping[str, str]) -> list[str]:
    """A sentence where not all rows, by their labels, learnt the same source together with their records ("": none)."""
    groups: dict[str, list[str]] = {}
    for label, name in joint.items():
        groups.setdefault(name, []).append(label)
    told = (f"{', '.join(labels)} {name or 'nothing else'}" for name, labels in groups.items())
    return [f"NOT THE METHOD ALONE: together with their records learnt {'; '.join(told)}"] if len(groups) > 1 else []


def joints(facts: Sequence[RowFacts]) -> dict[str, str]:
    """Label -> what a row learnt together with its records, of those that were trained."""
    found = ((label, [stage for row in members for stage in row.of("train")]) for label, members in by_row(facts))
    return {label: next((one.joint for one in trained if one.joint), "") for label, trained in found if trained}


def preferences(row: str, told: Mapping[int, tuple[int, str]]) -> Iterator[str]:
    """What a row did with the data's rejected answers, from seed -> (how many there were, what became of them)."""
    for use in dict.fromkeys(use for count, use in told.values() if count):
        counts = {seed: count for seed, (count, same) in told.items() if same == use and count}
        if len(counts) == len(told) and len(set(counts.values())) == 1:
            many = f"{next(iter(counts.values())):,} rejected answers{' per seed' if len(told) > 1 else ''}"
        else:
            many = ", ".join(f"{count:,} (seed {seed})" for seed, count in sorted(counts.items())) + " rejected answers"
        yield f"{row}: the data have {many}, {use}"


def agreement(told: Agreed) -> str:
    """What another backend than transformers has to show before its rows count."""
    apart = "" if told.same == told.prompts else f" (first difference: {told.first})"
    within = f"within {told.largest:.2g} nats (bound {told.bound:g})"
    within += "" if told.adapted is None else f", with a random adapter too, which moves them by {told.adapted:.2g}"
    return (
        f"{told.backend} against transformers, before any row: {told.same} of {told.prompts} greedy responses are the "
        f"same{apart}; log-probs of {told.tokens:,} tokens {within}"
    )


def flips(told: Agreed) -> Iterator[str]:
    """What the backend alone is worth, by benchmark: responses with other words than by transformers."""
    if told.flips:
        each = ", ".join(f"{name} {others} of {asked}" for name, (others, asked) in told.flips.items())
        yield f"noise floor of {told.backend}: responses with other words than by transformers: {each}"


def _locks(facts: Sequence[RowFacts]) -> str:
    known = {f.seed: f.lock for f in facts if f.lock}
    return ", ".join(f"seed {seed}: {lock[1]:,} of split.lock {lock[0][:12]}" for seed, lock in sorted(known.items()))


def unequal(facts: Sequence[RowFacts]) -> list[str]:
    """Sentences that name methods which did not consume what `split.lock` says; none where all did."""
    found = []
    for seed in sorted({f.seed for f in facts}):
        mine = [f for f in facts if f.seed == seed and f.made]
        locks = {f.lock for f in mine}
        if len(locks) > 1:
            found.append(f"NOT COMPARABLE, seed {seed}: the methods were built from {len(locks)} different splits")
        for row in mine:
            if row.lock and row.consumed is not None and not math.isclose(row.consumed, row.lock[1]):
                said = f"{row.label} consumed {row.consumed:,.0f} examples of {row.lock[1]:,}"
                found.append(f"NOT COMPARABLE, seed {seed}: {said}")
    return found


def profile(facts: Sequence[RowFacts]) -> Grid:
    """Per method and stage: time, rates, peak memory, FLOPs, energy where measured, and how roles were realised."""
    energy = any("energy_j" in stage.measured for row in facts for stage in (*row.made, *row.tried))
    foreseen = any(stage.measured.get("peak_device_gib") for row in facts for stage in row.of("train"))
    names = [
        "seconds",
        "samples/s",
        "tokens/s",
        "host GiB",
        "device GiB",
        *(["foreseen"] if foreseen else []),
        "TFLOP",
        *(["kJ"] if energy else []),
        "roles",
    ]
    lines = []
    for label, members in by_row(facts):
        for kind in KINDS:
            if any(row.of(kind) for row in members):
                costs = _costs(members, kind, foreseen, energy)
                entries = [*costs, Entry(text=roles(members[0]) if kind == "train" else " ")]
                lines.append(Line((label, kind), tuple(entries), label))
    heads = tuple(Head(name, rank=False) for name in names)
    notes = (
        "seconds, TFLOP: per seed, all rounds and benchmarks; rates: over the time of the work itself; GiB: peak of a "
        "process; FLOPs by formula",
        "stages run side by side on the same cores: times compare within a run, not across machines",
        "a stage that another method shares (own responses) is counted where it ran first",
        *(["foreseen: GiB of a device that a training was to take, by formula"] if foreseen else []),
        *_shortages(facts),
    )
    return Grid("Profile", ("Method", "Stage"), heads, tuple(lines), notes)


def _shortages(facts: Sequence[RowFacts]) -> Iterator[str]:
    """Of each row whose trainings ran out of memory, with what they went on."""
    for label, members in by_row(facts):
        short = [stage.measured for row in members for stage in row.of("train") if stage.measured.get("shortages")]
        if short:
            least = min(int(measured.get("batch_size", 1)) for measured in short)
            times = sum(int(measured["shortages"]) for measured in short)
            often = f"{times} time{'s' * (times != 1)}"
            yield (
                f"{label}: memory ran out {often} in training, which went on with micro-batches of {least}; "
                "the steps are the same"
            )


def spent(facts: Sequence[RowFacts]) -> Grid:
    """One row per method: seconds of each kind of stage and of all, peak memory, FLOPs, and how roles were realised."""
    kinds = [kind for kind in KINDS if any(row.of(kind) for row in facts)]
    lines = []
    for label, members in by_row(facts):
        seconds = [mean_of(members, (kind,), "seconds") if _any(members, kind) else math.nan for kind in kinds]
        whole = math.fsum(value for value in seconds if math.isfinite(value)) if seconds else math.nan
        peaks = [
            max((row.peak(KINDS, name) or math.nan for row in members), default=math.nan)
            for name in ("peak_host_gib", "peak_device_gib")
        ]
        flops = [value for kind in MADE if math.isfinite(value := mean_of(members, (kind,), "flops")) and value]
        entries = [Entry(value, 1) for value in (*seconds, whole)] + [Entry(value, 2) for value in peaks]
        entries.append(Entry(math.fsum(flops) / 1e12 if flops else math.nan, 3))
        lines.append(Line((label,), (*entries, Entry(text=roles(members[0]) if _any(members, "train") else " "))))
    names = (*kinds, "all")
    heads = [*(Head(f"{name}, s", rank=False) for name in names)]
    heads += [Head(name, rank=False) for name in ("host GiB", "device GiB", "TFLOP to make", "roles")]
    notes = ("seconds and TFLOP: per seed, all rounds and benchmarks; GiB: peak of a process of any stage",)
    return Grid("Time and memory", ("Method",), tuple(heads), tuple(lines), notes)


def _any(members: Sequence[RowFacts], kind: str) -> bool:
    return any(row.of(kind) for row in members)


def cost(facts: Sequence[RowFacts]) -> Iterator[tuple[str, str]]:
    """Label and, in words, what it took to build and train a row: time per seed and the peak memory of a process."""
    for label, members in by_row(facts):
        seconds = mean_of(members, MADE, "seconds")
        peaks = {name: max(row.peak(MADE, name) or 0 for row in members) for name in PEAKS}
        where = next((name for name, peak in peaks.items() if peak), None)
        memory = f", {peaks[where]:.1f} GiB of {PEAKS[where]} memory" if where else ""
        if not math.isnan(seconds):
            yield label, f"{duration(seconds)} to build and train{memory}"


def _costs(members: Sequence[RowFacts], kind: str, foreseen: bool, energy: bool) -> Iterator[Entry]:
    yield Entry(mean_of(members, (kind,), "seconds"), 1)
    for names in (THINGS, TOKENS):
        yield Entry(_rate(members, kind, names), 1 if names is THINGS else 0)
    for name in ("peak_host_gib", "peak_device_gib", *(["estimated_gib"] if foreseen else [])):
        yield Entry(max((row.peak((kind,), name) or math.nan for row in members), default=math.nan), 2)
    yield Entry(mean_of(members, (kind,), "flops") / 1e12, 3)
    if energy:
        yield Entry(mean_of(members, (kind,), "energy_j") / 1e3, 2)


def _rate(members: Sequence[RowFacts], kind: str, names: Sequence[str]) -> float:
    """Things per second of work over all stages of a kind; NaN where either is not known."""
    if kind == "build" and names is TOKENS:
        return math.nan  # what a build asked for may have been in the store already
    for name in names:
        done = [row.total((kind,), name) for row in members]
        took = [row.total((kind,), "wall_s") or row.total((kind,), "seconds") for row in members]
        if all(done) and all(took):
            return sum(filter(None, done)) / sum(filter(None, took))
    return math.nan


def roles(row: RowFacts) -> str:
    """Which models the training needed and how each was realised, as the training says or as its stages show."""
    said = {role: how for stage in row.of("train") for role, how in stage.roles.items()}
    if not said:
        made = method_of(row.method, row.options)
        said = dict.fromkeys(made.roles if made else (Role.POLICY,), "trained")
        if Role.REFERENCE in said:
            said[Role.REFERENCE] = "cached log-probs" if row.of("reference") else "adapters off"
    return ", ".join(f"{role}: {how}" for role, how in said.items())


def by_row(facts: Sequence[RowFacts]) -> Iterator[tuple[str, list[RowFacts]]]:
    """Label -> the row's seeds; equal labels of different rows are told apart."""
    ordered = sorted(facts, key=lambda f: list(dict.fromkeys(g.row for g in facts)).index(f.row))
    for row, members in groupby(ordered, key=lambda f: f.row):
        mine = list(members)
        twin = any(other.label == mine[0].label and other.row != row for other in facts)
        yield f"{mine[0].label} ({row})" if twin else mine[0].label, mine


def mean_of(members: Sequence[RowFacts], kinds: Sequence[str], name: str) -> float:
    """Mean over the seeds of the sum over rounds; NaN where one is not known."""
    sums = [row.total(kinds, name) for row in members]
    known = [value for value in sums if value is not None]
    return mean(known) if len(known) == len(sums) else math.nan
