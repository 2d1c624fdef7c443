"""What a step's method is handed."""

from harness.judge import Writer
from harness.method import Lesson
from harness.rounds import OwnRound
from harness.stages.policy import base, base_shelf, policy
from harness.stages.work import Work


def own_round(work: Work, lesson: Lesson, writer: Writer) -> OwnRound:
    """The round of a step that builds records, or that looks at what a policy says of examples."""
    return OwnRound(
        number=work.what["round"],
        seed=work.what["seed"],
        asked=writer,
        step=work.step,
        store=work.store,
        testbed=work.testbed,
        runtime=work.runtime,
        lesson=lesson,
        policy=policy(work),
        policy_key=work.step.reads["policy"].key if "policy" in work.step.reads else work.what["model"],
        base=base(work),
        shelf=base_shelf(work),
        tick=work.tick,
    )
