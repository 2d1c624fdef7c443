"""Whether the weights that were read are a whole model: none missing, none left over, each of its shape, all finite.

transformers draws what a file lacks at random and says so in a warning only; two runs would give two tables.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.system.errors import UsageError

DERIVED = (".inv_freq", ".position_ids")  # follow from the config; old checkpoints have them
SHOWN = 3  # tensors named in an error

_finite: set[tuple[tuple[str, int, int], ...]] = set()  # files known to hold nothing but numbers


def reading(folder: str | Path, what: str, read: Callable[[], Any]) -> Any:
    """What transformers reads of a folder; whatever it raises over a file, and it raises anything, is a sentence."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its warnings about weights are our errors
    try:
        return read()
    except Exception as error:
        if isinstance(error, MemoryError) or "allocate" in str(error):  # no fault of the folder's
            raise
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(f"the {what} of {folder} cannot be read ({first}); fetch the whole folder again.") from error
    finally:
        logging.set_verbosity(verbosity)


def insist_on_whole(info: Mapping[str, Any], folder: str | Path) -> None:
    """UsageError where `from_pretrained` passed over a tensor; `info` is its `output_loading_info`, sizes ignored."""
    missing = sorted(info["missing_keys"])
    strange = sorted(name for name in info["unexpected_keys"] if not name.endswith(DERIVED))
    shapes = [
        f"{name} {list(stored)} instead of {list(wanted)}" for name, stored, wanted in sorted(info["mismatched_keys"])
    ]
    for names, what in ((missing, "lacks"), (shapes, "has of another shape"), (strange, "has beyond its config")):
        if names:
            more = f" and {len(names) - SHOWN} more" if names[SHOWN:] else ""
            raise UsageError(
                f"the model {folder} {what}: {', '.join(names[:SHOWN])}{more}; weights and config.json do not belong "
                "together. Fetch the whole folder again."
            )
    if errors := info.get("error_msgs"):
        raise UsageError(f"the weights of {folder} cannot be read: {next(iter(errors))}. Fetch the whole folder again.")


def insist_on_finite(model: Any, folder: str | Path) -> None:
    """UsageError that names the first weight with NaN or an infinity in it. Files are looked through once a process."""
    import torch

    files = sorted(Path(folder).glob("*.safetensors")) if Path(folder).is_dir() else []
    stamps = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    if stamps and stamps in _finite:
        return
    for name, weight in model.state_dict().items():
        if (
            weight.is_floating_point()
            and weight.numel()
            and not bool(torch.isfinite(torch.stack(weight.aminmax())).all())
        ):
            raise UsageError(f"the model {folder} has NaN or infinity in {name}; it is damaged. Fetch it again.")
    _finite.add(stamps)
