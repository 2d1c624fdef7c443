"""Runs steps as jobs of a SLURM cluster whose machines see the store at one path.

Every step is a job, all are handed in at once, and the scheduler holds each back until what it reads is made: the queue
is waited for once, and goes on when this process is gone. A job's name is its stage's key, by which the same command
finds it again. What a job is given and what it says lies in a folder of the store (`harness.executors._job`).
"""

import math
import re
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from string import Template

from harness.contracts.executor import Bodies, Executor, Failure, Resources
from harness.contracts.schedule import Course
from harness.contracts.steps import Step
from harness.executors import _job
from harness.system.errors import HarnessError, UsageError

SCRIPT = "#!/bin/bash\n$directives\nexec $command\n"
NAME = "harness-"
BEAT_S = 0.25  # between looks at the jobs' files
TRIES, PATIENCE_S, ENDED_S = 3, 600.0, 120.0  # of a submission; of a cluster that is silent; for jobs to be gone
LOST = (
    "NODE_FAIL",
    "BOOT_FAIL",
    "PREEMPTED",
    "REQUEUED",
    "REVOKED",
    "TIMEOUT",
    "DEADLINE",
)  # a stage goes on from there
NEVER = re.compile(  # why a job waits that no waiting cures
    r"JobHeld|launch failed|BadConstraints|Partition(Time|Node)Limit|Invalid(Account|QOS)|NotAllowed|Max\w*PerJob"
)
FULL = re.compile(r"SubmitJob|submit job limit", re.IGNORECASE)  # this user may have no more jobs waiting
OPTIONS = "--set 'runtime.executor_options={{sbatch: [{}]}}'"
CURE = f"give jobs what your cluster wants: {OPTIONS.format('--partition=NAME, --time=8:00:00')}"
CURES = {
    "CANCELLED": "somebody cancelled it; give the same command again",
    "OUT_OF_MEMORY": f"give jobs more: {OPTIONS.format('--mem=64G')}",
    "TIMEOUT": f"give jobs more time: {OPTIONS.format('--time=24:00:00')}",
}


@dataclass(frozen=True)
class Slurm(Executor):
    """A cluster, by its `sbatch`, `squeue`, `sacct` and `scancel`."""

    sbatch: tuple[str, ...] = ()
    """Options of every job: ["--partition=gpu", "--account=mine", "--time=8:00:00"]. They win over ours."""
    asking: tuple[str, ...] = ()
    """Further options of jobs that ask a judge or writer: a partition with a way to the network."""
    template: str = ""
    """A file for the jobs' script, with $directives and $command in it: where modules are loaded, say."""
    retries: int = 3
    """How often a step begins anew whose machine or time was lost."""
    poll_s: float = 10.0
    """Seconds between questions to the cluster."""
    settle_s: float = 30.0
    """Seconds until what another machine has written is seen here."""

    def __post_init__(self) -> None:
        """UsageError for a template without its places."""
        for place in ("$directives", "$command"):
            if place not in self._template():
                raise UsageError(f"slurm.template: {self.template} lacks {place}; begin with:\n{SCRIPT}")

    def _template(self) -> str:
        try:
            return Path(self.template).expanduser().read_text(encoding="utf-8") if self.template else SCRIPT
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"slurm.template: {self.template} cannot be read ({error}).") from None

    def script(self, step: Step, root: Path) -> str:
        """The script of a step's job."""
        folder, takes = _job.folder_of(root, step.key), step.resources
        given = {
            "job-name": NAME + step.key, "comment": step.title, "chdir": Path.cwd(), "output": folder / "log",
            "open-mode": "append", "nodes": takes.nodes, "ntasks-per-node": 1, "cpus-per-task": takes.each.processes,
        }  # fmt: skip
        given |= {"gres": f"gpu:{takes.each.gpus}"} if takes.gpus else {}
        options = [*(f"--{name}={shlex.quote(str(value))}" for name, value in given.items()), "--requeue", *self.sbatch]
        options += self.asking if takes.asks else ()
        command = shlex.join(_spread(_job.command(folder), takes))
        directives = "\n".join(f"#SBATCH {option}" for option in options)
        return Template(self._template()).safe_substitute(directives=directives, command=command)

    def shown(self, steps: Sequence[Step], root: Path) -> str:
        """Every job's script, and for which it waits."""
        titles, parts = {step.key: step.title for step in steps}, []
        for step in steps:
            waits = [f"{how} {titles[key]}" for how, keys in waits_for(step, titles).items() for key in keys]
            parts.append(f"# {step.title}: {'; '.join(waits) or 'at once'}\n{self.script(step, root)}")
        return "\n".join(parts)

    def run(self, course: Course, bodies: Bodies, workers: int) -> None:
        """By jobs; how many at once is the cluster's to decide."""
        jobs = Jobs(self, course, bodies)
        try:
            jobs.run()
        except BaseException:
            jobs.cancel(jobs.steps)
            raise


def _spread(command: list[str], takes: Resources) -> list[str]:
    """A job's command; over several machines once on each, which is told its number, the one that makes the stage 0."""
    if not takes.others:
        return command
    how = ["--kill-on-bad-exit=1", f"--nodes={takes.nodes}", "--ntasks-per-node=1"]
    how += [f"--cpus-per-task={takes.each.processes}"]  # srun does not take it over from sbatch
    return ["srun", *how, "sh", "-c", f'exec {shlex.join(command)} "$SLURM_PROCID"']


def waits_for(step: Step, among: Collection[str]) -> dict[str, list[str]]:
    """What a step's job waits for among these keys, by how the scheduler calls it."""
    reads = dict.fromkeys(stage.key for stage in step.reads.values() if stage.key in among)
    return {"afterok": [*reads], "afterany": [key for key in step.after if key in among and key not in reads]}


def before(step: Step, among: Collection[str]) -> list[str]:
    """All of those."""
    return [key for keys in waits_for(step, among).values() for key in keys]


@dataclass
class Job:
    """A step's job: its id, its folder, since when (by this process's clock) it is not in the queue any more."""

    id: str
    folder: Path
    gone_s: float | None = None


class Jobs:
    """The jobs of one run. What `Course.start` allows, the scheduler has allowed by then, as `waits_for` says."""

    def __init__(self, how: Slurm, course: Course, bodies: Bodies) -> None:
        self.how, self.course, self.bodies = how, course, bodies
        waits = {key: before(step, course.waiting) for key, step in course.waiting.items()}
        self.steps = {key: course.waiting[key] for key in TopologicalSorter(waits).static_order()}
        self.root = course.store.root
        self.jobs: dict[str, Job] = {}
        self.again, self.ticked, self.logged = Counter[str](), Counter[str](), Counter[str]()
        self.waits = ""

    def run(self) -> None:
        """Until nothing waits and nothing runs."""
        self._find()
        asked_s = -math.inf
        while self.course.waiting or self.course.running:
            if time.monotonic() - asked_s >= self.how.poll_s:
                self._submit()
                self._ask()
                asked_s = time.monotonic()
            for key, step in self.steps.items():
                if self._open(key) and key in self.jobs and not self._before(step):
                    self._look(step, self.jobs[key])
            if self.course.waiting or self.course.running:
                time.sleep(min(BEAT_S, self.how.poll_s))

    def _find(self) -> None:
        """Jobs of the same command, which was killed. One that waits for a job that is gone waits for nothing."""
        found = {name: number for number, name, *_ in self._queue()}
        for key, step in self.steps.items():
            if (number := found.get(NAME + key)) is None:
                continue
            if all(one in self.jobs for one in before(step, self.steps)):
                self.jobs[key] = Job(number, _job.folder_of(self.root, key))
            else:
                self.cancel([key])

    def cancel(self, keys: Iterable[str]) -> None:
        """Take these steps' jobs away and wait until none is left: by their names, since one may have no id yet."""
        names, end, told = {NAME + key for key in keys}, time.monotonic() + ENDED_S, set[str]()
        while names and (found := {row[0] for row in self._queue(ENDED_S) if row[1] in names}):
            if found - told:
                ordered("scancel", *sorted(found - told))
                told |= found
            if time.monotonic() > end:
                raise HarnessError(f"jobs {', '.join(sorted(found))} do not end; see to them with scancel.")
            time.sleep(min(4 * BEAT_S, self.how.poll_s))

    def _open(self, key: str) -> bool:
        return key in self.course.waiting or key in self.course.running

    def _before(self, step: Step) -> bool:
        """Whether something that it waits for has not ended."""
        return any(self._open(key) for key in before(step, self.steps))

    def _alive(self) -> list[str]:
        return [key for key in self.jobs if self._open(key)]

    def _submit(self) -> None:
        """Hand in every step that has no job, those it reads first; as many as this user may have waiting."""
        for key, step in self.steps.items():
            if self._open(key) and key not in self.jobs:
                if (number := self._hand_in(step)) is None:
                    return
                self.jobs[key] = Job(number, _job.folder_of(self.root, key))

    def _hand_in(self, step: Step) -> str | None:
        """The id of a step's new job; None where the user's queue is full. HarnessError where it is refused."""
        folder, waits = _job.folder_of(self.root, step.key), waits_for(step, self._alive())
        _job.give(folder, self.bodies, step, before(step, self._alive()))
        self.logged[step.key] = 0
        (folder / "script").write_text(self.how.script(step, self.root), encoding="utf-8")
        depends = ",".join(":".join([how, *(self.jobs[key].id for key in keys)]) for how, keys in waits.items() if keys)
        options = [f"--dependency={depends}", "--kill-on-invalid-dep=yes"] if depends else []
        for trial in range(1, TRIES + 1):
            status, said, why = ordered("sbatch", "--parsable", *options, str(folder / "script"))
            if status == 0 and (number := said.partition(";")[0].strip()).isdigit():
                return number
            if FULL.search(why) and self._alive():
                return None
            time.sleep(min(trial, self.how.poll_s))
        raise HarnessError(f'sbatch refuses the job of "{step.title}": {why or said or "it does not say why"}; {CURE}.')

    def _queue(self, patience_s: float = PATIENCE_S) -> list[list[str]]:
        """Id, name, state and reason of this user's jobs. HarnessError where the cluster is silent for so long."""
        end = time.monotonic() + patience_s
        while True:
            status, said, why = ordered("squeue", "--me", "--noheader", "--format=%i|%j|%T|%r")
            if status == 0:
                return [row for line in said.splitlines() if len(row := line.strip().split("|", 3)) == 4]
            if time.monotonic() >= end:
                raise HarnessError(f"squeue does not answer: {why}. Jobs go on; the same command finds them.")
            time.sleep(min(self.how.poll_s, 5.0))

    def _ask(self) -> None:
        """See which jobs are gone, and which wait for what never comes."""
        rows, reasons = {row[0]: row for row in self._queue()}, Counter[str]()
        for key in self._alive():
            job, row = self.jobs[key], rows.get(self.jobs[key].id)
            job.gone_s = None if row else job.gone_s or time.monotonic()
            if row and row[2] == "PENDING" and self._open(key) and not self._before(self.steps[key]):
                reasons[row[3]] += 1
                if NEVER.search(row[3]):
                    self._fail(self.steps[key], f"its job {job.id} waits for what never comes ({row[3]}); {CURE}.")
        waits = ", ".join(f"{count} for {reason}" for reason, count in sorted(reasons.items()) if reason != "None")
        if waits and waits != self.waits:
            tell(f"slurm: jobs wait, {waits}")
        self.waits = waits

    def _look(self, step: Step, job: Job) -> None:
        """Pass on what a job has said, and how it ended."""
        end = _job.end_of(job.folder)
        if step.key in self.course.waiting and (end or _job.has_begun(job.folder)):
            self.course.start(step)
        if step.key in self.course.running:
            self._pass_on(step, job.folder)
        if end and job.gone_s is None:
            job.gone_s = time.monotonic()
        late = job.gone_s is not None and time.monotonic() - job.gone_s > self.how.settle_s
        if end and (end.failed or late or self.course.store.done(step.stage)):
            self._pass_on(step, job.folder)
            self._ended(step, end.failure)
        elif end is None and late:
            self._judge(step, job)

    def _pass_on(self, step: Step, folder: Path) -> None:
        for done, total in _job.ticks(folder):
            if done > self.ticked[step.key]:
                self.ticked[step.key] = done
                self.course.tick(step, done, total)
        lines, self.logged[step.key] = _job.printed(folder, self.logged[step.key])
        for line in lines:
            tell(f"{step.title}: {line}")

    def _ended(self, step: Step, failed: Failure | None) -> None:
        """Tell the course, and take away the jobs of steps that the failure takes with it."""
        self.course.end(step, failed)
        if failed:
            self.cancel(key for key in self.course.lost if key in self.steps)

    def _fail(self, step: Step, why: str) -> None:
        if step.key in self.course.waiting:
            self.course.start(step)
        self._ended(step, Failure(step.title, HarnessError(why)))

    def _judge(self, step: Step, job: Job) -> None:
        """A job is gone and left no word: what became of it, by the cluster's books."""
        state, node = self._books(job)
        if state in LOST and self.again[step.key] < self.how.retries:
            self.again[step.key] += 1
            tell(f"slurm: job {job.id} of {step.title} was lost ({state} {node}); again")
            self._forget(step.key)
            return
        words = _job.printed(job.folder, 0)[0][-1:]
        said = f', its last words "{words[0]}"' if words else ""
        cure = CURES.get(state, f"its log is {job.folder / 'log'}")
        self._fail(step, f"its job {job.id} ended as {state or 'nobody knows what'}{said}; {cure}.")

    def _forget(self, key: str) -> None:
        """The step gets a new job, and so does whatever waits for it, whose old ones wait for nothing any more."""
        again = {key}
        for other, step in self.steps.items():
            if other in self.course.waiting and before(step, again):
                again.add(other)
        self.cancel(again)
        for one in again & self.jobs.keys():
            del self.jobs[one]

    def _books(self, job: Job) -> tuple[str, str]:
        """Its state and machine; empty where the cluster keeps no books."""
        _, said, _ = ordered("sacct", "-X", "-n", "-P", "-j", job.id, "-o", "State,NodeList")
        state, _, node = (said.strip().splitlines() or [""])[-1].partition("|")
        return state.partition(" ")[0], node


def ordered(*command: str) -> tuple[int, str, str]:
    """Status, output, and error in one line, of a command of the cluster's. HarnessError where there is none."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120, check=False)
    except FileNotFoundError:
        raise HarnessError(f"there is no {command[0]} here; give this command where jobs are handed in.") from None
    except subprocess.TimeoutExpired:
        return 1, "", f"{command[0]} gives no answer"
    return done.returncode, done.stdout, " ".join(done.stderr.split())


def tell(line: str) -> None:
    """Print a line of a job's, or about one, where progress is shown."""
    print(line, file=sys.stderr)  # noqa: T201
