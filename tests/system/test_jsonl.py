"""A record as a line of JSON is what `dataclasses.asdict` has in it, however deep."""

import json
from dataclasses import asdict

import pytest

from harness.contracts.records import Conversation, Image, Pair, Score, Turn, VisionError
from harness.system.jsonl import dumps

SEEN = Image("kitchen.png", "0" * 64)
ERROR = VisionError("instance", "colour", "the cup is red")
RECORDS = [
    Pair("a", SEEN, "What is there?", "A “cup”.", "A dog."),
    Conversation("b", None, ((Turn("Is it red?", "No."), Turn("Why?", "It is blue.")), ()), (ERROR,)),
    Score("c", {"right": 1.0, "a part": 0.1}),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_written_as_all_that_is_in_it(record: object) -> None:
    plain = asdict(record)  # type: ignore[call-overload]
    assert dumps(record) == json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize("thing", [Pair, {1}, [SEEN], float("nan"), Score("c", {"part": float("inf")})])
def test_what_is_no_plain_data_is_refused(thing: object) -> None:
    with pytest.raises((TypeError, ValueError), match="not JSON"):
        dumps(thing)
