"""Training curves while they are drawn, on a board of the user's: TensorBoard, W&B, MLflow or trackio.

`log.jsonl` stays the record, and no board decides anything: one that fails says so once and is left, the training goes
on. The trackers are accelerate's; `runtime.report_to` has the HF Trainer's names.
"""

import importlib.util
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from harness.system.errors import UsageError

Board = Literal["tensorboard", "wandb", "mlflow", "trackio"]
PROJECT = "harness"
log = logging.getLogger(__name__)


def check(names: Sequence[Board]) -> None:
    """UsageError, before any work, for a board whose package is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"runtime.report_to={name} needs a package that is not there: pip install {name}.")


class Boards:
    """The boards of one training. `run` is its name there, `folder` where files of TensorBoard go."""

    def __init__(self, names: Sequence[Board], run: str, folder: Path, settings: Mapping[str, Any]) -> None:
        self._open: dict[str, Any] = {}
        for name in names:
            self._do(name, lambda name=name: self._start(name, run, folder, settings))  # type: ignore[misc]

    def log(self, line: Mapping[str, float]) -> None:
        """Pass on one line of the log: its "step", and the other figures."""
        figures = {f"train/{name}": value for name, value in line.items() if name != "step"}
        for name, tracker in list(self._open.items()):
            self._do(name, lambda tracker=tracker: tracker.log(figures, step=int(line["step"])))  # type: ignore[misc]

    def close(self) -> None:
        """Wait until everything is passed on: ranks end without an interpreter's farewell."""
        for name, tracker in list(self._open.items()):
            self._do(name, tracker.finish)

    def _start(self, name: str, run: str, folder: Path, settings: Mapping[str, Any]) -> None:
        from accelerate import tracking

        tracking.logger = log  # its own refuses to speak before accelerate has set up its process group
        if name == "wandb" and not os.environ.get("WANDB_API_KEY"):
            os.environ.setdefault("WANDB_MODE", "offline")  # else it asks for a key, and nobody is there to answer
        how: dict[str, dict[str, Any]] = {
            "tensorboard": {"run_name": run, "logging_dir": str(folder)},
            "wandb": {"run_name": PROJECT, "name": run, "id": run, "resume": "allow"},
            "mlflow": {"experiment_name": PROJECT, "run_name": run},
            "trackio": {"run_name": PROJECT, "name": run, "resume": "allow"},
        }
        tracker = tracking.LOGGER_TYPE_TO_CLASS[name](**how[name])
        # only rank 0 has one, and accelerate would look for a process group of its own
        tracker.main_process_only = False
        tracker.start()
        self._open[name] = tracker
        plain = {name: value if isinstance(value, int | float) else str(value) for name, value in settings.items()}
        tracker.store_init_configuration(plain)

    def _do(self, name: str, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:
            self._open.pop(name, None)
            log.warning("%s shows this training no more: %s", name, error)


def names(given: object) -> object:
    """`report_to` as a tuple: the HF Trainer takes a name, a list, "all" or "none"."""
    if isinstance(given, str):
        return {"none": (), "all": get_args(Board)}.get(given, (given,))
    return given
