"""What lmms-eval's tasks say of themselves in their YAML files, read without importing lmms-eval.

A task that needs what a benchmark here cannot give is refused by its YAML alone where that says so: see `_refused`.
"""

import difflib
import hashlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from harness.contracts import plugins
from harness.store.digest import file_digest
from harness.system.errors import UsageError

CURE = (
    "lmms-eval is not installed: pip install 'vlm-alignment-harness[lmms]' and pip install --no-deps lmms-eval==0.7.3."
)
OTHER_REQUESTS = {
    "loglikelihood": "it ranks answers by likelihood, and a benchmark here reads a response",
    "multiple_choice": "it ranks options by likelihood, and a benchmark here reads a response",
    "generate_until_multi_round": "it asks in several turns, each made of the response before",
    "generate_until_agentic": "it lets the model call tools",
    "generate_visual_cot": "it has the model draw pictures",
}
NO_FIGURE = ("bypass", "submission")  # names of metrics that stand for a file to hand in, or for nothing
_known: dict[str, tuple["Declared", str]] = {}
DOOR = "lmms_eval.llm_judge"  # the module that tasks ask an LLM through
BUILDERS = ("json", "csv", "parquet", "text", "arrow")  # what `datasets` calls a data set of files alone


@dataclass(frozen=True)
class Measure:
    """One entry of a task's `metric_list`. `mean`: its value is the mean of the documents'."""

    name: str
    mean: bool
    higher: bool


@dataclass(frozen=True)
class Declared:
    """A task as its YAML `file` declares it, with what that includes: `yamls` are all of these.

    `others` are further YAML files that declare a task of this name.
    """

    name: str
    file: Path
    config: Mapping[str, Any]
    yamls: tuple[Path, ...]
    others: tuple[Path, ...] = ()

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Its YAML files, and the Python that they name."""
        return tuple(sorted({*self.yamls, *_code(self.config)}))

    @property
    def dataset(self) -> str:
        """Its data set's repository on the hub, or what `datasets` calls its kind of files."""
        return str(self.config.get("dataset_path") or "")

    @property
    def split(self) -> str:
        """The split that is asked about."""
        return str(self.config.get("test_split") or self.config.get("validation_split") or "")

    @property
    def version(self) -> str:
        """What its metadata call its version; empty where they do not."""
        told = self.config.get("metadata")
        parts = told if isinstance(told, list) else [told]
        return next((str(part["version"]) for part in parts if isinstance(part, dict) and "version" in part), "")

    @property
    def kwargs(self) -> dict[str, Any]:
        """How its responses are generated, by whatever model."""
        usual = (self.config.get("model_specific_generation_kwargs") or {}).get("default") or {}
        return {**(self.config.get("generation_kwargs") or {}), **usual}

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Its metrics that are figures, in its order; lmms-eval's usual one where it lists none."""
        listed = self.config.get("metric_list") or [{"metric": "exact_match", "aggregation": "mean"}]
        return tuple(
            Measure(str(one["metric"]), _aggregation(one) == "mean", one.get("higher_is_better") is not False)
            for one in listed
            if one and one.get("metric") not in NO_FIGURE and _aggregation(one) != "bypass"
        )

    @property
    def filters(self) -> tuple[str, ...]:
        """The names of its ways to read a response."""
        return tuple(str(one["name"]) for one in self.config.get("filter_list") or [{"name": "none"}])

    @cached_property
    def judged(self) -> bool:
        """Whether it can ask an LLM through lmms-eval's own door, where a judge of ours stands."""
        return any(file.is_file() and DOOR in file.read_text("utf-8") for file in self.files if file.suffix == ".py")

    @property
    def content(self) -> str:
        """What tells its files from others: their names and bytes."""
        there = [file for file in self.files if file.is_file()]
        lines = (f"{file.relative_to(home().parent)} {file_digest(file)}" for file in there)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    @property
    def refused(self) -> str:
        """Why it can be no benchmark here; empty where its YAML gives no reason."""
        return next(_refused(self), "")


def _aggregation(measure: Mapping[str, Any]) -> str:
    """What a metric's entry calls its aggregation; its function's name where it is the task's own."""
    usual = "mean" if measure["metric"] in ("exact_match", "acc") else ""  # in lmms-eval's registry
    return str(measure.get("aggregation") or usual)


def _refused(task: Declared) -> Iterator[str]:
    """The reasons, the first of which is told."""
    config, asked = task.config, task.kwargs
    data = config.get("dataset_kwargs") or {}
    if task.others:
        yield f"{len(task.others) + 1} of its files declare a task of this name, and which one counts is left to chance"
    if "class" in config:
        yield "it is a Python class, no YAML task"
    if why := OTHER_REQUESTS.get(str(config.get("output_type") or "generate_until")):
        yield why
    if data.get("video") or "From_YouTube" in data:
        yield "it shows videos, and a prompt here has one picture"
    if config.get("num_fewshot"):
        yield f"it shows {config['num_fewshot']} answered examples first, and prompts here have none"
    if (config.get("repeats") or 1) != 1:
        yield f"it asks {config['repeats']} times, and responses here are greedy"
    if asked.get("do_sample") and float(asked.get("temperature") or 0) > 0:
        yield f"it samples at temperature {asked['temperature']}, and responses here are greedy"
    if (asked.get("num_beams") or 1) != 1:
        yield f"it searches {asked['num_beams']} beams, and responses here are greedy"
    if config.get("process_results_use_image") or config.get("full_docs"):
        yield "it scores with pictures or with all documents at hand, and a score here sees one question's facts"
    named = [one.name for one in task.measures if re.search("gpt|llm|judge(_|$)", one.name, re.I)]
    if named and not task.judged:
        yield (
            f"its own judge gives {named[0]}, over the network, past the budget and the journal of judges here; "
            "lmms-eval asks it where it runs the model itself (python -m lmms_eval --model harness)"
        )
    if not task.measures:
        yield "it gives a file to hand in and no figure"
    if not task.split:
        yield "it has no test and no validation split"


@cache
def home() -> Path:
    """lmms-eval's folder; UsageError with the cure where it is not installed."""
    spec = importlib.util.find_spec("lmms_eval") if plugins.lmms_eval() else None
    if not spec or not spec.origin:
        raise UsageError(CURE)
    return Path(spec.origin).parent


@cache
def version() -> str:
    """lmms-eval's version."""
    home()
    return metadata.version("lmms-eval")


def declared(name: str) -> Declared:
    """The task of a name, as its files are now; UsageError where lmms-eval has none, or a group of tasks."""
    known = _known.get(name)
    if not known or known[1] != known[0].content:
        found = _found(name)
        known = _known[name] = found, found.content
    return known[0]


def _found(name: str) -> Declared:
    files = [file for file in _yamls() if name.encode() in file.read_bytes()]
    found = _tasks(files).get(name) or tasks().get(name)  # the second: named by a file that is included
    if found:
        return found
    if group := members(name):
        of = ", ".join(f"lmms:{one}" for one in group)
        raise UsageError(f"lmms:{name} is a group of lmms-eval's; name one of its tasks: {of}.")
    close = difflib.get_close_matches(name, tasks(), n=3)
    hint = f" Near it: {', '.join(f'lmms:{one}' for one in close)}." if close else ""
    raise UsageError(f"lmms-eval {version()} has no task {name}.{hint} All of them: harness benchmarks lmms:")


def members(name: str) -> tuple[str, ...]:
    """The tasks of a group of lmms-eval's, and of groups in it, in their order; none of a name that is no group."""
    files = [file for file in _yamls() if name.encode() in file.read_bytes()]
    if name in _tasks(files):
        return ()
    groups = [config for config in (_loaded(file)[0] for file in files) if config.get("group") == name]
    listed = groups[0].get("task") if groups else None
    of = [one for one in listed if one != name] if isinstance(listed, list) else []
    return tuple(dict.fromkeys(task for one in of for task in _in_group(one)))


def _in_group(entry: Any) -> Iterator[str]:
    """The tasks that an entry of a group's list stands for: a name, or a group written out."""
    if isinstance(entry, dict):
        inner = entry.get("task")
        for one in inner if isinstance(inner, list) else [inner]:
            yield from _in_group(one)
    else:
        yield from members(str(entry)) or (str(entry),)


@cache
def tasks() -> dict[str, Declared]:
    """Every task by name, sorted; groups are none."""
    return _tasks(_yamls())


def _yamls() -> list[Path]:
    return sorted((home() / "tasks").rglob("*.yaml"))


def _tasks(files: list[Path]) -> dict[str, Declared]:
    found = dict[str, Declared]()
    for file in files:
        config, included = _loaded(file)
        name = config.get("task")
        if not isinstance(name, str):
            continue
        if name in found:
            first = found[name]
            found[name] = Declared(name, first.file, first.config, first.yamls, (*first.others, file))
        else:
            found[name] = Declared(name, file, config, tuple(included))
    return dict(sorted(found.items()))


class _Function(str):
    """What `!function` names, "utils.score", and the folder of the file that names it."""

    folder: Path

    @property
    def file(self) -> Path:
        """The Python file that it is in: beside the YAML, else a module."""
        stem = self.rpartition(".")[0]
        beside = self.folder / f"{stem}.py"
        return beside if beside.is_file() else home().parent.joinpath(*stem.split(".")).with_suffix(".py")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    folder: Path


def _function(loader: _Loader, node: yaml.ScalarNode) -> _Function:
    made = _Function(loader.construct_scalar(node))
    made.folder = loader.folder
    return made


_Loader.add_constructor("!function", _function)


def _loaded(file: Path) -> tuple[dict[str, Any], list[Path]]:
    """A YAML file over what it includes, as `lmms_eval.utils.load_yaml_config` lays them, and all files it took."""
    with file.open("rb") as text:
        loader = _Loader(text)
        loader.folder = file.parent
        config = loader.get_single_data()
    if not isinstance(config, dict):
        return {}, [file]
    below, files, given = dict[str, Any](), [file], config.pop("include", None) or []
    for name in reversed([given] if isinstance(given, str) else given):
        inner, read = _loaded(file.parent / name)
        below |= inner
        files += read
    return below | config, files


def _code(config: Any) -> Iterator[Path]:
    """The Python files that functions of a config are in, and those of lmms-eval's tasks that they import."""
    todo, seen = [one.file for one in _functions(config)], set[Path]()
    while todo:
        file = todo.pop()
        if file in seen or not file.is_file():
            continue
        seen.add(file)
        yield file
        for module in re.findall(r"^\s*(?:from|import)\s+(lmms_eval\.tasks\.[\w.]+)", file.read_text("utf-8"), re.M):
            place = home().parent.joinpath(*module.split("."))
            todo += [place.with_suffix(".py"), place / "__init__.py"]


def _functions(thing: Any) -> Iterator[_Function]:
    if isinstance(thing, _Function):
        yield thing
    for inner in thing.values() if isinstance(thing, dict) else thing if isinstance(thing, list) else ():
        yield from _functions(inner)
