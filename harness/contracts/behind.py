"""Finds what stands behind a testbed's `data`: a word of one of ours, a file of the user's own, or a folder."""

from harness.contracts import plugins
from harness.contracts.testbed_kind import TestbedKind

TESTBEDS = "harness.testbeds"


def behind(data: str) -> TestbedKind:
    """What `data` means; UsageError for a file that defines no kind of testbed."""
    if data.endswith(".py"):
        name = data
    else:
        known = words()
        name = known.get(data, known[""])
    kind: type[TestbedKind] = plugins.plugin(TESTBEDS, name, TestbedKind)
    return kind(data, plugins.source(TESTBEDS, name))


def words() -> dict[str, str]:
    """The words of the kinds that come with the harness, and the kinds' names; the empty word is that of paths."""
    return {plugins.plugin(TESTBEDS, name, TestbedKind).word: name for name in plugins.installed(TESTBEDS)}
