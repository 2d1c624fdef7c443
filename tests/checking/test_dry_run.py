"""`harness check`: each broken contract is one sentence with the user's file, before anything is built."""

from pathlib import Path

import pytest

from harness.checking.plugin import check_plugin, seam_of
from harness.contracts import plugins
from harness.system.errors import UsageError
from tests.seams.found import found

HEAD = """
from dataclasses import dataclass
from harness.contracts.method import Lesson, Loss, Method, Role
from harness.contracts.records import Conversation, Dropped, Pair

@dataclass(frozen=True)
class Mine(Method):
    label = "mine"
    unit = "record"
"""
BUILD = """
    def build(self, examples, round):
        for e in examples:
            yield Pair(e.id, e.image, e.turns[0].question, e.turns[0].answer, "a cat")
"""
LOSS = """
    def loss(self, logps):
        chosen, rejected = logps.sequence(logps.policy).view(-1, 2).unbind(1)
        return Loss((1 - chosen + rejected).clamp(min=0), {"margin": (chosen - rejected).detach()})
"""


def tried(folder: Path, text: str) -> list[str]:
    """What `harness check ./mine.py` prints."""
    (folder / "mine.py").write_text(text)
    return list(check_plugin(str(folder / "mine.py"), {}))


def test_a_method_that_keeps_its_contract_is_told_what_was_tried(tmp_path: Path) -> None:
    assert tried(tmp_path, HEAD + BUILD + LOSS) == [
        "mine: 2 records from two examples",
        "mine: one step on a tiny model, 2 records, loss and gradient finite",
    ]


def build(body: str) -> str:
    return HEAD + f"\n    def build(self, examples, round):\n        {body}\n" + LOSS


def loss(body: str) -> str:
    return HEAD + BUILD + f"\n    def loss(self, logps):\n        import torch\n        {body}\n"


PAIR = 'Pair(e.id, e.image, "q", "a", "b")'
BROKEN = {
    "syntax": ("class Mine(:\n", "mine.py:1: SyntaxError"),
    "import": ("import nothing_of_this_name\n", "mine.py:1: ModuleNotFoundError"),
    "at import": ("x = {}\ny = x['k']\n", "mine.py:2: KeyError: 'k' (at import)"),
    "exit at import": ("import sys\nsys.exit(1)\n", "mine.py:2: SystemExit: 1 (at import)"),
    "no class": ("x = 1\n", "has no class of Method, Benchmark"),
    "two classes": (HEAD + BUILD + LOSS + HEAD.replace("Mine", "Other"), "defines 2 subclasses of Method"),
    "no dataclass": (
        HEAD.replace("@dataclass(frozen=True)", "").replace("Method", "Method", 1) + "    pass\n    x: int",
        "",
    ),
    "no label": (HEAD.replace('    label = "mine"\n', "") + BUILD + LOSS, "mine.label is 'not there'"),
    "roles": (HEAD + '    roles = ["policy"]\n' + BUILD + LOSS, "mine.roles"),
    "rounds": (HEAD + "    rounds = 0\n" + BUILD + LOSS, "mine.rounds is 0"),
    "lesson": (HEAD + "    def lesson(self, n):\n        return 5\n" + BUILD + LOSS, "mine.lesson gives a int"),
    "column": (
        HEAD + "    def lesson(self, n):\n        return Lesson(columns=('polcy',))\n" + BUILD + LOSS,
        'did you mean "policy"',
    ),
    "no build": (HEAD + LOSS, "Mine has no build"),
    "build raises": (build('{}["x"]'), "KeyError: 'x' (in build); --debug or HARNESS_DEBUG=1 shows the traceback"),
    "build raises midway": (
        build(f"for e in examples:\n            yield {PAIR}\n            e.nothing"),
        "(in build)",
    ),
    "build gives nothing": (build("return None"), "mine.build gives a NoneType"),
    "build gives texts": (build("return ['a', 'b']"), "mine.build gives a str"),
    "one record": (build(f"e = next(examples); yield {PAIR}"), "one record or Dropped per example"),
    "another order": (build(f"yield from [{PAIR} for e in reversed(list(examples))]"), "in their order"),
    "twice": (build(f"for e in examples:\n            yield {PAIR}\n            yield {PAIR}"), "in their order"),
    "no plain data": (build('for e in examples:\n            yield Pair(e.id, e.image, "q", {1}, "b")'), "plain data"),
    "a writer not asked for": (build("round.writer.reply(5)"), "mine"),
    "wrong prompts": (build("round.respond(['x'])"), "round.respond takes a list of Prompts"),
    "no loss": (HEAD + BUILD, "Mine has no loss"),
    "loss raises": (
        loss('raise ValueError("no")'),
        "ValueError: no (in loss); --debug or HARNESS_DEBUG=1 shows",
    ),
    "a tensor": (loss("return logps.policy.sum()"), "mine.loss gives a Tensor"),
    "wrong shape": (loss("return Loss(logps.policy, {})"), "wanted: (2,), one per record"),
    "a scalar": (loss("return Loss(logps.policy.sum(), {})"), "values of shape ()"),
    "NaN": (loss("return Loss(logps.policy.sum() * torch.full((2,), float('nan')), {})"), "wanted: finite numbers"),
    "detached": (loss("return Loss(torch.ones(2), {})"), "depends on no log-prob"),
    "bad gradient": (loss("return Loss((logps.policy.sum() * 0).sqrt().expand(2), {})"), "gradient that is not finite"),
    "metrics": (loss("return Loss(logps.policy.sum().expand(2), {'m': 'x'})"), "metric 'm'"),
    "other answers": (
        HEAD + "    def lesson(self, n):\n        return Lesson(unit='record', answers=(2, 1))\n" + BUILD + LOSS,
        "with (2,) answers by picture; lesson(...).answers says (2, 1)",
    ),
    "no anchor": (
        HEAD + "    def lesson(self, n):\n        return Lesson(unit='record', anchored=True)\n" + BUILD + LOSS,
        "anchor",
    ),
    "a scalar for an anchor": (
        HEAD + "    def lesson(self, n):\n        return Lesson(unit='record', anchored=True)\n"
        "    def anchor(self, logps):\n        return logps.policy.sum()\n" + BUILD + LOSS,
        "mine.anchor gives no tensor of shape (2,), one figure per record",
    ),
    "exits": (loss("raise SystemExit(1)"), "SystemExit: 1 (in loss)"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_method_is_one_sentence_with_its_file(name: str, tmp_path: Path) -> None:
    text, said = BROKEN[name]
    with pytest.raises(UsageError) as error:
        tried(tmp_path, text)
    sentence = str(error.value)
    assert said in sentence and "\n" not in sentence
    assert "mine" in sentence or name == "wrong prompts"


@pytest.mark.parametrize("name", found("method"), ids=plugins.stem)
def test_every_method_passes(name: str) -> None:
    told = list(check_plugin(name, {}))
    assert any("loss and gradient finite" in line for line in told) and not any("not tried" in line for line in told)


@pytest.mark.parametrize("name", found("benchmark"), ids=plugins.stem)
def test_every_benchmark_passes(name: str) -> None:
    assert seam_of(name).package == "benchmarks"
    told = list(check_plugin(name, {}))
    assert "metrics" in told[0]
    assert any(said in told[-1] for said in ("metrics from sums", "no items were tried", "0 scores")), told


BENCH = """
from dataclasses import dataclass
from harness.contracts.benchmark import Benchmark, Metric, ratio
from harness.contracts.records import Item, Score

@dataclass(frozen=True)
class Bench(Benchmark):
    label, group, layout, protocol = "Bench", "vqa", "a folder", "zero-shot"
    metrics = (Metric("bench/accuracy", "accuracy", (0.0, 100.0)),)
    max_new_tokens, official_n = 5, 0

    def items(self, folder, images):
        for n in range(3):
            yield Item(str(n), None, "Is it?", str(n), {})

    def score(self, item, response, judge):
        return Score(item.id, {"right": float("es" in response.text), "n": 1.0})

    def compute(self, totals):
        return {"bench/accuracy": ratio(totals["right"], totals["n"])}
"""
WRONG = {
    "yield Item(str(n)": ("yield Item('same'", "the id 'same' twice"),
    '"Is it?"': ('""', "without a prompt"),
    "for n in range(3)": ("for n in range(0)", "gives no items"),
    "{})\n\n    def score": ("{'x': {1}})\n\n    def score", "plain data"),
    'return Score(item.id, {"right"': ('return 1 if response.text else Score(item.id, {"right"', "score gives a int"),
    'float("es" in response.text)': ("float(response.text[0] == 'Y')", "bench.py:17: IndexError"),
    '"n": 1.0}': ('"n": float("nan")}', "finite number"),
    "Score(item.id": ('Score("other"', "the id 'other'"),
    '{"bench/accuracy": ratio(totals["right"], totals["n"])}': ("{}", "gives no bench/accuracy"),
    'ratio(totals["right"], totals["n"])': ('100 if totals["n"] > 1 else 0', "bench.py:20: ValueError"),
    'totals["n"]': ('totals["all"]', "bench.py:20: KeyError: 'all' (in compute)"),
    '"right": float("es" in response.text)': (
        '"right": 2.0',
        "comes out as 200, and its own scale goes from 0 to 100",
    ),
    '"vqa"': ('"other"', "bench.group is 'other'"),
}


def test_a_benchmark_that_keeps_its_contract_passes(tmp_path: Path) -> None:
    (tmp_path / "bench.py").write_text(BENCH)
    told = list(check_plugin(str(tmp_path / "bench.py"), {}, tmp_path))
    assert told[-1] == "bench: metrics from sums, one by one and for arrays"


@pytest.mark.parametrize("right", WRONG)
def test_a_broken_benchmark_is_one_sentence(right: str, tmp_path: Path) -> None:
    wrong, said = WRONG[right]
    assert right in BENCH
    (tmp_path / "bench.py").write_text(BENCH.replace(right, wrong))
    with pytest.raises(UsageError) as error:
        list(check_plugin(str(tmp_path / "bench.py"), {}, tmp_path))
    assert said in str(error.value) and "\n" not in str(error.value)
