"""The environment with vLLM that tests use where there is one: of `make vllm-env`, or in the folder HARNESS_VLLM."""

import os
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("HARNESS_VLLM") or Path(__file__).parents[1] / ".vllm")


def options() -> dict[str, Any]:
    """The backend's options."""
    return {"environment": str(FOLDER)}
