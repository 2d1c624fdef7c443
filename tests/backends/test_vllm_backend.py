"""vLLM in an environment of its own: transformers' tokens, no path in a key, and an end with whoever asked."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

import harness.mini
from harness import backends, families
from harness.backends import _side_by_side, _vllm_engine
from harness.backends._side_by_side import SideBySide
from harness.backends.transformers import Transformers
from harness.backends.vllm import Vllm
from harness.comparison.provenance import setting
from harness.comparison.request import request
from harness.contracts.backend import Adapted, Model, Running, Sampling, Search
from harness.contracts.records import Prompt
from harness.contracts.settings import Generation, Lora
from harness.models import load
from harness.models.adapters import write_random
from harness.system.errors import HarnessError
from harness.system.profile import quiet
from tests import vllm_environment
from tests.small_models import made, noise

BASES = Path(harness.mini.__file__).parent / "bases"
ALL, GREEDY = Running(0, quiet), Sampling(max_new_tokens=32)
HOWS = {
    "greedy": (GREEDY, False),
    "noised": (GREEDY.model_copy(update={"noise_step": 500}), False),
    "blank": (GREEDY, True),
}


@pytest.fixture(scope="module")
def vllm() -> Any:
    """The backend; the engine ends with the tests."""
    yield vllm_environment.made()
    _vllm_engine._let_go()


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> list[Prompt]:
    """64 questions about pictures of noise, half of them for long answers, and one about none."""
    pictures = noise(tmp_path_factory.mktemp("pictures"), [(40 + n, 70) for n in range(16)])
    texts = ["Describe the image in detail.", "Is there a dog in the image?", "What is there?", "Describe this photo."]
    return [Prompt(f"q{n}", pictures[n % 16], texts[n // 16]) for n in range(63)] + [Prompt("n", None, "Who are you?")]


def test_there_is_a_sentence_for_an_environment_without_vllm(tmp_path: Path) -> None:
    assert "make vllm-env" in Vllm(environment=str(tmp_path)).problem()


def test_where_the_environment_lies_is_in_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.backends.vllm.versions", lambda python: {"vllm": "0.32.0"})
    kept = [
        backends.identity(Generation(backend="vllm", options={"environment": place, "memory": share, "eager": eager}))
        for place, share, eager in (("/one", 0.5, True), ("/other", 0.6, True), ("/other", 0.6, False))
    ]
    assert kept[0] == kept[1] != kept[2] and kept[0]["vllm"] == "0.32.0"
    sets = ["generation.backend=vllm", "generation.options={environment: /of/vllm}"]
    assert "/of/vllm" not in json.dumps(setting(request("", "llava150k", "", "mini", 1, "pope", 8, 4, sets, 1)[0]))


def test_a_model_over_several_accelerators_takes_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.comparison.plan import plan

    monkeypatch.setattr("harness.backends.vllm.versions", lambda python: {"vllm": "0.32.0"})
    sets = ["generation.backend=vllm", "generation.options={tensor_parallel: 2}"]
    bed, asked, runtime = request("dpo", "llava150k", "", "mini", 1, "pope", 8, 4, sets, 1)
    takes = {step.stage.kind: step.resources.gpus for step in plan(asked, bed, runtime).steps}
    assert takes["generate"] == 2 and takes["score"] == 0


@pytest.mark.heavy
@pytest.mark.parametrize("how", HOWS)
def test_it_says_what_transformers_says(vllm: Vllm, prompts: list[Prompt], how: str) -> None:
    sampling, blank = HOWS[how]
    ours, theirs = (one.respond(BASES / "0", prompts, sampling, ALL, blank) for one in (Transformers(), vllm))
    assert theirs.responses == ours.responses and theirs.flops is not None


@pytest.mark.heavy
def test_its_log_probs_are_those_of_transformers(vllm: Vllm, prompts: list[Prompt]) -> None:
    said = [one.ids for one in vllm.respond(BASES / "0", prompts, GREEDY, ALL).responses]
    theirs = vllm.logps(BASES / "0", prompts, said, "float32", ALL)
    ours = Transformers().logps(BASES / "0", prompts, said, "float32", ALL)
    assert sum(map(len, theirs)) > 200
    for mine, its in zip(ours, theirs, strict=True):
        assert its == pytest.approx(mine, abs=1e-4)


@pytest.mark.heavy
@pytest.mark.parametrize("family", ["internvl", "llava_next", "qwen2_5_vl", "qwen3_vl"])
def test_so_it_does_for_small_models_of_other_families(
    vllm: Vllm, prompts: list[Prompt], family: str, tmp_path: Path
) -> None:
    """InternVL's picture stands between tokens that vLLM writes itself; Qwen3-VL's is read by its first layers too. So
    do they with an adapter beside them.
    """
    folder, asked = made(families.named(family), tmp_path / family, head=32), [*prompts[:4], prompts[-1]]
    base, adapter = load.kept(folder), tmp_path / "adapter"
    write_random(base.model, base.family, Lora(r=8, lora_alpha=8), adapter)
    models: list[tuple[Model, Vllm]] = [(folder, vllm), (Adapted(folder, (adapter,)), replace(vllm, max_lora_rank=8))]
    for model, engine in models:
        ours, theirs = (one.respond(model, asked, GREEDY, ALL).responses for one in (Transformers(), engine))
        assert theirs == ours
        # a random model may say a picture's token, which log-probs of responses do not know
        kept = [at for at, one in enumerate(ours) if base.model.config.image_token_id not in one.ids]
        some, said = [asked[at] for at in kept], [ours[at].ids for at in kept]
        both = (one.logps(model, some, said, "float32", ALL) for one in (Transformers(), engine))
        for mine, its in zip(*both, strict=True):
            assert its == pytest.approx(mine, abs=1e-4)


@pytest.mark.heavy
def test_its_candidates_are_those_of_transformers(vllm: Vllm, prompts: list[Prompt]) -> None:
    search = Search(count=3, penalty=4.0, stop=".", max_new_tokens=8)
    ours, theirs = (one.candidates(BASES / "0", prompts[:8], search, ALL) for one in (Transformers(), vllm))
    assert [[one.text for one in each] for each in theirs] == [[one.text for one in each] for each in ours]
    for mine, its in zip(chain(*ours), chain(*theirs), strict=True):
        assert its.logp == pytest.approx(mine.logp, abs=1e-4)


@pytest.mark.heavy
def test_a_shared_prefix_changes_no_token(prompts: list[Prompt], vllm: Vllm) -> None:
    same = [Prompt(f"{n}", prompts[0].image, f"{prompt.question} {n}") for n, prompt in enumerate(prompts[::8])]
    plain = vllm.respond(BASES / "0", same, GREEDY, ALL).responses
    shared = Vllm(**vllm_environment.options(), prefix_caching=True)
    for _ in range(2):
        assert shared.respond(BASES / "0", same, GREEDY, ALL).responses == plain


@pytest.fixture
def policies(tmp_path: Path) -> list[Adapted]:
    """A base with one random adapter, and with another after it."""
    base, folders = load.kept(BASES / "0"), (tmp_path / "first", tmp_path / "second")
    for folder, r in zip(folders, (4, 8), strict=True):
        write_random(base.model, base.family, Lora(r=r, lora_alpha=8), folder)
    return [Adapted(BASES / "0", folders[: count + 1]) for count in range(2)]


@pytest.mark.heavy
def test_beside_their_base_adapters_say_what_they_say_merged(
    vllm: Vllm, prompts: list[Prompt], policies: list[Adapted]
) -> None:
    """One engine has the base, a policy, one of two rounds, and the first policy again; all four say something else."""
    models: list[Model] = [BASES / "0", *policies, policies[0]]
    ours = [Transformers().respond(model, prompts[:8], GREEDY, ALL).responses for model in models]
    logps = [
        Transformers().logps(model, prompts[:8], [one.ids for one in said], "float32", ALL)
        for model, said in zip(models, ours, strict=True)
    ]
    beside = replace(vllm, max_lora_rank=16)
    theirs = [beside.respond(model, prompts[:8], GREEDY, ALL).responses for model in models]
    assert theirs == ours and ours[0] != ours[1] != ours[2] and len(_vllm_engine._kept) == 1
    for model, said, mine in zip(models, ours, logps, strict=True):
        found = beside.logps(model, prompts[:8], [one.ids for one in said], "float32", ALL)
        assert [*chain(*found)] == pytest.approx([*chain(*mine)], abs=1e-4)
    [engine] = _vllm_engine._kept.values()
    engine.adapt = lambda *told: None  # type: ignore[method-assign]  # a mutant that goes on with the last one
    assert beside.respond(models[1], prompts[:8], GREEDY, ALL).responses == ours[1]
    assert beside.respond(models[2], prompts[:8], GREEDY, ALL).responses != ours[2]
    _vllm_engine._let_go()


def test_an_adapter_stays_beside_its_base_where_there_is_room_for_it_and_is_in_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.backends.vllm.versions", lambda python: {"vllm": "0.32.0"})
    merged, beside = (Generation(backend="vllm", options={"max_lora_rank": rank}) for rank in (0, 128))
    assert not backends.chosen(merged).merges and backends.chosen(beside).merges
    assert backends.identity(beside)["max_lora_rank"] == 128 and backends.identity(merged) != backends.identity(beside)
    with pytest.raises(HarnessError, match=r"vllm\.max_lora_rank.*512"):
        backends.chosen(Generation(backend="vllm", options={"max_lora_rank": 100}))


@pytest.mark.heavy
def test_two_engines_side_by_side_say_what_one_says(vllm: Vllm, prompts: list[Prompt]) -> None:
    warm, options = GREEDY.model_copy(update={"temperature": 1.0}), vllm_environment.options()
    both = SideBySide(vllm, Generation(backend="vllm", options=options), 2)
    one = [vllm.respond(BASES / "0", prompts, how, ALL) for how in (GREEDY, warm)]
    two = [both.respond(BASES / "0", prompts, how, ALL) for how in (GREEDY, warm)]
    assert [each.responses for each in two] == [each.responses for each in one] and len(_side_by_side._kept) == 2
    _side_by_side.let_go()


@pytest.mark.heavy
def test_a_worker_that_dies_is_a_sentence_and_the_next_question_starts_another(
    vllm: Vllm, prompts: list[Prompt]
) -> None:
    first = vllm.respond(BASES / "0", prompts[:2], GREEDY, ALL)
    [engine] = _vllm_engine._kept.values()
    assert engine.process is not None
    os.killpg(engine.process.pid, signal.SIGKILL)
    with pytest.raises(HarnessError, match=r"its process died; all that it said is in .*log"):
        vllm.respond(BASES / "0", prompts[:2], GREEDY, ALL)
    assert vllm.respond(BASES / "0", prompts[:2], GREEDY, ALL) == first


@pytest.mark.heavy
def test_another_model_has_the_memory_of_the_engine(vllm: Vllm, prompts: list[Prompt]) -> None:
    vllm.respond(BASES / "0", prompts[:1], GREEDY, ALL)
    [engine] = _vllm_engine._kept.values()
    load.load(BASES / "1")
    assert engine.process is not None and engine.process.poll() is not None and not engine.home.exists()


ASKING = """
import sys, time
from pathlib import Path
from harness.backends import _side_by_side, _vllm_engine
from harness.backends._side_by_side import SideBySide
from harness.backends.vllm import Vllm
from harness.contracts.backend import Running, Sampling
from harness.contracts.records import Prompt
from harness.system.profile import quiet
asked = [Prompt("n", None, "Who are you?")]
Vllm(environment=sys.argv[2]).respond(Path(sys.argv[1]), asked, Sampling(max_new_tokens=4), Running(0, quiet))
print(next(iter(_vllm_engine._kept.values())).process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.heavy
def test_it_ends_with_whoever_asked(vllm: Vllm) -> None:
    command = [sys.executable, "-c", ASKING, str(BASES / "0"), vllm.environment]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as asking:
        assert asking.stdout is not None
        worker = Path(f"/proc/{int(asking.stdout.readline())}")
        assert worker.exists()
        asking.kill()
    deadline = time.monotonic() + 20
    while worker.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not worker.exists()
