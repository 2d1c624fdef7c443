"""Large files of records are read piece by piece: to the values, or the sentence, that they give when read whole."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.sources import _rows
from harness.system import pieces
from harness.system.errors import UsageError
from harness.system.pieces import Unclear, json_pieces

TEXTS = st.text(max_size=12) | st.sampled_from(["\u2028", "\n", "ü", "\U0001f600", '"', "\\\\", "]", "\ud800"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
ROWS = st.dictionaries(TEXTS, st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3), max_leaves=5), max_size=4)


def whole(file: Path) -> Any:
    try:
        return list(_rows.rows(file))
    except UsageError as error:
        return str(error)


def each(file: Path) -> Any:
    try:
        return _rows.each(file, lambda row: row)
    except UsageError as error:
        return str(error)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 5)


def written(rows: list[Any], lines: bool, wide: bool, gap: str) -> bytes:
    if lines:
        return (
            ("\n" + gap.replace("\n", " "))
            .join(json.dumps(row, ensure_ascii=wide) for row in rows)
            .encode("utf-8", "replace")
        )
    text = f"{gap},".join(json.dumps(row, ensure_ascii=wide, indent=1 if gap else None) for row in rows)
    return f"{gap}[{text}{gap}]{gap}".encode("utf-8", "replace")


@pytest.mark.usefixtures("small")
@settings(max_examples=40, deadline=None)
@given(st.lists(ROWS | LEAVES, max_size=4), st.booleans(), st.booleans(), st.sampled_from(["", " ", "\n\t"]))
def test_pieces_are_the_whole(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], lines: bool, wide: bool, gap: str
) -> None:
    file = tmp_path_factory.mktemp("rows") / ("a.jsonl" if lines else "a.json")
    file.write_bytes(written(rows, lines, wide, gap))
    assert repr(each(file)) == repr(whole(file))  # NaN is not itself


@pytest.mark.usefixtures("small")
@settings(max_examples=40, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=3), st.booleans(), st.data())
def test_nor_does_damage_pass_or_change_its_sentence(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], lines: bool, data: st.DataObject
) -> None:
    file, right = tmp_path_factory.mktemp("rows") / ("a.jsonl" if lines else "a.json"), written(rows, lines, True, "")
    at, cut = data.draw(st.integers(0, len(right))), data.draw(st.integers(0, 3))
    file.write_bytes(right[:at] + data.draw(st.binary(max_size=3)) + right[at + cut :])
    assert repr(each(file)) == repr(whole(file))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[", "[1", "[1,", "[1,]", "[1] 2", "[1]]", "3", "{}", '[{"a": 1, "a": 2}]', "[" * 100 + "]" * 100,
     "[1e9999]", "[" + "9" * 50 + "]", "\ufeff[1]", "[NaN]", "[1 2]", "[tru", "[12"],
)  # fmt: skip
@pytest.mark.usefixtures("small")
def test_what_is_no_list_or_more_than_one_is_what_it_was(text: str, tmp_path: Path) -> None:
    for name in ("a.json", "a.jsonl"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert repr(each(tmp_path / name)) == repr(whole(tmp_path / name))


def test_no_more_than_pieces_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a list of 2,000 records 100 bytes each, after each of which no more than a piece and a record is held."""
    monkeypatch.setattr(pieces, "PIECE", 1000)
    held = list[int]()
    more = pieces._Rest.more
    monkeypatch.setattr(pieces._Rest, "more", lambda rest: (more(rest), held.append(len(rest.text)))[0])
    (tmp_path / "a.json").write_text(json.dumps([{"id": str(n), "text": "x" * 80} for n in range(2000)]))
    assert [row["id"] for row in json_pieces(tmp_path / "a.json")] == [str(n) for n in range(2000)]
    assert len(held) > 100 and max(held) <= 1200


def test_a_number_that_may_go_on_is_not_taken_for_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: a reader that takes what it can at the end of a piece."""
    (tmp_path / "a.json").write_text("[1234567]")
    for size in range(1, 9):
        monkeypatch.setattr(pieces, "PIECE", size)
        assert list(json_pieces(tmp_path / "a.json")) == [1234567]
    (tmp_path / "a.json").write_text("[1234567")
    with pytest.raises(Unclear):
        list(json_pieces(tmp_path / "a.json"))
