"""A judge of one's own: MM-Vet's grade is the share of the reference answer's words that a response has."""

from harness.contracts.judge import Ask
from harness.contracts.judge_kind import Hired, JudgeKind, Post
from harness.contracts.records import Unscored


class Overlap(JudgeKind):
    """Written "./overlap.py"; "./overlap.py:strict" gives no grade between 0 and 1."""

    def unusable(self) -> str:
        """That it was told something it does not know."""
        return "" if self.rest in ("", "strict") else f'"{self.name}" is not known; write ./overlap.py:strict'

    def hire(self, post: Post) -> "Grader":
        """Whoever grades."""
        return Grader(self.name, strict=self.rest == "strict")


class Grader(Hired):
    """Grades by words."""

    def __init__(self, name: str, strict: bool) -> None:
        self.name, self.strict = name, strict

    def reply(self, ask: Ask) -> str | Unscored:
        """The grade, in the form that MM-Vet's prompt asks for."""
        if ask.purpose != "mmvet":
            return Unscored(ask.id, f"{self.name} grades MM-Vet only")
        wanted = set(ask.facts["reference"].lower().split())
        had = wanted & set(ask.facts["response"].lower().split())
        share = len(had) / len(wanted) if wanted else 0.0
        return f"{float(share == 1) if self.strict else share:.1f}"
