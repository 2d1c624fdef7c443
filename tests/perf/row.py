"""A row of what `make bench` prints."""

from typing import NamedTuple

THEIRS, OURS = "TRL ÷ ours", "ours ÷ TRL"


class Row(NamedTuple):
    """A figure, what it is of, the condition it holds under, and what was asked for; `less`: where less is better.

    A count is an int; anything else is judged and printed to two places, to three where the goal is below a tenth.
    """

    what: str
    condition: str
    figure: float
    goal: float | None = None
    of: str = THEIRS
    less: bool = False

    @property
    def places(self) -> int:
        """Behind the point."""
        if isinstance(self.figure, int):
            return 0
        return 2 if self.goal is None or self.goal >= 0.1 else 3

    @property
    def verdict(self) -> str:
        """Whether the goal is reached, to the places that are printed."""
        if self.goal is None:
            return "no goal"
        found = round(self.figure, self.places)
        return "reached" if (found <= self.goal if self.less else found >= self.goal) else "not reached"

    @property
    def cells(self) -> tuple[str, ...]:
        """As a line of the table has it."""
        sign = "≤" if self.less else "≥"
        goal = "-" if self.goal is None else f"{sign} {self.goal:.{self.places}f}"
        return self.what, self.condition, self.of, f"{self.figure:.{self.places}f}", goal, self.verdict
