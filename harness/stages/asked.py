"""Who is asked: the testbed's judge or writer, for a stage that asks."""

from harness.judge import Judge
from harness.stages.work import Work
from harness.store import Stage


def asked(work: Work, role: str, of: Stage) -> Judge:
    """The testbed's `role` ("judge" or "writer"), for a stage that asks about the images of `of`.

    The oracle is the embedded testbed's: it reads the scene graphs behind a split or a benchmark.
    """
    if getattr(work.testbed, role) == "oracle":
        from harness.mini.oracles import Oracle, read_scenes

        return Oracle(read_scenes(work.store.sound(of.inputs["data"].name) / "scenes.jsonl"))
    from harness.llm import hire

    return hire(role, work.testbed, work.runtime, work.store.root, work.tick)
