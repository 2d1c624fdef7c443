"""The gate fails what is worse beyond the margin, passes what is not, and says when it does not know."""

import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from markdown_it import MarkdownIt
from worlds import Accuracy, Chair

from harness.commands.gating import accept, judge, read_policy
from harness.contracts.benchmark import Unit
from harness.system.errors import HarnessError, UsageError
from reports.estimates import Estimate, estimate
from reports.gate import Budget, Check, Gate, Policy, Verdict, default_policy, gate
from reports.gate import judge as verdict
from reports.gate_text import junit, summary
from reports.outcomes import Outcome
from reports.runs import opened
from tests.fake_run import FakeRun, drawn

ACCEPTED = drawn({"baseline": 0.6, "dpo": 0.7}, options={"beta": 0.1})
POLICY = Policy(margins={"sqa": 2.0})


def gated(folder: Path, now: FakeRun, policy: Policy = POLICY, accepted: FakeRun = ACCEPTED) -> Gate:
    """The verdict on `now`."""
    given = [accepted.write(folder / "accepted"), now.write(folder / "now")]
    with opened(given) as (before, after):
        return gate(before, after, policy, after.profile())


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.5, 3.0, Verdict.PASSED), (-1.0, -0.2, Verdict.PASSED), (-1.5, 0.5, Verdict.INCONCLUSIVE),
        (-3.0, -1.0, Verdict.INCONCLUSIVE), (-3.0, -1.1, Verdict.REGRESSED), (math.nan, math.nan, Verdict.INCOMPLETE),
    ],
)  # fmt: skip
def test_an_interval_against_a_margin_of_one(low: float, high: float, expected: Verdict) -> None:
    """For a metric that should be high as it is, for one that should be low turned round."""
    found = Estimate(50.0, low, high, 1800, p=0.01, deltas={0: (low + high) / 2})
    assert verdict("dpo", Accuracy().metrics[0], 51.0, found, 1.0).verdict == expected
    turned = replace(found, low=-high, high=-low)
    told = verdict("dpo", Chair("chair", variant="listed").metrics[0], 49.0, turned, 1.0)
    assert told.verdict == expected
    assert (told.said == "not resolved at n = 1,800") == (expected == Verdict.INCONCLUSIVE)


def test_a_handful_of_images_cannot_fail_a_gate() -> None:
    """Four images of twelve are worse and none is better: p = 1/8, whatever the bootstrap's interval says."""
    change = [1.0] * 4 + [0.0] * 8
    old = [Unit(str(i), str(i), {"right": right, "n": 1.0}) for i, right in enumerate(change)]
    new = [replace(unit, parts={"right": 0.0, "n": 1.0}) for unit in old]
    sides = [Outcome("baseline", "", 0, "acc", old, 0, ""), Outcome("now", "", 0, "acc", new, 0, "")]
    found = estimate(Accuracy(), sides)["now"]["acc/percent"]
    assert found.high < -2 and found.p > 0.1
    assert verdict("", Accuracy().metrics[0], 33.3, found, 2.0).verdict == Verdict.INCONCLUSIVE


def test_an_identical_run_passes_without_any_margin(tmp_path: Path) -> None:
    found = gated(tmp_path, ACCEPTED, Policy(margins={"sqa": 0.0, "mmhal": 0.0}))
    assert [check.verdict for check in found.checks] == [Verdict.PASSED] * 4
    assert found.status == 0 and found.differ == ()


def test_a_worse_method_fails_and_the_baseline_row_does_not(tmp_path: Path) -> None:
    found = gated(tmp_path, replace(ACCEPTED, skill={"baseline": 0.6, "dpo": 0.5}))
    assert {check.row: check.verdict for check in found.checks} == {
        "baseline": Verdict.PASSED, "GT-DPO": Verdict.REGRESSED
    }  # fmt: skip
    assert found.status == 1
    assert found.ungated == ("MMHal",)


def test_what_is_not_known_fails_only_where_the_policy_says_so(tmp_path: Path) -> None:
    now = replace(ACCEPTED, skill={"baseline": 0.6, "dpo": 0.64}, items=12)
    few = replace(ACCEPTED, items=12)
    for says, status in (("pass", 0), ("fail", 1)):
        policy = Policy(margins={"sqa": 1.0}, rows=("dpo",), inconclusive=says)  # type: ignore[arg-type]
        found = gated(tmp_path / says, now, policy, few)
        assert [check.verdict for check in found.checks] == [Verdict.INCONCLUSIVE]
        assert found.status == status


def test_too_few_verdicts_are_incomplete_not_passed(tmp_path: Path) -> None:
    """9 of 240 units have no verdict: 96.2 %."""
    now = replace(ACCEPTED, unscored=9)
    found = gated(tmp_path / "strict", now, Policy(margins={"mmhal": 1.0}))
    assert found.status == 3
    assert found.checks[0].said == "seed 0: 96.2% of the units are scored in both, 99.0% are wanted"
    assert gated(tmp_path / "lenient", now, Policy(margins={"mmhal": 1.0}, coverage=0.96)).status == 0


def test_missing_cells_seeds_and_other_items_are_incomplete(tmp_path: Path) -> None:
    both = replace(ACCEPTED, seeds=(0, 1))
    told = gated(tmp_path / "seed", ACCEPTED, accepted=both).checks[0]
    assert (told.verdict, told.said) == (Verdict.INCOMPLETE, "seed 1: not scored")
    told = gated(tmp_path / "row", replace(ACCEPTED, skill={"baseline": 0.6})).checks[1]
    assert (told.verdict, told.said) == (Verdict.INCOMPLETE, "seed 0: not scored")
    told = gated(tmp_path / "items", replace(ACCEPTED, items=30)).checks[0]
    assert told.said == "seed 0: 50.0% of the units are scored in both, 99.0% are wanted"


@pytest.mark.parametrize(
    ("now", "field"),
    [(replace(ACCEPTED, judge="oracle:2"), "judges"), (replace(ACCEPTED, spoilt={"protocol": "lmms"}), "protocol")],
)
def test_another_protocol_or_judge_is_refused(now: FakeRun, field: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"did not measure what was accepted: {field}"):
        gated(tmp_path, now)


def test_what_else_changed_is_said(tmp_path: Path) -> None:
    now = replace(ACCEPTED, split="another", options={"beta": 0.5})
    found = gated(tmp_path, now)
    assert any(text.startswith("split_lock (split seed 0)") for text in found.differ)
    assert "policy (GT-DPO, seed 0): build.options.beta, build.split.split, options.beta" in found.differ


def test_budgets_are_kept_broken_or_not_measured(tmp_path: Path) -> None:
    """Training took 8 s; its memory was not measured."""
    for seconds, expected, status in ((9.0, Verdict.PASSED, 3), (7.0, Verdict.OVER, 1)):
        budget = Budget(seconds=seconds, peak_device_gib=1.0)
        found = gated(tmp_path / str(seconds), ACCEPTED, Policy(margins={}, budgets={"train": budget}))
        assert [check.verdict for check in found.checks] == [expected, Verdict.INCOMPLETE]
        assert found.checks[0].now == 8.0
        assert found.status == status


def test_a_policy_that_names_what_is_not_there_is_refused(tmp_path: Path) -> None:
    for policy, why in (
        (Policy(margins={"sqaa": 1.0}), 'did you mean "sqa"'),
        (Policy(margins={"pope": 1.0}), "no benchmark or metric"),
        (Policy(margins={"sqa": 1.0}, rows=("dop",)), 'did you mean "dpo"'),
        (Policy(margins={}), "asks nothing"),
    ):
        with pytest.raises(UsageError, match=why):
            gated(tmp_path / why, ACCEPTED, policy)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("margin: {sqa: 1}", 'no key of .* "margin"; did you mean "margins"'),
        ("margins: {sqa: 1}\nbudgets: {train: {second: 3}}", 'did you mean "seconds"'),
        ("margins: {sqa: much}", "margins.sqa: .* valid number"),
        ("margins: {sqa: -1}", "margins.sqa: .* greater than or equal to 0"),
        ("margins: {sqa: .nan}", "line 1 has .nan, which is not a finite number"),
        ("coverage: 99", "margins: Field required"),
        ("margins: {}\ninconclusive: maybe", "'pass' or 'fail'"),
        ("[1, 2]", "valid dictionary"),
        ("a: [", "not YAML"),
    ],
)
def test_a_wrong_policy_is_a_sentence(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "gate.yaml").write_text(text)
    with pytest.raises(UsageError, match=why):
        read_policy(tmp_path / "gate.yaml")


def test_an_accepted_run_is_one_file_that_gates_the_next(tmp_path: Path) -> None:
    given, file = ACCEPTED.write(tmp_path / "run"), tmp_path / "ci" / "accepted.zip"
    assert "baseline, GT-DPO on sqa, mmhal accepted" in accept(given, file, None)
    (tmp_path / "gate.yaml").write_text("margins: {sqa: 0}")
    worse = replace(ACCEPTED, skill={"baseline": 0.6, "dpo": 0.5}).write(tmp_path / "worse")
    for now, status in ((given, 0), (worse, 1)):
        xml, text = tmp_path / f"{status}.xml", tmp_path / f"{status}.md"
        said = judge(now, file, tmp_path / "gate.yaml", None, xml, text)
        assert said == (status, text.read_text())
        assert ElementTree.parse(xml).getroot()[0].get("failures") == str(status)


def test_without_a_policy_there_are_defaults_and_the_summary_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ACCEPTED.write(tmp_path / "run")
    worse = replace(ACCEPTED, skill={"baseline": 0.6, "dpo": 0.3}).write(tmp_path / "worse")
    for now, status in ((given, 0), (worse, 1)):
        got, text = judge(now, given, None, None, None, None)
        assert got == status and "- no gate.yaml here, so the defaults: a benchmark may be worse by 2 % of its" in text
    with opened([given]) as (run,):
        assert default_policy(run.benchmarks()).margins == {"sqa": 2.0, "mmhal": pytest.approx(0.12)}
    (tmp_path / "gate.yaml").write_text("margins: {sqa: 100}")
    got, text = judge(worse, given, None, None, None, None)
    assert got == 0 and "defaults" not in text
    with pytest.raises(UsageError, match=r"other\.yaml"):
        judge(given, given, tmp_path / "other.yaml", None, None, None)


def test_an_unfinished_run_is_not_accepted(tmp_path: Path) -> None:
    given = ACCEPTED.write(tmp_path)
    with opened([given]) as (run,):
        (run.store / run.cells[0].score / "manifest.json").unlink()
    with pytest.raises(HarnessError, match="not scored yet"):
        accept(given, tmp_path / "a.zip", None)


HOSTILE = "<script>|`*\x1b[2J\0\u202e]]>&\ud800\n"


def test_texts_hold_every_verdict_and_nothing_live() -> None:
    checks = [Check(HOSTILE, HOSTILE, of, HOSTILE, 1, 50.0, 49.0, -2.0, 0.5, 1.0) for of in Verdict]
    for fails, failures in ((True, "3"), (False, "2")):
        made = Gate((*checks, Check("a", "b", Verdict.INCOMPLETE, "c")), (HOSTILE,), ("MME",), fails)
        suite = ElementTree.fromstring(junit(made))[0]
        counted = [suite.get(name) for name in ("tests", "failures", "errors", "skipped")]
        assert counted == ["6", failures, "2", str(3 - int(failures))]
    text = summary(made)
    html = MarkdownIt("js-default").render(text)
    assert "<script" not in html and "\x1b" not in text and html.count("<tr>") == 7
    assert text.index("regressed") < text.index("inconclusive") < text.index("passed |")
    assert "nan" not in text


def test_a_harmless_change_is_hardly_ever_called_a_regression() -> None:
    """True difference exactly at the margin, 200 worlds: regressed in 2.5 %, passed in 2.5 %."""
    rng = np.random.default_rng(2)
    counts = dict.fromkeys(Verdict, 0)
    for _ in range(200):
        change = rng.choice([-1.0, 0.0, 1.0], 100, p=[0.25, 0.6, 0.15])
        old = [Unit(str(i), str(i), {"right": float(change[i] < 0), "n": 1.0}) for i in range(100)]
        new = [Unit(str(i), str(i), {"right": float(change[i] > 0), "n": 1.0}) for i in range(100)]
        sides = [Outcome("baseline", "", 0, "acc", old, 0, ""), Outcome("now", "", 0, "acc", new, 0, "")]
        found = estimate(Accuracy(), sides, replicates=400)["now"]["acc/percent"]
        counts[verdict("", Accuracy().metrics[0], 0.0, found, 10.0).verdict] += 1
    assert counts[Verdict.REGRESSED] <= 13 and counts[Verdict.PASSED] <= 13  # binomial(200, .025): 99.9 %
    assert counts[Verdict.INCONCLUSIVE] > 150
