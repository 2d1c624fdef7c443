"""The environment with vLLM that tests use where there is one: of `make vllm-env`, or in the folder HARNESS_VLLM."""

import os
from pathlib import Path
from typing import Any

import pytest

from harness.backends.vllm import Vllm

FOLDER = Path(os.environ.get("HARNESS_VLLM") or Path(__file__).parents[1] / ".vllm")


def options() -> dict[str, Any]:
    """The backend's options."""
    return {"environment": str(FOLDER)}


def made() -> Vllm:
    """The backend; without an environment the test is skipped, or where one was named, fails."""
    backend = Vllm(**options())
    if why := backend.problem():
        (pytest.fail if os.environ.get("HARNESS_VLLM") else pytest.skip)(why)
    return backend
