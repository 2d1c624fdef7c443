"""The comparisons behind docs/findings.md: one per base of `mini`, each with the same rows, splits and questions.

They lie in one folder with their store, and a killed one goes on from where it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.comparison.face import Wanted
from harness.comparison.progress import watching
from harness.contracts.testbed_file import read_testbed
from harness.system.errors import HarnessError

EPOCHS = "sft:num_train_epochs=3"
ROWS = (
    "sft",
    EPOCHS,
    "nsft",
    "nsft:turns=random",
    "nsft:layout=separate",
    "nsft:keep_chosen=false",
    "nsft:codebook=none",
    "dpo",
    "dpo:rejected_gradient=0.5",
    "dpo:rejected_gradient=0",
    "sima",
)


@dataclass(frozen=True)
class Size:
    """How much is trained and asked; `batch`: records of an optimiser step."""

    examples: int = 1000
    scenes: int = 1000
    splits: int = 3
    batch: int = 32


def wanted(base: Path, home: Path, size: Size, workers: int) -> Wanted:
    """The comparison of one base: every row on every split; what no question here asks for is left out."""
    asked = Wanted.of(
        ROWS, model=base, seeds=size.splits, examples=size.examples, limit=size.scenes, workers=workers,
        set={"training.train_batch_size": size.batch}, out=home / f"base-{base.name}", store=home / "store",
    )  # fmt: skip
    return replace(asked, testbed=asked.testbed.model_copy(update={"lens": 0, "crosscheck": False}))


def run(home: Path, size: Size, workers: int) -> Sequence[Path]:
    """The folders of the finished comparisons; HarnessError where one is not whole."""
    folders = []
    for base in map(Path, read_testbed("mini").models):
        asked = wanted(base, home, size, workers)
        with watching(asked.store, workers) as watcher:
            done = asked.run(watcher, page=False)
        if done.failed:
            raise HarnessError(f"{asked.folder}: {done.failed[0].stage} failed: {done.failed[0].why}")
        folders.append(asked.folder)
    return folders
