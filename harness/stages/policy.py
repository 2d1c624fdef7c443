"""Which method and which model a step is about."""

from pathlib import Path

from harness import families
from harness.config import MethodSpec
from harness.folder import family_of
from harness.model import revision
from harness.rows import spec_of
from harness.shelves import shelf
from harness.stages.work import Work


def spec(work: Work) -> MethodSpec:
    """The row whose method the stage is made by."""
    return spec_of(work.step, work.request)


def policy(work: Work) -> Path:
    """The policy the step starts from: the last round's checkpoint, or the base model it names."""
    return work.folder("policy") / "checkpoint" if "policy" in work.step.reads else base(work)


def base(work: Work) -> Path:
    """The base model the step names."""
    return next(Path(folder) for folder in work.testbed.models if revision(Path(folder)) == work.what["model"])


def base_shelf(work: Work) -> Path:
    """Where images' features by the step's base model are kept."""
    return shelf(work.store, work.what["model"], families.file_of(family_of(base(work))))
