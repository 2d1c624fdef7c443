"""Any words on the command line are what they say or one sentence; plain values come through as they were written."""

import json
import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.comparison.request import method_spec, numbers, settings
from harness.comparison.sizes import parsed
from harness.contracts.settings import Training
from harness.contracts.testbed_file import read_testbed
from harness.system.errors import UsageError
from harness.system.yamls import parse_yaml
from tests.laws import caught, law

BED = read_testbed("mini")
KNOWN = ["dpo", "nsft", "pope", "training", "runtime"]
SIGNS = st.text("ab1.-_:=,[]{}&*!|>'\"%@`#?~<\\\n\t eé\u2028\0", max_size=14)
PLAIN = st.recursive(
    st.one_of(
        st.integers(-(10**9), 10**9),
        st.floats(-1e6, 1e6).map(lambda x: round(x, 6)),
        st.booleans(),
        st.none(),
        st.text("abc xyz", min_size=1, max_size=8),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("abcdef", min_size=1, max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def plain(value: Any) -> bool:
    """Whether JSON can hold it as it is, without a number that is none."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False


@law(300)
@given(SIGNS)
def test_any_text_is_plain_data_or_one_sentence(text: str) -> None:
    try:
        value = parse_yaml(text, "--set x")
    except UsageError as error:
        said = str(error)
        assert said.startswith("--set x ") and said.endswith(".") and "Traceback" not in said
    else:
        assert plain(value)


@law(150)
@given(PLAIN)
def test_plain_values_come_through_as_they_were_written(value: Any) -> None:
    """Written by another YAML writer, in flow style as on a command line, and as JSON."""
    for text in (yaml.safe_dump(value, default_flow_style=True, width=10**6), json.dumps(value)):
        found = parse_yaml(text, "x")
        assert found == value or (isinstance(value, float) and found == pytest.approx(value)) or "e" in text, text


@law(200)
@given(st.sampled_from(KNOWN), st.text("abz_", min_size=1, max_size=6), PLAIN)
def test_a_setting_is_found_under_its_name_and_field(name: str, field: str, value: Any) -> None:
    """The last of two wins; a number that YAML takes for text (1e-4) is one."""
    text = json.dumps(value)
    found = settings([f"{name}.{field}=0", f"{name}.{field}={text}"], KNOWN)
    assert found == {name: {field: parse_yaml(text, "x")}} or "e" in text
    assert settings([f"{name}.{field}=1e-4"], KNOWN) == {name: {field: 1e-4}}


@law(200)
@given(SIGNS)
def test_a_setting_of_any_signs_is_refused_in_a_sentence_or_set(text: str) -> None:
    try:
        found = settings([text], KNOWN)
    except UsageError as error:
        assert str(error) and "Traceback" not in str(error)
    else:
        [(name, fields)] = found.items()
        assert name in KNOWN and plain(fields)
        assert text.startswith(f"{name}.")


FIELDS = ("learning_rate", "num_train_epochs", "beta", "weight_decay", "turns")


@law(150)
@given(
    st.dictionaries(st.sampled_from(FIELDS), st.integers(1, 9)),
    st.dictionaries(st.sampled_from(FIELDS), st.integers(1, 9)),
)
def test_a_row_wins_over_what_is_set_and_both_over_the_testbed(row: dict[str, int], given: dict[str, int]) -> None:
    """Each field once, a training argument where it is one, an option where it is none."""
    text = ":".join(["dpo", *(f"{name}={value}" for name, value in row.items())])
    made = method_spec(text, BED, {"dpo": dict(given)})
    whole = {**BED.methods.get("dpo", {}), **given, **row}
    assert made.training == {name: value for name, value in whole.items() if name in Training.model_fields}
    assert made.options == {name: value for name, value in whole.items() if name not in Training.model_fields}
    assert made.id == (text if row else "dpo") and made.stem == "dpo"


def test_a_row_that_the_testbed_overrules_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = method_spec

    def wrong(row: str, bed: Any, chosen: dict[str, dict[str, Any]]) -> Any:
        made = real(row, bed, chosen)
        return made.model_copy(update={"training": made.training | chosen.get("dpo", {})})

    monkeypatch.setitem(globals(), "method_spec", wrong)
    caught(test_a_row_wins_over_what_is_set_and_both_over_the_testbed)


def test_a_reader_that_makes_things_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: PyYAML's own loader, whose dates and sets are no JSON, and whose .inf is a number."""

    def wrong(text: str, name: str) -> Any:
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"{name} is not YAML ({error}).") from None

    monkeypatch.setitem(globals(), "parse_yaml", wrong)
    with pytest.raises((AssertionError, ValueError)):
        for text in ("2001-01-01", ".inf", "!!set {a}", "1: 2"):
            test_any_text_is_plain_data_or_one_sentence.hypothesis.inner_test(text)


@law(200)
@given(st.text("0123456789,. -+einfa", max_size=12))
def test_lists_of_numbers_are_finite_numbers_or_a_sentence(text: str) -> None:
    try:
        rates = numbers("--rates", text, float)
    except UsageError as error:
        assert str(error).startswith("--rates ")
    else:
        assert rates and all(map(math.isfinite, rates)) and len(rates) == text.count(",") + 1
    try:
        sizes = parsed(text)
    except UsageError as error:
        assert "--sizes" in str(error)
    else:
        assert sizes == sorted(set(sizes)) and len(sizes) > 1 and min(sizes) > 0
