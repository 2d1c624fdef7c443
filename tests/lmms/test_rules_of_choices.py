"""The rules of RealWorldQA and CV-Bench that bear lmms-eval's name against its own functions, on texts of all kinds."""

import importlib.util
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import lmms_eval
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import _choices, cvbench, realworldqa
from harness.contracts.benchmark import totals
from harness.contracts.records import Item, Response, Score
from tests.laws import caught, law

PIECES = [
    "A",
    "B",
    "b",
    "C",
    "(A)",
    "(B",
    ")",
    " ",
    " x",
    "\n",
    ".",
    ":",
    "the answer is ",
    "I pick ",
    "选",
    "3",
    "yes",
    "İ",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=7).map("".join)


def stock(task: str) -> ModuleType:
    """A task's functions, without its configuration."""
    path = Path(lmms_eval.__file__).parent / "tasks" / task / "utils.py"
    spec = importlib.util.spec_from_file_location(f"stock_{task}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MMSTAR, REALWORLDQA, CVBENCH = stock("mmstar"), stock("realworldqa"), stock("cv_bench")


@law(150)
@given(TEXTS, st.sampled_from("ABCD"))
def test_a_letter_is_read_as_lmms_eval_reads_it(text: str, answer: str) -> None:
    """MMStar's task and RealWorldQA's read it alike."""
    for said in (text, f"{text} the answer is {text} x"):
        assert float(_choices.extracted(said) == answer) == MMSTAR.exact_match(said, answer)


@pytest.mark.parametrize(("name", "spoilt"), [("SAID", ()), ("extracted", lambda text: _choices.inferred(text, {}))])
def test_another_reading_would_be_caught(name: str, spoilt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_choices, name, spoilt)
    caught(test_a_letter_is_read_as_lmms_eval_reads_it)


@law(100)
@given(TEXTS, st.sampled_from(["A", "b", "3", "Yes", "no"]))
def test_realworldqa_s_match_is_lmms_eval_s(text: str, answer: str) -> None:
    with redirect_stdout(StringIO()):
        theirs = REALWORLDQA.realworldqa_process_results({"answer": answer}, [text])["exact_match"]
    assert realworldqa.match_lmms(text, answer) == theirs


@law(100)
@given(TEXTS)
def test_cvbench_s_letter_is_lmms_eval_s(text: str) -> None:
    assert cvbench.parse_lmms(text) == CVBENCH._extract_answer_letter(text)


def test_a_letter_of_capitals_alone_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cvbench, "FIRST", cvbench.re.compile(r"[(\s]*([A-Z])"))
    caught(test_cvbench_s_letter_is_lmms_eval_s)


ROWS = st.lists(st.tuples(st.sampled_from([*cvbench.SOURCES]), st.sampled_from("AB")), min_size=1)


@law(50)
@given(ROWS.filter(lambda rows: {source for source, _ in rows} == {*cvbench.SOURCES}))
def test_cvbench_s_formula_is_that_of_the_card(rows: Any) -> None:
    """lmms-eval has it too (`cv_bench_default_aggregate_results`), though its task does not use it."""
    made, units, theirs = cvbench.CvBench(), [], []
    for number, (source, said) in enumerate(rows):
        facts = {"answer": "A", "choices": {"A": "one", "B": "two"}, "source": source, "task": "Count"}
        item = Item(str(number), None, "", str(number), facts)
        score = made.score(item, Response(item.id, said, 1), None)
        assert isinstance(score, Score)
        units += made.units([(item, score)])
        theirs.append({"source": source, "is_correct": said == "A"})
    values = made.compute(totals(units))
    assert values["cvbench/cambrian"] == pytest.approx(100 * CVBENCH.cv_bench_default_aggregate_results(theirs))
    assert values["cvbench/lmms_eval"] == pytest.approx(100 * CVBENCH.cv_bench_aggregate_results(theirs))
