"""What steps take, one by one and summed over a row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from harness.models.footprint import Memory


@dataclass(frozen=True)
class Need:
    """What a step takes. `how`: as it is laid out; `cure`: switches with which it fits, "" where it does; `joint`: what
    `training.joint` adds, "" where it does not.
    """

    row: str
    kind: str
    memory: Memory
    flops: int
    seconds: float
    disk: int
    how: str = ""
    cure: str = ""
    joint: str = ""


def by_row(found: Sequence[Need]) -> list[Need]:
    """One per row and kind: the most memory, all else summed over seeds and rounds; features are on disk once."""
    return [
        together(members, sum if kind == "train" else max)
        for (_, kind), members in _groups(found, lambda need: (need.row, need.kind)).items()
    ]


def whole_rows(by_kind: Sequence[Need]) -> list[Need]:
    """One per row, of the kind that takes the most memory."""
    return [together(members, sum) for members in _groups(by_kind, lambda need: (need.row, "")).values()]


def _groups(found: Sequence[Need], of: Callable[[Need], tuple[str, str]]) -> dict[tuple[str, str], list[Need]]:
    groups: dict[tuple[str, str], list[Need]] = {}
    for need in found:
        groups.setdefault(of(need), []).append(need)
    return groups


def together(members: Sequence[Need], disk: Callable[[list[int]], int]) -> Need:
    """Several as one: the memory of the one that takes most, sums of FLOPs and seconds, `disk` of their bytes.

    ValueError where there is none.
    """
    return replace(
        max(members, key=lambda one: one.memory.peak),
        flops=sum(one.flops for one in members),
        seconds=sum(one.seconds for one in members),
        disk=disk([one.disk for one in members]),
        cure=next((one.cure for one in members if one.cure), ""),
    )
