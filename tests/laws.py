"""What property tests have in common: how they are run, and how something wrong shows that they would catch it."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test


def law(examples: int = 60) -> settings:
    """The same examples every time, so that nobody's change fails by another's luck; no shrinking of slow ones."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )


def play(machine: type[RuleBasedStateMachine], histories: int, steps: int = 25) -> None:
    """Some histories of a state machine, as `law` would have them."""
    run_state_machine_as_test(machine, settings=settings(law(histories), stateful_step_count=steps))


def caught(test: Callable[..., None], *given: object) -> None:
    """A test fails: what it tries was replaced by something wrong."""
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test(*given)
