"""The Ray executor's own promises; what needs Ray is skipped where it is not installed."""

import threading
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness.executors.ray import Ray
from harness.system.errors import UsageError
from tests.toy_steps import Toy, run, step, text, until

with_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (the extra `ray`)")


def test_without_ray_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.executors.ray.find_spec", lambda name: None)
    ran = run(Ray(), Toy(tmp_path), [step("a")])
    assert isinstance(ran.raised, UsageError) and "pip install 'vlm-alignment-harness[ray]'" in str(ran.raised)


@with_ray
@pytest.mark.heavy
@pytest.mark.parametrize(("retries", "made"), [(3, True), (0, False)])
def test_a_machine_that_is_lost_has_its_step_begun_anew_on_another(tmp_path: Path, retries: int, made: bool) -> None:
    """Without retries, the mutant, the step is a failure and takes what reads it; the rest goes on."""
    from ray.cluster_utils import Cluster  # type: ignore[import-not-found,unused-ignore]

    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    toy, a, b = Toy(tmp_path, hold_s=8), step("a"), step("b")
    try:
        lost = [machines.add_node(num_cpus=1), machines.add_node(num_cpus=1)][0]
        machines.wait_for_nodes()

        def lose() -> None:
            until(lambda: len(toy.log) == 2)
            machines.remove_node(lost, allow_graceful=False)

        thread = threading.Thread(target=lose)
        thread.start()
        ran = run(Ray(address=machines.address, retries=retries), toy, [a, b, step("c", a, b)])
        thread.join()
    finally:
        machines.shutdown()
    assert ran.raised is None and len([title for title in ran.began if title in "ab"]) == (3 if made else 2)
    if made:
        assert ran.lost == {}
        assert all((toy.store.path(each.stage) / "text").read_text() == text(each) for each in ran.steps)
    else:
        assert len(ran.lost) == 2 and "its task was lost" in str(next(iter(ran.lost.values())).error)
