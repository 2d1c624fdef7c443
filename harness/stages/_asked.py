"""Who is asked: the testbed's judge or writer, for a stage that asks."""

from harness.contracts.judge_kind import Hired, Post
from harness.contracts.stage import Work
from harness.judging.hire import Office, hired, identity, kind_for
from harness.stages._drawn import Drawn
from harness.store.store import Stage
from harness.system.errors import HarnessError
from harness.system.jsonl import dumps


def asked(work: Work, role: Office, of: Stage) -> Hired:
    """The testbed's judge or writer, for a stage that asks about the images of `of`, a split or items.

    HarnessError where it is not who the stage's key has.
    """
    kind = kind_for(role, work.testbed)
    if dumps(identity(kind)) != work.step.resources.asks:
        raise HarnessError(
            f"{kind.name} has changed since this comparison began; the same command again asks it as it is now."
        )
    data = Drawn.of(of).data
    drawn = work.folder(data) if data else None
    post = Post(work.runtime, work.store.root, work.places.data, drawn, work.tick)
    return hired(kind, post)
