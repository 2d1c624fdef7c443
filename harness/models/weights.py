"""Whether the weights that were read are a whole model: none missing, none left over, each of its shape, all finite.

transformers draws what a file lacks at random and says so in a warning only; two runs would give two tables. Weights
may be sharded over ranks (DeepSpeed's ZeRO-3): of such a one a rank has an empty stand-in, and a part in `ds_tensor`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.system.errors import UsageError

if TYPE_CHECKING:
    from torch import Size, Tensor, nn

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


@contextmanager
def sharding(config: Mapping[str, Any] | None) -> Iterator[None]:
    """What transformers reads is sharded over the ranks weight by weight, as DeepSpeed's `config` says; None: it isn't.

    Rank 0 reads, the others have what they are sent: none ever holds a whole model.
    """
    if config is None:
        yield
        return
    from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

    told = HfDeepSpeedConfig(dict(config))  # transformers looks it up while somebody holds it
    try:
        yield
    finally:
        unset_hf_deepspeed_config()
        del told


@contextmanager
def gathered(module: "nn.Module", change: bool = False) -> Iterator[None]:
    """The module's weights are whole on every rank meanwhile; where they are sharded, all ranks must enter.

    With `change`, what the first rank makes of them stays.
    """
    if not any(hasattr(weight, "ds_tensor") for weight in module.parameters()):
        yield
        return
    from deepspeed.runtime.zero import GatheredParameters

    with GatheredParameters([*module.parameters()], modifier_rank=0 if change else None):
        yield


def brought(weights: "Iterable[nn.Parameter]", here: bool) -> None:
    """Make sharded weights whole in this rank's host memory, if they are wanted `here`; all ranks must call.

    One after another, so that no device holds a whole model.
    """
    from deepspeed.runtime.zero import GatheredParameters

    for weight in weights:
        with GatheredParameters([weight]):
            whole = weight.detach().to("cpu", copy=True) if here else None
        if whole is not None:
            weight.data = whole


def shape_of(weight: "Tensor") -> "Size":
    """The shape of a whole weight."""
    shape: Size = getattr(weight, "ds_shape", weight.shape)
    return shape


def _of(folder: str | Path, adapters: Sequence[Path]) -> str:
    return f"the model {folder}" + (f" with the adapters of {', '.join(map(str, adapters))}" if adapters else "")


def _own(weight: "Tensor") -> "Tensor":
    """What this rank has of a weight; a shard that is longer than what is left of the weight ends in no value."""
    import torch

    shard: Tensor | None = getattr(weight, "ds_tensor", None)
    if shard is None:
        return weight
    left: int = weight.ds_numel - torch.distributed.get_rank() * shard.numel()  # type: ignore[attr-defined]
    return shard[: max(0, left)]


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


def insist_on_finite(model: Any, folder: str | Path, adapters: Sequence[Path] = ()) -> None:
    """UsageError that names the first weight with NaN or an infinity in it. Files are looked through once a process.

    `adapters`: what was merged into the weights of `folder`.
    """
    import torch

    files = [file for one in (Path(folder), *adapters) if one.is_dir() for file in sorted(one.glob("*.safetensors"))]
    stamps = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    if stamps and stamps in _finite:
        return
    held = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    for name, weight in ((name, _own(one).detach()) for name, one in held.items()):
        if (
            weight.is_floating_point()
            and weight.numel()
            and not bool(torch.isfinite(torch.stack(weight.aminmax())).all())
        ):
            cure = "train them with a lower learning_rate" if adapters else "it is damaged. Fetch it again"
            raise UsageError(f"{_of(folder, adapters)} has NaN or infinity in {name}; {cure}.")
    _finite.add(stamps)
