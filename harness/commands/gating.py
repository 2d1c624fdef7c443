"""`harness gate`: reads the policy and the runs, writes the verdict's files and accepted baselines."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ValidationError

from harness.contracts.plugins import unknown
from harness.contracts.settings import first_error
from harness.system.blame import plugin_fault
from harness.system.errors import HarnessError, UsageError
from harness.system.yamls import yaml_file
from reports.accepted import read_card, write_card
from reports.bundle import write_bundle
from reports.gate import Budget, Policy, gate
from reports.gate_text import comment, junit, summary
from reports.runs import Run, opened

POLICY = Path("gate.yaml")


def accept(given: Path, file: Path, store: Path | None, today: date | None = None) -> str:
    """Write a finished run to `file` as the baseline of later gates: its units, manifests and profile. What to say.

    Beside it lies its card, a YAML file for people to review.
    """
    with opened([given], store) as runs:
        run = _one(runs, given)
        if run.missing:
            raise HarnessError(f"{len(run.missing)} cells of {given} are not scored yet; finish the comparison first.")
        rows, columns = ", ".join(run.rows.values()), ", ".join(run.benchmarks())  # before anything is written
        write_bundle(file, runs, responses=False)
        card = write_card(file, run, today or datetime.now(UTC).date())
        source = run.manifest.source.get("commit", "no checkout")
        return f"{file}: {rows} on {columns} accepted (source: {source})\nReview and commit it with {card}, its scores."


def judge(
    given: Path,
    baseline: Path,
    policy: Path | None,
    store: Path | None,
    xml: Path | None,
    markdown: Path | None,
    remark: Path | None = None,
    page: str = "",
    today: date | None = None,
) -> tuple[int, str]:
    """The exit status and the summary of the verdict on a run.

    As JUnit XML, Markdown and a pull request's comment (with a link to `page`) too, where files are named.

    Without a policy by the one that lies here, and where none does by the defaults.
    """
    policy = policy or (POLICY if POLICY.exists() else None)
    asked = read_policy(policy) if policy else None
    try:
        with opened([baseline]) as before, opened([given], store) as after:
            now = _one(after, given)
            verdict = gate(_one(before, baseline), now, asked, now.profile(), read_card(baseline), today)
    except HarnessError as error:  # a damaged run is no verdict about it, and no incomplete one either
        raise UsageError(str(error)) from error
    except Exception as error:
        if not (fault := plugin_fault(error)):
            raise
        raise UsageError(f"{baseline} or {given} holds scores that nothing can be computed from: {fault}") from error
    for file, text in ((xml, junit), (markdown, summary), (remark, partial(comment, page=page))):
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text(verdict), encoding="utf-8", newline="\n")
    return verdict.status, summary(verdict)


def _one(runs: Sequence[Run], given: Path) -> Run:
    if len(runs) != 1:
        raise UsageError(f"{given} holds {len(runs)} runs; a gate compares one with one.")
    return runs[0]


def read_policy(file: Path) -> Policy:
    """A policy's YAML; UsageError for an unknown key (with the nearest), a wrong value, or a file that is not one."""
    try:
        return Policy.model_validate(yaml_file(file, "policy"))
    except ValidationError as error:
        for wrong in error.errors():
            if wrong["type"] == "extra_forbidden":
                *inside, name = map(str, wrong["loc"])
                model: type[BaseModel] = Budget if inside else Policy
                raise unknown(f"key of {'.'.join([str(file), *inside])}", name, list(model.model_fields)) from None
        raise UsageError(f"policy {file}: {first_error(error)}") from None
