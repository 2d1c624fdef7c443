"""The command line. Heavy modules are imported inside the commands, so that `harness --help` is instant."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from harness.types import HarnessError, UsageError

if TYPE_CHECKING:
    from harness.config import Fixed, MethodSpec, Runtime, Testbed
    from harness.plan import Request

Model = TypeVar("Model", bound="Fixed")

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Compare alignment methods for vision-language models honestly: one split, one loop, one scorer, one table.",
)

Methods = Annotated[str, typer.Option(help="Comma-separated method names, or paths of files that define one.")]
Data = Annotated[str, typer.Option(help="A data source, or your LLaVA conversation JSON (with --images).")]
Images = Annotated[str, typer.Option(help="The image folder of a --data file.")]
TestbedName = Annotated[str, typer.Option("--testbed", help="A built-in testbed or a YAML file.")]
Seeds = Annotated[int, typer.Option(min=1, help="Repetitions; each takes another base model (if there are) and split.")]
Benchmarks = Annotated[str, typer.Option(help="Comma-separated benchmark names; empty: the paper's nine.")]
Examples = Annotated[int | None, typer.Option(min=1, help="Training examples; default: the testbed's.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Benchmark scenes (mini) or items; default: all.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="NAME.FIELD=VALUE, e.g. dpo.beta=0.5, dpo.learning_rate=1e-4.")
]
Out = Annotated[Path | None, typer.Option(help="Folder for the tables; default: runs/METHODS-DATA-TESTBED.")]
StoreRoot = Annotated[Path, typer.Option("--store", envvar="HARNESS_STORE", help="Where finished stages are kept.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes side by side; default: one per CPU, at most 8.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]

STORE = Path("runs/store")


@app.command()
def compare(
    methods: Methods = "nsft,dpo",
    data: Data = "llava150k",
    images: Images = "",
    testbed: TestbedName = "mini",
    seeds: Seeds = 1,
    benchmarks: Benchmarks = "",
    examples: Examples = None,
    limit: Limit = None,
    sets: Sets = None,
    out: Out = None,
    store: StoreRoot = STORE,
    workers: Workers = None,
    as_json: Json = False,
    dry_run: Annotated[bool, typer.Option(help="Print the plan and stop.")] = False,
) -> None:
    """Build every method's data from one split, train, score on the benchmarks, print the table."""
    from harness.compare import compare as run
    from harness.compare import prepare
    from harness.store import Store

    bed, asked, runtime = request(methods, data, images, testbed, seeds, benchmarks, examples, limit, sets, workers)
    if dry_run:
        from harness.terminal import show_plan

        show_plan(prepare(asked, bed, runtime), Store(store))
        return
    from harness.terminal import show_table, watching

    folder = out or Path("runs") / f"{'-'.join(spec.id for spec in asked.methods)}-{Path(data).stem}-{bed.name}"
    with watching(quiet=as_json) as watcher:
        done = run(asked, bed, runtime, Store(store), folder, watcher)
    if as_json:
        rows = [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]
        typer.echo(json.dumps({"out": str(folder), "stages_run": done.ran, "results": rows}))
        return
    show_table(folder)
    for sentence in done.left_out:
        typer.echo(sentence, err=True)
    typer.echo(f"\n{done.ran} stages run; tables, results and provenance in {folder}", err=True)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def plan(context: typer.Context) -> None:
    """Print what a comparison would run, what is done already, and why. Takes the options of compare."""
    app(["compare", "--dry-run", *context.args], standalone_mode=False)


@app.command()
def sweep(
    methods: Methods = "sft,nsft,dpo",
    data: Data = "llava150k",
    testbed: TestbedName = "mini",
    seeds: Seeds = 2,
    rates: Annotated[str, typer.Option(help="Learning rates tried for every method alike.")] = "3e-5,1e-4,3e-4",
    examples: Examples = None,
    limit: Limit = 300,
    store: StoreRoot = STORE,
    workers: Workers = None,
) -> None:
    """Choose each method's learning rate on the tuning split: the same rates, the same rule for every method."""
    from harness.store import Store
    from harness.sweep import choose
    from harness.terminal import watching

    bed, asked, runtime = request(methods, data, "", testbed, seeds, "", examples, limit, None, workers)
    with watching(quiet=False) as watcher:
        chosen = choose(asked, bed, runtime, Store(store), [float(rate) for rate in rates.split(",")], watcher)
    typer.echo(chosen.text)


@app.command()
def data(
    name: Annotated[str, typer.Argument(help="mini: the embedded testbed.")],
    train_base: Annotated[bool, typer.Option(help="Train the base models from random initialisation.")] = False,
    train_clip: Annotated[bool, typer.Option(help="Train the small CLIP, CSR's image-text similarity.")] = False,
    seeds: Annotated[str, typer.Option(help="Comma-separated seeds of the bases.")] = "0,1,2",
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("runs/bases"),
) -> None:
    """Make the embedded testbed's own parts."""
    if name != "mini" or not (train_base or train_clip):
        raise UsageError("harness data makes two things: `harness data mini --train-base --train-clip --out DIR`.")

    def progress(text: str) -> None:
        typer.echo(text, err=True)

    if train_base:
        from harness.mini.base import train_base as train

        for seed in seeds.split(","):
            train(int(seed), out / seed, progress)
            typer.echo(f"base {seed} written to {out / seed}")
    if train_clip:
        from harness.mini.similarity import train_clip as train_one

        train_one(out / "clip", progress)
        typer.echo(f"CLIP written to {out / 'clip'}")


@app.command()
def doctor(
    testbed: TestbedName = "",
    limit: Limit = 300,
    store: StoreRoot = STORE,
    workers: Workers = None,
) -> None:
    """Check the installation and the store; with --testbed mini also what the base models can and cannot do."""
    from harness.doctor import bars, installation

    healthy = installation(store)
    if testbed:
        bed, asked, runtime = request("", "llava150k", "", testbed, 3, "", None, limit, None, workers)
        healthy = bars(asked, bed, runtime, store) and healthy
    if not healthy:
        raise typer.Exit(3)


@app.command()
def methods(name: Annotated[str, typer.Argument(help="One method, to explain.")] = "") -> None:
    """List the methods, or explain one: roles, rounds, options with defaults and sources."""
    from harness.terminal import show_methods

    show_methods(name)


@app.command()
def benchmarks(name: Annotated[str, typer.Argument(help="One benchmark, to explain.")] = "") -> None:
    """List the benchmarks, or explain one: metrics, protocol, files."""
    from harness.terminal import show_benchmarks

    show_benchmarks(name)


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
) -> "tuple[Testbed, Request, Runtime]":
    """The command line as a testbed, a request and how to run it."""
    from harness.config import Runtime, read_testbed
    from harness.plan import ALL_BENCHMARKS, Request

    names = [name.strip() for name in methods.split(",") if name.strip()]
    columns = tuple(name.strip() for name in benchmarks.split(",") if name.strip()) or ALL_BENCHMARKS
    bed = read_testbed(testbed_name)
    chosen = settings(sets or [], [*names, *columns, "training", "runtime"])
    specs = tuple(method_spec(name, chosen.get(name, {})) for name in names)
    options = bed.benchmarks | {name: bed.benchmarks.get(name, {}) | chosen[name] for name in columns if name in chosen}
    bed = validated(bed, {"benchmarks": options, "training": bed.training.model_dump() | chosen.get("training", {})})
    cores = 1 if Path("/dev/nvidia0").exists() else min(os.cpu_count() or 1, 8)  # steps would share one GPU's memory
    runtime = validated(Runtime(workers=workers or cores), chosen.get("runtime", {}))
    asked = Request(specs, data, images, seeds, benchmarks=columns, examples=examples, limit=limit)
    return bed, asked, runtime


def settings(sets: list[str], known: list[str]) -> dict[str, dict[str, Any]]:
    """Every --set NAME.FIELD=VALUE by name and field; the value is read as YAML."""
    import yaml

    from harness.plugins import unknown

    found: dict[str, dict[str, Any]] = {}
    for text in sets:
        target, _, value = text.partition("=")
        name, _, field = target.rpartition(".")
        if not name or not field or not value:
            raise UsageError(f'--set {text}: write NAME.FIELD=VALUE, e.g. "dpo.beta=0.5".')
        if name not in known:
            raise unknown("method, benchmark or part of this comparison", name, known)
        parsed = yaml.safe_load(value)
        found.setdefault(name, {})[field] = float(parsed) if _is_number(parsed) else parsed
    return found


def method_spec(name: str, fields: dict[str, Any]) -> "MethodSpec":
    """A row of the comparison: a field of Training is a training argument, any other an option of the method."""
    from harness.config import MethodSpec, Training

    training = {field: value for field, value in fields.items() if field in Training.model_fields}
    options = {field: value for field, value in fields.items() if field not in training}
    return MethodSpec(name=name, options=options, training=training)


def validated(model: "Model", changes: dict[str, Any]) -> "Model":
    """The model with changed fields; a wrong one is a sentence."""
    from pydantic import ValidationError

    from harness.config import first_error

    try:
        return type(model).model_validate(model.model_dump() | changes)
    except ValidationError as error:
        raise UsageError(f"--set: {first_error(error)}") from None


def _is_number(value: object) -> bool:
    """Whether it is a number that YAML 1.1 took for a string, like 1e-4."""
    try:
        return isinstance(value, str) and float(value) == float(value)
    except ValueError:
        return False


def main() -> None:
    """The entry point: errors are sentences, Ctrl-C says how to go on."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        status = app(standalone_mode=False) or 0  # the status of a typer.Exit; 130 after Ctrl-C
    except HarnessError as error:
        status = say(str(error), error.exit_status)
    except typer.TyperException as error:
        status = say(getattr(error, "format_message", error.__str__)(), 2)
    except OSError as error:
        if error.filename is None:
            raise
        status = say(f"{error.filename}: {error.strerror}. Finished stages are kept.", 3)
    if status == 130:
        say("interrupted; finished stages are kept, the same command goes on from here.", status)
    sys.exit(status)


def say(sentence: str, status: int) -> int:
    """Print an error; returns the status it ends with."""
    typer.echo(f"harness: {sentence}", err=True)
    return status


if __name__ == "__main__":
    main()
