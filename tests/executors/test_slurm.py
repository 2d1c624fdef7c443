"""The SLURM executor's own promises, on a cluster of our own: what is lost is made again, what is there is found."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.contracts import plugins
from harness.contracts.executor import Executor, Failure
from harness.contracts.schedule import EXECUTORS
from harness.executors import _job
from harness.executors.slurm import Slurm
from harness.system.errors import Denied, Exhausted, HarnessError, UsageError
from tests import fake_slurm
from tests.fake_slurm import all_jobs, faults, lose
from tests.toy_steps import PATIENCE_S, Ran, Toy, living, run, step, text, until

ROOT = Path(__file__).parents[2]
SOON = Slurm(poll_s=0.1, settle_s=0.3)


@pytest.fixture(autouse=True)
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster of its own, and no job of it left."""
    for name, value in fake_slurm.install(tmp_path / "cluster").items():
        monkeypatch.setenv(name, value)
    yield
    with fake_slurm.books() as jobs:
        for job in jobs.values():
            fake_slurm.end(job, "CANCELLED")


def meanwhile(when: Callable[[], object], do: Callable[[], object]) -> threading.Thread:
    """Do something once something holds."""
    thread = threading.Thread(target=lambda: until(when) and do())
    thread.start()
    return thread


def began(toy: Toy, title: str, times: int = 1) -> Callable[[], bool]:
    return lambda: [one[:2] for one in toy.log].count(("began", title)) >= times


def all_made(ran: Ran) -> None:
    assert ran.raised is None and ran.lost == {}
    for each in ran.steps:
        assert (ran.toy.store.path(each.stage) / "text").read_text() == text(each)


def titles(state: str) -> list[str]:
    return [job["title"] for job in all_jobs() if job["state"] == state]


def test_a_chain_is_handed_in_at_once_and_goes_on_by_itself(tmp_path: Path) -> None:
    """While the first still runs, the last waits in the queue for it, as for one that goes first."""
    toy, a, other = Toy(tmp_path / "toy", hold_s=0.5), step("a"), step("other")
    steps = [a, other, b := step("b", a), step("c", b, after=[other])]
    thread = meanwhile(lambda: len(all_jobs()) == 4, lambda: seen.extend(all_jobs()))
    seen: list[dict[str, Any]] = []
    all_made(run(SOON, toy, steps))
    thread.join()
    assert [(job["title"], job["after"]) for job in seen] == [
        ("a", []), ("other", []), ("b", [["afterok", "100"]]), ("c", [["afterok", "102"], ["afterany", "101"]]),
    ]  # fmt: skip
    assert until(lambda: titles("COMPLETED") == ["a", "other", "b", "c"])


def test_a_machine_that_is_lost_has_its_step_begun_anew_and_what_waits_for_it_too(tmp_path: Path) -> None:
    toy, a = Toy(tmp_path / "toy", hold_s=1.5), step("a")
    steps = [a, step("b", a), step("alone")]
    thread = meanwhile(began(toy, "a"), lambda: lose("a"))
    ran = run(SOON, toy, steps)
    thread.join()
    all_made(ran)
    assert sorted(ran.began) == ["a", "a", "alone", "b"]
    ticked = [told[2] for told in ran.told if told[:2] == ("ticked", a.key)]
    assert ticked == sorted(set(ticked)) and ticked[-1] == 5


@pytest.mark.heavy
def test_a_job_that_the_scheduler_takes_back_into_its_queue_is_waited_for(tmp_path: Path) -> None:
    toy, a = Toy(tmp_path / "toy", hold_s=1.5), step("a")
    thread = meanwhile(began(toy, "a"), lambda: lose("a", requeue=True))
    ran = run(SOON, toy, [a, step("b", a)])
    thread.join()
    all_made(ran)
    assert len(all_jobs()) == 2 and ran.began == ["a", "a", "b"]


def test_a_job_begun_again_after_its_end_does_nothing(tmp_path: Path) -> None:
    toy, a = Toy(tmp_path / "toy"), step("a")
    all_made(run(SOON, toy, [a]))
    assert _job.main(_job.folder_of(toy.store.root, a.key)) == 0
    assert [event for event, *_ in toy.log].count("began") == 1


@pytest.mark.heavy
def test_what_is_lost_again_and_again_is_a_failure_with_the_machine_s_last_words(tmp_path: Path) -> None:
    toy, a = Toy(tmp_path / "toy", hold_s=60), step("a")
    threads = [meanwhile(began(toy, "a", times), lambda: lose("a", "TIMEOUT")) for times in (1, 2)]
    ran = run(replace(SOON, retries=1), toy, [a, step("b", a), step("alone", asks="nobody")][:2])
    for thread in threads:
        thread.join()
    assert {failed.title for failed in ran.lost.values()} == {"a"} and len(ran.lost) == 2
    why = str(ran.lost[a.key].error)
    assert "ended as TIMEOUT" in why and "sbatch: [--time=24:00:00]" in why


@pytest.mark.parametrize(
    ("state", "cure"),
    [("CANCELLED", "somebody cancelled it"), ("OUT_OF_MEMORY", "--mem=64G"), ("FAILED", "its log is")],
)
def test_a_job_that_ends_without_a_word_is_a_failure_by_its_name(state: str, cure: str, tmp_path: Path) -> None:
    toy, a = Toy(tmp_path / "toy", hold_s=60), step("a")
    thread = meanwhile(began(toy, "a"), lambda: lose("a", state))
    ran = run(SOON, toy, [a, step("b", a)])
    thread.join()
    assert f"its job 100 ended as {state}" in str(ran.lost[a.key].error) and cure in str(ran.lost[a.key].error)
    assert ran.began == ["a"] and len(ran.lost) == 2


@pytest.mark.heavy
def test_without_books_a_job_that_is_gone_is_a_failure_all_the_same(tmp_path: Path) -> None:
    toy, a = Toy(tmp_path / "toy", hold_s=60), step("a")
    faults(bookless=True)
    thread = meanwhile(began(toy, "a"), lambda: lose("a", "FAILED"))
    ran = run(SOON, toy, [a])
    thread.join()
    assert "its job 100 ended as nobody knows what" in str(ran.lost[a.key].error)


def test_a_job_that_never_begins_is_told_and_what_no_waiting_cures_is_a_failure(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    toy, a = Toy(tmp_path / "toy", hold_s=0.1), step("a")
    faults(reasons={"a": "PartitionTimeLimit", "busy": "ReqNodeNotAvail, Reserved for maintenance"})
    thread = meanwhile(lambda: titles("CANCELLED"), lambda: faults(reasons={}))
    ran = run(SOON, toy, [a, step("b", a), busy := step("busy")])
    thread.join()
    assert "waits for what never comes (PartitionTimeLimit)" in str(ran.lost[a.key].error)
    assert len(ran.lost) == 2 and toy.store.done(busy.stage)
    assert "slurm: jobs wait, 1 for PartitionTimeLimit, 1 for ReqNodeNotAvail, Reserved" in capfd.readouterr().err


def test_sbatch_that_fails_once_is_tried_again(tmp_path: Path) -> None:
    faults(sbatch=["sbatch: error: Socket timed out"])
    all_made(run(SOON, Toy(tmp_path / "toy"), [step("a")]))


def test_sbatch_that_refuses_ends_the_run_in_its_words_and_leaves_no_job(tmp_path: Path) -> None:
    toy = Toy(tmp_path / "toy", hold_s=60)
    thread = meanwhile(began(toy, "a"), lambda: None)
    steps = [step("a"), step("b")]
    faults(sbatch=[])

    class Second(Slurm):
        def script(self, step: Any, root: Path) -> str:
            if step.title == "b":
                until(began(toy, "a"))
                faults(sbatch=["sbatch: error: invalid account"] * 3)
            return super().script(step, root)

    ran = run(Second(poll_s=0.1), toy, steps)
    thread.join()
    assert isinstance(ran.raised, HarnessError)
    assert 'sbatch refuses the job of "b": sbatch: error: invalid account; give jobs what' in str(ran.raised)
    assert titles("CANCELLED") == ["a"] and not living({process for *_, process in toy.log})


@pytest.mark.heavy
def test_a_user_who_may_have_two_jobs_at_once_has_two_at_once(tmp_path: Path) -> None:
    faults(most=2)
    a = step("a")
    all_made(run(SOON, Toy(tmp_path / "toy"), [a, b := step("b", a), step("c", b), step("d"), step("e")]))


@pytest.mark.heavy
def test_a_cluster_that_is_silent_for_a_while_is_waited_for(tmp_path: Path) -> None:
    faults(squeue=["squeue: error: Unable to contact slurm controller"] * 3)
    all_made(run(SOON, Toy(tmp_path / "toy"), [step("a")]))


def test_a_machine_without_slurm_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = run(SOON, Toy(tmp_path / "toy"), [step("a")])
    assert "there is no squeue here" in str(ran.raised)


def test_what_a_job_prints_is_seen_where_the_command_was_given(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    template = tmp_path / "template"
    template.write_text("#!/bin/bash\n$directives\necho on $HOSTNAME\nexec $command\n")
    all_made(run(Slurm(template=str(template)), Toy(tmp_path / "toy"), [step("a")]))
    assert "a: on " in capfd.readouterr().err


# Whoever gave the command is gone.


def command(folder: Path, seconds: float) -> "subprocess.Popen[bytes]":
    """The toy command: a, b, c, d, each so long, and last."""
    words = [sys.executable, "-m", "tests.toy_steps", "slurm", str(folder), str(seconds)]
    return subprocess.Popen(words, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)


@pytest.mark.heavy
def test_jobs_of_a_command_that_was_killed_are_found_by_the_same_command(tmp_path: Path) -> None:
    toy = Toy(tmp_path / "toy")
    with command(toy.folder, 3) as first:
        assert until(lambda: len(titles("RUNNING")) == 3 and len(all_jobs()) == 5)
        first.kill()
    with command(toy.folder, 3) as second:
        assert second.wait(PATIENCE_S) == 0
    assert len(all_jobs()) == 5
    assert sorted(title for event, title, _ in toy.log if event == "began") == ["a", "b", "c", "d", "last"]


@pytest.mark.heavy
def test_jobs_go_on_without_the_command_and_what_was_lost_meanwhile_is_handed_in_again(tmp_path: Path) -> None:
    toy = Toy(tmp_path / "toy")
    with command(toy.folder, 2) as first:
        assert until(lambda: len(all_jobs()) == 5 and began(toy, "a")())
        first.kill()
    lose("a")  # and with it what waits for it
    assert until(lambda: len(titles("COMPLETED")) == 3)
    assert titles("NODE_FAIL") == ["a"] and titles("CANCELLED") == ["last"]
    with command(toy.folder, 2) as second:
        assert second.wait(PATIENCE_S) == 0
    assert [job["title"] for job in all_jobs()].count("last") == 2
    assert sorted(title for event, title, _ in toy.log if event == "made") == ["a", "b", "c", "d", "last"]


@pytest.mark.heavy
def test_a_signal_in_the_middle_of_handing_in_leaves_no_job(tmp_path: Path) -> None:
    """The command ends between a job's beginning and the hearing of its number."""
    toy = Toy(tmp_path / "toy")
    slow = tmp_path / "cluster" / "bin" / "sbatch"
    slow.write_text(slow.read_text().replace("exec ", "") + "sleep 1\n")
    with command(toy.folder, 60) as running:
        assert until(began(toy, "a"))
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE_S) == 143
    assert not titles("RUNNING") and not titles("PENDING")


# What is handed in.


def test_the_script_says_what_a_step_takes(tmp_path: Path) -> None:
    how = Slurm(sbatch=("--partition=gpu",), asking=("--partition=login",))
    trained = step("it's a training", processes=4, gpus=4)
    lines = how.script(trained, tmp_path).splitlines()
    assert lines[0] == "#!/bin/bash"
    for wanted in ("nodes=1", "ntasks-per-node=1", "cpus-per-task=4", "gres=gpu:4", "requeue"):
        assert f"#SBATCH --{wanted}" in lines
    assert f"#SBATCH --job-name=harness-{trained.key}" in lines and lines[-2] == "#SBATCH --partition=gpu"
    assert lines[-1] == f"exec {sys.executable} -P {tmp_path}/.jobs/{trained.key}/begin.py"
    spread = how.script(over := step("a training", processes=16, gpus=16, nodes=2), tmp_path)
    for wanted in ("nodes=2", "ntasks-per-node=1", "cpus-per-task=8", "gres=gpu:8"):
        assert f"#SBATCH --{wanted}\n" in spread
    begin = f"{sys.executable} -P {tmp_path}/.jobs/{over.key}/begin.py"
    once = "srun --kill-on-bad-exit=1 --nodes=2 --ntasks-per-node=1 --cpus-per-task=8 sh -c"
    assert spread.splitlines()[-1] == f"exec {once} 'exec {begin} \"$SLURM_PROCID\"'"
    judged = how.script(step("score", asks="a judge"), tmp_path)
    assert "gres" not in judged and "--mem" not in judged
    assert judged.index("--partition=gpu") < judged.index("--partition=login")  # the last counts


def test_a_dry_run_shows_scripts_and_the_graph_and_asks_no_cluster(tmp_path: Path) -> None:
    a, c = step("a"), step("c")
    said = Slurm().shown([a, c, step("b", a, after=[c])], tmp_path)
    assert "# a: at once\n#!/bin/bash" in said and "# b: afterok a; afterany c\n#!/bin/bash" in said
    assert not all_jobs()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"template": "nowhere"}, "slurm.template: nowhere cannot be read"),
        ({"partition": "gpu"}, "option of slurm"),
        ({"poll_s": float("nan")}, "poll_s"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_runs(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        plugins.make(EXECUTORS, "slurm", Executor, options)


def test_a_template_without_its_places_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("#!/bin/bash\n$directives\n")
    with pytest.raises(UsageError, match=r"mine lacks \$command"):
        Slurm(template=str(tmp_path / "mine"))


@pytest.mark.parametrize("name", ["random.py", "typing.py", "harness.py"])
def test_a_file_in_the_current_folder_is_no_module_of_a_job(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even before the job knows its modules: Python would take typing from there while it imports us."""
    (here := tmp_path / "here").mkdir()
    (here / name).write_text("raise SystemExit('nobody asked for this file')\n")
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", [str(ROOT), *(each for each in sys.path if each)])
    all_made(run(SOON, Toy(tmp_path / "toy"), [step("a")]))


# What a job leaves.


@pytest.mark.parametrize("error", [Denied("401."), Exhausted("full."), HarnessError("no.")])
def test_a_failure_comes_back_as_it_was(error: HarnessError, tmp_path: Path) -> None:
    failed = Failure("a", error, ends=True)
    _job._write_end(tmp_path, step("a", asks="x"), failed)
    end = _job.end_of(tmp_path)
    assert end and end.failure and end.asks == "x"
    assert (end.failure.title, str(end.failure.error), end.failure.ends) == ("a", str(error), True)
    assert type(end.failure.error) is type(error)


def test_an_error_of_a_kind_that_only_a_plugin_has_is_what_it_stands_on(tmp_path: Path) -> None:
    class Mine(Denied):
        pass

    _job._write_end(tmp_path, step("a"), Failure("a", Mine("no.")))
    end = _job.end_of(tmp_path)
    assert end and end.failure and type(end.failure.error) is Denied


@pytest.mark.parametrize(
    "left", [b"", b"\xff", b"[]", b"null", b'{"kind": "SystemExit"}', b'{"kind": ["Denied"]}', b'{"code": 1}']
)
def test_an_end_that_is_none_is_none(left: bytes, tmp_path: Path) -> None:
    (tmp_path / "end").write_bytes(left)
    assert _job.end_of(tmp_path) is None


def test_ticks_are_whole_lines_of_two_numbers(tmp_path: Path) -> None:
    (tmp_path / "ticks").write_bytes(b"1 5\nx y\n\n-1 5\n2 5\n3 ")
    assert list(_job.ticks(tmp_path)) == [(1, 5), (2, 5)]


class Blind(Slurm):
    """A mutant: its jobs do not look at how those ended that they waited for."""

    def script(self, step: Any, root: Path) -> str:
        blind = "import sys; from pathlib import Path; from harness.executors import _job as job"
        blind += "; job.End.takes = lambda *_: False; sys.exit(job.main(Path(sys.argv[1]).parent))"
        return super().script(step, root).replace(" -P ", f' -c "{blind}" ')


@pytest.mark.heavy
@pytest.mark.parametrize(("how", "asks_again"), [(Slurm(), False), (Blind(), True)])
def test_a_judge_that_refuses_is_not_asked_again_while_the_command_looks_elsewhere(
    how: Slurm, asks_again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.executors.slurm.BEAT_S", 4.0)
    toy, refused = Toy(tmp_path / "toy", {"refused": "denied"}), step("refused", asks="the judge")
    run(how, toy, [refused, step("asks the same", after=[refused], asks="the judge")])
    assert ("asks the same" in [title for _, title, _ in toy.log]) == asks_again
