"""The viewer's script outside a browser: what it chooses, finds, compares and refuses. Needs node."""

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness import HOME

NODE = shutil.which("node")
SCRIPT = Path(HOME) / "harness" / "viewing" / "assets" / "viewer.js"
RUN = """
const script = require(process.argv[1]);
const calls = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(calls.map(([name, ...given]) => script[name](...given))));
"""

pytestmark = pytest.mark.skipif(not NODE, reason="no node is installed: apt-get install nodejs")


def calls(*given: list[Any]) -> list[Any]:
    """What functions of the script return: [name, argument, ...]."""
    assert NODE
    ran = subprocess.run(
        [NODE, "-e", RUN, str(SCRIPT)], input=json.dumps(given), capture_output=True, text=True, check=True, timeout=60
    )
    made: list[Any] = json.loads(ran.stdout)
    return made


def text(rng: random.Random) -> str:
    return "".join(
        rng.choice(["a dog", " ", "cat", ",", "\n", "two", "é", "漢", "."]) for _ in range(rng.randrange(40))
    )


def test_marked_differences_give_both_texts_back_and_what_is_not_marked_is_the_same() -> None:
    rng = random.Random(0)
    pairs = [(text(rng), text(rng)) for _ in range(150)] + [("", ""), ("x", ""), ("a b", "a b")]
    for (one, other), (left, right) in zip(pairs, calls(*(["differences", *pair] for pair in pairs)), strict=True):
        assert ("".join(piece for piece, _ in left), "".join(piece for piece, _ in right)) == (one, other)
        same = ["".join(piece for piece, differs in side if not differs) for side in (left, right)]
        assert same[0] == same[1]
        assert (one == other) is not any(differs for side in (left, right) for _, differs in side)


def test_as_little_as_possible_is_marked() -> None:
    [[left, right]] = calls(["differences", "A red car and a dog.", "A car and a big dog."])
    assert [piece for piece, differs in left if differs] == ["red "]
    assert [piece.strip() for piece, differs in right if differs] == ["big"]


def test_a_very_long_text_is_compared_at_its_ends_alone() -> None:
    middle = " ".join(f"w{number}" for number in range(5000))
    [[left, _]] = calls(["differences", f"Yes {middle} end", f"Yes {middle[::-1]} end"])
    assert [differs for _, differs in left] == [False, True, False] and left[0][0] == "Yes "


def test_chosen_items_are_those_of_the_sign_and_the_kind() -> None:
    rng = random.Random(1)
    signs = ["".join(rng.choice("bwsun-") for _ in range(10_000)) for _ in range(2)]
    kinds = [rng.randrange(3) for _ in range(10_000)]
    listing = {"signs": signs, "kind_of": kinds, "kinds": ["x", "y", "z"], "words": ["right", "wrong"]}
    wanted = [(row, change, kind) for row in (0, 1) for change in ("", "b", "bw", "u") for kind in ("", "2")]
    for (row, change, kind), found in zip(wanted, calls(*(["chosen", listing, *one] for one in wanted)), strict=True):
        assert found == [
            place
            for place, sign in enumerate(signs[row])
            if (not change or sign in change) and (not kind or kinds[place] == int(kind))
        ]
    [offered] = calls(["changes", listing])
    assert dict(offered)["b"] == "right" and {*"".join(dict(offered))} <= {*"bwsun-"}


def test_a_search_finds_every_word_wherever_it_stands() -> None:
    item = {"id": "7", "prompt": "Is it RED?", "facts": [["answer", "yes"]], "said": [None, {"text": "No.", "why": ""}]}
    [words] = calls(["words", "  red  NO "])
    assert words == ["red", "no"]
    assert calls(*(["holds", item, one] for one in (words, ["red", "blue"], [], ["yes"], ["7"]))) == [
        True, False, True, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "https://x/pictures/" + "0" * 24, "pictures/../x", "data:text/html,x", "", None,
                "pictures/" + "0" * 24 + ".svg", "pictures/" + "0" * 24 + "\n"],
)  # fmt: skip
def test_an_address_that_is_no_picture_of_ours_is_none(address: str | None) -> None:
    assert calls(["address", address]) == [""]


def test_a_picture_of_ours_is_one() -> None:
    ours = [f"pictures/{'0' * 24}{end}" for end in ("", ".png", ".jpeg", "-large", "-large.jpeg")]
    assert calls(*(["address", one] for one in ours)) == ours


def test_the_baseline_has_no_change_of_its_own() -> None:
    listing = {"words": ["flipped to right", "flipped to wrong"]}
    asked = [("b", False), ("w", False), ("s", False), ("s", True), ("u", True), ("n", False), ("-", False)]
    assert calls(*(["meaning", sign, listing, base] for sign, base in asked)) == [
        "flipped to right", "flipped to wrong", "the same score", "", "unscored", "", "",
    ]  # fmt: skip
