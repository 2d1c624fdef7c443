"""A step over several machines: each executor brings the others to where it is made, and takes them away again."""

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness.contracts.executor import Executor, Tick
from harness.contracts.settings import Runtime
from harness.contracts.steps import Step
from harness.executors.local import Local
from harness.executors.ray import Ray
from harness.executors.slurm import Slurm
from harness.system.errors import HarnessError, UsageError
from tests import fake_slurm
from tests.toy_steps import Toy, living, run, step, until

SSH = """#!/bin/sh
echo $$ >> {folder}/ssh
while [ "$1" = -o ]; do shift 2; done
[ "$1" = node2 ] && exec sh -c "$2"
echo "ssh: connect to host $1: no route" >&2
exit 255
"""


class Meets(Toy):
    """Makes a step over two machines once the other has come, and has said that it found no training there."""

    def fill(self, step: Step, tick: Tick, out: Path) -> None:
        from harness.training.nodes import Meeting, meeting_of

        if step.resources.others:
            place = meeting_of(self.store.root, step.key)
            with Meeting(Runtime(num_processes=2, nodes=2, rdzv_endpoint="127.0.0.1"), place, out / "no job") as meet:
                meet.gather()
                [fate] = meet.ends()
            if "must have the store at this path" not in fate.sentence:
                raise HarnessError(f"another end than was to come: {fate.sentence}")
        super().fill(step, tick, out)


def over_two(title: str) -> Step:
    return step(title, processes=2, gpus=2, nodes=2)


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An SSH that reaches node2 alone, which is this machine; what it had running has ended."""
    file = tmp_path / "bin" / "ssh"
    file.parent.mkdir()
    file.write_text(SSH.format(folder=tmp_path))
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{file.parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "hosts").write_text("node1 slots=2  # this machine\n\nnode2 slots=2\nnode3 slots=2\n")
    yield tmp_path / "hosts"
    told = tmp_path / "ssh"
    assert until(lambda: not told.exists() or not living({int(line) for line in told.read_text().split()}))


@pytest.mark.heavy
@pytest.mark.parametrize("workers", [1, 3])
def test_by_a_hostfile_and_ssh_one_after_the_other(ssh: Path, tmp_path: Path, workers: int) -> None:
    """Two at once would have the same machines twice."""
    steps = [over_two("a"), over_two("b"), step("beside")]
    ran = run(Local(hostfile=str(ssh)), Meets(tmp_path / "toy"), steps, workers)
    assert ran.raised is None and ran.lost == {}
    first, second = sorted("ab", key=lambda title: ran.at("began", title))
    assert ran.at("ended", first) < ran.at("began", second)


@pytest.mark.heavy
def test_by_srun_in_one_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in fake_slurm.install(tmp_path / "cluster").items():
        monkeypatch.setenv(name, value)
    ran = run(Slurm(poll_s=0.1, settle_s=0.3), Meets(tmp_path / "toy"), [over_two("a"), step("beside")])
    assert ran.raised is None and ran.lost == {}
    assert until(lambda: [job["state"] for job in fake_slurm.all_jobs()] == ["COMPLETED"] * 2)


@pytest.mark.heavy
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (the extra `ray`)")
def test_by_a_placement_group_on_two_machines_and_in_the_driver_s_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path on the command line starts where the command was given; Ray's machines were started elsewhere."""
    from ray.cluster_utils import Cluster  # type: ignore[import-not-found,unused-ignore]

    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2]), *(each for each in sys.path if each)])
    how = Ray(address=machines.address)
    try:
        with pytest.raises(HarnessError, match=r"runtime\.nodes=2, and the Ray cluster has 1 machine"):
            raise run(how, Meets(Path("none")), [over_two("a")]).raised or AssertionError
        machines.add_node(num_cpus=1)
        machines.wait_for_nodes()
        ran = run(how, Meets(Path("toy")), [over_two("a"), over_two("b"), step("beside")])
    finally:
        machines.shutdown()
    assert ran.raised is None and ran.lost == {} and (tmp_path / "toy" / "store").is_dir()


HOSTFILES = {
    "": "executor local has 1: name a file with a line for each machine",
    "node1\n": "executor local has 1: name a file",
    "node1 slots=1\nnode2 slots=0\n": "node2 has 0 slots; a training takes 1 of each",
    "node1 slots=1\nnode2 slots=many\n": r'line 2: "node2 slots=many" is not HOST, nor HOST slots=NUMBER',
    "node1\n-oProxyCommand=x\n": r'line 2: "-oProxyCommand=x" is not HOST',
}


@pytest.mark.parametrize("text", HOSTFILES)
def test_too_few_machines_are_a_sentence_before_anything_runs(text: str, tmp_path: Path) -> None:
    """A name that begins with a dash would be an option of SSH."""
    (tmp_path / "hosts").write_text(text)
    executor: Executor = Local(hostfile=str(tmp_path / "hosts") if text else "")
    with pytest.raises(UsageError, match=HOSTFILES[text]):
        raise run(executor, Toy(tmp_path / "toy"), [step("first"), over_two("a")]).raised or AssertionError
    assert not (tmp_path / "toy" / "log").exists()


def test_a_hostfile_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"hostfile .*nowhere cannot be read"):
        raise run(Local(str(tmp_path / "nowhere")), Toy(tmp_path / "toy"), [step("a")]).raised or AssertionError
