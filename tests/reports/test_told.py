"""The page beside its figures: its order, what folds, its links, provenance in words, and who reads it otherwise."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from test_page import number

from harness.store.store import MANIFEST
from reports import cards, told
from reports import report as reporting
from reports.facts import row_facts
from reports.runs import Run, opened
from tests.fake_run import FakeRun, manifest


class Read(HTMLParser):
    """A page's text where it is open and where it is folded, its links, tables and headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.folded, self.inside = 0, list[str]()
        self.seen, self.hidden, self.links = list[str](), list[str](), list[str]()
        self.cells = list[tuple[str, dict[str, str | None]]]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.folded += tag == "details"
        self.inside.append(tag)
        if tag == "a":
            self.links.append(dict(attrs)["href"] or "")
        if tag in ("table", "caption", "th"):
            self.cells.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.folded -= tag == "details"

    def handle_data(self, data: str) -> None:
        if self.inside[-1:] != ["style"] and data.strip():
            (self.hidden if self.folded and self.inside[-1] != "summary" else self.seen).append(data.strip())


@pytest.fixture
def run(tmp_path: Path) -> Run:
    with opened([FakeRun(seeds=(0, 1)).write(tmp_path)]) as (one,):
        return one


def page(run: Run, out: Path, local: bool = True) -> str:
    """The page with its files written beside it."""
    out.mkdir(exist_ok=True)
    reporting.tables(run.folder, reporting.Store(run.store)) if local else None
    reporting.pages(run, out, local)
    return (out / "report.html").read_text()


@pytest.fixture(scope="module")
def paged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    """A run whose trained models are in its store, and its page."""
    with opened([FakeRun(seeds=(0, 1)).write(tmp_path_factory.mktemp("paged"))]) as (one,):
        for made in one.manifest.trained:
            (one.store / made.stages[-1]).mkdir(parents=True, exist_ok=True)
        return one, page(one, one.folder)


def test_first_who_won_then_the_scores_then_why_then_what_it_cost(paged: tuple[Run, str]) -> None:
    _, text = paged
    order = ["verdict", "scores", "items", "lens", "training", "cost", "fairness", "files", "provenance"]
    places = [text.index(f'<section id="{name}"') for name in order]
    assert places == sorted(places)
    assert {link[1:] for link in Read(text).links if link.startswith("#")} <= {*order, "distribution", "side"}


def test_verdict_trust_and_cost_are_open_and_every_note_is_there(paged: tuple[Run, str]) -> None:
    run, text = paged
    read = Read(text)
    seen, hidden = " ".join(read.seen), " ".join(read.hidden)
    assert "How far to trust it" in seen and "to build and train" in seen and "every method consumed" in seen
    for note in reporting.Measured.of(run).findings.notes:
        assert note in hidden
    assert "Python 3" in hidden and "Python 3" not in seen


def test_every_table_has_a_caption_and_every_heading_says_what_it_heads(paged: tuple[Run, str]) -> None:
    read = Read(paged[1])
    kinds = [tag for tag, _ in read.cells if tag != "th"]
    assert kinds and kinds == ["table", "caption"] * (len(kinds) // 2)
    assert {attributes.get("scope") for tag, attributes in read.cells if tag == "th"} == {"col", "row"}


def test_a_local_pages_links_lead_to_what_is_there(paged: tuple[Run, str]) -> None:
    run, text = paged
    links = [link for link in Read(text).links if not link.startswith("#")]
    assert len([link for link in links if "/train/" in link]) == 4  # two rows, two seeds
    for name in ("table.csv", "results.jsonl", "manifest.json", "intervals.pdf", "figure2.pdf"):
        assert name in links
    for link in links:
        assert (run.folder / link).exists(), link


def test_a_page_elsewhere_names_the_models_and_links_to_nothing_that_it_has_not(run: Run, tmp_path: Path) -> None:
    reporting.report([run.folder], None, "", False, "md", tmp_path / "out", None)
    read = Read((tmp_path / "out" / "report.html").read_text())
    links = [link for link in read.links if not link.startswith("#")]
    assert links and all((tmp_path / "out" / link).is_file() for link in links)
    assert any(re.fullmatch(r"trained model: train/[0-9a-f]{20} in the store", text) for text in read.seen)


@pytest.mark.parametrize("store", ["javascript:alert(1)//", "https://x", "//x/y", "/etc", "data:text/html,x", "a\nb"])
def test_a_store_that_is_no_path_from_here_gets_no_link(run: Run, store: str) -> None:
    run.manifest.__dict__["store"] = store
    found = [address for address, *_ in told.files(run, [], True) if "train/" in address]
    assert not any(found)


def test_provenance_is_in_words_not_in_braces(run: Run) -> None:
    groups = dict(told.provenance(run))
    assert list(groups) == ["What was asked", "Who wrote and who judged", "What it ran on", "What identifies it"]
    assert ("nSFT", "method nsft") in groups["What was asked"] and ("writer", "oracle") in groups[
        "Who wrote and who judged"
    ]
    assert not any("{" in value for known in groups.values() for _, value in known)


def test_options_and_packages_are_named_one_by_one(tmp_path: Path) -> None:
    told_of = manifest(
        packages={"torch": "2.11"},
        rows={"dpo": {"name": "./mine.py", "options": {"beta": 0.5}, "training": {"lr": 1}}},
        source={"commit": "abc", "changed": True}, benchmarks={"gqa": {"split": "x"}, "pope": {}},
    )  # fmt: skip
    groups = dict(told.provenance(Run("x", tmp_path, tmp_path, told_of, ())))
    assert ("dpo", "method mine, beta 0.5, lr 1") in groups["What was asked"]
    assert ("benchmarks", "gqa (split x); pope") in groups["What was asked"]
    assert groups["What it ran on"][0] == ("harness", "0, commit abc, with changes")
    assert groups["What it ran on"][2] == ("packages", "torch 2.11")


def test_when_is_said_from_the_stages_own_dates_and_how_long_from_the_profile(run: Run) -> None:
    stamps = iter(["2026-01-01T23:30:00+02:00", "2026-01-02T01:15:00+00:00", "no date"])
    for file in sorted(run.store.glob("train/*/manifest.json"))[:3]:
        fields = json.loads(file.read_text()) | {"created": next(stamps)}
        assert told._time(fields) is None or told._time(fields).tzname() == "UTC"  # type: ignore[union-attr]
    assert told._time({}) is told._time({"created": "9" * 400}) is None
    said = told.when(run, row_facts(run))
    assert re.fullmatch(r"made \d{4}-\d\d-\d\d \d\d:\d\d( to [\d: -]+)? UTC, 32 s of work in all stages", said)
    (run.folder / "profile.json").unlink()
    assert told.when(run, []) == ""


def test_time_and_memory_are_one_row_per_method_that_sums_its_stages(run: Run) -> None:
    facts = row_facts(run)
    spent, profile = cards.spent(facts), cards.profile(facts)
    assert [line.names for line in spent.lines] == [("baseline",), ("nSFT",), ("GT-DPO",)]
    for label in ("baseline", "nSFT", "GT-DPO"):
        stages = [line for line in profile.lines if line.names[0] == label]
        assert number(spent, label, "all, s") == pytest.approx(sum(line.entries[0].value for line in stages))
        for line in stages:
            assert number(spent, label, f"{line.names[1]}, s") == line.entries[0].value
    assert number(spent, "nSFT", "host GiB") == 0.5 and number(spent, "nSFT", "TFLOP to make") == 3.0


def test_a_run_without_stages_in_the_store_still_has_its_page(tmp_path: Path) -> None:
    folder = FakeRun().write(tmp_path)
    for file in tmp_path.glob("store/train/*/manifest.json"):
        file.unlink()
    (folder / "profile.json").write_text(json.dumps({"stages": []}))
    with opened([folder]) as (run,):
        assert 'id="cost"' in page(run, folder)
    assert (folder / MANIFEST).is_file()
