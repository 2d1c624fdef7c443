"""What a page says of a run beside its figures: when it was made, by what, and where its files lie, in words."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from harness.contracts import plugins
from harness.contracts.row_names import BASELINE
from harness.system.console import duration
from harness.system.jsonl import dumps
from reports.facts import RowFacts
from reports.runs import Run

Facts = list[tuple[str, str]]
TABLES = {
    "table.csv": "every figure of the tables",
    "table.md": "the tables with every note",
    "table.tex": "the tables for LaTeX",
    "results.jsonl": "a line per row, seed, benchmark and metric",
    "cards.md": "fairness card and profile",
}
RECORDS = {"manifest.json": "what it is made of", "profile.json": "what each stage took"}
PLAIN = re.compile(r"[\w.=+-]+(/[\w.=+-]+)*")  # a path that is no address with a scheme, and none of the root


def when(run: Run, facts: Sequence[RowFacts]) -> str:
    """The day and hour of its first and last stage, and how long the work of all took; empty where nobody knows."""
    times = sorted(time for row in facts for stage in (*row.made, *row.tried) if (time := _time(stage.manifest)))
    took = {
        str(one.get("key") or (part.name, at)): one.get("seconds") or 0.0  # runs that share a stage tell it each
        for part in run.parts or (run,)
        for at, one in enumerate(part.profile()["stages"])
    }
    seconds = sum(took.values())
    said = []
    if times:
        first, last = (f"{time:%Y-%m-%d %H:%M}" for time in (times[0], times[-1]))
        same = last.removeprefix(first[:11]) if last != first else ""
        said.append(f"made {first}{f' to {same}' if same else ''} UTC")
    return ", ".join([*said, *([f"{duration(seconds)} of work in all stages"] if seconds else [])])


def _time(manifest: Mapping[str, Any]) -> datetime | None:
    try:
        return datetime.fromisoformat(str(manifest.get("created", ""))).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def provenance(run: Run) -> Iterator[tuple[str, Facts]]:
    """What a run was asked, who took part, what it ran on, and what identifies it; each with names and values."""
    told = run.manifest
    rows = [(run.rows.get(row, row), told.rows[row]) for row in told.rows]
    yield (
        "What was asked",
        [
            ("command", " ".join(map(str, told.command)) or "not known"),
            ("data", told.data),
            ("testbed", f"{run.setting.testbed_in_words}, protocol {told.protocol}"),
            ("seeds", ", ".join(map(str, told.seeds)) or "not known"),
            *(
                (label, listed({"method": plugins.stem(one.name), **one.options, **one.training}))
                for label, one in rows
            ),
            ("benchmarks", "; ".join(f"{name} ({listed(of)})" if of else name for name, of in told.benchmarks.items())),
        ],
    )
    judges = dict.fromkeys(judge if isinstance(judge, str) else listed(judge) for judge in told.judges.values())
    yield (
        "Who wrote and who judged",
        [
            ("writer", told.writer or "none"),
            ("judge", told.judge or "none"),
            *(("identity", judge) for judge in judges),
            ("how they were asked", "; ".join(listed(one) for one in (told.writing, told.judging) if one) or "–"),
        ],
    )
    commit, changed = told.source.get("commit"), told.source.get("changed")
    yield (
        "What it ran on",
        [
            ("harness", f"{told.harness}{f', commit {commit}' if commit else ''}{', with changes' if changed else ''}"),
            ("machine", ", ".join(filter(None, (f"Python {told.python}" if told.python else "", told.platform)))),
            ("packages", listed(told.packages)),
        ],
    )
    yield (
        "What identifies it",
        [
            *((f"base model, seed {seed}", one if isinstance(one, str) else listed(one))
              for seed, one in told.models.items()),
            *((name, str(digest)) for name, digest in told.split_lock.items()),
            ("stages", f"{len(told.stages)}, listed in manifest.json; {len(told.cells)} cells"),
        ],
    )  # fmt: skip


def listed(value: Any) -> str:
    """A mapping as name value, name value; of what is nested the JSON."""
    if not isinstance(value, Mapping):
        return value if isinstance(value, str) else dumps(value)
    return ", ".join(f"{name} {one if isinstance(one, str) else dumps(one)}" for name, one in value.items()) or "–"


def files(run: Run, drawn: Sequence[str], local: bool) -> Iterator[tuple[str, str, str]]:
    """(address or empty, name, what it is) of the files of a run, for a page beside them.

    `drawn` are the names of its figures. Where the page is not in the run's own folder (`local`), only what lies beside
    it there has an address.
    """
    known = {**TABLES, **(RECORDS if local else {})}
    yield from ((name, name, what) for name, what in known.items())
    yield from ((f"{name}.pdf", f"{name}.pdf", "a figure; as .svg and .png too") for name in drawn)
    store = PurePosixPath(run.manifest.store).as_posix()
    for made in run.manifest.trained:
        stages = [stage for stage in made.stages if stage.startswith("train/")]
        if made.row != BASELINE and stages:
            place = stages[-1]
            link = f"./{store}/{place}/" if local and PLAIN.fullmatch(store) else ""
            yield link, f"{run.rows.get(made.row, made.row)}, seed {made.seed}", f"trained model: {place} in the store"
