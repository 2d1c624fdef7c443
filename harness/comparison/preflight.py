"""What can be known to be wrong or missing before anything is planned, in one error that says how to cure it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from harness.comparison.joining import joints
from harness.contracts import borrowed, plugins
from harness.contracts.behind import behind
from harness.contracts.benchmark import Benchmark, folder_of
from harness.contracts.method import Method
from harness.contracts.row import Row, resolved
from harness.contracts.row_names import BASELINE, CONTROLS
from harness.contracts.settings import HUB, Testbed
from harness.contracts.steps import Request
from harness.judging.hire import OFFICES, Office, answering, kind_for, problem
from harness.models.clip import CLIP
from harness.models.folder import Folder, fetch, inspect, looked_through
from harness.models.targets import targets
from harness.system.errors import UsageError


def check(request: Request, testbed: Testbed) -> tuple[Row, ...]:
    """The request's rows, resolved. Raises whatever can be known to be wrong or missing before a plan, in one error."""
    source = request.data
    if source.own:
        source.check()
    bed = behind(testbed.data)
    if source.home is None and not all(part.name in bed.sources for part in source.parts):
        raise UsageError(
            f"{testbed.name} draws its pictures, and knows how for {', '.join(bed.sources)} only; use --data {source} "
            "with a testbed of official files."
        )
    for name, count in Counter(request.benchmarks).items():
        if count > 1:
            raise UsageError(f"the benchmark {name} is named {count} times in --benchmarks; name it once.")
        benchmark = plugins.plugin("benchmarks", name, Benchmark)
        if benchmark.heldout and source.own and not source.heldout:
            raise UsageError(f"{name} asks about held-out examples of the source; --data {source} has none.")
        own = source.own if benchmark.heldout else name not in plugins.installed("benchmarks")
        if benchmark.heldout and len(source.parts) > 1 and not testbed.benchmarks.get(name, {}).get("source"):
            raise UsageError(
                f"{name} asks about held-out examples of one source, and --data joins {len(source.parts)}; name it: "
                f"--set {name}.source={source.parts[0].name}."
            )
        if benchmark.judged and own and (oracle := drawn_only("judge", testbed)):
            raise UsageError(
                f"{name} needs a judge, and the {oracle} of {testbed.name} knows its own benchmarks only; name another "
                "in a testbed of yours (judge: openai:MODEL)."
            )
    rows = resolved(request, testbed)
    for joint in joints(rows, testbed):
        if joint.name in {part.name for part in source.parts}:
            raise UsageError(f"training.joint={joint} is what --data draws from: its examples would be learnt twice.")
        if joint.home is None and joint.name not in bed.sources:
            raise UsageError(f"training.joint={joint}: {testbed.name} draws {', '.join(bed.sources)} only.")
    tell_apart(request, testbed, rows)
    elsewhere = (*request.published, *request.answered)
    for name, count in Counter([row.id for row in rows] + [name for name, _ in elsewhere]).items():
        if count > 1:
            raise UsageError(f"the row {name} is named twice; give the rows different options or names.")
        if name in (BASELINE, *CONTROLS):
            raise UsageError(f"{name} is the name of a row of ours; give the method's file another name.")
    for row in rows:
        if row.method.needs_writer and source.own and (oracle := drawn_only("writer", testbed)):
            raise UsageError(
                f"{row.spec.name} needs a writer that knows these images; the {oracle} of {testbed.name} reads "
                f"its own scene graphs only. Leave {row.spec.name} out, or use what it draws: {', '.join(bed.sources)}."
            )
    if unset := bed.unset():
        raise UsageError(f"the testbed {testbed.name}: {unset}")
    missing = "\n".join(f"  - {what}" for what in absent(request, testbed, rows))
    if missing:
        raise UsageError(f"the testbed {testbed.name} is not complete:\n{missing}")
    check_models(rows, testbed)
    for _, folder in request.published:
        inspect(Path(folder))
    for name, words in request.answered:
        if why := answering(words, testbed).unusable():
            raise UsageError(f"--rows {name}: {why}.")
    return rows


def tell_apart(request: Request, testbed: Testbed, rows: Sequence[Row]) -> None:
    """UsageError where a table could not tell two of its columns apart, or a user's column or row from one of ours."""
    ours = plugins.installed("benchmarks")
    given: dict[str, str] = {}
    for name in dict.fromkeys((*request.benchmarks, *ours)):
        known = testbed.benchmarks.get(name, {}) if name in request.benchmarks else {}
        made: Benchmark = plugins.make("benchmarks", name, Benchmark, known)
        for what in (made.label, *(metric.id for metric in made.metrics)):
            if given.setdefault(what, name) != name:
                raise UsageError(f'{given[what]} and {name} both have "{what}", and a table could not tell them apart.')
    labels = {plugins.plugin("methods", name, Method).label: name for name in plugins.installed("methods")}
    for row in rows:
        name, label = row.spec.name, row.method.label
        if name.endswith(".py") and (other := labels.setdefault(label, name)) != name:
            raise UsageError(
                f'{row.spec.stem} and {plugins.stem(other)} both have the label "{label}", and a table could not tell '
                "them apart; give yours another."
            )


def drawn_only(role: Office, testbed: Testbed) -> str:
    """The name of a judge or writer that knows only the images which its testbed drew; empty of another."""
    with suppress(UsageError):  # of words that name no kind: `absent` tells whoever needs one
        kind = kind_for(role, testbed)
        return kind.name if kind.drawn_only else ""
    return ""


def check_models(rows: Sequence[Row], testbed: Testbed) -> None:
    """UsageError where a model's folder holds no whole model, or a row's training does not fit it."""
    for folder in testbed.models:
        model = inspect(Path(folder))
        for row in rows:
            for tuned in row.training:
                if tuned.lora:
                    targets(tuned.lora, model.linear_layers)
                if tuned.max_length and tuned.max_length <= model.places[0]:
                    raise UsageError(
                        f"{row.id}.max_length {tuned.max_length} leaves no place for text: an image alone takes "
                        f"{taken(model)} in {folder}. Set it higher (LLaVA: 2048)."
                    )
    if any(row.method.needs_clip for row in rows):
        looked_through(Path(testbed.clip), CLIP)


def taken(model: Folder) -> str:
    """The places that a picture takes, in words: "576", or "4 to 16,384"."""
    fewest, most = model.places
    return f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"


def absent(request: Request, testbed: Testbed, rows: Sequence[Row]) -> Iterator[str]:
    """What a testbed lacks for this request: what, where from, which layout."""
    for folder in testbed.models:
        if why := unfetched(folder):
            yield f"weights: {why}"
        elif not (Path(folder) / "config.json").is_file():
            yield f"weights: no Hugging Face model folder at {folder}; fetch one with `{fetch(Path(folder))}`"
    yield from (f"weights: {unfetched(folder)}" for _, folder in request.published if unfetched(folder))
    yield from lacking(request, testbed)
    yield from (f"data: {why}" for joint in joints(rows, testbed) if joint.home and (why := joint.lacks()))
    if any(row.method.needs_clip for row in rows) and not (Path(testbed.clip) / "config.json").is_file():
        yield (
            f"clip: no CLIP model folder at {testbed.clip or '(testbed.clip)'}; fetch one with "
            "`hf download openai/clip-vit-large-patch14-336 --local-dir` that folder"
        )
    judged = any(_judged(name, testbed) for name in request.benchmarks)
    written = bool(testbed.lens and request.methods) or any(row.method.needs_writer for row in rows)
    for role, needed in zip(OFFICES, (judged, written), strict=True):
        if needed and (why := problem(role, testbed)):
            yield f"{role}: {why}"


def _judged(name: str, testbed: Testbed) -> bool:
    """Whether a benchmark needs a judge with the options that it has here."""
    made: Benchmark = plugins.make("benchmarks", name, Benchmark, testbed.benchmarks.get(name, {}))
    return made.judged


def unfetched(model: str) -> str:
    """How to fetch a commit of the hub that is not in its cache here; empty for a folder."""
    if not (hub := HUB.fullmatch(model)):
        return ""
    fetch = f"hf download {hub['id']} --revision {hub['revision']}"
    return f"{model} is not in the hub's cache here; fetch it with `{fetch}`"


def lacking(request: Request, testbed: Testbed) -> Iterator[str]:
    """Which files of its source and its benchmarks a testbed neither holds nor draws."""
    bed = behind(testbed.data)
    if bed.home:
        try:
            request.data.check()
        except UsageError as error:
            yield f"data: {error}"
    for name in request.benchmarks:
        benchmark, home = plugins.plugin("benchmarks", name, Benchmark), folder_of(name, bed.home, request.data)
        if bed.home or borrowed.maker("benchmarks", name):
            if not home.is_dir() and not testbed.benchmarks.get(name, {}).get("hub"):
                yield f"benchmark: {home} is not there; {benchmark.told(home)}"
        elif name not in plugins.installed("benchmarks"):
            file = plugins.source("benchmarks", name)
            if not plugins.own_folder("benchmarks", name):
                yield f"benchmark: {file.with_suffix('')} is not there, the folder of {file.name}'s own files"
        elif not benchmark.heldout and (why := undrawn(name, testbed)):
            yield f"benchmark: {why}"


def undrawn(benchmark: str, testbed: Testbed) -> str:
    """That a testbed which draws its files draws none of this benchmark; empty where it does."""
    drawn = behind(testbed.data).benchmarks
    return "" if benchmark in drawn else f"{testbed.name} draws no files of {benchmark}; it has {', '.join(drawn)}"
