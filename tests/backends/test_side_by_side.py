"""One stage's prompts answered by several processes: the same responses, and nobody is left."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import harness.mini
from harness import backends
from harness.backends import _side_by_side
from harness.backends._side_by_side import SideBySide, back, parts_of
from harness.backends.transformers import Transformers
from harness.comparison.plan import plan
from harness.contracts.backend import Running, Sampling, Search
from harness.contracts.records import Image, Prompt
from harness.contracts.settings import Generation, MethodSpec, Runtime
from harness.contracts.steps import Request
from harness.contracts.testbed_file import read_testbed
from harness.models import load
from harness.sources._chosen import source
from harness.system.errors import HarnessError
from harness.system.profile import quiet
from tests.seams.found import OUTSIDE
from tests.small_models import noise
from tests.toy_steps import living, until

ROOT = Path(__file__).parents[2]
BASES = Path(harness.mini.__file__).parent / "bases"
ALL, GREEDY, WARM = Running(0, quiet), Sampling(max_new_tokens=12), Sampling(max_new_tokens=12, temperature=1.0)
TWO = SideBySide(Transformers(), Generation(), 2)


def prompts(images: list[Image]) -> list[Prompt]:
    """Three questions about each, and one about none."""
    texts = ["Describe the image in detail.", "Is there a dog in the image?", "What is there?"]
    shown = [Prompt(f"q{n}", image, text) for n, (text, image) in enumerate((t, i) for t in texts for i in images)]
    return [*shown, Prompt("n", None, "Who are you?")]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[Prompt]:
    return prompts(noise(tmp_path_factory.mktemp("pictures"), [(40 + n, 70) for n in range(5)]))


@pytest.fixture(scope="module", autouse=True)
def _end() -> Any:
    yield
    _side_by_side.let_go()


def image(name: str) -> Image:
    return Image(f"{name}.png", name * 64)


def test_parts_are_about_equal_and_a_picture_s_questions_stay_together() -> None:
    asked = prompts([image(name) for name in "abcde"])
    parts = parts_of(asked, 3)
    assert sorted(at for part in parts for at in part) == [*range(16)] and [len(part) for part in parts] == [6, 6, 4]
    for part in parts:
        shown = [asked[at].image for at in part]
        assert all(shown.count(one) == 3 for one in shown if one) and part == sorted(part)
    made = [[asked[at].id for at in part] for part in parts]
    assert back(parts, made) == [prompt.id for prompt in asked] != [id for part in made for id in part]


@pytest.mark.parametrize(("count", "most", "parts"), [(0, 3, [[]]), (1, 3, [[0]]), (2, 1, [[0, 1]]), (2, 0, [[0, 1]])])
def test_there_are_no_more_parts_than_something_to_ask(count: int, most: int, parts: list[list[int]]) -> None:
    assert parts_of([Prompt(str(n), None, "a") for n in range(count)], most) == parts


def test_two_prompts_of_one_id_are_refused_though_parts_could_not_tell() -> None:
    with pytest.raises(HarnessError, match="two prompts have the same id"):
        parts_of([Prompt("a", image("a"), ""), Prompt("a", image("b"), "")], 2)


def test_a_part_with_another_number_of_responses_is_refused() -> None:
    with pytest.raises(HarnessError, match="another number"):
        back([[0, 2], [1]], [["a"], ["b"]])


def test_there_are_as_many_as_have_accelerators(monkeypatch: pytest.MonkeyPatch, asked: list[Prompt]) -> None:
    four = SideBySide(Transformers(), Generation(), 4)
    assert four.gpus == 4 and len(four.parts(asked)) == 4
    for visible, there in (("0,1,2", 3), ("0", 1), ("", 4)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert len(four.parts(asked)) == there


def test_one_process_is_the_backend_itself() -> None:
    assert backends.responder(Generation(), Runtime()) == Transformers()
    assert backends.responder(Generation(), Runtime(generate_processes=2)) == TWO


def test_a_stage_that_responds_takes_room_for_all_and_parity_for_one() -> None:
    generation = Generation(backend=str(OUTSIDE / "backend" / "naive.py"))
    bed = read_testbed("mini").model_copy(update={"generation": generation})
    asked = Request((MethodSpec(name="nsft"),), source("llava150k"), benchmarks=("pope",), limit=3)
    steps = plan(asked, bed, Runtime(generate_processes=3)).steps
    takes = {step.stage.kind: (step.resources.processes, step.resources.gpus) for step in steps}
    assert takes["generate"] == takes["build"] == takes["probe"] == (3, 3)
    assert takes["parity"] == takes["train"] == (1, 1) and takes["score"] == (1, 0)


@pytest.mark.heavy
@pytest.mark.parametrize("how", [GREEDY, WARM], ids=["greedy", "warm"])
def test_they_say_what_one_says_and_count_what_it_counts(how: Sampling, asked: list[Prompt]) -> None:
    ticks: list[tuple[int, int]] = []
    one = Transformers().respond(BASES / "0", asked, how, ALL)
    two = TWO.respond(BASES / "0", asked, how, Running(4, lambda *told: ticks.append(told)))
    assert two.responses == one.responses and two.flops == one.flops
    assert ticks == sorted(ticks) and ticks[-1] == (16, 16) and len(ticks) > 3
    assert two.peaks[0] > 0.1


@pytest.mark.heavy
def test_so_it_is_for_candidates_and_log_probs(asked: list[Prompt]) -> None:
    search = Search(count=3, penalty=4.0, stop=".", max_new_tokens=6)
    one, two = (each.candidates(BASES / "0", asked, search, ALL) for each in (Transformers(), TWO))
    assert [[c.text for c in each] for each in two] == [[c.text for c in each] for each in one]
    ids = [tuple(range(5, 9 + n % 3)) for n in range(len(asked))]
    one_s, two_s = (each.logps(BASES / "0", asked, ids, "float32", ALL) for each in (Transformers(), TWO))
    assert len(two_s) == 16 and all(
        its == pytest.approx(mine, abs=1e-5) for mine, its in zip(one_s, two_s, strict=True)
    )


@pytest.mark.heavy
def test_a_refusal_of_one_is_its_sentence_and_another_model_here_ends_them(asked: list[Prompt]) -> None:
    TWO.respond(BASES / "0", asked, GREEDY, ALL)
    processes = [hand.process for hand in _side_by_side._kept]
    load.load(BASES / "1")
    assert len(processes) == 2 and all(process.poll() == 0 for process in processes) and not _side_by_side._kept
    with pytest.raises(HarnessError, match=r"prompt q1: .*<image>"):
        TWO.respond(BASES / "0", [asked[0], Prompt("q1", None, "what is <image>")], GREEDY, ALL)
    assert not _side_by_side._kept


@pytest.mark.heavy
def test_one_that_dies_is_a_sentence_and_ends_all(asked: list[Prompt]) -> None:
    TWO.respond(BASES / "0", asked, GREEDY, ALL)
    first, second = (hand.process for hand in _side_by_side._kept)
    os.kill(first.pid, signal.SIGKILL)
    with pytest.raises(HarnessError, match=r"a process that responds died .*generate_processes"):
        TWO.respond(BASES / "0", asked, GREEDY, ALL)
    assert second.poll() is not None
    assert len(TWO.respond(BASES / "0", asked, GREEDY, ALL).responses) == 16


ASKING = """
import sys, time
from pathlib import Path
from tests.backends.test_side_by_side import *
from tests.backends.test_side_by_side import _side_by_side
TWO.respond(BASES / "0", [Prompt(name, None, name) for name in ("who", "what")], GREEDY, ALL)
print(*(hand.process.pid for hand in _side_by_side._kept), flush=True)
time.sleep(float(sys.argv[1]))
"""


@pytest.mark.heavy
@pytest.mark.parametrize("killed", [True, False])
def test_they_end_with_whoever_asked(killed: bool) -> None:
    command = [sys.executable, "-c", ASKING, "600" if killed else "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as asking:
        assert asking.stdout is not None
        processes = {int(number) for number in asking.stdout.readline().split()}
        assert len(processes) == 2
        if killed:
            assert living(processes) == processes
            asking.kill()
    assert until(lambda: not living(processes))
