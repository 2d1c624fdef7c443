"""A reply that was paid for is there for good, whatever dies, and nobody spends more than there is."""

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from harness.judging.journal import Batch, Journal

PROCESSES = multiprocessing.get_context("fork")


def pay(journal: Journal, number: int, usd: float = 0.01) -> None:
    ticket = journal.reserve(0.05, None)
    assert ticket
    journal.settle(ticket, usd, f"key{number}", {"text": f"reply {number} – «ø»"})


@pytest.fixture
def full(tmp_path: Path) -> Path:
    journal = Journal(tmp_path / "journal")
    for number in range(6):
        pay(journal, number)
    return tmp_path / "journal"


def test_a_reply_is_there_for_another_process(full: Path) -> None:
    journal = Journal(full)
    assert journal.get("key4") == {"text": "reply 4 – «ø»"}
    assert journal.get("key9") is None
    assert journal.spent == pytest.approx(0.06)
    other = Journal(full)
    pay(other, 9)
    assert journal.get("key9") == {"text": "reply 9 – «ø»"}


def offsets(data: bytes) -> range:
    """Every place in the last three records."""
    return range(data[: data[: data[:-1].rindex(b"\n")].rindex(b"\n")].rindex(b"\n") + 1, len(data))


def test_cut_at_any_byte_it_loses_the_last_record_at_most(full: Path, tmp_path: Path) -> None:
    data = (full / "replies.jsonl").read_bytes()
    assert len(offsets(data)) > 300
    for cut in offsets(data):
        (full / "replies.jsonl").write_bytes(data[:cut])
        journal = Journal(full)
        whole = data[:cut].rpartition(b"\n")[0].count(b'"settle"')
        assert whole <= len(journal.replies) <= 6
        pay(journal, 7)
        again = Journal(full)
        assert again.get("key7") == {"text": "reply 7 – «ø»"}
        assert set(again.replies) == set(journal.replies)
        assert again.damaged <= 1
        assert all(again.get(f"key{n}") == {"text": f"reply {n} – «ø»"} for n in range(whole))
        assert (full / "replies.jsonl").read_bytes().startswith(data[:cut])


class Careless(Journal):
    """The mutant: it appends where a dead writer stopped."""

    def _append(self, record: dict[str, Any]) -> None:
        from harness.judging.journal import _sealed

        with self.file.open("ab") as file:
            file.write(_sealed(record))
        self.refresh()


def test_without_the_closed_tail_a_new_reply_is_lost(full: Path) -> None:
    data = (full / "replies.jsonl").read_bytes()
    (full / "replies.jsonl").write_bytes(data[:-9])
    journal = Careless(full)
    ticket = journal.reserve(0.05, None)
    assert ticket not in Journal(full).open


@pytest.mark.parametrize("place", [3, 40, -12, -2])
def test_a_record_with_a_changed_byte_is_no_record(full: Path, place: int) -> None:
    data = bytearray((full / "replies.jsonl").read_bytes())
    data[place] ^= 1
    (full / "replies.jsonl").write_bytes(bytes(data))
    journal = Journal(full)
    assert journal.damaged >= 1
    assert all(reply["text"].startswith("reply") for reply in journal.replies.values())
    assert journal.spent >= 0.05


def test_a_call_that_never_settled_counts_as_paid(tmp_path: Path) -> None:
    assert Journal(tmp_path).reserve(0.5, 1.0)
    after = Journal(tmp_path)
    assert after.spent == 0.5
    assert after.reserve(0.6, 1.0) is None
    assert not after.waiting()  # nobody is left who could settle it for less
    assert after.reserve(0.5, 1.0)


def test_ten_times_a_tenth_is_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert all(journal.reserve(0.1, 1.0) for _ in range(10))
    assert journal.reserve(1e-9, 1.0) is None


def spend(folder: Path, start: Any) -> None:
    journal = Journal(folder)
    start.wait()
    for _ in range(40):
        ticket = journal.reserve(0.01, 0.5)
        if ticket:
            journal.settle(ticket, 0.01, ticket, {"text": "x" * 500})


def test_four_processes_write_whole_lines_and_keep_one_budget(tmp_path: Path) -> None:
    start = PROCESSES.Event()
    children = [PROCESSES.Process(target=spend, args=(tmp_path, start)) for _ in range(4)]
    for child in children:
        child.start()
    start.set()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    journal = Journal(tmp_path)
    assert (journal.spent, len(journal.replies), journal.damaged) == (0.5, 50, 0)


def test_what_cannot_be_read_is_taken_back_for_all_and_what_it_cost_stays(full: Path) -> None:
    mine, other = Journal(full), Journal(full)
    unread = mine.get("key2")
    assert unread
    mine.void("key2", unread)
    assert Journal(full).get("key2") is None and Journal(full).spent == pytest.approx(0.06)
    ticket = mine.reserve(0.05, None)
    assert ticket
    mine.settle(ticket, 0.01, "key2", {"text": "0.5"})
    other.void("key2", unread)  # it read the old reply; the new one is not its to take
    assert other.get("key2") == Journal(full).get("key2") == {"text": "0.5"}


def test_a_batch_outlives_its_process_and_is_found_where_it_was_noted(tmp_path: Path) -> None:
    mine = Journal(tmp_path)
    assert mine.reserve_batch("b", {"z": 0.3, "a": 0.2, "m": 0.9}, 1.0, "host")
    mine.note_batch("b", file="file-1")
    mine.note_batch("b", id="batch-1")
    mine.settle("b/z", 0.1, "z", {"text": "0.5"})
    del mine
    after = Journal(tmp_path)
    assert after.batches["b"] == Batch(("z", "a"), "host", "file-1", "batch-1")  # m does not fit
    assert after.carried == {"a": "b"} and after.spent == pytest.approx(0.3) and not after.waiting()


@pytest.mark.parametrize(("paid", "spent"), [(False, 0.1), (True, 0.3)])
def test_a_batch_that_is_closed_costs_what_was_settled_or_all_of_it(paid: bool, spent: float, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.reserve_batch("b", {"z": 0.3, "a": 0.2}, None, "host")
    journal.settle("b/z", 0.1, "z", {"text": "0.5"})
    journal.close_batch("b", paid)
    assert Journal(tmp_path).spent == pytest.approx(spent) and not Journal(tmp_path).carried


def test_no_batch_begins_while_one_call_is_sounding_out(tmp_path: Path) -> None:
    one, other = Journal(tmp_path), Journal(tmp_path)
    ticket = one.reserve(0.1, 1.0, alone=True)
    assert ticket and not other.reserve_batch("b", {"a": 0.1}, 1.0, "host")
    one.settle(ticket, 0.1)
    assert other.reserve_batch("b", {"a": 0.1}, 1.0, "host")


def test_a_batch_whose_record_is_torn_was_never_reserved(tmp_path: Path) -> None:
    Journal(tmp_path).reserve_batch("b", {"z": 0.3}, None, "host")
    data = (tmp_path / "replies.jsonl").read_bytes()
    (tmp_path / "replies.jsonl").write_bytes(data[:-9])
    after = Journal(tmp_path)
    assert not after.open and after.reserve_batch("b", {"z": 0.3}, None, "host")
    assert Journal(tmp_path).carried == {"z": "b"}


def test_a_batch_whose_record_is_damaged_is_none_and_the_rest_goes_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.reserve_batch("b", {"z": 0.3}, None, "host")
    journal.note_batch("b", file="file-1")
    journal.settle("b/z", 0.1, "z", {"text": "0.5"})
    journal.close_batch("b")
    data = (tmp_path / "replies.jsonl").read_bytes()
    (tmp_path / "replies.jsonl").write_bytes(data.replace(b'"host"', b'"h0st"'))
    after = Journal(tmp_path)
    assert (after.damaged, after.batches, after.get("z"), after.spent) == (1, {}, {"text": "0.5"}, 0.1)
