"""The command line. Heavy modules are imported inside the commands, so that `harness --help` is instant."""

import os
import signal
import sys
from collections.abc import Callable
from textwrap import fill
from typing import Annotated, Any, TypeVar

import typer

from harness import __version__
from harness.commands.check import check
from harness.commands.compare import compare
from harness.commands.data import app as data_app
from harness.commands.diff import diff
from harness.commands.doctor import doctor
from harness.commands.export import export
from harness.commands.gate import gate
from harness.commands.options import Verbose
from harness.commands.report import report
from harness.commands.runs import app as runs_app
from harness.commands.score import score
from harness.commands.store import app as store_app
from harness.commands.sweep import sweep
from harness.commands.view import view
from harness.system.blame import DEBUG, called_exit, explained, plugin_fault
from harness.system.console import NOBODY_READS, behind_doors, columns, say
from harness.system.errors import HarnessError

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Compare alignment methods for vision-language models honestly: one split, one loop, one scorer, one table.",
)

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


command(
    "Train the methods on one split, score them all, print who won",
    "compare",
    "compare --methods sft,dpo,seva --seeds 3",
    "compare --methods nsft,dpo:beta=0.5 --set training.learning_rate=1e-4",
    "compare --methods dpo,./mine.py --data my.jsonl --images photos/",
)(compare)


command(
    "The paper's tables and figures from finished comparisons",
    "report runs/X",
    "report runs/X --table 1 --paper",
    "report runs/X --figure lens --out figures/",
    "report runs/X --bundle x.zip",
)(report)


@command(
    "What a comparison would run, what is done, what it costs",
    "plan --methods sft,nsft,dpo",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def plan(context: typer.Context) -> None:
    """Print what a comparison would run, what is done already, and why. Takes the options of compare."""
    app(["compare", "--dry-run", *context.args], standalone_mode=False)


command("Choose each method's learning rate on the tuning split", "sweep --methods sft,dpo --rates 1e-4,3e-4")(sweep)

command("Check the installation, the store, a testbed's files and bases", "doctor", "doctor --testbed llava-1.5-7b")(
    doctor
)

command(
    "Score published answers by the official rules", "score pope --questions random=q.jsonl --answers random=a.jsonl"
)(score)

command(
    "Has a run become worse than an accepted one? For CI", "gate runs/X --baseline accepted.zip --policy gate.yaml"
)(gate)

command(
    "See every item in a browser: picture, question, every answer",
    "view runs/X",
    "view X --static shared/",
)(view)

command(
    "Take a row's records, model or responses to other tools",
    "export runs/X --records nsft --format trl",
    "export runs/X --checkpoint dpo --out my-model",
    "export runs/X --responses baseline --benchmarks mmb,mmvet",
)(export)


command("Try a plugin of yours, of any kind, on made-up data", "check ./mine.py")(check)


@command("List the methods, or explain one", "methods", "methods nsft")
def methods(
    name: Annotated[str, typer.Argument(help="One method, to explain.")] = "", verbose: Verbose = False
) -> None:
    """List the methods, or explain one: roles, rounds, options with defaults and sources."""
    from harness.commands.terminal import show_methods

    show_methods(name, verbose)


@command("List the benchmarks, or explain one", "benchmarks", "benchmarks pope")
def benchmarks(
    name: Annotated[str, typer.Argument(help="One benchmark, to explain.")] = "", verbose: Verbose = False
) -> None:
    """List the benchmarks, or explain one: metrics, protocol, files."""
    from harness.commands.terminal import show_benchmarks

    show_benchmarks(name, verbose)


@command("What a word of a table or verdict means", "explain holm", 'explain "cannot tell"')
def explain(word: Annotated[str, typer.Argument(help="A word, or part of one; without: all words.")] = "") -> None:
    """Explain a word of a table, a verdict or a report in plain language; without one, list them."""
    from reports.glossary import entry, glossary

    parts = [part for text in entry(word) for part in text.split("\n\n")] if word else []
    typer.echo("\n\n".join(fill(part, columns()) for part in parts) if word else "\n".join(glossary()))


command(
    "How two runs, or two rows, differ: settings, scores, items",
    "diff A B",
    "diff A:nsft A:dpo",
    "diff A old.zip --json",
)(diff)
app.add_typer(
    data_app,
    name="data",
    short_help="What is in a source; benchmark pictures in it; mini's parts",
    epilog=epilog(
        "data inspect my.jsonl --images photos/ --page my.html",
        "data leaks llava150k --benchmarks pope,chair --testbed llava-1.5-7b",
        "data mini --train-base",
    ),
)
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
        if called_exit(stop):
            status = say(plugin_fault(stop), HarnessError.exit_status)
        else:
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


if __name__ == "__main__":
    main()
