"""Methods that share GT-DPO's pairs: the rows differ in the loss alone, and each says how it takes the data's own."""

import pytest
from scripted import EXAMPLES, PICTURE, Scripted

from harness.contracts import plugins
from harness.contracts.method import Method
from harness.contracts.records import Dropped, Example, Pair, Turn
from methods._pairs import Pairs

METHODS = [
    name for name in plugins.installed("methods") if isinstance(plugins.make("methods", name, Method, {}), Pairs)
]
PREFERENCES = [
    Example("p", "local", PICTURE, (Turn("Who?", "A man."), Turn("Where?", "In a park.")), "In a house."),
    Example("q", "local", PICTURE, (Turn("What?", "A cup."),), "A pot."),
]


def made(name: str, **options: object) -> Pairs:
    return plugins.make("methods", name, Pairs, options)


def test_there_are_several() -> None:
    assert {"dpo", "simpo", "ipo", "orpo", "mpo", "kto", "mdpo", "tpo"} <= {*METHODS}


@pytest.mark.parametrize("rejected", ["greedy", "sampled", "data"])
@pytest.mark.parametrize("name", METHODS)
def test_all_compare_the_answers_that_dpo_compares(name: str, rejected: str) -> None:
    def answers(method: str) -> list[tuple[str, ...]]:
        built = made(method, rejected=rejected).build([*EXAMPLES, *PREFERENCES], Scripted())
        return [(r.id, r.question, r.chosen, r.rejected) if isinstance(r, Pair) else (r.id, r.reason)
                for r in built if isinstance(r, Pair | Dropped)]  # fmt: skip

    assert answers(name) == answers("dpo")
    assert any(len(row) == 4 for row in answers(name))


@pytest.mark.parametrize("name", METHODS)
def test_a_pair_of_the_data_whose_sides_are_equal_is_none(name: str) -> None:
    """It would have a share in a step's mean and teach nothing, or what is chosen alone."""
    same = Example("s", "local", PICTURE, (Turn("What?", "A cup."),), " A cup.\n")
    built = list(made(name, rejected="data").build([*PREFERENCES, same], Scripted()))
    assert built[2] == Dropped("s", "the data's rejected answer equals the chosen one")
    assert all(isinstance(one, Pair) for one in built[:2])


@pytest.mark.parametrize("name", METHODS)
def test_each_says_by_its_own_name_how_the_data_s_pairs_are_read(name: str) -> None:
    assert f"; {name}:rejected=data reads them" in made(name).preferences
    assert made(name, rejected="data").preferences.startswith("read: ")
