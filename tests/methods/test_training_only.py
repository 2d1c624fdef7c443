"""An option that only training reads trains anew on the same records: it is in no build's key, and in no record."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness.checking.fake_round import FakeRound, examples
from harness.checking.method import _others, check_method
from harness.comparison.face import Wanted
from harness.contracts import plugins
from harness.contracts.method import Lesson, Method
from harness.contracts.records import Conversation, Turn
from harness.contracts.row import Row
from harness.contracts.settings import MethodSpec
from harness.contracts.testbed_file import read_testbed
from harness.stages.build import Build
from harness.system.errors import UsageError
from harness.system.jsonl import dumps


def options() -> Iterator[Any]:
    """Method, option and every other value of it that its type tells."""
    for name in plugins.installed("methods"):
        method = plugins.make("methods", name, Method, {})
        for option in method.training_only:
            for other in _others(type(method), option, getattr(method, option)):
                yield pytest.param(name, option, other, id=f"{name}.{option}={other}")


OPTIONS = list(options())


def named(kind: type[Method], *begun: str) -> set[str]:
    """What a method's code calls its own in functions that are named, and in those of its own that they name."""
    met, todo = {*begun}, [*begun]
    while todo:
        part = getattr(kind, todo.pop(), None)
        if inspect.isfunction(told := part.fget if isinstance(part, property) else part):
            code = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(told))))
            found = {one.attr for one in code if isinstance(one, ast.Attribute) and ast.unparse(one.value) == "self"}
            todo += found - met
            met |= found
    return met


def undeclared(kind: type[Method]) -> set[str]:
    """Options that the loss reads and no record can depend on, and that are said to be read by more than training."""
    options = {option.name for option in fields(kind)} - {*kind.training_only}
    return options & named(kind, "loss", "anchor") - named(kind, "build", "lesson", "rounds")


@pytest.mark.parametrize("name", plugins.installed("methods"))
def test_what_only_the_loss_reads_builds_nothing_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it measure the reference again. The mutant declares nothing."""
    kind = type(plugins.make("methods", name, Method, {}))
    assert undeclared(kind) == set()
    monkeypatch.setattr(kind, "training_only", ())
    assert undeclared(kind)


@pytest.mark.parametrize(("name", "option", "other"), OPTIONS)
def test_no_record_depends_on_it(name: str, option: str, other: Any, tmp_path: Path) -> None:
    usual = plugins.make("methods", name, Method, {})
    changed = replace(usual, **{option: other})
    for number in range(min(usual.rounds, 2)):
        told = [
            [dumps(record) for record in method.build(iter(examples(tmp_path)), FakeRound(number, needs_writer=True))]
            for method in (usual, changed)
        ]
        assert told[0] == told[1]


@pytest.mark.parametrize(("name", "option", "other"), OPTIONS)
def test_its_value_moves_the_training_and_not_the_build(name: str, option: str, other: Any, tmp_path: Path) -> None:
    """Of later rounds the builds move as well: they read what was trained. The reference stays with the first
    build, unless another figure of them is read.
    """
    rows, sets = f"{name},{name}:{option}={other}", [f"{name}.lora={{r: 4}}"] if name == "ppo" else []
    wanted = Wanted.of(rows, benchmarks="pope", examples=4, limit=2, set=sets, store=tmp_path)
    one, two = ([(step.stage.kind, step.key) for step in made] for made in wanted.plan().trained.values())
    assert one[0] == two[0] and one[0][0] == "build"
    read = [(made.lesson(0).reference, made.lesson(0).columns) for made in (
        plugins.make("methods", name, Method, given) for given in ({}, {option: other}))]  # fmt: skip
    if read[0] == read[1]:
        first = [list(takewhile(lambda step: step[0] != "train", steps)) for steps in (one, two)]
        assert first[0] == first[1] and ("reference" in dict(first[0])) == read[0][0]
    assert not {key for kind, key in one if kind == "train"} & {key for kind, key in two if kind == "train"}


def test_while_records_are_built_it_has_its_default() -> None:
    bed = read_testbed("mini")
    row = Row.of(MethodSpec(name="dpo", options={"beta": 0.7, "rejected": "sampled"}), bed)
    assert (row.method.beta, row.builder.beta, row.builder.rejected) == (0.7, 0.1, "sampled")  # type: ignore[attr-defined]
    assert row.build_options == {"rejected": "sampled"} and row.options == {"beta": 0.7, "rejected": "sampled"}


@dataclass(frozen=True)
class Sly(Method):
    """Says that only its loss reads `weight`, and writes it into its records."""

    label: ClassVar[str] = "Sly"
    training_only: ClassVar[tuple[str, ...]] = ("weight",)

    weight: float = field(default=0.5, metadata={"help": "of the loss", "source": "a test"})

    def lesson(self, number: int) -> Lesson:
        return Lesson()

    def build(self, examples: Any, round: Any) -> Any:
        for example in examples:
            yield Conversation(example.id, example.image, ((Turn("what", f"a cat {self.weight}"),),))


def test_the_check_finds_a_method_that_reads_it_all_the_same() -> None:
    with pytest.raises(UsageError, match=r"Sly\.build gives other records with weight=8\.0; training_only says"):
        list(check_method("Sly", Sly(), {}))


def test_a_name_that_is_no_option_is_a_sentence() -> None:
    row = Row.of(MethodSpec(name="sft"), read_testbed("mini"))
    odd = type("Odd", (Sly,), {"training_only": ("wieght",)})()
    with pytest.raises(UsageError, match="training_only names wieght, which is no option"):
        replace(row, method=odd).builder  # noqa: B018 - it is asked for
    assert Build.kind() == "build"
