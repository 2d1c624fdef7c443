"""Where memory runs out a training goes on with less at a time, and gives what it would have given."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.backends import transformers as backend
from harness.contracts.backend import Sampling
from harness.contracts.records import Prompt
from harness.contracts.settings import Lora, Runtime, Training
from harness.models.footprint import Decoder, Shape, generating, laid, most_rows
from harness.models.reference import reference_logps
from harness.models.roles import Roles
from harness.models.tree import Tree
from harness.system.errors import HarnessError
from harness.system.machine import halved
from harness.training.engine import Run
from harness.training.launch import launch
from tests.responding import respond
from tests.trainings import conversations, lines, losses, same

heavy = pytest.mark.heavy
Fits = Callable[[int, int, int], bool]  # records at once, layers computed again, step


def scarce(monkeypatch: pytest.MonkeyPatch, fits: Fits) -> list[tuple[int, int, int]]:
    """Memory runs out unless `fits`; returns what was tried."""
    real, tried = Run.logps, list[tuple[int, int, int]]()

    def logps(self: Run, trees: Sequence[Tree], after: Sequence[Tree] = ()) -> object:
        tried.append((len(trees), self.layout.again, self.number))
        if not fits(*tried[-1]):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return real(self, trees, after)

    monkeypatch.setattr(Run, "logps", logps)
    return tried


def test_it_is_halved_until_it_fits(job, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """And the same bits as of a training that was told so at once."""
    told, halving = job("told", per_device_train_batch_size=1, lora=Lora(r=4)), job("halving", lora=Lora(r=4))
    launch(told)
    scarce(monkeypatch, lambda rows, again, step: rows < 2)
    result = launch(halving)
    assert (result.batch_size, result.shortages, result.recomputed_layers) == (1, 2, 0)
    assert lines(told) == lines(halving) and same(told, halving)
    assert json.loads((Path(halving.out) / "summary.json").read_text())["shortages"] == 2


def test_it_goes_on_from_the_last_checkpoint(job, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    whole, short = job("whole"), job("short")
    launch(whole)
    tried = scarce(monkeypatch, lambda rows, again, step: step < 4 or rows < 3)
    result = launch(short)
    assert (result.resumed_from_step, result.batch_size, result.shortages) == (3, 2, 1)
    assert max(rows for rows, _, step in tried if step < 4) == 4
    assert losses(short) == pytest.approx(losses(whole), abs=1e-5)


@heavy
def test_at_last_every_layer_is_computed_again(job, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    whole, short = job("whole", per_device_train_batch_size=1), job("short", gradient_checkpointing="off")
    launch(whole)
    scarce(monkeypatch, lambda rows, again, step: again == 2)
    result = launch(short)
    assert (result.batch_size, result.recomputed_layers, result.shortages) == (1, 2, 3)
    assert lines(short) == lines(whole) and same(short, whole)


@heavy
def test_where_nothing_fits_the_cures_are_named(job, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    tried = scarce(monkeypatch, lambda rows, again, step: False)
    with pytest.raises(HarnessError, match=r"even with one record at a time .* runtime\.zero_stage=3"):
        launch(job())
    assert [(rows, again) for rows, again, _ in tried] == [(4, 0), (2, 0), (1, 0), (1, 2)]


def test_another_fault_is_none_of_memory(job, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    def logps(self: Run, trees: Sequence[Tree], after: Sequence[Tree] = ()) -> object:
        raise RuntimeError("no memory of this")

    monkeypatch.setattr(Run, "logps", logps)
    with pytest.raises(RuntimeError, match="no memory of this"):
        launch(job())


@pytest.mark.parametrize("most", [pytest.param(1, marks=heavy), 3, pytest.param(7, marks=heavy)])
def test_halves_come_in_order_and_no_smaller_than_needed(most: int) -> None:
    sizes = []

    def work(items: Sequence[int]) -> int:
        if len(items) > most:
            raise MemoryError
        sizes.append(len(items))
        return sum(items)

    found = list(halved(range(10), work))
    assert [one for items, _ in found for one in items] == list(range(10))
    assert all(made == sum(items) for items, made in found) and max(sizes) <= most
    with pytest.raises(MemoryError):
        list(halved([1, 2], lambda items: work([0] * 9)))


@heavy
def test_reference_log_probs_come_in_halves(  # type: ignore[no-untyped-def]
    folder: Path, pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Roles.forward
    reference_logps(folder, conversations(pictures), Runtime(per_device_train_batch_size=2), tmp_path / "told")

    def forward(self, batch, columns, reference=None):  # type: ignore[no-untyped-def]
        if len(batch.ids) > 2:
            raise torch.OutOfMemoryError
        return real(self, batch, columns, reference)

    monkeypatch.setattr(Roles, "forward", forward)
    reference_logps(folder, conversations(pictures), Runtime(), tmp_path / "halved")
    told, made = load_file(tmp_path / "told"), load_file(tmp_path / "halved")
    assert torch.allclose(told["policy"], made["policy"], atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, pytest.param(0.8, marks=heavy)])
def test_prompts_are_answered_in_halves(  # type: ignore[no-untyped-def]
    folder: Path, pictures, monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    real, prompts = backend.decoded, [Prompt(f"{n}", pictures[n % 6], "what is there" + " red" * n) for n in range(9)]
    sampling = Sampling(max_new_tokens=8, temperature=temperature)
    whole = respond(folder, prompts, sampling, 9)

    def generate(loaded, rows, *rest):  # type: ignore[no-untyped-def]
        if len(rows) > 2:
            raise torch.OutOfMemoryError
        return real(loaded, rows, *rest)

    monkeypatch.setattr(backend, "decoded", generate)
    assert respond(folder, prompts, sampling, 9) == whole
    assert respond(folder, prompts, sampling, 0) == whole


SEVEN = Shape(Decoder(32, 4096, 11008, 32, 32, 128, 32064), 7_063_427_072, 303_507_456)
LONG = [(826, 200)] * 100 + [(1500, 700)] * 3


def test_as_much_as_fits_is_laid_out() -> None:
    """The more room, the fewer layers are computed again; never beyond it, unless nothing fits."""
    how = Training(dtype="bfloat16", lora=Lora())
    chosen = {gb: laid(SEVEN, how, Runtime(), LONG, int(gb * 1e9)) for gb in (1, 22, 24, 30, 40, 80, 140)}
    assert all(one.memory.peak <= gb * 1e9 for gb, one in chosen.items() if gb > 22)
    assert (chosen[1].rows, chosen[1].again) == (1, 32)
    assert (chosen[140].rows, chosen[140].again) == (4, 0)
    again = [one.again for one in chosen.values()]
    assert again == sorted(again, reverse=True) and len(set(again)) > 3


def test_what_is_set_is_taken_and_the_rest_fitted() -> None:
    how = Training(dtype="bfloat16", lora=Lora())
    set_size = laid(SEVEN, how, Runtime(per_device_train_batch_size=8), LONG, 40 * 10**9)
    assert set_size.rows == 8 and 0 < set_size.again <= 32 and set_size.memory.peak <= 40e9
    fewer = laid(SEVEN, how, Runtime(per_device_train_batch_size=8, gradient_checkpointing=set_size.again - 1), LONG, 1)
    assert fewer.again == set_size.again - 1 and fewer.memory.peak > 40e9
    off = laid(SEVEN, how, Runtime(gradient_checkpointing="off"), LONG, 30 * 10**9)
    assert off.again == 0 and off.memory.peak <= 30e9


def test_more_prompts_are_answered_at_once_where_there_is_more_room() -> None:
    """Half a megabyte of keys and values per place, and no more than a power of two fits."""
    rows = [most_rows(SEVEN, "bfloat16", 626, 1024, gb * 10**9) for gb in (10, 24, 80, 141, 10_000)]
    assert rows[0] == 1 and rows == sorted(rows) and rows[-1] == 512
    assert generating(SEVEN, "bfloat16", rows[2], 626, 1024).peak <= 80e9
    assert generating(SEVEN, "bfloat16", 2 * rows[2], 626, 1024).peak > 80e9
    assert generating(SEVEN, "bfloat16", 1, 626, 1024).cache == pytest.approx(2 * 4096 * 32 * 2 * 1714)
