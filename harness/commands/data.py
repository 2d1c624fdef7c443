"""`harness data`: what is in a source, which benchmark pictures it holds, reading it ahead, a testbed's own parts."""

from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from harness.commands.options import STORE, Benchmarks, Examples, Images, Json, Limit, StoreRoot, TestbedName
from harness.commands.where import where
from harness.system.console import columns, console, duration, say_json
from harness.system.errors import UsageError
from harness.system.files import put

if TYPE_CHECKING:
    from harness.checking.inspecting import Contents
    from harness.contracts.settings import Testbed
    from harness.contracts.source import Source
    from reports.grid import Grid

SourceWord = Annotated[str, typer.Argument(help="A data source, or data of your own, as --data of compare takes it.")]
Seed = Annotated[int, typer.Option(help="Whose draw is looked at first, as a comparison's split takes it.")]


class MakeNeedsNoName(TyperGroup):
    """`harness data mini --train-base` is `harness data make mini --train-base`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name in where there is no other."""
        named = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named or not args else ["make", *args])


app = typer.Typer(
    cls=MakeNeedsNoName,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    no_args_is_help=True,
    subcommand_metavar="inspect SOURCE | leaks SOURCE | prepare SOURCE | where | [make] mini",
    help="Look into a source, find benchmark pictures in it, read it ahead, or make the embedded testbed's own parts.",
)

app.command("where", short_help="Which sources and benchmarks are there, and where the others come from")(where)


@app.command("inspect", short_help="Counts, lengths, pictures, doubles, what is dropped, ten examples")
def inspect(
    source: SourceWord,
    images: Images = "",
    testbed: TestbedName = "mini",
    model: Annotated[str, typer.Option(help="A model's folder, whose tokenizer counts tokens.")] = "",
    examples: Examples = None,
    seed: Seed = 0,
    page: Annotated[Path | None, typer.Option(help="An HTML file to write, with the ten examples.")] = None,
    store: StoreRoot = STORE,
    as_json: Json = False,
) -> None:
    """Say what is in a source: counts, lengths, sizes, doubles, what would be dropped and why.

    What `harness data prepare` has read into the store is not read again.
    """
    from harness.checking.drawn import files_of
    from harness.checking.inspecting import contents, facts
    from harness.store.contents import CONTENTS
    from reports import terminal

    CONTENTS.keep(store)
    bed, found = meant(source, images, testbed)
    words = None
    if model:
        from harness.models.load import words as words_of

        tokenizer = words_of(Path(model).expanduser()).tokenizer

        def words(text: str) -> int:
            return len(tokenizer(text, add_special_tokens=False).input_ids)

    with files_of(found, bed, examples, seed) as files:
        told = contents(files, seed, examples, words)
        if page:
            put(page, page_of(found, bed, told, seed))
    if as_json:
        say_json({"source": str(found), "testbed": bed.name, "seed": seed, **told.plain()})
        return
    facts_told = list(facts(told))
    wide = max(len(name) for name, _ in facts_told)
    for name, value in facts_told:
        typer.echo(f"{name:<{wide}}  {value}")
    if told.usable:
        console().print(terminal.table(lengths(told), columns()))
    typer.echo(f"page: {page}" if page else "ten of them, with their pictures: --page FILE")


@app.command("leaks", short_help="Which benchmark pictures are among the training pictures")
def leaks(
    source: SourceWord,
    benchmarks: Benchmarks = "",
    images: Images = "",
    testbed: TestbedName = "mini",
    examples: Examples = None,
    limit: Limit = None,
    seed: Seed = 0,
    store: StoreRoot = STORE,
    as_json: Json = False,
) -> None:
    """Find benchmark pictures among training pictures: the same file, nearly the same picture, the same COCO id.

    Records that `harness data prepare` has read into the store are not read again.
    """
    from harness.checking.drawn import files_of
    from harness.checking.leaks import NEAR, Leak, asked_pictures, leak, plain, trained_pictures
    from harness.checking.leaks import examples as told
    from harness.contracts.plugins import adopt
    from harness.contracts.steps import ALL_BENCHMARKS
    from harness.store.contents import CONTENTS
    from reports import terminal
    from reports.grid import Entry, Grid, Head, Line

    CONTENTS.keep(store)
    bed, given = meant(source, images, testbed)
    named = [name.strip() for name in benchmarks.split(",") if name.strip()]
    names = [adopt("benchmarks", name) for name in named] or list(ALL_BENCHMARKS)
    with files_of(given, bed, examples, seed) as files:
        trained = trained_pictures(files, seed, examples)
    found, absent = list[Leak](), list[str]()
    for name in names:
        try:
            found.append(leak(name, asked_pictures(name, bed, limit), trained))
        except UsageError as error:
            if named:
                raise
            absent.append(f"{name} was not looked at: {error}")
    if as_json:
        say_json(
            {
                "source": str(given),
                "testbed": bed.name,
                "pictures": len(trained.whose),
                "leaks": plain(found),
                "absent": absent,
            }
        )
        return
    heads = ("pictures", "same file", "nearly the same", "by chance", "same COCO id")
    rows = [
        Line((one.benchmark,), tuple(
            Entry(number, 0) for number in (one.pictures, len(one.same), len(one.near), one.chance, len(one.coco))
        ))
        for one in found
    ]  # fmt: skip
    notes = (
        f"{given}: {len(trained.whose):,} different pictures",
        f"nearly the same: at most {NEAR} of 64 bits of a difference hash differ; by chance: so many of the "
        "benchmark's pictures have such a neighbour when they are mirrored",
        *told(found),
        *absent,
    )
    grid = Grid("benchmark", ("benchmark",), tuple(Head(head, rank=False) for head in heads), tuple(rows), notes)
    console().print(terminal.table(grid, columns()))


@app.command("prepare", short_help="Read and try all of a source once, so that comparisons start at once")
def prepare(
    source: SourceWord,
    home: Annotated[
        Path | None, typer.Option("--from", help="The folder of its files; default: where the testbed has them.")
    ] = None,
    images: Images = "",
    testbed: TestbedName = "mini",
    store: StoreRoot = STORE,
) -> None:
    """Read every record and picture of a source once: what cannot be used is named, what can is kept for comparisons.

    Killed, it goes on where it was. A file that changes afterwards is read again by whoever needs it.
    """
    from harness.contracts.prepared import prepare as read_ahead
    from harness.store.contents import CONTENTS
    from harness.store.store import Store

    bed, given = meant(source, images, testbed)
    if home:
        given = given.at(home.expanduser())
    if given.home is None:
        raise UsageError(f"{bed.name} draws {given} anew; say with --from where its files are, or name a testbed's.")
    for part in given.parts:
        with CONTENTS.telling(Paced(f"{part}: hashing", "files")):
            made = read_ahead(part, bed.reading, Store(store), Paced(f"{part}: reading", "records"))
        lost, count = made.about["dropped"], len(made.about["ids"])
        typer.echo(f"{part}: {count:,} records, {count - sum(lost.values()):,} of them usable, in {made.folder}")
        for reason, number in lost.items():
            typer.echo(f"  {reason}: {number:,}")


class Paced:
    """Says how far something has come, every few seconds and at its end."""

    EVERY_S = 5.0

    def __init__(self, what: str, of: str) -> None:
        self.what, self.of = what, of
        self.said, self.began = monotonic(), (0.0, 0)

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total`."""
        now = monotonic()
        self.began = self.began if self.began[1] else (now, done)
        if now - self.said < self.EVERY_S and done < total:
            return
        self.said = now
        since, first = self.began
        left = f", about {duration((now - since) * (total - done) / (done - first))} left" if done > first else ""
        left = left if done < total else ""
        typer.echo(f"{self.what} {done:,} of {total:,} {self.of}{left}", err=True)


def meant(word: str, images: str, testbed: str) -> "tuple[Testbed, Source]":
    """The testbed, and the source that a word means on it."""
    from harness.contracts.behind import behind
    from harness.contracts.testbed_file import read_testbed
    from harness.sources import _chosen

    bed = read_testbed(testbed)
    return bed, _chosen.source(word, images, behind(bed.data).home)


def lengths(told: "Contents") -> "Grid":
    """Lengths and sizes as a table."""
    from harness.checking.inspecting import spread
    from reports.grid import Entry, Grid, Head, Line

    heads = ("n", "least", "median", "mean", "p95", "most")
    lines = tuple(
        Line((name,), tuple(Entry(figures[head], 1 if head == "mean" else 0) for head in heads))
        for name, figures in ((name, spread(counts)) for name, counts in told.lengths.items())
    )
    return Grid("Lengths and sizes", ("",), tuple(Head(head, rank=False) for head in heads), lines)


def page_of(source: "Source", bed: "Testbed", told: "Contents", seed: int) -> str:
    """The page of an inspection: nothing loaded from anywhere, every text escaped, pictures small and encoded anew."""
    from harness.checking.inspecting import facts
    from harness.contracts.images import Places
    from reports import items
    from reports.page import page

    shown = [
        {
            "image": items.picture(example.image, Places(Path())),
            "id": example.id,
            "benchmark": example.source,
            "unit": "",
            "prompt": example.turns[0].question,
            "said": [
                {"label": label, "pieces": [(text, False)], "cut": 0}
                for turn in example.turns
                for label, text in ((turn.question[:60], turn.answer),)
            ]
            + ([{"label": "rejected", "pieces": [(example.rejected, False)], "cut": 0}] if example.rejected else []),
        }
        for example in told.shown
    ]
    return page(
        "data.html",
        title=f"What is in {source}",
        synthetic=bed.synthetic and not source.own,
        facts=[(name.strip(), value) for name, value in facts(told)],
        lengths=lengths(told),
        drawn=shown,
        seed=seed,
    )


@app.command("make", short_help="Train the embedded testbed's bases or its CLIP")
def make(
    name: Annotated[str, typer.Argument(help="The testbed: mini.")],
    train_base: Annotated[bool, typer.Option(help="Train the base models from random initialisation.")] = False,
    train_clip: Annotated[bool, typer.Option(help="Train the small CLIP, CSR's image-text similarity.")] = False,
    seeds: Annotated[str, typer.Option(help="Comma-separated seeds of the bases.")] = "0,1,2",
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("runs/bases"),
) -> None:
    """Make a testbed's own parts."""
    if not (train_base or train_clip):
        raise UsageError(
            "harness data inspects a source, finds leaks, or makes two things: "
            "`harness data mini --train-base --train-clip --out DIR`."
        )
    from harness.contracts.behind import behind
    from harness.contracts.testbed_file import read_testbed

    kind = behind(read_testbed(name).data)

    def progress(text: str) -> None:
        typer.echo(text, err=True)

    if train_base:
        from harness.comparison.request import numbers

        wanted = numbers("--seeds", seeds, int)
        for seed in wanted:
            kind.train_base(seed, out / str(seed), progress)
            typer.echo(f"base {seed} (synthetic testbed) written to {out / str(seed)}")
    if train_clip:
        kind.train_clip(out / "clip", progress)
        typer.echo(f"CLIP (synthetic testbed) written to {out / 'clip'}")
