"""Several sizes in one command: splits that are prefixes, and work that is found again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.backends.transformers import Transformers
from harness.comparison import compare as comparing
from harness.comparison.plan import plan
from harness.comparison.progress import Silent
from harness.comparison.request import request
from harness.comparison.sizes import compare_sizes, parsed
from harness.contracts.backend import Generated
from harness.contracts.method import Lesson
from harness.contracts.records import Prompt, Response
from harness.contracts.steps import Plan
from harness.mini.sources import write_source
from harness.sources.llava150k import Llava150k
from harness.store.store import Store
from harness.system.errors import UsageError
from harness.system.profile import quiet
from harness.training import rounds
from harness.training.split import split
from tests.toy_bodies import ToyBodies, asked


def planned(size: int, pool: int) -> Plan:
    """The plan of one size."""
    bed, asked, _ = request("dpo", "llava150k", "", "mini", 1, "gqa", size, 20, None, 1)
    return plan(replace(asked, pool=pool), bed)


def test_a_smaller_split_is_a_prefix_of_a_larger_one(tmp_path: Path) -> None:
    write_source("llava150k", "alignment", 0, 12, tmp_path)
    small, large = (split(Llava150k(tmp_path).load, n, 0).examples for n in (4, 9))
    assert small == large[:4]


def test_sizes_share_data_and_the_baselines_cells_and_nothing_that_depends_on_the_split() -> None:
    small, large = planned(4, 8), planned(8, 8)
    shared = {step.key for step in small.steps} & {step.key for step in large.steps}
    kinds = sorted(step.stage.kind for step in small.steps if step.key in shared and step.stage.kind != "crosscheck")
    assert kinds == ["data", "data", "generate", "items", "score"]
    apart = {step.key for step in planned(4, 4).steps} & {step.key for step in large.steps}
    assert len(apart) == len(shared) - 1  # without a common pool the world draws another source


def test_own_responses_of_a_prefix_are_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def respond(self: Transformers, folder: Path, prompts: list[Prompt], *how: Any) -> Generated:
        asked.extend(prompt.id for prompt in prompts)
        return Generated([Response(prompt.id, prompt.question, 1) for prompt in prompts], None)

    monkeypatch.setattr(Transformers, "respond", respond)
    monkeypatch.setattr(rounds, "PREFIX", 2)
    bed, _, runtime = request("dpo", "llava150k", "", "mini", 1, "gqa", 4, 20, None, 1)
    round = rounds.OwnRound(
        number=0,
        seed=0,
        asked=rounds.NoWriter(),
        store=Store(tmp_path),
        testbed=bed,
        runtime=runtime,
        lesson=Lesson(),
        response_tokens=8,
        dtype="float32",
        policy=Path("base"),
        policy_key="m",
        base=Path(bed.models[0]),
        shelf=tmp_path / "features",
        tick=quiet,
    )
    prompts = [Prompt(str(n), None, f"question {n}") for n in range(7)]
    assert round.respond(prompts[:4]) == [Response(str(n), f"question {n}", 1) for n in range(4)]
    assert [response.id for response in round.respond(prompts)] == [str(n) for n in range(7)]
    assert asked == [str(n) for n in range(7)]
    assert round.respond([]) == []


@pytest.mark.parametrize("text", ["", "250", "250,x", "0,5", "5,5"])
def test_sizes_must_be_two_different_numbers(text: str) -> None:
    with pytest.raises(UsageError, match="at least two"):
        parsed(text)
    assert parsed("1000, 250") == [250, 1000]


def sizes_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch, benchmarks: str, methods: str = "sft"
) -> tuple[str, int, Path]:
    """`--sizes 4,8` with toy bodies: what it prints, its status, its folder."""
    monkeypatch.setattr(comparing, "Bodies", ToyBodies())
    bed, wanted, runtime = asked(methods, benchmarks)
    out = folder / "out"
    said, status = compare_sizes(wanted, bed, runtime, Store(folder / "store"), out, Silent(), [4, 8], page=False)
    return said, status, out


def test_one_benchmark_has_its_differences_by_size_and_no_figure_of_totals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended with "figure4 needs a group of three benchmarks", after everything had been trained and scored."""
    said, status, out = sizes_of(tmp_path, monkeypatch, "gqa")
    assert status == 0
    assert "Figure 4: differences to the baseline" in said and "a comparison per size" in said
    rows = [line for line in said.splitlines() if "Cont. SFT" in line]
    assert [("4" in row.split(), "8" in row.split(), "+8.3" in row) for row in rows] == [
        (True, False, True),
        (False, True, True),
    ]
    assert not list(out.glob("figure4.svg")) and (out / "4" / "table.md").is_file()


def test_three_benchmarks_of_a_total_have_the_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, status, out = sizes_of(tmp_path, monkeypatch, "sqa,gqa,textvqa")
    assert status == 0 and "Figure 4: totals" in said
    assert (out / "figure4.svg").is_file() and str(out / "figure4.svg") in said


def test_sizes_in_the_folder_of_others_move_them_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes_of(tmp_path, monkeypatch, "gqa")
    again, _, out = sizes_of(tmp_path, monkeypatch, "gqa")
    assert "held another comparison" not in again and "nothing to do (" in again
    said, _, _ = sizes_of(tmp_path, monkeypatch, "gqa", "dpo")
    assert f"{out} held another comparison, which is in {out}-2 now" in said
    assert "Cont. SFT" in (tmp_path / "out-2" / "8" / "table.md").read_text()
