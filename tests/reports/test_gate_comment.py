"""The gate in a pull request: how old and how good the baseline is, what moved, and items that got worse."""

import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt
from worlds import Accuracy

from harness.commands.gating import accept, judge
from harness.contracts.benchmark import Unit, totals
from harness.system.errors import UsageError
from reports.estimates import estimate
from reports.gate import Policy, Verdict, gate
from reports.gate import judge as verdict
from reports.gate_text import MARK, comment
from reports.outcomes import Outcome
from reports.runs import opened
from tests.fake_run import FakeRun, drawn

ACCEPTED = drawn({"baseline": 0.6, "dpo": 0.7})
WORSE = replace(ACCEPTED, skill={"baseline": 0.6, "dpo": 0.45})
DAY = date(2026, 3, 1)


def commented(folder: Path, now: FakeRun, policy: str, today: date = DAY) -> str:
    """The comment on `now` beside a run that was accepted on `DAY`."""
    file = folder / "ci" / "accepted.zip"
    accept(ACCEPTED.write(folder / "before"), file, None, DAY)
    (folder / "gate.yaml").write_text(policy)
    judge(
        now.write(folder / "now"), file, folder / "gate.yaml", None, None, None, folder / "c.md", "https://x/r", today
    )
    return (folder / "c.md").read_text()


def test_the_card_has_the_scores_for_a_person_to_review(tmp_path: Path) -> None:
    given = ACCEPTED.write(tmp_path / "run")
    assert "Review and commit it with" in accept(given, tmp_path / "a.zip", None, DAY)
    text = (tmp_path / "a.yaml").read_text()
    card = yaml.safe_load(text)
    assert text.startswith("# Written by `harness gate --accept`. Review it") and card["accepted"] == "2026-03-01"
    with opened([given]) as (run,):
        units = next(o.units for o in run.outcomes() if (o.method, o.benchmark) == ("dpo", "sqa"))
        right = run.benchmarks()["sqa"].compute(totals(units))["sqa/img"]
    assert (
        card["scores"]["dpo"]["sqa/img"].startswith(f"{right:.1f} [") and "n = 240" in card["scores"]["dpo"]["sqa/img"]
    )
    assert list(card["scores"]) == ["baseline", "dpo"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda zip, card: zip.write_bytes(zip.read_bytes() + b"x"), "is not the file that .*a.yaml was written for"),
        (lambda zip, card: card.write_text(card.read_text().replace("2026-03-01", "yesterday")), "not what .* writes"),
        (lambda zip, card: card.write_text("[]"), "is not what `harness gate --accept` writes"),
        (lambda zip, card: card.write_text("accepted: 2026-03-01\n"), "sha256: Field required"),
    ],
    ids=["another file", "no date", "a list", "no digest"],
)
def test_a_card_and_a_file_that_do_not_belong_together_are_refused(spoil, said: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    given = ACCEPTED.write(tmp_path / "run")
    accept(given, tmp_path / "a.zip", None, DAY)
    spoil(tmp_path / "a.zip", tmp_path / "a.yaml")
    with pytest.raises(UsageError, match=said):
        judge(given, tmp_path / "a.zip", None, None, None, None)


@pytest.mark.parametrize(
    ("today", "told", "stale"),
    [
        (date(2026, 3, 1), "accepted 2026-03-01, today", False), (date(2026, 3, 2), "2026-03-01, yesterday", False),
        (date(2026, 2, 1), "2026-03-01, today", False), (date(2026, 5, 30), "2026-03-01, 90 days ago", False),
        (date(2026, 5, 31), "2026-03-01, 91 days ago", True),
    ],
)  # fmt: skip
def test_the_age_is_told_and_a_stale_baseline_warned_of(today: date, told: str, stale: bool, tmp_path: Path) -> None:
    text = commented(tmp_path, ACCEPTED, "margins: {sqa: 2}", today)
    assert told in text and ("the accepted run is stale" in text) == stale


def test_a_policy_says_how_old_is_stale(tmp_path: Path) -> None:
    assert "stale" not in commented(tmp_path, ACCEPTED, "margins: {sqa: 2}\nstale_days: 1000", date(2026, 5, 31))


def test_a_run_folder_as_baseline_has_no_age(tmp_path: Path) -> None:
    given = ACCEPTED.write(tmp_path)
    with opened([given, given]) as (before, after):
        assert gate(before, after, Policy(margins={"sqa": 2.0}), after.profile()).accepted == ""


def unchanged(rng: np.random.Generator, n: int) -> tuple[Verdict, str]:
    """The verdict, and the warning, on a row of n images that did not change but for noise, with a margin of 8."""
    change = rng.choice([-1.0, 0.0, 1.0], n, p=[0.2, 0.6, 0.2])
    old = [Unit(str(i), str(i), {"right": float(change[i] < 0), "n": 1.0}) for i in range(n)]
    new = [Unit(str(i), str(i), {"right": float(change[i] > 0), "n": 1.0}) for i in range(n)]
    sides = [Outcome("baseline", "", 0, "acc", old, 0, ""), Outcome("now", "", 0, "acc", new, 0, "")]
    found = estimate(Accuracy(), sides, replicates=400)["now"]["acc/percent"]
    told = verdict("", Accuracy().metrics[0], 0.0, found, 8.0)
    return told.verdict, told.weak


def test_as_many_items_as_the_warning_asks_for_would_do() -> None:
    """80 images are too few; with the number that is asked for four in five rows that did not change pass."""
    rng = np.random.default_rng(0)
    small = [unchanged(rng, 80) for _ in range(60)]
    asked = [int(found[1].replace(",", "")) for _, weak in small if (found := re.search(r"about ([\d,]+) would", weak))]
    assert len(asked) > 50 and sum(told == Verdict.PASSED for told, _ in small) < 30
    enough = sorted(asked)[len(asked) // 2]
    assert 400 < enough < 600  # 2.8 standard errors of sqrt(0.4 / n) are a margin of .08: n = 490
    passed = sum(unchanged(rng, enough)[0] == Verdict.PASSED for _ in range(100))
    assert 68 <= passed <= 92  # binomial(100, .8): 99.7 %


def test_a_set_that_has_not_so_many_and_a_margin_of_nothing_are_told(tmp_path: Path) -> None:
    text = commented(tmp_path / "few", replace(WORSE, skill={"baseline": 0.6, "dpo": 0.69}), "margins: {mmhal: 0.01}")
    assert "and the set has 96: widen the margin" in text
    text = commented(tmp_path / "none", replace(WORSE, skill={"baseline": 0.6, "dpo": 0.69}), "margins: {sqa: 0}")
    assert "no number of items shows that nothing at all changed" in text


def test_what_moved_is_seen_at_once_and_the_rest_is_folded(tmp_path: Path) -> None:
    text = commented(tmp_path, WORSE, "margins: {sqa: 1}")
    head, folded = text.split("<details>")
    assert text.startswith(f"{MARK}\n### ❌ harness gate: FAILED\n")
    assert "- **GT-DPO** ▼ worse: sqa/img" in head and "- **baseline** = within the margin: sqa/img" in head
    assert "| regressed | GT-DPO |" in head and "baseline | sqa" not in head and "| passed | baseline |" in folded
    assert "[The whole report](https://x/r)" in head


def test_three_items_that_got_worse_are_of_the_rows_that_lost_most(tmp_path: Path) -> None:
    now = replace(WORSE, said={"dpo": "I | see\n`nothing` @everyone <b>"})
    text = commented(tmp_path, now, "margins: {sqa: 1}")
    items = [line for line in text.splitlines() if line.startswith("| GT-DPO | ")]
    assert "**3 items that got worse**" in text and len(items) == 3
    assert "accepted run |" not in text  # whose responses an accepted file does not keep
    assert len(set(items)) == 3 and all("`question " in line for line in items)
    html = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    assert (
        "<code>I | see 'nothing' @everyone &lt;b&gt;</code>" in html
    )  # as code: no mention, no tag, no cell of its own


def test_a_passing_run_shows_no_items(tmp_path: Path) -> None:
    text = commented(tmp_path, ACCEPTED, "margins: {sqa: 1}")
    assert "got worse" not in text and "What moved" not in text and "✅ harness gate: passed" in text


def test_with_responses_kept_both_sides_are_shown(tmp_path: Path) -> None:
    runs = [ACCEPTED.write(tmp_path / "a"), replace(WORSE, said={"dpo": "now this"}).write(tmp_path / "b")]
    with opened(runs) as (before, after):
        text = comment(gate(before, after, Policy(margins={"sqa": 1.0}), after.profile()))
    assert "| `dpo says` | `now this` |" in text
