"""Devices that plans know, as their makers publish them."""

from typing import NamedTuple

from harness.system.errors import UsageError


class Device(NamedTuple):
    """What its maker publishes: FLOP/s in bfloat16 without sparsity, bytes per second of memory, bytes of memory."""

    title: str
    flops: float
    bandwidth: float
    memory: int


DEVICES = {
    "h100": Device("H100 SXM 80 GB", 989e12, 3.35e12, 80 * 10**9),
    "h200": Device("H200 141 GB", 989e12, 4.8e12, 141 * 10**9),
    "a100-80": Device("A100 SXM 80 GB", 312e12, 2.04e12, 80 * 10**9),
    "rtx4090": Device("RTX 4090 24 GB", 165e12, 1.01e12, 24 * 10**9),
    "cpu": Device("a CPU of eight cores", 0.5e12, 0.05e12, 64 * 10**9),
}


def device_of(name: str) -> Device:
    """A device by name; UsageError, which lists them, for one that is not known."""
    if name not in DEVICES:
        raise UsageError(f"--device {name}: known are {', '.join(DEVICES)}.")
    return DEVICES[name]
