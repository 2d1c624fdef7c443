"""One comparison at several numbers of training examples, as in the paper's Figure 4.

The splits are prefixes of one another. What sizes share is computed once: the data, the items, the baseline's responses
and scores, and the own responses of every prefix. What they do not: reference log-probs (their stage reads one build as
a whole), a writer's turns that are in no journal, and training, whose schedule depends on the size.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.compare import Finished, compare
from harness.config import Runtime, Testbed
from harness.reporting import figure, scaling_table, show
from harness.schedule import Watcher
from harness.steps import Request
from harness.store import Store
from harness.types import UsageError


def compare_sizes(
    request: Request,
    testbed: Testbed,
    runtime: Runtime,
    store: Store,
    out: Path,
    watcher: Watcher,
    sizes: Sequence[int],
    page: bool = True,
) -> str:
    """A comparison per size in `out/SIZE`, the smallest first, and Figure 4 and its numbers in `out`; what to print."""
    done = list[Finished]()
    for size in sorted(sizes):
        asked = replace(request, examples=size, pool=max(sizes))
        done.append(compare(asked, testbed, runtime, store, out / str(size), watcher, page))
    folders = [finished.out for finished in done]
    drawn = figure(folders, "4", out, store.root)
    said = show(scaling_table(folders, store.root), "terminal", out)
    ran = sum(finished.ran for finished in done)
    return f"{said}\n{ran} stages run; a comparison per size in {out}, and {', '.join(map(str, drawn))}"


def parsed(text: str) -> list[int]:
    """`--sizes`: at least two different positive numbers."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts) or len(set(parts)) < 2:
        raise UsageError(f"--sizes {text}: give at least two numbers of examples, e.g. --sizes 250,500,750,1000.")
    return sorted({int(part) for part in parts})
