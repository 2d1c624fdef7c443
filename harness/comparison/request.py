"""The command line's words as a testbed, a request and how to run it."""

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from harness import backends
from harness.contracts import borrowed
from harness.contracts.behind import behind
from harness.contracts.executor import Executor
from harness.contracts.judge_kind import JUDGES
from harness.contracts.plugins import adopt, installed, make, parted, stem, unknown
from harness.contracts.schedule import EXECUTORS
from harness.contracts.settings import Fixed, MethodSpec, Runtime, Testbed, Training, first_error
from harness.contracts.steps import ALL_BENCHMARKS, Request
from harness.contracts.testbed_file import locate, paths_in, read_testbed, weights, words_in
from harness.sources import _chosen
from harness.system import boards
from harness.system.errors import UsageError
from harness.system.yamls import parse_yaml

Model = TypeVar("Model", bound=Fixed)
Number = TypeVar("Number", int, float)


def request(
    methods: str,
    data: str,
    images: str,
    testbed_name: str,
    seeds: int,
    benchmarks: str,
    examples: int | None,
    limit: int | None,
    sets: list[str] | None,
    workers: int | None,
    who: Mapping[str, str] | None = None,
    executor: str = "local",
    model: str = "",
    published: str = "",
) -> tuple[Testbed, Request, Runtime]:
    """The command line as a testbed, a request and how to run it; `who` names another judge or writer, `model` other
    base models (with commas), `published` those of rows that nobody trains here."""
    for what, number in (("seeds", seeds), ("examples", examples), ("limit", limit), ("workers", workers)):
        if number is not None and (type(number) is not int or number < 1):
            raise UsageError(f"{what} is {number!r}; give a whole number, 1 or more.")
    rows = [row.strip() for row in methods.split(",") if row.strip()]
    names = [stem(row.partition(":")[0]) for row in rows]
    named = borrowed.spread("benchmarks", benchmarks)
    columns = tuple(adopt("benchmarks", name) for name in named) or ALL_BENCHMARKS
    bed = read_testbed(testbed_name)
    bed = bed.model_copy(update={role: words_in(words, Path()) for role, words in (who or {}).items()})
    if bases := tuple(weights(name.strip(), Path()) for name in model.split(",") if name.strip()):
        bed = bed.model_copy(update={"models": bases})
    parts = ("training", "judging", "writing", "answering", "reading", "generation")
    for name in columns:
        if name not in installed("benchmarks") and name in (*parts, "runtime", *names, *installed("methods")):
            raise UsageError(f"--benchmarks {name}.py: {name} is something else here; rename the file.")
    if taken := {*names} & {*parts, "runtime"}:
        raise UsageError(f"--methods {min(taken)}.py: {min(taken)} is something else here; rename the file.")
    chosen = settings(sets or [], [*names, *columns, *parts, "runtime"])
    specs = tuple(method_spec(row, bed, chosen) for row in rows)
    told = {name: borrowed.pinned("benchmarks", name) | bed.benchmarks.get(name, {}) for name in columns}
    options = bed.benchmarks | {name: of | chosen.get(name, {}) for name, of in told.items() if of or name in chosen}
    changed = {part: getattr(bed, part).model_dump() | chosen.get(part, {}) for part in parts}
    if isinstance(backend := changed["generation"]["backend"], str):
        changed["generation"]["backend"] = words_in(backend, Path())
    bed = validated(bed, {"benchmarks": options, **changed})
    if problem := backends.chosen(bed.generation).problem():
        raise UsageError(problem)
    cores = 1 if Path("/dev/nvidia0").exists() else min(os.cpu_count() or 1, 8)  # steps would share one GPU's memory
    runtime = validated(Runtime(workers=workers or cores, executor=executor), chosen.get("runtime", {}))
    runtime = runtime.model_copy(update={"logging_dir": str(locate(runtime.logging_dir, Path()))})
    make(EXECUTORS, runtime.executor, Executor, runtime.executor_options)
    boards.check(runtime.report_to)
    source = _chosen.source(data, images, behind(bed.data).home)
    asked = Request(specs, source, seeds, benchmarks=columns, examples=examples, limit=limit)
    trained, answered = other_rows(published)
    asked = replace(asked, published=trained, answered=answered)
    return bed, asked, runtime


def other_rows(words: str) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """Rows that nobody trains here, "NAME=MODEL" with commas between: those of models, and those that an API answers.

    By default a row is named as its model; of "owner/name@COMMIT" that is the repository's own name. UsageError for a
    name that would be no word.
    """
    models, answered = list[tuple[str, str]](), list[tuple[str, str]]()
    for word in filter(None, (word.strip() for word in words.split(","))):
        name, _, model = word.rpartition("=")
        kind, rest = parted(model)
        elsewhere = kind in installed(JUDGES)  # openai:MODEL
        own = rest if elsewhere else model
        name = name or re.sub(r"[^\w.-]+", "-", Path(own.partition("@")[0]).expanduser().name)
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise UsageError(f"--rows {word}: name the row in front, e.g. seva={model or './seva-7b'}.")
        if elsewhere:
            answered.append((name, words_in(model, Path())))
        else:
            models.append((name, weights(model, Path())))
    return tuple(models), tuple(answered)


def settings(sets: list[str], known: list[str]) -> dict[str, dict[str, Any]]:
    """Every --set NAME.FIELD=VALUE by name and field; the value is read as YAML."""
    found: dict[str, dict[str, Any]] = {}
    for text in sets:
        target, _, value = text.partition("=")
        name, _, field = target.rpartition(".")
        name = stem(name)
        if not name or not field or not value:
            raise UsageError(f'--set {text}: write NAME.FIELD=VALUE, e.g. "dpo.beta=0.5".')
        if name not in known:
            raise unknown("method, benchmark or part of this comparison", name, known)
        parsed = parse_yaml(value, f"--set {text}")
        found.setdefault(name, {})[field] = float(parsed) if _is_number(parsed) else paths_in(parsed, Path())
    return found


def method_spec(row: str, bed: Testbed, chosen: dict[str, dict[str, Any]]) -> MethodSpec:
    """A row of the comparison: a field of Training is a training argument, any other an option of the method.

    "nsft:turns=random:max_turns=3" is a row of nsft with options of its own, which win over --set and the testbed. A
    file of the user's is meant in full, for processes that start elsewhere, and its rows are called by its name.
    """
    name, *own = row.split(":")
    short = stem(name)
    name = str(Path(name).expanduser().absolute()) if name != short else name
    given = settings([f"row.{text}" for text in own], ["row"]).get("row", {})
    fields = bed.methods.get(short, {}) | chosen.get(short, {}) | given
    training = {field: value for field, value in fields.items() if field in Training.model_fields}
    options = {field: value for field, value in fields.items() if field not in training}
    return MethodSpec(name=name, options=options, training=training, row=":".join([short, *own]) if own else "")


def validated(model: Model, changes: dict[str, Any]) -> Model:
    """The model with changed fields; a wrong one is a sentence."""
    try:
        return type(model).model_validate(model.model_dump() | changes)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "extra_forbidden":
            *parts, field = map(str, first["loc"])
            inside: type[Fixed] = type(model)
            for part in parts:
                inside = _model_in(inside.model_fields[part].annotation)
            raise unknown(" ".join([*parts, "field"]), field, list(inside.model_fields)) from None
        raise UsageError(f"--set: {first_error(error)}") from None


def _model_in(kind: Any) -> type[Fixed]:
    """The model that a field's type is or may be: Lora of `Lora | None`."""
    kinds = (kind, *get_args(kind))
    return next(one for one in kinds if isinstance(one, type) and issubclass(one, Fixed))


def numbers(option: str, text: str, kind: Callable[[str], Number]) -> list[Number]:
    """The comma-separated finite numbers of an option."""
    try:
        parsed = [kind(part) for part in text.split(",")]
    except ValueError:
        parsed = []
    if not parsed or not all(map(math.isfinite, parsed)):
        raise UsageError(f"{option} {text}: give numbers with commas between.")
    return parsed


def _is_number(value: object) -> bool:
    """Whether it is a number that YAML 1.1 took for a string, like 1e-4; "nan" and "inf" are words."""
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False
