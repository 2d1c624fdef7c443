"""Comparisons from Python: the words are those of the command line, and a folder reads back as tables."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.comparison.face import Wanted
from harness.system.errors import UsageError
from reports.files import write_report
from reports.manifest import Failed
from reports.runs import opened
from tests.fake_run import LABELS, FakeRun

HEAD = "method,label,seeds,benchmark,metric,value,delta,ci_of,ci_lo,ci_hi,p_holm,n,unscored,verdict,withheld,testbed"
LINES = (
    "baseline,baseline,1,pope,pope/f1,90.5,,value,,,,36,0,,,mini (synthetic)",
    "baseline,baseline,1,chair,chair/i,,,value,,,,36,0,,not defined,mini (synthetic)",
    "b,None <b>,1,pope,pope/f1,80.25,-10.25,delta,-12,-8,0.01,36,0,worse,,mini (synthetic)",
    "b,None <b>,1,chair,chair/i,NA,,delta,,,,36,0,,not defined,mini (synthetic)",
)


@pytest.fixture
def comparison(tmp_path: Path) -> harness.Comparison:
    (tmp_path / "table.csv").write_text("\n".join([HEAD, *LINES[:3], LINES[3].replace("NA", "")]))
    rows = [{"method": "b", "label": "NaN", "metric": "pope/f1", "value": 80.25, "n": 36}]
    (tmp_path / "results.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return harness.Comparison(tmp_path)


def test_the_table_keeps_the_order_of_rows_and_metrics(comparison: harness.Comparison) -> None:
    table = comparison.table()
    assert list(table.index) == ["baseline", "None <b>"] and list(table.columns) == ["pope/f1", "chair/i"]
    assert table.loc["None <b>", "pope/f1"] == 80.25 and table["chair/i"].isna().all()
    assert comparison.table("delta").loc["None <b>", "pope/f1"] == -10.25
    assert comparison.table("withheld").loc["baseline", "chair/i"] == "not defined"


def test_a_label_that_reads_like_nothing_stays_a_label(comparison: harness.Comparison) -> None:
    assert comparison.results()["label"].tolist() == ["NaN"]


def test_a_notebook_shows_text_as_text_and_says_synthetic(comparison: harness.Comparison) -> None:
    shown = comparison._repr_html_()
    assert "mini (synthetic)" in shown and "None &lt;b&gt;" in shown and "<b>" not in shown and "–" in shown


def test_reasons_and_labels_are_as_they_were_not_as_a_spreadsheet_needs_them(tmp_path: Path) -> None:
    """Where a formula could begin, table.csv has an apostrophe."""
    row = FakeRun(labels={**LABELS, "dpo": "=DPO"}).write(tmp_path)
    failed = Failed(row="dpo", label="=DPO", seed=0, benchmark="gqa", stage="train dpo", why="-1 GPUs; +1 is needed")
    with opened([row]) as (run,):
        kept = [one for one in run.outcomes() if (one.method, one.benchmark) != ("dpo", "gqa")]
        write_report(row, kept, run.benchmarks(), list(run.rows), run.setting, [failed])
    assert "'=DPO" in (row / "table.csv").read_text() and ";' +1" in (row / "table.csv").read_text()
    withheld = harness.load(row).table("withheld")
    assert withheld.loc["=DPO", "gqa/all"] == "failed: -1 GPUs; +1 is needed"


def test_items_have_what_the_judge_said_where_one_was_asked(tmp_path: Path) -> None:
    done = harness.load(FakeRun(heard="Hm.\nRating: 4").write(tmp_path))
    assert "judge" not in done.items("gqa")
    items = done.items("mmhal")
    assert len(items) == 12 and items["score/all/n"].notna().all()
    for [told], response in zip(items["judge"], items["response"], strict=True):
        assert told["reply"] == "Hm.\nRating: 4" and response in told["question"] and "all/sum 4" in told["made"]
        assert (told["model"], told["server"], told["usd"], told["run"]) == ("gpt-4-0613", "api.openai.com", 0.0123, 0)


def test_a_figure_that_is_none_is_named(comparison: harness.Comparison) -> None:
    with pytest.raises(UsageError, match='no figure "values"; did you mean "value"'):
        comparison.table("values")


def test_settings_may_be_a_dict_or_the_words_of_the_command() -> None:
    given = {"dpo.beta": 0.5, "training.lora": {"r": 4, "lora_alpha": 8}, "runtime.num_processes": 2}
    words = ["dpo.beta=0.5", "training.lora={r: 4, lora_alpha: 8}", "runtime.num_processes=2"]
    one, other = (Wanted.of(["sft", "dpo"], set=sets, limit=8, out="x") for sets in (given, words))
    assert one.request == other.request and one.testbed == other.testbed
    assert one.runtime == other.runtime and one.runtime.num_processes == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"limit": 0}, "limit is 0; give a whole number"), ({"limit": True}, "limit is True"),
        ({"examples": -5}, "examples is -5"), ({"seeds": "2"}, "seeds is '2'"), ({"workers": -3}, "workers is -3"),
        ({"noise_floor": "no"}, "give True or False"), ({"benchmarks": None}, "benchmarks is None"),
        ({"set": {"dpo.beta": Path("a")}}, "no plain one"), ({"set": {"dpo.beta": float("nan")}}, "no plain one"),
        ({"set": {"dpo.learning_rate": True}}, "learning_rate is True, which is no number"),
        ({"set": {"dpo.beta": True}}, "beta is True, which is no number"),
        ({"store": __file__}, "is a file; give a folder"),
        ({"executor": "locla"}, 'no executor "locla"; did you mean "local"'),
        ({"set": {"runtime.executor": "pbs"}}, 'no executor "pbs"'),
    ],
)  # fmt: skip
def test_words_that_mean_nothing_are_sentences(words: dict[str, Any], said: str) -> None:
    """None of them is read as something near it: 0 items are not all items, and yes is not 1.0."""
    with pytest.raises(UsageError, match=said):
        Wanted.of("dpo", **{"out": "x", **words}).plan()


def test_several_sizes_are_not_one_comparison() -> None:
    with pytest.raises(UsageError, match="several sizes is several"):
        harness.compare("sft", sizes=[4, 8])


def test_rows_of_one_label_are_told_apart(comparison: harness.Comparison) -> None:
    file = comparison.folder / "table.csv"
    file.write_text(file.read_text().replace("None <b>", "baseline"))
    assert list(comparison.table().index) == ["baseline (baseline)", "baseline (b)"]


def test_no_run_of_that_name_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is neither a folder"):
        harness.load(tmp_path / "none")


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    """Workers import the script again; without the guard each of them would compare, too."""
    root = Path(__file__).parents[2]
    small, script = root / "tests" / "e2e" / "small.yaml", tmp_path / "script.py"
    words = f"[], testbed={str(small)!r}, benchmarks='pope', limit=2, store='s', out='o', quiet=True, page=False"
    script.write_text(f"import harness\nharness.compare({words})\n")
    ran = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert ran.returncode and 'put the call under `if __name__ == "__main__":`' in ran.stderr


def test_importing_it_imports_neither_torch_nor_pandas() -> None:
    code = "import sys, harness; harness.compare, harness.load; print({'torch', 'pandas'} & {*sys.modules})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
