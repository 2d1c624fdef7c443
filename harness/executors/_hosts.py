"""Further machines for a training, by a hostfile and SSH: what DeepSpeed's launcher and MPI read."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.contracts.schedule import Course
from harness.contracts.steps import Step
from harness.system.errors import UsageError

SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3")
CARRIED = ("NCCL_", "GLOO_", "TORCH_", "HF_")  # begin the names of variables that other machines get too
HOST = re.compile(r"(?P<name>\w[\w.:@%-]*)(?: slots=(?P<slots>\d+))?")
ENDED_S = 10.0  # for SSH to end by itself once its standard input has


@dataclass(frozen=True)
class Helpers:
    """What runs on further machines beside a step of this one: `harness.training.follow`, on as many as it takes."""

    hosts: tuple[str, ...]
    root: Path

    @contextmanager
    def of(self, step: Step) -> Iterator[None]:
        """Meanwhile it runs; it ends with its standard input, and so with this process."""
        started = list["subprocess.Popen[bytes]"]()
        try:
            for node, host in enumerate(self.hosts[: step.resources.others], 1):
                started.append(_on(host, self.root, step, node))
            yield
        finally:
            for one in started:
                assert one.stdin is not None
                one.stdin.close()
            for one in started:
                with suppress(subprocess.TimeoutExpired):
                    one.wait(ENDED_S)
                one.kill()
                one.wait()


def _on(host: str, root: Path, step: Step, node: int) -> "subprocess.Popen[bytes]":
    from harness.training.follow import command  # it loads torch, which few need here
    from harness.training.nodes import meeting_of

    carried = (f"{name}={value}" for name, value in os.environ.items() if name.startswith(CARRIED))
    words = shlex.join([*carried, *command(meeting_of(root, step.key), node)])
    order = f"cd {shlex.quote(str(Path.cwd()))} && exec env {words}"
    return subprocess.Popen([*SSH, host, order], stdin=subprocess.PIPE, stdout=2)


def helpers_of(hostfile: str, course: Course) -> Helpers:
    """The machines of a hostfile beside this one, its first. UsageError where steps take more than there are."""
    hosts = list(_hosts(Path(hostfile).expanduser())) if hostfile else []
    spread = [step.resources for step in course.waiting.values() if step.resources.others]
    for takes in spread:
        if takes.nodes > len(hosts):
            raise UsageError(
                f"runtime.nodes={takes.nodes}, and executor local has {max(1, len(hosts))}: name a file with a line "
                "for each machine, --set 'runtime.executor_options={hostfile: FILE}', or take --executor slurm or ray."
            )
        for name, slots in hosts[: takes.nodes]:
            if slots is not None and slots < takes.each.gpus:
                raise UsageError(f"{hostfile}: {name} has {slots} slots; a training takes {takes.each.gpus} of each.")
    most = max((takes.nodes for takes in spread), default=1)
    return Helpers(tuple(name for name, _ in hosts[1:most]), course.store.root)


def _hosts(file: Path) -> Iterator[tuple[str, int | None]]:
    """The machines of a hostfile, and how many processes each has room for, None where it does not say."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the hostfile {file} cannot be read ({error}).") from None
    for number, line in enumerate(lines, 1):
        if words := " ".join(line.partition("#")[0].split()):
            if (told := HOST.fullmatch(words)) is None:
                raise UsageError(f'{file}, line {number}: "{words}" is not HOST, nor HOST slots=NUMBER.')
            yield told["name"], int(told["slots"]) if told["slots"] else None
