"""What a full disk raises in the libraries that write for us is known; what is something else passes."""

import gc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import PIL.Image
import pytest
import torch
from disk import largest_file
from safetensors import SafetensorError
from safetensors.torch import save_file
from tokenizers import Tokenizer

from harness.store.store import Stage, Store
from harness.system import machine
from harness.system.errors import Full

BASE = Path(__file__).parents[2] / "harness/mini/bases/0"
TENSOR = torch.arange(100_000.0)


def legacy(path: Path) -> None:
    torch.save({"a": TENSOR}, path, _use_new_zipfile_serialization=False)


def opened(path: Path) -> None:
    with path.open("wb") as file:
        torch.save({"a": TENSOR}, file)


WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("a" * 100_000),
    "torch": lambda path: torch.save({"a": TENSOR}, path),
    "torch, as DeepSpeed has it": legacy,
    "torch, a file object": opened,
    "safetensors": lambda path: save_file({"a": TENSOR}, path),
    "tokenizers": lambda path: Tokenizer.from_file(str(BASE / "tokenizer.json")).save(str(path)),
    "pandas": lambda path: pd.DataFrame({"a": TENSOR.numpy()}).to_csv(path),
    "pillow": lambda path: PIL.Image.effect_noise((400, 400), 99).save(path, "PNG"),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("size", [0, 5_000])
def test_a_full_disk_is_a_sentence_whoever_writes(writer: str, size: int, tmp_path: Path) -> None:
    store, stage = Store(tmp_path / "store"), Stage("train", {})

    def write(out: Path) -> None:
        WRITERS[writer](out / "file")

    with largest_file(size), pytest.raises(Full, match="No finished stage is damaged; free some space"):
        store.run(stage, write)
    assert not store.done(stage)
    store.run(stage, write)
    assert store.verify() == {}


def test_the_mutant_that_knows_python_s_errors_alone_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "full", lambda error: isinstance(error, OSError) and error.errno in machine._FULL)
    with largest_file(0), pytest.raises(SafetensorError):
        Store(tmp_path).run(Stage("train", {}), lambda out: save_file({"a": TENSOR}, out / "file"))


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), ValueError("os error 2"), OSError(5, "I/O error")])
def test_other_errors_pass(error: Exception, tmp_path: Path) -> None:
    def fail(out: Path) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        Store(tmp_path).run(Stage("train", {}), fail)
    assert raised.value is error


def test_memory_that_ran_out_is_known() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 45)
    assert machine.exhausted(raised.value) and machine.exhausted(MemoryError())
    assert machine.exhausted(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert not machine.exhausted(RuntimeError("shape mismatch"))


def test_where_much_is_kept_garbage_is_seldom_looked_for_and_afterwards_as_before() -> None:
    usual, looks = gc.get_threshold(), list[str]()
    gc.callbacks.append(lambda phase, _: looks.append(phase))
    try:
        kept = [[number] for number in range(200_000)]
        usually = len(looks)
        with suppress(ZeroDivisionError), machine.seldom_collected():
            kept += [[number] for number in range(200_000)]
            seldom = len(looks) - usually
            raise ZeroDivisionError
    finally:
        gc.callbacks.pop()
    assert usually > 200 > 10 > seldom and gc.get_threshold() == usual
