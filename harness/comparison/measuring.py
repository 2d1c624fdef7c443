"""What this machine's device reaches, by counted work: `harness plan --device here`. Some seconds, kept nowhere."""

import os
from collections.abc import Callable
from time import perf_counter

from harness.comparison.devices import HERE, Device, device_of
from harness.contracts.settings import Dtype

SECONDS = 3.0  # of each figure
# Of what large matrices reach, a training is taken to: on a core 0.8 to 1 was measured (a decoder layer 1,024 wide); on
# an accelerator, of which none was measured, 0.4 of what is published, of which they are said to reach two thirds.
ON_CPU, ON_ACCELERATOR, READING = 0.8, 0.6, 0.55


def meant(name: str, dtype: Dtype) -> Device:
    """A device by name, HERE for this machine's as it is measured now, in `dtype`; UsageError as of `device_of`."""
    return measured(dtype) if name == HERE else device_of(name)


def measured(dtype: Dtype) -> Device:
    """This process's accelerator, or one core, since a training on a CPU is one thread of it.

    FLOP/s are those of square matrices in `dtype`, bytes per second those of copies, read and written.
    """
    import torch

    cuda, threads = torch.cuda.is_available(), torch.get_num_threads()
    where, side, size = ("cuda", 8192, 1 << 29) if cuda else ("cpu", 1024, 1 << 28)
    wait: Callable[[], object] = torch.cuda.synchronize if cuda else nothing
    torch.set_num_threads(1)
    try:
        one, other = (torch.ones(side, side, dtype=getattr(torch, dtype), device=where) for _ in range(2))
        source, copy = (torch.ones(size, dtype=torch.uint8, device=where) for _ in range(2))
        flops = rate(lambda: one @ other, 2 * side**3, wait)
        bandwidth = rate(lambda: copy.copy_(source), 2 * size, wait)
    finally:
        torch.set_num_threads(threads)
    if cuda:
        of = torch.cuda.get_device_properties(0)
        title, memory, share = of.name, of.total_memory, ON_ACCELERATOR
    else:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        title, share = "core of this CPU", ON_CPU
    told = f"measured {flops / 1e12:.3g} TFLOP/s in {dtype} and {bandwidth / 1e9:.3g} GB/s"
    return Device(title, flops, bandwidth, memory, share, READING, told)


def nothing() -> None:
    """What there is to wait for where work is done when it returns."""


def rate(work: Callable[[], object], amount: int, wait: Callable[[], object]) -> float:
    """How much a second, of which `work` does `amount`; the first time, which sets things up, is not counted.

    `wait` returns when all that was begun is done.
    """
    work()
    wait()
    began, times, took = perf_counter(), 0, 0.0
    while took < SECONDS:
        work()
        wait()
        times, took = times + 1, perf_counter() - began
    return amount * times / took
