"""lmms-eval's task objects at work: documents out of a data set, and what a task makes of a response.

As lmms-eval's evaluator does it: prompts are of documents without their pictures, filters come before
`process_results`, and each filter has metrics of its own. No task is asked twice where it fails, and none reaches the
network.
"""

import copy
import inspect
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import lmms_eval.api.metrics  # noqa: F401  (registers them)
from lmms_eval.api.reasoning import parse_reasoning_tags_config, strip_reasoning_tags
from lmms_eval.api.task import ConfigurableTask
from lmms_eval.filters.transformation import StripThinkingFilter
from lmms_eval.utils import is_multimodal_content, load_yaml_config
from PIL import Image as Pillow
from PIL import ImageFile

from benchmarks._lmms_guard import Called, no_credentials, seeded, unplugged, until
from benchmarks._lmms_yaml import BUILDERS, Declared
from harness.contracts.images import decode
from harness.contracts.settings import HUB
from harness.system.errors import HarnessError, UsageError
from harness.system.jsonl import dumps

FETCHING = ("trust_remote_code", "token", "revision", "cache_dir", "local_files_only", "force_download", "create_link")
FILES = (".parquet", ".json", ".jsonl")
Row = dict[str, Any]


@dataclass(frozen=True)
class Document:
    """One document: `row` as plain data without its pictures, the prompt, the picture's file (b"": none).

    `target` is what a right answer says, as text; `targets` how many of them the task counts, 0 where it knows one.
    """

    row: Row
    text: str
    picture: bytes
    target: str
    targets: int


class Task(ConfigurableTask):  # type: ignore[misc]
    """A task over rows that `load` puts into `dataset`."""

    def __init__(self, declared: Declared, load: Callable[["Task"], None]) -> None:
        self._load = load
        if declared.judged:
            import benchmarks._lmms_judge  # noqa: F401  (stands in for whom the task asks)
        with no_credentials():
            super().__init__(config=load_yaml_config(str(declared.file)))
        ImageFile.LOAD_TRUNCATED_IMAGES = False  # importing lmms_eval lets the process read half pictures
        tags = parse_reasoning_tags_config(task_value=self.config.reasoning_tags)
        if self.config.auto_strip_thinking and tags is None:
            for ensemble in self._filters:
                ensemble.filters.insert(0, StripThinkingFilter())

    def download(self, dataset_kwargs: Mapping[str, Any] | None = None) -> None:
        """Take the rows that are there."""
        self._load(self)


@contextmanager
def _said(declared: Declared, what: str) -> Iterator[None]:
    """A fault of the task's own code as a sentence."""
    try:
        yield
    except Called:
        raise UsageError(f"lmms:{declared.name} goes for the network in {what}; it is no benchmark here.") from None
    except HarnessError:
        raise
    except ModuleNotFoundError as error:
        raise UsageError(
            f"lmms:{declared.name}: lmms-eval's task imports {error.name}, which is not installed and which lmms-eval "
            f"does not ask for; install the package that has it, pip install {error.name} where it is called so."
        ) from error
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UsageError(f"lmms:{declared.name}: {what} of lmms-eval's task fails ({said}).") from error


def documents(declared: Declared, folder: Path, hub: str, told: str) -> Iterator[Document]:
    """Every document of the split in its order; `told` says where its files come from.

    UsageError where they are not there, and for a document that needs more than a prompt here can be.
    """
    with tempfile.TemporaryDirectory(prefix="harness-lmms-") as scratch:
        with _said(declared, "the set-up"), seeded(), nullcontext() if hub else unplugged():
            task = Task(declared, lambda made: _download(made, declared, folder, hub, scratch, told))
        bare, whole = task.eval_docs_no_media, task.eval_docs
        kept = _undecoded(whole)
        for number in range(len(whole)):
            where = f"document {number}"
            with _said(declared, where), seeded(), unplugged():
                row, shown = bare[number], task.doc_to_visual(whole[number])
                text, target = task.fewshot_context(row, 0), task.doc_to_target(row)
                target = target if isinstance(target, str) else dumps(target)
            if not isinstance(text, str):
                raise UsageError(f"lmms:{declared.name}, {where}: its prompt is a {type(text).__name__}, no text.")
            picture = _picture(declared, where, shown, kept[number])
            yield Document(_plain(declared, where, row), text, picture, target, task.multiple_target)


def _download(task: Task, declared: Declared, folder: Path, hub: str, scratch: str, told: str) -> None:
    """lmms-eval's own loading, from a folder or a pinned data set of the hub; the network only for the latter."""
    kwargs = {name: given for name, given in (task.config.dataset_kwargs or {}).items() if name not in FETCHING}
    if hub:
        pinned = HUB.fullmatch(hub)
        if not pinned:
            raise UsageError(f"hub={hub}: write owner/name@<40-hex commit>, so that the data cannot change unnoticed.")
        task.DATASET_PATH, kwargs["revision"] = pinned["id"], pinned["revision"]
    else:
        if not folder.is_dir() and folder.suffix not in FILES:
            raise UsageError(f"{folder} is not there; {told}")
        kwargs |= {"cache_dir": scratch}
        _redirect(task, declared, folder if folder.is_dir() else folder.parent, scratch)
        _lies(task, declared.split, folder, kwargs)
    datasets.disable_progress_bars()
    try:
        ConfigurableTask.download.__wrapped__(task, kwargs)
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        raise UsageError(f"{hub or folder}: {' '.join(str(error).split())[:300]} {told}") from None
    if declared.split not in task.dataset:
        raise UsageError(f"{hub or folder} has no split {declared.split}, only {', '.join(task.dataset)}. {told}")
    if not len(task.dataset[declared.split]):
        raise UsageError(f"the split {declared.split} of {hub or folder} has no documents. {told}")


def _lies(task: Task, split: str, folder: Path, kwargs: Row) -> None:
    """Have a task load what lies in a folder: a clone of its repository, files named by split, or `save_to_disk`'s.

    Or the rows of one file, whatever its name.
    """
    if not folder.is_dir():
        task.DATASET_PATH, task.DATASET_NAME, kwargs["data_files"] = str(folder.parent), None, {split: [folder.name]}
    elif (folder / "dataset_dict.json").is_file():
        task.DATASET_PATH, kwargs["load_from_disk"] = str(folder), True
    elif task.config.dataset_path in BUILDERS:
        named = kwargs.get("data_files")
        by_split = named if isinstance(named, dict) else {"train": named}
        task.DATASET_PATH = str(folder)
        kwargs["data_files"] = {split: Path(str(file)).name for split, file in by_split.items()}
    else:
        task.DATASET_PATH = str(folder)
        if (folder / "README.md").is_file():  # which names the configurations
            return
        task.DATASET_NAME = None
        if files := [file.name for file in sorted(folder.glob(f"{split}.*")) if file.suffix in FILES]:
            kwargs["data_files"] = {split: files}


def _redirect(task: Task, declared: Declared, folder: Path, scratch: str) -> None:
    """Where a function of the task loads its data set once more, let it find the folder's."""

    def load(path: str, name: str | None = None, *_: Any, split: str | None = None, **__: Any) -> Any:
        if path != declared.dataset:
            raise UsageError(f"lmms:{declared.name} reads a second data set, {path}; it is no benchmark here.")
        return datasets.load_dataset(str(folder), name, split=split, cache_dir=scratch)

    for function in vars(task.config).values():
        names = getattr(function, "__globals__", {})
        if "load_dataset" in names:
            names["load_dataset"] = load


def _undecoded(rows: Any) -> Any:
    """The same rows with pictures as the files that they came in."""
    for name, feature in rows.features.items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, datasets.Image(decode=False))
    return rows


def _picture(declared: Declared, where: str, shown: Any, kept: Row) -> bytes:
    """The one picture that is shown: the file it came in if that shows the same, else a PNG; b"" for none."""
    shown = [] if shown is None else shown
    if not isinstance(shown, list) or len(shown) > 1:
        many = f"{len(shown)} pictures" if isinstance(shown, list) else f"a {type(shown).__name__}"
        raise UsageError(f"lmms:{declared.name}, {where}, shows {many}; a prompt here has one picture.")
    if not shown:
        return b""
    if not isinstance(shown[0], Pillow.Image):
        kind = type(shown[0]).__name__
        raise UsageError(f"lmms:{declared.name}, {where}, shows a {kind} (a video, a sound?); a picture is taken.")
    picture = shown[0].convert("RGB")
    for cell in kept.values():
        data = cell.get("bytes") if isinstance(cell, dict) else None
        if isinstance(data, bytes) and _same(data, picture):
            return data
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _same(data: bytes, picture: Pillow.Image) -> bool:
    """Whether a file is read here as the very picture."""
    try:
        ours = decode(data)
    except ValueError:
        return False
    return ours.size == picture.size and ours.tobytes() == picture.tobytes()


def _plain(declared: Declared, where: str, row: Row) -> Row:
    """A document as plain data, without pictures and sounds."""
    kept = {name: cell for name, cell in row.items() if not _media(cell)}
    try:
        dumps(kept)
    except (TypeError, ValueError) as error:
        raise UsageError(f"lmms:{declared.name}, {where}, is no plain data: {error}.") from None
    return kept


def _media(cell: Any) -> bool:
    return any(map(_media, cell)) if isinstance(cell, list) else is_multimodal_content(cell)


def scorer(declared: Declared, row: Row) -> Task:
    """The task for scores of documents: loaded with one of them, for it needs no more."""

    def load(task: Task) -> None:
        task.dataset = task.dataset_no_image = {declared.split: datasets.Dataset.from_list([row])}

    with _said(declared, "the set-up"), seeded(), unplugged():
        return Task(declared, load)


def results(
    declared: Declared, task: Task, facts: Mapping[str, Any], id: str, text: str
) -> tuple[dict[str, Any], bool]:
    """What the task makes of one response: metric -> value, "metric@filter" where it has several filters.

    And whether it drew anything at random, such as an option where it could read none: it draws by the item's id.
    Whatever the task's own code raises comes through; UsageError where it goes for the network.
    """
    row, task.multiple_target = facts["row"], facts["targets"]
    tags, found, drawn = parse_reasoning_tags_config(task_value=task.config.reasoning_tags), dict[str, Any](), False
    for ensemble in task._filters:
        said = SimpleNamespace(resps=[until(text, task.config.generation_kwargs)], filtered_resps={})
        try:
            with seeded(id) as luck, unplugged():
                ensemble.apply([said], [row])
                read = said.filtered_resps[ensemble.name]
                if tags is not None:
                    strip = isinstance(read, str)
                    read = strip_reasoning_tags(read, tags) if strip else [strip_reasoning_tags(r, tags) for r in read]
                made = ConfigurableTask.process_results.__wrapped__(task, copy.deepcopy(row), [read])
        except Called:
            raise UsageError(
                f"lmms:{declared.name} asks a judge of its own over the network; it is no benchmark here."
            ) from None
        found |= {f"{name}@{ensemble.name}" if len(task._filters) > 1 else name: value for name, value in made.items()}
        drawn |= luck.drawn
    return found, drawn


def aggregate(declared: Declared, task: Task, name: str, values: Sequence[Any]) -> Any:
    """The task's own figure from the results of all documents, in their order; UsageError where it gives none.

    Aggregations may change what they are given (MathVista's does), and are asked more than once.
    """
    with _said(declared, f"the aggregation of {name}"), tempfile.TemporaryDirectory() as folder, seeded(), unplugged():
        function = task.aggregation()[name.partition("@")[0]]
        files = {"args": SimpleNamespace(output_path=folder)}
        return function(
            copy.deepcopy(list(values)), **(files if "args" in inspect.signature(function).parameters else {})
        )
