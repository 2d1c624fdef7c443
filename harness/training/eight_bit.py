"""AdamW with a state of 8 bits, by blocks of 256 values (Dettmers et al. 2022, arXiv 2110.02861; bitsandbytes).

A module of its own that is loaded by name, so that bitsandbytes is in the keys of the trainings that use it alone.
"""

from typing import Any

from bitsandbytes.optim import AdamW8bit


def adamw(groups: Any, **arguments: Any) -> Any:
    """The optimiser of parameter groups; `arguments` as torch's AdamW has them."""
    return AdamW8bit(groups, **arguments)
