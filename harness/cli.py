"""The command line. Heavy modules are imported inside the commands, so that `harness --help` is instant."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from harness import __version__
from harness.blame import DEBUG, explained
from harness.commands.diff import diff
from harness.commands.export import export
from harness.commands.runs import app as runs_app
from harness.commands.store import app as store_app
from harness.console import NOBODY_READS, behind_doors, say_json, say_styled
from harness.types import UsageError

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Compare alignment methods for vision-language models honestly: one split, one loop, one scorer, one table.",
)

Methods = Annotated[str, typer.Option(help="Comma-separated method names, or paths of files that define one.")]
Data = Annotated[str, typer.Option(help="A data source, or your own JSON, JSONL, parquet or datasets folder.")]
Images = Annotated[str, typer.Option(help="Where image paths of your own --data start; default: where the data are.")]
TestbedName = Annotated[str, typer.Option("--testbed", help="A built-in testbed or a YAML file.")]
Seeds = Annotated[int, typer.Option(min=1, help="Repetitions; each takes another base model (if there are) and split.")]
Benchmarks = Annotated[
    str, typer.Option(help="Comma-separated benchmark names, or files of your own; empty: the paper's nine.")
]
Examples = Annotated[int | None, typer.Option(min=1, help="Training examples; default: the testbed's.")]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Benchmark scenes (mini) or items, drawn in proportion from its groups; default: all."),
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="NAME.FIELD=VALUE, e.g. dpo.beta=0.5, dpo.learning_rate=1e-4.")
]
Out = Annotated[Path | None, typer.Option(help="Folder for the tables; default: runs/METHODS-DATA-TESTBED-SETTINGS.")]
StoreRoot = Annotated[Path, typer.Option("--store", envvar="HARNESS_STORE", help="Where finished stages are kept.")]
StoreOf = Annotated[
    Path | None, typer.Option("--store", help="The runs' store; default: the one their manifest names.")
]
Own = Annotated[
    str, typer.Option("--benchmarks", help="Files of benchmarks of yours that are among them; their code runs.")
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes side by side; default: one per CPU, at most 8.")]
Budget = Annotated[
    float | None,
    typer.Option(min=0, help="USD that LLM judge and writer may cost, all runs on this store together."),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show everything that is left out by default.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]

STORE = Path("runs/store")

Command = TypeVar("Command", bound=Callable[..., Any])


def command(summary: str, *examples: str, **settings: Any) -> Callable[[Command], Command]:
    """A command with a whole line in `harness --help` and examples below its own."""
    return app.command(short_help=summary, epilog=epilog(*examples), **settings)


def epilog(*examples: str) -> str | None:
    """The examples below a command's help."""
    shown = "".join(f"\n  harness {example}" for example in examples)
    return f"\b\nExamples:{shown}" if shown else None


def told_version(asked: bool) -> None:
    """Print the version and stop."""
    if asked:
        typer.echo(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def everywhere(
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error; also as HARNESS_DEBUG=1.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=told_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """What every command takes; `main` reads it, so that it may stand anywhere."""


@command(
    "Train the methods on one split, score them all, print who won",
    "compare",
    "compare --methods sft,dpo,seva --seeds 3",
    "compare --methods nsft,dpo:beta=0.5 --set training.learning_rate=1e-4",
    "compare --methods dpo,./mine.py --data my.jsonl --images photos/",
)
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
    budget: Budget = None,
    noise_floor: Annotated[bool, typer.Option(help="Also the baseline again, in batches of half the size.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print the plan and stop.")] = False,
    sizes: Annotated[str, typer.Option(help="Numbers of examples, e.g. 250,500,1000: one comparison each.")] = "",
    page: Annotated[bool, typer.Option(help="Write report.html and the figures too.")] = True,
    verbose: Verbose = False,
) -> None:
    """Build every method's data from one split, train, score on the benchmarks, print the table."""
    from harness.face import Wanted
    from harness.sizes import compare_sizes, parsed

    numbers = parsed(sizes) if sizes else []
    wanted = Wanted.of(
        methods,
        data,
        testbed,
        images=images,
        seeds=seeds,
        benchmarks=benchmarks,
        examples=examples,
        limit=limit,
        set=sets or [],
        out=out,
        store=store,
        workers=workers,
        budget=budget,
        noise_floor=noise_floor,
        sizes=numbers,
    )
    if dry_run:
        from harness.plan_text import show_plan

        show_plan(wanted.plan(), wanted.store, wanted.runtime.workers, as_json, verbose)
        return
    from harness.progress import told, watching
    from harness.terminal import show_cost, show_table

    folder = wanted.folder
    with watching(wanted.store, wanted.runtime.workers, as_json, verbose) as watcher:
        if numbers:
            said, status = compare_sizes(
                wanted.request, wanted.testbed, wanted.runtime, wanted.store, folder, watcher, numbers, page
            )
            say_styled(said)
            raise typer.Exit(status)
        done = wanted.run(watcher, page)
    if as_json:
        rows = [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]
        failed = [one.model_dump() for one in done.failed]
        say_json({"out": str(folder), "stages_run": done.ran, "failed": failed, "results": rows})
    else:
        for sentence in done.told:
            typer.echo(sentence, err=True)
        took = told(done.ran, done.seconds) if done.ran or not done.failed else "no stage could be made"
        typer.echo(f"\n{took}\n", err=True)
        show_table(folder, wanted.store, verbose)
        show_cost(folder, wanted.store)
    if done.failed:
        named = ", ".join(dict.fromkeys(one.stage for one in done.failed))
        say(f"not complete: {named} failed (see above); the same command tries only what failed again.", done.status)
    if done.status:
        raise typer.Exit(done.status)


@command(
    "The paper's tables and figures from finished comparisons",
    "report runs/X",
    "report runs/X --table 1 --paper",
    "report runs/X --figure lens --out figures/",
    "report runs/X --bundle x.zip",
)
def report(
    runs: Annotated[list[Path] | None, typer.Argument(help="Folders of `harness compare`, or bundles.")] = None,
    table: Annotated[int | None, typer.Option(help="A table of the paper, 1 to 7.")] = None,
    figure: Annotated[str, typer.Option(help="2, 4, 5, 6, lens, intervals or curves.")] = "",
    paper: Annotated[bool, typer.Option(help="The paper's numbers beside ours; without RUNS, its own table.")] = False,
    form: Annotated[str, typer.Option("--format", help="terminal, md, tex, csv or html.")] = "terminal",
    out: Annotated[Path | None, typer.Option(help="Folder for every format of the table, or for the figure.")] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Write RUNS to FILE: one archive that this command reads.")
    ] = None,
    store: StoreOf = None,
    crosscheck: Annotated[bool, typer.Option("--crosscheck", help="lmms-eval's figures beside ours.")] = False,
    own: Own = "",
) -> None:
    """The paper's tables and figures from finished comparisons; without either option their cards."""
    from harness import reporting
    from harness.plugins import adopt_file

    for file in own.split(",") if own else []:
        adopt_file("benchmarks", file)
    if bundle:
        typer.echo(reporting.bundle(runs or [], bundle, store))
        return
    if crosscheck:
        typer.echo(reporting.second_figures(runs or [], store))
        return
    say_styled(reporting.report(runs or [], table, figure, paper, form, out, store))


@command(
    "What a comparison would run, what is done, what it costs",
    "plan --methods sft,nsft,dpo",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def plan(context: typer.Context) -> None:
    """Print what a comparison would run, what is done already, and why. Takes the options of compare."""
    app(["compare", "--dry-run", *context.args], standalone_mode=False)


@command("Choose each method's learning rate on the tuning split", "sweep --methods sft,dpo --rates 1e-4,3e-4")
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
    from harness.progress import watching
    from harness.request import numbers, request
    from harness.store import Store
    from harness.sweep import choose

    tried = numbers("--rates", rates, float)
    bed, asked, runtime = request(methods, data, "", testbed, seeds, "", examples, limit, None, workers)
    with watching(Store(store), runtime.workers) as watcher:
        chosen = choose(asked, bed, runtime, Store(store), tried, watcher)
    typer.echo(chosen.text)


@command("Make the embedded testbed's own parts")
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
        from harness.request import numbers

        wanted = numbers("--seeds", seeds, int)
        from harness.mini.base import train_base as train

        for seed in wanted:
            train(seed, out / str(seed), progress)
            typer.echo(f"base {seed} (synthetic testbed) written to {out / str(seed)}")
    if train_clip:
        from harness.mini.similarity import train_clip as train_one

        train_one(out / "clip", progress)
        typer.echo(f"CLIP (synthetic testbed) written to {out / 'clip'}")


@command("Check the installation, the store, a testbed's files and bases", "doctor", "doctor --testbed llava-1.5-7b")
def doctor(
    testbed: TestbedName = "",
    limit: Limit = 300,
    store: StoreRoot = STORE,
    workers: Workers = None,
) -> None:
    """Check the installation and the store; with --testbed what that has, and of mini what its bases can do."""
    from harness.doctor import bars, examined, installation

    healthy = installation(store)
    if testbed:
        from harness.plugins import names
        from harness.request import request

        bed, asked, runtime = request("", "llava150k", "", testbed, 3, "", None, limit, None, workers)
        if bed.data == "generated":
            healthy = bars(asked, bed, runtime, store) and healthy
        else:
            _, asked, _ = request(
                ",".join(names("methods")), "llava150k", "", testbed, 1, "", None, None, None, workers
            )
            healthy = examined(asked, bed) and healthy
    if not healthy:
        raise typer.Exit(3)


@command(
    "Score published answers by the official rules", "score pope --questions random=q.jsonl --answers random=a.jsonl"
)
def score(
    benchmark: Annotated[str, typer.Argument(help="Whose answers: pope, mme, ... (see harness benchmarks).")],
    answers: Annotated[list[str] | None, typer.Option(help="Answers, official format: PATH or NAME=PATH.")] = None,
    questions: Annotated[list[str] | None, typer.Option(help="The official questions: PATH or NAME=PATH.")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--option", help="NAME=VALUE: an option of the benchmark, or a further file.")
    ] = None,
    allow_partial: Annotated[bool, typer.Option("--allow-partial", help="Score what pairs up, and say so.")] = False,
    judge: Annotated[str, typer.Option(help="Who judges what has no verdict yet: openai:MODEL or script:FILE.")] = "",
    runs: Annotated[int, typer.Option(min=1, help="How often an LLM judge is asked each question.")] = 1,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="judging.FIELD=VALUE or runtime.FIELD=VALUE, as in compare.")
    ] = None,
    budget: Budget = None,
    store: StoreRoot = STORE,
    as_json: Json = False,
) -> None:
    """Score published answers by the official rule: official answer files in, official figures out."""
    from harness.score import judge_of, rescore, show

    if sets and not judge:
        raise UsageError("--set says how a judge is asked; give --judge openai:MODEL too.")
    asked = judge_of(judge, runs, budget, store, sets or []) if judge else None
    done = rescore(benchmark, answers or [], questions or [], options or [], allow_partial, asked)
    for note in done.notes:
        typer.echo(f"harness: {note}", err=True)
    if as_json:
        typer.echo(done.json())
    else:
        show(done)


@command(
    "Has a run become worse than an accepted one? For CI", "gate runs/X --baseline accepted.zip --policy gate.yaml"
)
def gate(
    run: Annotated[Path, typer.Argument(help="A finished comparison: its folder, or a bundle.")],
    baseline: Annotated[Path | None, typer.Option(help="The accepted run: a file of --accept, or a run.")] = None,
    policy: Annotated[
        Path | None, typer.Option(help="YAML: margins, budgets, coverage; default: gate.yaml, else 2 % of each scale.")
    ] = None,
    accept: Annotated[Path | None, typer.Option(help="Write this run to FILE as the accepted one, and stop.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML to FILE.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the summary to FILE too.")] = None,
    store: StoreOf = None,
    own: Own = "",
) -> None:
    """Compare a run with an accepted one by a policy. Exit status: 0 passed, 1 regressed, 3 could not be judged."""
    from harness import gating
    from harness.plugins import adopt_file

    for file in own.split(",") if own else []:
        adopt_file("benchmarks", file)
    if (baseline is None) == (accept is None):
        raise UsageError("give either --baseline FILE to judge the run, or --accept FILE to make it the baseline.")
    if accept:
        typer.echo(gating.accept(run, accept, store))
    elif baseline:
        status, text = gating.judge(run, baseline, policy, store, junit, markdown)
        typer.echo(text)
        raise typer.Exit(status)


command(
    "Take a row's records, model or responses to other tools",
    "export runs/X --records nsft --format trl",
    "export runs/X --checkpoint dpo --out my-model",
    "export runs/X --responses baseline --benchmarks mmb,mmvet",
)(export)


@command("Try a method or benchmark of yours on made-up data", "check ./mine.py")
def check(
    plugin: Annotated[str, typer.Argument(help="A method or benchmark: a name, or the path of a file.")],
    options: Annotated[list[str] | None, typer.Option("--option", help="NAME=VALUE: an option of it.")] = None,
    data: Annotated[Path | None, typer.Option(help="A folder with a benchmark's files.")] = None,
) -> None:
    """Try a method or benchmark on made-up data: every contract, two records, one step on a tiny model."""
    from harness.dry_run import check_plugin
    from harness.request import settings

    chosen = settings([f"option.{option}" for option in options or []], ["option"]).get("option", {})
    for tried in check_plugin(plugin, chosen, data):
        typer.echo(tried)


@command("List the methods, or explain one", "methods", "methods nsft")
def methods(
    name: Annotated[str, typer.Argument(help="One method, to explain.")] = "", verbose: Verbose = False
) -> None:
    """List the methods, or explain one: roles, rounds, options with defaults and sources."""
    from harness.terminal import show_methods

    show_methods(name, verbose)


@command("List the benchmarks, or explain one", "benchmarks", "benchmarks pope")
def benchmarks(
    name: Annotated[str, typer.Argument(help="One benchmark, to explain.")] = "", verbose: Verbose = False
) -> None:
    """List the benchmarks, or explain one: metrics, protocol, files."""
    from harness.terminal import show_benchmarks

    show_benchmarks(name, verbose)


@command("What a word of a table or verdict means", "explain holm", 'explain "cannot tell"')
def explain(word: Annotated[str, typer.Argument(help="A word, or part of one; without: all words.")] = "") -> None:
    """Explain a word of a table, a verdict or a report in plain language; without one, list them."""
    from reports.glossary import entry, glossary

    typer.echo("\n\n".join(entry(word)) if word else "\n".join(glossary()))


command(
    "How two runs, or two rows, differ: settings, scores, items",
    "diff A B",
    "diff A:nsft A:dpo",
    "diff A old.zip --json",
)(diff)
app.add_typer(
    runs_app,
    name="runs",
    short_help="List the comparisons there are; rename or remove them",
    epilog=epilog("runs", "runs dpo --json", "runs rename nsft-dpo-llava150k-mini first", "runs remove first"),
)
app.add_typer(
    store_app,
    name="store",
    short_help="What the store holds; verify it, remove what no run needs",
    epilog=epilog("store ls", "store show train/0123", "store verify", "store gc", "store gc --runs runs --yes"),
)


@behind_doors
def main() -> None:
    """The entry point: errors are sentences with a status each, Ctrl-C says how to go on."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if "--debug" in sys.argv[1:]:
        sys.argv.remove("--debug")
        os.environ[DEBUG] = "1"  # for workers and ranks too
    try:
        status = app(standalone_mode=False) or 0  # the status of a typer.Exit; 130 after Ctrl-C
    except typer.TyperException as error:
        status = say(getattr(error, "format_message", error.__str__)() + _options(error), 2)
    except SystemExit as stop:
        status = NOBODY_READS if stop.code == 1 else stop.code  # what typer makes of a closed pipe
    except Exception as error:
        said = explained(error)
        status = say(str(said), said.exit_status)
    if status == 130:
        say("interrupted; finished stages are kept, the same command goes on from here.", status)
    sys.exit(status)


def _options(error: Exception) -> str:
    """The list of a command's options, after an error about one that it does not have."""
    context = getattr(error, "ctx", None)
    if not hasattr(error, "possibilities") or context is None:
        return ""
    return f" Known: {', '.join(sorted(name for option in context.command.params for name in option.opts))}."


def say(sentence: str, status: int) -> int:
    """Print an error; returns the status it ends with."""
    from harness.secret import redact

    typer.echo(f"harness: {redact(sentence)}", err=True)
    return status


if __name__ == "__main__":
    main()
