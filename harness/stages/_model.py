"""Stages in which a model takes part: a base model of the testbed, or a policy that was trained from it."""

from dataclasses import dataclass, replace
from pathlib import Path

from harness import families
from harness.contracts.backend import Adapted, Model
from harness.contracts.executor import Resources
from harness.contracts.method import Role
from harness.contracts.settings import Runtime
from harness.contracts.stage import Kind, Plugins, Work
from harness.models.folder import family_of
from harness.models.load import revision
from harness.stages._drawn import changed
from harness.store.closure import Entry
from harness.store.shelves import shelf
from harness.store.store import Stage, Store

# What a training leaves of a policy: all of it, its adapter on the base, or one on the model that it began with.
WHOLE, ON_BASE, OWN = "checkpoint", "adapters", "adapter"


@dataclass(frozen=True, kw_only=True)
class Trained(Kind.Reads):
    """The training that each role was trained in last; None for a role of the base model."""

    policy: Stage | None = None
    critic: Stage | None = None
    reward: Stage | None = None

    @property
    def roles(self) -> dict[Role, Stage]:
        """Those that were trained at all."""
        made = {Role.POLICY: self.policy, Role.CRITIC: self.critic, Role.REWARD: self.reward}
        return {role: stage for role, stage in made.items() if stage}


class Modelled(Kind):
    """A stage in which a model takes part.

    model: revision of the base model
    """

    model: str

    def loads(self, known: Plugins) -> tuple[Entry | None, ...]:
        """The model's family."""
        return (known.family,)

    def takes(self, runtime: Runtime) -> Resources:
        """A GPU, for the model."""
        return replace(super().takes(runtime), gpus=1)

    def base(self, work: Work) -> Path:
        """The base model's folder; HarnessError where it is not what it was. Files are read where they have changed."""
        known = (*work.testbed.models, *(folder for _, folder in work.request.published))
        found = next((Path(folder) for folder in known if revision(Path(folder)) == self.model), None)
        if found is None:
            raise changed(*map(Path, known))
        return found

    def policy(self, work: Work, trained: Stage | None) -> Model:
        """The policy that the step starts from: what a training left, else the base model."""
        whole, adapters = left_by(work.store, trained.name if trained else "")
        base = whole or self.base(work)
        return Adapted(base, adapters) if adapters else base

    def shelf(self, work: Work) -> Path:
        """Where images' features by the base model are kept."""
        return shelf(work.store, self.model, families.file_of(family_of(self.base(work))))


class Answering(Modelled):
    """A stage in which a model responds, perhaps by several processes side by side."""

    def takes(self, runtime: Runtime) -> Resources:
        """A GPU for each of them."""
        many = runtime.generate_processes
        return replace(super().takes(runtime), processes=many, gpus=many)


def left_by(store: Store, training: str) -> tuple[Path | None, tuple[Path, ...]]:
    """What the policy of a finished training ("kind/key", "" for none) is: a whole model, None for the base, and the
    adapters that are merged into it, in order. HarnessError for a stage that is damaged or not there.
    """
    adapters = list[Path]()
    while training:
        folder, before = store.sound(training), store.manifest_of(training)["inputs"]
        if (folder / WHOLE).is_dir():
            return folder / WHOLE, tuple(adapters)
        on_base = folder / ON_BASE / Role.POLICY
        adapters.insert(0, on_base if on_base.is_dir() else folder / OWN)
        training = "" if on_base.is_dir() else before.get(Role.POLICY, "")
    return None, tuple(adapters)
