"""Whether the paper's printed numbers may stand beside ours: by what was run, never by a testbed's name.

A column of the paper is shown where the same model, settings, examples, questions and kind of judge were used, as far
as the paper says what it used. What cannot be known from a run is said below the table: whose weights they are.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark
from harness.contracts.testbed_file import read_testbed, setting_of
from reports.layouts import BASES, Column, Layout
from reports.outcomes import Outcome
from reports.totals import RULE

# What a model's weights must look like; the tower is CLIP-L/14 at 336 pixels.
_TOWER = {"vision_hidden_size": 1024, "vision_layers": 24, "patches": 576}
ARCHITECTURES = {
    "llava-1.5-7b": {"hidden_size": 4096, "layers": 32, "tilings": 0, **_TOWER},
    "llava-1.5-13b": {"hidden_size": 5120, "layers": 40, "tilings": 0, **_TOWER},
    "llava-next-13b": {"hidden_size": 5120, "layers": 40, "tilings": 5, **_TOWER},  # LLaVA-1.5 has none
}
GPT_4 = re.compile(r"openai:gpt-4(-[\w.-]+)?")  # the paper names no version; gpt-4o and gpt-4.1 are other models
CHATGPT = re.compile(r"openai:(gpt-3\.5-turbo|chatgpt)(-[\w.-]+)?")  # the paper's judge of MMHal
WHERE = {"hub", "file", "source"}  # options that say where questions lie; how many there are is counted
FREE = {"pope": {"random_rows"}}  # either set is POPE's own, and the paper does not say which it took
SHOWN = 3  # settings named in a line
OWN_PROMPTS = {"indomain"}  # the paper does not print what it asked its judge


@dataclass(frozen=True)
class Ran:
    """What one comparison ran, by its manifest: models by seed, the testbed's `setting`, benchmarks' options.

    `examples` are the numbers of examples in its splits, one for each seed that trained.
    """

    data: str
    models: Mapping[str, Mapping[str, int]]
    setting: Mapping[str, Any]
    options: Mapping[str, Mapping[str, Any]]
    examples: Collection[int]


def shortfalls(
    layout: Layout, testbed: str, ran: Sequence[Ran], outcomes: Sequence[Outcome]
) -> dict[str, tuple[str, ...]]:
    """Column key -> why its printed numbers may not stand beside these outcomes; "" for what holds of all columns."""
    found: dict[str, list[str]] = {"": [reason for one in ran for reason in _whole(layout, testbed, one)]}
    for column in layout.columns:
        if column.total is None:
            found[column.key] = [reason for one in ran for reason in _column(column, one, outcomes)]
    for column in layout.columns:
        if column.total is not None:  # worth what its terms are
            terms = [one for one in layout.columns if one.benchmark in RULE[column.total]]
            missing = [one.heading for one in terms if found[one.key]]
            found[column.key] = [f"{', '.join(missing)} withheld"] if missing else []
    return {key: tuple(dict.fromkeys(reasons)) for key, reasons in found.items() if reasons}


def _whole(layout: Layout, testbed: str, ran: Ran) -> Iterator[str]:
    """What is not the paper's in all columns."""
    bases = [testbed] if testbed in BASES else list(layout.bases)
    if not ran.models or not ran.setting:
        yield "an older version wrote the run, and did not record its model and settings"
        return
    bases = [base for base in bases if all(_is(base, model) for model in ran.models.values())]
    if not bases:
        wanted = " or ".join(BASES[base] for base in layout.bases)
        yield f"the model is not {wanted} ({'; '.join(dict.fromkeys(map(_in_words, ran.models.values())))})"
        return
    yield from _settings(bases[0], ran.setting)
    if ran.data not in layout.sources:
        yield f"aligned with {ran.data}, the paper with {', '.join(layout.sources)}"
    if layout.examples and any(count != layout.examples for count in ran.examples):
        counts = ", ".join(f"{count:,}" for count in sorted(set(ran.examples)))
        yield f"trained on {counts} examples, the paper on {layout.examples:,}"


def _is(base: str, model: Mapping[str, int]) -> bool:
    wanted = ARCHITECTURES.get(base)
    return wanted is not None and all(model.get(name, 0) == size for name, size in wanted.items())


def _in_words(model: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size:,}" for name, size in model.items()) or "not recorded"


def _settings(base: str, setting: Mapping[str, Any]) -> Iterator[str]:
    """Where a comparison's settings are not those of the testbed that follows the paper; judge and options aside."""
    other = [
        f"{name} is {mine}, in the paper's testbed {its}"
        for name, mine, its in _differences(setting, setting_of(read_testbed(base)))
        if name.partition(".")[0] not in ("judge", "judging", "benchmarks")
        if name != "writer" or not GPT_4.fullmatch(mine)
    ]
    yield from other[:SHOWN]
    if more := len(other[SHOWN:]):
        yield f"{more} more settings"


def _differences(ours: Mapping[str, Any], wanted: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str, str]]:
    """The dotted names under which two nested settings have different values, and both."""
    for name in sorted(ours.keys() | wanted.keys()):
        mine, its = (given.get(name, "not set") for given in (ours, wanted))
        if isinstance(mine, Mapping) and isinstance(its, Mapping):
            yield from _differences(mine, its, f"{above}{name}.")
        elif mine != its:
            yield f"{above}{name}", str(mine), str(its)


def _column(column: Column, ran: Ran, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What is not the paper's in one column."""
    name = column.benchmark
    mine = [outcome for outcome in outcomes if outcome.benchmark == name]
    if name not in ran.options or not mine:
        yield "not scored"
        return
    benchmark = _made(name, ran.options[name])
    plain = _made(name, {})
    aside = WHERE | FREE.get(name, set())
    for option in sorted({one.name for one in fields(benchmark)} - aside):
        if (given := getattr(benchmark, option)) != (usual := getattr(plain, option)):
            yield f"{option}={given}, not {usual}"
    counts = {len(outcome.units) + outcome.unscored for outcome in mine}
    if (official := benchmark.official_units) and counts != {official}:
        wrong = ", ".join(f"{count:,}" for count in sorted(counts - {official}))
        yield f"{wrong} of {official:,} questions" if max(counts) < official else f"{wrong} questions, not {official:,}"
    if name in OWN_PROMPTS:
        yield "the paper does not print its judge's prompts, so these are ours"
    judge = str(ran.setting.get("judge", ""))
    if column.judged:
        usual = setting_of(read_testbed(next(iter(ARCHITECTURES))))["judging"]  # in all testbeds of the paper's
        asked = _differences(ran.setting.get("judging", {}), usual, "judging.")
        yield from (f"{name} is {mine}, in the paper's testbed {its}" for name, mine, its in asked)
    if column.judged and not (GPT_4.fullmatch(judge) or (name == "mmhal" and CHATGPT.fullmatch(judge))):
        yield f"the judge is {judge or 'not recorded'}, the paper's GPT-4{' or ChatGPT' if name == 'mmhal' else ''}"


def _made(name: str, options: Mapping[str, Any]) -> Benchmark:
    made: Benchmark = plugins.make("benchmarks", name, Benchmark, dict(options))
    return made


def told(layout: Layout, ran: Sequence[Ran], lacking: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """One line for each reason to withhold the paper's numbers, and what must be known of those that are shown."""
    if whole := lacking.get(""):
        yield f"the paper's numbers are withheld: {'; '.join(whole)}"
        return
    columns = {column.key: column for column in layout.columns}
    for key, reasons in lacking.items():
        if columns[key].total is None:
            yield f"{columns[key].heading} (paper) withheld: {'; '.join(reasons)}"
    earned = [column for column in layout.columns if column.key not in lacking]
    if not earned:
        return
    yield "paper: as printed there, not measured here; nothing is tested between the two columns"
    yield "the models have the paper's architecture; whether their weights are the published ones, no run can tell"
    if len({seed for one in ran for seed in one.models}) > 1:
        yield "ours are means over seeds; the paper does not say over how many its figures are"
    judges = ", ".join(dict.fromkeys(str(one.setting["judge"]) for one in ran))
    if judged := [column.heading for column in earned if column.judged]:
        yield f"judged by {judges}; the paper does not say which version, so a level of its own: {', '.join(judged)}"
    if any(column.benchmark == "chair" for column in earned):
        metrics = ", ".join(sorted({_made("chair", one.options["chair"]).metrics[0].id for one in ran}))
        yield f"CHAIR: ours is {metrics}; the paper does not say how it finds objects, nor on which images"
    sets = {_made("pope", one.options["pope"]).official_units for one in ran if "pope" in one.options}
    if any(column.benchmark == "pope" for column in earned):
        counts = " and ".join(f"{count:,}" for count in sorted(sets))
        yield f"POPE: ours has {counts} questions; the paper does not say whether it took 9,000 or LLaVA's 8,910"
