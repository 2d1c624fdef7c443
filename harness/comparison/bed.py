"""A testbed as one comparison has it: the base model of a seed, and whose held-out examples benchmarks ask about."""

from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark
from harness.contracts.settings import Testbed
from harness.contracts.steps import Request


def base_model(testbed: Testbed, seed: int) -> str:
    """The base model's folder for a seed."""
    return testbed.models[seed % len(testbed.models)]


def own_source(testbed: Testbed, request: Request) -> Testbed:
    """The testbed whose benchmarks on held-out data take them from the request's source, unless told otherwise."""
    heldout = [name for name in request.benchmarks if plugins.plugin("benchmarks", name, Benchmark).heldout]
    options = {name: {"source": request.data.name, **testbed.benchmarks.get(name, {})} for name in heldout}
    return testbed.model_copy(update={"benchmarks": testbed.benchmarks | options})
