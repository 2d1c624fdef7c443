"""The embedded testbed's own judge and writer: "oracle"."""

from harness.contracts.judge_kind import Hired, JudgeKind, Post
from harness.mini.oracles import Oracle, read_scenes
from harness.system.errors import UsageError


class OracleKind(JudgeKind):
    """It reads the scene graphs behind a split or a benchmark that the embedded world drew."""

    form = "oracle"
    told = False
    drawn_only = True

    def hire(self, post: Post) -> Hired:
        """Whoever knows these scenes."""
        if post.drawn is None:
            raise UsageError("the oracle knows the embedded world's scenes only; name another in a testbed of yours.")
        one, several = post.drawn / "scenes.jsonl", sorted(post.drawn.glob("*/scenes.jsonl"))  # of sources joined
        files = [one] if one.exists() else several
        return Oracle({digest: scene for file in files for digest, scene in read_scenes(file).items()})
