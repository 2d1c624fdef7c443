"""Devices that plans know, as their makers publish them; this machine's can be measured instead."""

from typing import NamedTuple

from harness.system.errors import UsageError

HERE = "here"


class Device(NamedTuple):
    """What its maker publishes: FLOP/s in bfloat16 without sparsity, bytes per second of memory, bytes of memory; or
    what was measured of it (`harness.comparison.measuring`).

    `training` is the share of the FLOP/s that training is taken to reach, `reading` that of the bandwidth while answers
    are generated; `told` says whose figures they are.
    """

    title: str
    flops: float
    bandwidth: float
    memory: int
    training: float = 0.4
    reading: float = 0.5
    told: str = "published FLOP/s and bandwidth"


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
        raise UsageError(f"--device {name}: known are {', '.join(DEVICES)}, and {HERE}, which measures this machine's.")
    return DEVICES[name]
