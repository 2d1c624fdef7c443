"""Another backend is held to transformers before it makes any row, and no other stage's key knows of it."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from harness.comparison import parity
from harness.comparison.compare import compare
from harness.comparison.plan import plan
from harness.comparison.progress import Silent
from harness.contracts.records import Response
from harness.contracts.settings import Generation, Lora, Runtime, Testbed
from harness.contracts.steps import Request
from harness.contracts.testbed_file import read_testbed
from harness.sources._chosen import source
from harness.stages.parity import Agreement, agreement
from harness.store.store import MANIFEST, Store
from harness.system.errors import HarnessError
from harness.system.jsonl import dumps
from reports import cards
from reports.manifest import Agreed, Manifest

ROOT = Path(__file__).parents[1]
BED = read_testbed(str(ROOT / "e2e" / "small.yaml")).model_copy(update={"lens": 0, "crosscheck": False})
REQUEST = Request((), source("llava150k"), benchmarks=("pope",), limit=3)
NAIVE = str(ROOT / "outside" / "backend" / "naive.py")
BLIND = '''"""transformers without pictures."""
from dataclasses import dataclass, replace
from harness.backends.transformers import Transformers
from harness.contracts.backend import Backend

def unseen(prompts):
    return [replace(prompt, image=None) for prompt in prompts]

@dataclass(frozen=True)
class Blind(Backend):
    def identity(self):
        return {}
    def respond(self, model, prompts, sampling, running, blank=False):
        return Transformers().respond(model, unseen(prompts), sampling, running, blank)
    def candidates(self, model, prompts, search, running):
        return Transformers().candidates(model, unseen(prompts), search, running)
    def logps(self, model, prompts, tokens, dtype, running):
        return Transformers().logps(model, unseen(prompts), tokens, dtype, running)
'''
DEAF = '''"""transformers that takes adapters, and leaves them out."""
from dataclasses import dataclass
from harness.backends.transformers import Transformers
from harness.models.load import parts

@dataclass(frozen=True)
class Deaf(Transformers):
    def respond(self, model, *rest, **named):
        return super().respond(parts(model).base, *rest, **named)
    def logps(self, model, *rest, **named):
        return super().logps(parts(model).base, *rest, **named)
'''
ONE = Response("a", "", 3, ids=(5, 6, 7))


def by(backend: str) -> Testbed:
    return BED.model_copy(update={"generation": Generation(backend=backend)})


def test_another_backend_is_looked_at_and_nothing_reads_what_was_found() -> None:
    assert plan(REQUEST, BED).parity is None
    planned = plan(REQUEST, by(NAIVE))
    assert planned.parity in planned.goals and planned.parity in planned.steps
    assert not [step for step in planned.steps if planned.parity.stage in step.reads.values()]


def test_equal_responses_agree_and_the_first_other_token_is_named() -> None:
    longer, other = replace(ONE, ids=(5, 6, 7, 8)), replace(ONE, ids=(5, 9, 7))
    assert agreement([ONE], [ONE], [(-1.0,)], [(-1.25,)]) == Agreement(1, 1, "", 1, 0.25, {"a": [0, 1]})
    assert agreement([ONE, ONE], [ONE, other], [], []) == Agreement(2, 1, "token 2 of a", 0, 0.0, {"a": [0, 2]})
    assert agreement([ONE], [longer], [], []).first == "token 4 of a"


def test_flips_are_counted_by_benchmark_and_are_a_line_of_the_noise_floor() -> None:
    """Another word flips an item; another token of the same word (as two spaces are) does not."""
    said = [replace(ONE, id=id, text=text) for id, text in (("pope/1", "yes"), ("pope/2", "no"), ("mmvet/1", "a cat"))]
    theirs = [said[0], replace(said[1], text="yes"), replace(said[2], ids=(9,))]
    found = agreement(said, theirs, [], [])
    assert found.same == 2 and found.flips == {"pope": [1, 2], "mmvet": [0, 1]}
    told = Agreed(backend="vllm", **json.loads(dumps(asdict(found))), bound=0.01)
    [line] = cards.flips(told)
    assert line.startswith("noise floor of vllm: ") and line.endswith("mmvet 0 of 1, pope 1 of 2")
    assert not [*cards.flips(told.model_copy(update={"flips": {}}))]  # of a run that was made before they were counted


@pytest.mark.parametrize("wrong", [math.nan, -math.inf])
def test_a_log_prob_that_is_no_number_is_no_agreement(wrong: float) -> None:
    with pytest.raises(HarnessError, match="no number"):
        agreement([ONE], [ONE], [(-1.0, -2.0)], [(wrong, -2.0)])


def test_a_difference_above_the_bound_is_refused_with_the_cure() -> None:
    told = Agreed(backend="vllm", prompts=16, same=15, first="token 2 of a", tokens=90, largest=0.01, bound=0.01)
    parity.insist(told)
    with pytest.raises(HarnessError, match=r"differs by 0\.0101 nats .*token 2 of a.*generation\.backend=transformers"):
        parity.insist(told.model_copy(update={"largest": 0.0101}))


def test_adapters_that_could_be_left_out_unseen_are_refused() -> None:
    told = Agreed(backend="vllm", prompts=2, same=2, tokens=9, largest=0.001, bound=0.01, adapted=5.25)
    parity.insist(told)
    assert cards.agreement(told).endswith("with a random adapter too, which moves them by 5.2")
    with pytest.raises(
        HarnessError, match=r"moves no log-prob by more than 0\.01 nats .*vllm could leave adapters out"
    ):
        parity.insist(told.model_copy(update={"adapted": 0.01}))


@pytest.mark.heavy
@pytest.mark.parametrize("left_out", [False, True])
def test_a_backend_that_leaves_adapters_out_makes_no_row(left_out: bool, tmp_path: Path) -> None:
    (tmp_path / "deaf.py").write_text(DEAF if left_out else DEAF.replace("parts(model).base", "model"))
    bed = by(str(tmp_path / "deaf.py"))
    bed = bed.model_copy(update={"training": bed.training.model_copy(update={"lora": Lora(r=4, lora_alpha=8)})})
    store, how = Store(tmp_path / "store"), Runtime(workers=1)
    if left_out:
        with pytest.raises(
            HarnessError, match=r"not the same model here.*\(first difference: token \d+ of .*, adapted\)"
        ):
            compare(REQUEST, bed, how, store, tmp_path / "out", Silent())
    else:
        compare(REQUEST, bed, how, store, tmp_path / "out", Silent(), page=False)
        told = Manifest.read(tmp_path / "out" / MANIFEST).parity
        assert told is not None and told.same == told.prompts == 32 and told.adapted is not None and told.adapted > 1


@pytest.mark.heavy
def test_the_same_model_makes_the_same_table_and_says_so(tmp_path: Path) -> None:
    def table(bed: Testbed, name: str) -> str:
        store = Store(tmp_path / f"{name} store")
        done = compare(REQUEST, bed, Runtime(workers=1), store, tmp_path / name, Silent(), page=False)
        for sentence in ("responses are the same", "noise floor of naive: responses with other words"):
            assert bool(done.parity) == (name == "naive") == any(sentence in line for line in done.told)
        return (tmp_path / name / "table.csv").read_text()

    assert table(by(NAIVE), "naive") == table(BED, "usual")
    told = Manifest.read(tmp_path / "naive" / MANIFEST).parity
    assert told is not None and told.same == told.prompts > 1 and 0 <= told.largest < 1e-4
    assert told.flips == {"pope": [0, told.prompts]}


@pytest.mark.heavy
def test_another_model_makes_no_row(tmp_path: Path) -> None:
    (tmp_path / "blind.py").write_text(BLIND)
    store = Store(tmp_path / "store")
    with pytest.raises(HarnessError, match="blind and transformers are not the same model here"):
        compare(REQUEST, by(str(tmp_path / "blind.py")), Runtime(workers=1), store, tmp_path / "out", Silent())
    assert (tmp_path / "store" / "parity").is_dir() and not (tmp_path / "store" / "generate").exists()
