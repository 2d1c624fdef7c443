"""Where in a store a vision tower's features are kept."""

import hashlib
from pathlib import Path

from harness.store.closure import code
from harness.store.store import Store
from harness.system.jsonl import dumps

SHELVES = ".features"  # in the store's folder
MAKERS = ("harness.models.shelf", "harness.models.noise")  # what makes features, beside a model's own


def shelf(store: Store, model: str, maker: str | Path) -> Path:
    """Where the features are kept that a model's tower makes, by the model's revision and the code that runs it.

    `maker` is its family's file, or a module. Every policy trained from a base has the base's tower.
    """
    key = hashlib.sha256(dumps([model, code(*MAKERS, maker)]).encode()).hexdigest()
    return store.root / SHELVES / key[:20]
