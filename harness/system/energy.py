"""Joules that the machine says it used: the CPU packages' RAPL counters, and the accelerator's by NVML.

Of the whole machine, whoever else works on it. None where no counter can be read, as on most virtual machines.
"""

from collections.abc import Callable
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


def meter(folder: Path = POWERCAP) -> Callable[[], float | None]:
    """Starts counting; a call gives the joules since."""
    packages = sorted(path for path in folder.glob("*-rapl:*") if path.name.count(":") == 1)
    before = {path: _joules(path / "energy_uj") for path in packages}
    device = _device_joules()

    def since() -> float | None:
        """Joules since, of packages and the device; None where nothing here counts."""
        used = []
        for path, start in before.items():
            now, most = _joules(path / "energy_uj"), _joules(path / "max_energy_range_uj")
            if start is not None and now is not None:
                used.append(now - start if now >= start else now - start + (most or 0.0))  # the counter starts anew
        after = _device_joules()
        if device is not None and after is not None:
            used.append(after - device)
        return sum(used) if used else None

    return since


def _joules(counter: Path) -> float | None:
    try:
        return int(counter.read_text(encoding="ascii")) / 1e6
    except (OSError, ValueError):
        return None


def _device_joules() -> float | None:
    """What this process's accelerator has used since its driver was loaded; needs nvidia-ml-py."""
    import torch

    if not torch.cuda.is_available():
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
    except pynvml.NVMLError:
        return None
