"""One comparison at several numbers of training examples, as in the paper's Figure 4.

The splits are prefixes of one another. What sizes share is computed once: the data, the items, the baseline's responses
and scores, and the own responses of every prefix. What they do not: reference log-probs (their stage reads one build as
a whole), a writer's turns that are in no journal, and training, whose schedule depends on the size.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.comparison.compare import Finished, compare
from harness.comparison.progress import told
from harness.comparison.run_folder import SIZES, aside, held, identity
from harness.contracts.executor import Watcher
from harness.contracts.settings import Runtime, Testbed
from harness.contracts.steps import Request
from harness.store.store import Store
from harness.system.errors import UsageError
from harness.system.files import put
from reports.findings import GROUPS
from reports.report import figure, scaling_table, show


def compare_sizes(
    request: Request,
    testbed: Testbed,
    runtime: Runtime,
    store: Store,
    out: Path,
    watcher: Watcher,
    sizes: Sequence[int],
    page: bool = True,
) -> tuple[str, int]:
    """A comparison per size in `out/SIZE`, the smallest first, and Figure 4 and its numbers in `out`.

    Returns what to print, and the exit status. Figure 4 is drawn where there are the three benchmarks of a total.
    """
    done = list[Finished]()
    whose = identity(request, testbed, ",".join(map(str, sizes)))
    with held(out, store):
        place = aside(out, whose, store)
    out.mkdir(parents=True, exist_ok=True)
    put(out / SIZES, json.dumps({"request": whose, "sizes": sorted(sizes)}) + "\n")
    for size in sorted(sizes):
        asked = replace(request, examples=size, pool=max(sizes))
        done.append(compare(asked, testbed, runtime, store, out / str(size), watcher, page))
    folders = [finished.out for finished in done]
    grid = scaling_table(folders, store.root)
    said = show(grid, "terminal", out)
    whole = any(set(printed) <= set(request.benchmarks) for _, printed in GROUPS.values())
    drawn = ", and " + ", ".join(map(str, figure(folders, "4", out, store.root))) if whole else ""
    why = f"\n{out} held another comparison, which is in {place} now" if place else ""
    why += "".join(f"\n{at.out.name}: {sentence}" for at in done for sentence in at.told)
    why += "".join(f"\n{one.stage} of {at.out.name}: {one.why}" for at in done for one in at.failed)
    status = max(finished.status for finished in done)
    ran = told(sum(finished.ran for finished in done), sum(finished.seconds for finished in done))
    return f"{said}\n{ran}; a comparison per size in {out}{drawn}{why}", status


def parsed(text: str) -> list[int]:
    """`--sizes`: at least two different positive numbers."""
    sizes = sorted({*counts(text)})
    if len(sizes) < 2:
        raise UsageError(f"--sizes {text}: give at least two numbers of examples, e.g. --sizes 250,500,750,1000.")
    return sizes


def counts(text: str) -> list[int]:
    """Positive whole numbers with commas between; empty where one of them is none."""
    parts = [part.strip() for part in text.split(",")]
    found = [int(part) for part in parts if part.isdecimal()]
    return found if len(found) == len(parts) and min(found) > 0 else []
