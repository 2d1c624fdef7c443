"""A SLURM of our own: `sbatch`, `squeue`, `sacct`, `scancel`, `srun` that run scripts on this machine, as we ask.

A cluster is a folder, named by FAKE_SLURM: `jobs.json` has every job there was, `faults.json` what goes wrong. It has
three processors; a job that wants more runs alone. Nobody watches over it: each command, and each job at its end, sees
what may begin.
"""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

CPUS = 3
OVER = ("COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT", "OUT_OF_MEMORY")
COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "srun")


def place() -> Path:
    return Path(os.environ["FAKE_SLURM"])


@contextmanager
def books() -> Iterator[dict[str, dict[str, Any]]]:
    """The cluster's jobs by id, to read and change; nobody else does meanwhile."""
    with (place() / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        file = place() / "jobs.json"
        jobs = json.loads(file.read_text()) if file.exists() else {}
        yield jobs
        file.with_suffix(".new").write_text(json.dumps(jobs))
        file.with_suffix(".new").replace(file)


def faults(**changes: Any) -> dict[str, Any]:
    """What goes wrong: `sbatch` and `squeue`, sentences they fail with, one a call; `reasons`, by a job's title, why it
    never begins; `most`, how many jobs there may be; `bookless`, that nobody keeps books."""
    file = place() / "faults.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if changes:
        file.write_text(json.dumps(found | changes))
    return found | changes


def fails(command: str) -> bool:
    """Whether the command fails this time; it has said why."""
    left = faults().get(command, [])
    if left:
        faults(**{command: left[1:]})
        print(left[0], file=sys.stderr)
    return bool(left)


def begin(jobs: dict[str, dict[str, Any]]) -> None:
    """Begin what may, in order."""
    for number, job in jobs.items():
        if job["state"] != "PENDING":
            continue
        job["reason"] = faults().get("reasons", {}).get(job["title"]) or waits(jobs, job)
        if job["reason"] == "DependencyNeverSatisfied":
            job["state"] = "CANCELLED"
        if job["reason"]:
            continue
        taken = [other["cpus"] for other in jobs.values() if other["state"] == "RUNNING"]
        if taken and sum(taken) + job["cpus"] > CPUS:
            job["reason"] = "Resources"
            return
        with Path(job["output"]).open("ab") as log:
            command = [sys.executable, "-S", "-E", __file__, "job", number]
            job["process"] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=job["chdir"]
            ).pid
        job["state"], job["node"] = "RUNNING", f"node{number}"


def waits(jobs: dict[str, dict[str, Any]], job: dict[str, Any]) -> str:
    """Why a job may not begin yet, by what it depends on."""
    for how, number in job["after"]:
        state = jobs[number]["state"]
        if state not in OVER:
            return "Dependency"
        if how == "afterok" and state != "COMPLETED":
            return "DependencyNeverSatisfied"
    return ""


def sbatch(*words: str) -> int:
    script = Path(words[-1]).read_text()
    with books() as jobs:
        if fails("sbatch"):
            return 1
        if sum(job["state"] not in OVER for job in jobs.values()) >= faults().get("most", 10**9):
            print("sbatch: error: QOSMaxSubmitJobPerUserLimit", file=sys.stderr)
            return 1
        told = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script, re.MULTILINE))
        told = {name: value.strip("'") for name, value in told.items()}
        depends = next((word.partition("=")[2] for word in words if word.startswith("--dependency=")), "")
        after = [(how, one) for part in depends.split(",") if part for how, *ids in [part.split(":")] for one in ids]
        number = str(100 + len(jobs))
        jobs[number] = {
            "name": told["job-name"], "title": told["comment"], "output": told["output"], "chdir": told["chdir"],
            "cpus": int(told["cpus-per-task"]), "script": words[-1], "after": after, "state": "PENDING", "reason": "",
            "node": "", "requeue": "requeue" in told,
        }  # fmt: skip
        begin(jobs)
    print(f"{number};cluster")
    return 0


def squeue(*words: str) -> int:
    assert words == ("--me", "--noheader", "--format=%i|%j|%T|%r"), words
    with books() as jobs:
        if fails("squeue"):
            return 1
        begin(jobs)
        for number, job in jobs.items():
            if job["state"] not in OVER:
                print(f"{number}|{job['name']}|{job['state']}|{job['reason'] or 'None'}")
    return 0


def sacct(*words: str) -> int:
    assert words[:4] == ("-X", "-n", "-P", "-j") and words[5:] == ("-o", "State,NodeList"), words
    if faults().get("bookless"):
        print("Slurm accounting storage is disabled", file=sys.stderr)
        return 1
    with books() as jobs:
        job = jobs[words[4]]
        by = " by 0" if job["state"] == "CANCELLED" else ""
        print(f"{job['state']}{by}|{job['node']}")
    return 0


def scancel(*numbers: str) -> int:
    with books() as jobs:
        for number in numbers:
            end(jobs[number], "CANCELLED")
        begin(jobs)
    return 0


def srun(*words: str) -> int:
    """The command, once for each machine; where one fails, the others end."""
    options = [word for word in words if word.startswith("--")]
    assert "--kill-on-bad-exit=1" in options and "--ntasks-per-node=1" in options, words
    count = int(next(word.partition("=")[2] for word in options if word.startswith("--nodes=")))
    command = words[len(options) :]
    tasks = [subprocess.Popen(command, env={**os.environ, "SLURM_PROCID": str(at)}) for at in range(count)]
    while any(task.poll() is None for task in tasks) and not any(task.poll() for task in tasks):
        time.sleep(0.02)
    for task in tasks:
        task.kill()
    return max(abs(task.wait()) for task in tasks)


def end(job: dict[str, Any], state: str) -> None:
    """End a job by force; its processes are gone then."""
    if job["state"] == "RUNNING":
        with suppress(ProcessLookupError):
            os.killpg(job["process"], signal.SIGKILL)
        while Path(f"/proc/{job['process']}").exists():
            with suppress(ChildProcessError):
                os.waitpid(job["process"], os.WNOHANG)
            time.sleep(0.01)
    if job["state"] not in OVER:
        job["state"] = state


def job(number: str) -> int:
    """A job's own process, on its machine."""
    with books() as jobs:
        script = jobs[number]["script"]
    status = subprocess.run(["/bin/bash", script], check=False).returncode
    with books() as jobs:
        if jobs[number]["state"] == "RUNNING":
            jobs[number]["state"] = "FAILED" if status else "COMPLETED"
        begin(jobs)
    return status


# What tests do to it.


def lose(title: str, state: str = "NODE_FAIL", requeue: bool = False) -> None:
    """The machine of a running job is lost; where it is so set, the job is in the queue again."""
    with books() as jobs:
        lost = next(job for job in jobs.values() if job["title"] == title and job["state"] == "RUNNING")
        end(lost, "PENDING" if requeue else state)
        if requeue:
            assert lost["requeue"]
            lost["state"] = "PENDING"
        begin(jobs)


def all_jobs() -> list[dict[str, Any]]:
    with books() as jobs:
        return list(jobs.values())


def install(folder: Path) -> dict[str, str]:
    """A cluster of its own: what to set in the environment of whoever hands jobs in."""
    (folder / "bin").mkdir(parents=True)
    for name in COMMANDS:
        file = folder / "bin" / name
        file.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {__file__} {name} "$@"\n')
        file.chmod(0o755)
    return {"FAKE_SLURM": str(folder), "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}


if __name__ == "__main__":
    told = {"sbatch": sbatch, "squeue": squeue, "sacct": sacct, "scancel": scancel, "srun": srun, "job": job}
    sys.exit(told[sys.argv[1]](*sys.argv[2:]))
