"""A trained policy."""

from harness.config import Training
from harness.engine import Job
from harness.launch import launch
from harness.method import Role
from harness.rows import resolve
from harness.stages.policy import base, base_shelf, policy, spec
from harness.stages.work import Work


def train(work: Work) -> None:
    """A trained policy: `checkpoint/` in Hugging Face's layout, `log.jsonl`, `summary.json`."""
    what, step, row = work.what, work.step, spec(work)
    reference = work.folder("reference") / "logps.safetensors" if "reference" in step.derived else None
    lesson = resolve(row).lesson(what["round"])
    heirs = {role: work.folder(role) / "adapters" / role for role in Role if role in step.reads}
    job = Job(
        method=row.name,
        options=row.options,
        round=what["round"],
        records=str(work.folder("build") / "records.jsonl"),
        model=str(base(work) if lesson.continues else policy(work)),
        reference=str(reference) if reference else None,
        adapters={role: str(folder) for role, folder in heirs.items() if folder.is_dir()},
        training=Training.model_validate(what["training"]),
        runtime=work.runtime,
        seed=what["seed"],
        out=str(work.out),
        work=str(work.store.work(step.stage)),
        shelf=str(base_shelf(work)),
        family=work.testbed.family,
        places=work.places,
    )
    launch(job, work.tick)
