"""A trained policy."""

from dataclasses import dataclass
from typing import Any, ClassVar

from harness.contracts import plugins
from harness.contracts.executor import Resources
from harness.contracts.settings import Runtime, Training
from harness.contracts.stage import Plugins, Work
from harness.models.load import parts
from harness.stages._model import Modelled, Trained
from harness.stages._row import row_of
from harness.store.closure import SOURCES, Entry
from harness.store.store import Stage
from harness.training.split import EXAMPLES


class Train(Modelled):
    """A trained policy: its adapters, or all of it as `checkpoint/` in Hugging Face's layout; `log.jsonl`,
    `summary.json`.

    method: the method's name
    options: its options, without paths of files that it reads
    files: digest of these files
    seed: the comparison's
    round: which round of the method, 0 for the first
    training: how it is optimised
    """

    also: ClassVar[tuple[str, ...]] = ("harness.stages.reference",)  # cached log-probs are in no key of their own

    method: str
    options: dict[str, Any]
    files: str
    seed: int
    round: int
    training: Training

    @dataclass(frozen=True, kw_only=True)
    class Reads(Trained):
        """The records, the roles as the rounds before have left them, the reference's log-probs if it is cached, and
        the examples that are learnt together with the records.
        """

        derived: ClassVar[frozenset[str]] = frozenset({"reference"})
        build: Stage
        reference: Stage | None = None
        joint: Stage | None = None

    def loads(self, known: Plugins) -> tuple[Entry | None, ...]:
        """The method, the model's family, and the optimiser where it is another package's."""
        eight = plugins.source("harness.training", "eight_bit") if self.training.optim == "adamw_8bit" else None
        return known.method, known.family, eight

    def takes(self, runtime: Runtime) -> Resources:
        """The runtime's processes, each with a GPU."""
        return Resources(processes=runtime.num_processes, gpus=runtime.num_processes, nodes=runtime.nodes)

    def fill(self, work: Work) -> None:
        """Train, in as many processes as there are to be."""
        from harness.training.engine import Job  # by which the engine is in the key
        from harness.training.launch import launch
        from harness.training.nodes import meeting_of

        reads, row = self.Reads.of(work.step), row_of(work, self.files)
        reference = work.folder(reads.reference) / "logps.safetensors" if reads.reference else None
        trained = None if row.lessons[self.round].continues and self.training.lora else reads.policy
        heirs = {role: work.folder(stage) / "adapters" / role for role, stage in reads.roles.items()}
        policy = parts(self.policy(work, trained))
        job = Job(
            method=row.spec.name,
            options=row.spec.options,
            round=self.round,
            records=str(work.folder(reads.build) / "records.jsonl"),
            model=str(policy.base),
            merged=tuple(map(str, policy.adapters)),
            reference=str(reference) if reference else None,
            joint=str(work.folder(reads.joint) / EXAMPLES) if reads.joint else None,
            adapters={role: str(folder) for role, folder in heirs.items() if folder.is_dir()},
            training=self.training,
            runtime=work.runtime,
            seed=self.seed,
            out=str(work.out),
            work=str(work.store.work(work.step.stage)),
            shelf=str(self.shelf(work)),
            family=work.testbed.family,
            places=work.places,
            editions=plugins.held(),
            ours=SOURCES.known(),
            meet=str(meeting_of(work.store.root, work.step.key)),
        )
        launch(job, work.tick)
