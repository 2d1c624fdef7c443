"""Turns a request into ordered steps with keys: methods x data x seeds x benchmarks. Pure; what --dry-run prints.

A step's key covers its own fields, the keys of what it reads, and the source of the code that makes it; never a path,
a batch size or a worker count. So equal work has one key, and a change runs what depends on it and nothing else.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness import plugins
from harness.benchmark import Benchmark
from harness.config import MethodSpec, Testbed, Training, first_error
from harness.llm import identified, unusable
from harness.method import Baseline, Method, Role
from harness.model import revision
from harness.store import Stage, source_digest
from harness.types import UsageError

HERE = Path(__file__).parent
ALL_BENCHMARKS = ("sqa", "gqa", "textvqa", "mmvet", "mme", "mmb", "pope", "chair", "mmhal")  # the paper's order
HELDOUT_SHARE = 5  # a fifth as many held-out examples as scenes
MODEL_CODE = ("model.py", "pixels.py", "template.py", "images.py")
TREE_CODE = ("tree.py", "logps.py", "reference.py", "batches.py", *MODEL_CODE)
WORLD_CODE = ("mini/world.py", "mini/language.py", "mini/questions.py")
SECOND = "../benchmarks/_lmms.py"
# Which source files decide what a kind of stage holds, beside the plugin's own; relative to this file.
CODE = {
    "data": (*WORLD_CODE, "mini/glyphs.py", "mini/draw.py", "mini/sources.py", "mini/benchsets.py", "mini/opensets.py"),
    "split": ("split.py", "images.py", "data/*.py"),
    "items": ("images.py", "../benchmarks/_*.py", "../benchmarks/chair_data/*", "data/*.py"),
    "build": ("sampler.py", "kvcache.py", "tree.py", *MODEL_CODE),
    "reference": TREE_CODE,
    "train": ("engine.py", "zero.py", "losses.py", "method.py", *TREE_CODE),
    "generate": ("sampler.py", "kvcache.py", "tree.py", *MODEL_CODE),
    "score": ("benchmark.py", "../benchmarks/_*.py", "../benchmarks/chair_data/*"),
    "report": ("../reports/*.py", "../reports/pages/*", "benchmark.py"),
    "crosscheck": (SECOND, "../benchmarks/_coco_objects.py", "../benchmarks/chair_data/*"),
    "llm": ("asking.py", "llm.py", "panel.py"),
    "oracle": (*WORLD_CODE, "mini/oracles.py"),
}


@dataclass(frozen=True)
class Request:
    """What the user asked for. `images` goes with a file in `data`; `limit` is a number of benchmark scenes."""

    methods: tuple[MethodSpec, ...]
    data: str = "llava150k"
    images: str = ""
    seeds: int = 1
    first_seed: int = 0
    benchmarks: tuple[str, ...] = ALL_BENCHMARKS
    examples: int | None = None
    limit: int | None = None
    tuning: bool = False
    blank: bool = False
    """Also generate the baseline's responses to blank images: what a model can guess without seeing."""
    pool: int | None = None
    """Examples the embedded world draws for all sizes of one comparison, so that the smaller splits are prefixes."""
    noise_batch: int = 0
    """Also generate the baseline's responses in batches of this size: what is no method's doing. 0: do not."""


@dataclass(frozen=True)
class Step:
    """One stage and when it can run.

    `derived` are stages it reads too but that follow from its inputs, so that they are not in its key (a cache of
    reference log-probs); `after` are keys it lets go first when they run at all.
    """

    title: str
    stage: Stage
    derived: dict[str, Stage] = field(default_factory=dict)
    after: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The stage's key."""
        return self.stage.key

    @property
    def reads(self) -> dict[str, Stage]:
        """Every stage that must be finished first, by what it is to this one."""
        return {**self.stage.inputs, **self.derived}


@dataclass(frozen=True)
class Cell:
    """One cell of the table: whose responses to which benchmark, and the step that scores them."""

    row: str
    label: str
    seed: int
    benchmark: str
    score: Step
    crosscheck: Step | None


@dataclass(frozen=True)
class Plan:
    """Steps in an order that respects inputs, the cells of the table, and its report."""

    request: Request
    testbed: Testbed
    steps: tuple[Step, ...]
    cells: tuple[Cell, ...]
    splits: tuple[Step, ...]
    trained: "dict[tuple[str, int], tuple[Step, ...]]"  # (row, seed) -> every step that made its policy
    report: Step


@cache
def code(kind: str) -> str:
    """Digest of the source files that make a kind of stage."""
    files = [file for pattern in CODE[kind] for file in sorted(HERE.glob(pattern))]
    return source_digest(*(file for file in files if kind == "crosscheck" or file.name != Path(SECOND).name))


def listing(folder: Path) -> str:
    """Digest of a folder's file names and sizes, and of the contents of its tables: identity of a user's data."""
    lines = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        lines.append(f"{file.relative_to(folder)} {file.stat().st_size}")
        if file.suffix in (".json", ".jsonl", ".tsv", ".txt", ".parquet"):
            lines.append(hashlib.sha256(file.read_bytes()).hexdigest())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class Planner:
    """Builds the steps of one request; every method of it makes or finds one step."""

    def __init__(self, request: Request, testbed: Testbed, cached_reference: bool) -> None:
        self.request = request
        self.testbed = own_source(testbed, request)
        self.cached_reference = cached_reference
        self.steps: dict[str, Step] = {}
        self.models = {folder: revision(Path(folder)) for folder in testbed.models}

    def step(
        self,
        kind: str,
        title: str,
        identity: dict[str, Any],
        inputs: dict[str, Step],
        derived: dict[str, Step] | None = None,
        after: tuple[str, ...] = (),
    ) -> Step:
        """The step with this identity; planned once however often it is asked for."""
        stages = {name: step.stage for name, step in inputs.items()}
        aside = {name: step.stage for name, step in (derived or {}).items()}
        made = Step(title, Stage(kind, {**identity, "code": code(kind)}, stages), aside, after)
        return self.steps.setdefault(made.key, made)

    def model(self, seed: int) -> str:
        """The base model's folder for a seed."""
        return self.testbed.models[seed % len(self.testbed.models)]

    def split(self, seed: int) -> Step:
        """The examples that every method of this seed consumes."""
        request, local = self.request, self.request.data.endswith(".json")
        count = request.examples or (None if local else self.testbed.examples)
        where = "tuning" if request.tuning else "alignment"
        identity: dict[str, Any] = {"source": request.data, "n": count, "seed": seed}
        inputs: dict[str, Step] = {}
        if local:
            file, images = Path(request.data).expanduser().resolve(), Path(request.images).expanduser().resolve()
            identity |= {"source": "local", "file": hashlib.sha256(file.read_bytes()).hexdigest()}
            identity |= {"images": listing(images)}
        elif self.testbed.data == "generated":
            made = {"source": request.data, "split": where, "seed": seed, "n": request.pool or count}
            inputs["data"] = self.step("data", f"data {request.data} seed {seed}", made, {})
        else:
            identity["content"] = listing(Path(self.testbed.data) / "sources" / request.data)
        return self.step("split", f"split {request.data} seed {seed}", identity, inputs)

    def items(self, name: str) -> Step:
        """A benchmark's items: the same for every model and seed."""
        where = "tuning-benchmark" if self.request.tuning else "benchmark"
        identity: dict[str, Any] = {
            "benchmark": name,
            "options": self.testbed.benchmarks.get(name, {}),
            "source": source_digest(plugins.source("benchmarks", name)),
        }
        inputs: dict[str, Step] = {}
        if self.testbed.data == "generated":
            scenes = self.request.limit or self.testbed.scenes
            made: dict[str, Any] = {"benchmark": name, "split": where, "seed": 0, "scenes": scenes}
            if self.benchmark(name).heldout:
                where = "tuning-heldout" if self.request.tuning else "heldout"
                made = {"source": self.request.data, "split": where, "seed": 0, "n": max(1, scenes // HELDOUT_SHARE)}
            inputs["data"] = self.step("data", f"data {name}", made, {})
        else:
            identity["content"] = listing(Path(self.testbed.data) / "benchmarks" / name)
            identity["limit"] = self.request.limit
        return self.step("items", f"items {name}", identity, inputs)

    def policy(self, spec: MethodSpec, seed: int, after: tuple[str, ...]) -> tuple[Step, ...]:
        """Every step that makes a row's policy: (build, reference?, train) per round; none for zero rounds."""
        method = resolve(spec)
        source = source_digest(plugins.source("methods", spec.name), *method.sources) if method.rounds else ""
        who = {"method": spec.stem, "options": pathless(spec), "source": source, "seed": seed}
        base: dict[str, Any] = {"model": self.models[self.model(seed)]}
        split, made = self.split(seed), list[Step]()
        policy: dict[str, Step] = {}
        for number in range(method.rounds):
            tag = f"{spec.id} seed {seed}" + (f" round {number + 1}" if method.rounds > 1 else "")
            built = {**who, **base, "round": number, "response_tokens": self.testbed.response_tokens}
            built["writer"] = self.asked("writer") if method.needs_writer else ""
            build = self.step("build", f"build {tag}", built, {"split": split, **policy}, after=after)
            derived: dict[str, Step] = {}
            tuned = training(spec, self.testbed)
            if Role.REFERENCE in method.roles and self.cached_reference:
                reads = {"build": build, **policy}
                known = {**base, "dtype": tuned.dtype}
                derived["reference"] = self.step("reference", f"reference log-probs {tag}", known, reads)
            identity = {**who, **base, "round": number, "training": tuned.model_dump()}
            train = self.step("train", f"train {tag}", identity, {"build": build, **policy}, derived)
            made += [build, *derived.values(), train]
            policy = {"policy": train}
        return tuple(made)

    def cell(self, row: str, label: str, seed: int, name: str, policy: Step | None, changes: Mapping[str, Any]) -> Cell:
        """The generate and score steps of one cell; `changes` are to how it is generated."""
        benchmark = self.benchmark(name)
        items = self.items(name)
        sampling = {"max_new_tokens": min(benchmark.max_new_tokens, self.testbed.response_tokens), "temperature": 0.0}
        identity = {"model": self.models[self.model(seed)], "sampling": sampling, "blank": False, **changes}
        inputs = {"items": items} | ({"policy": policy} if policy else {})
        responses = self.step("generate", f"generate {row} {name} seed {seed}", identity, inputs)
        scored = {
            "benchmark": name,
            "options": self.testbed.benchmarks.get(name, {}),
            "source": source_digest(plugins.source("benchmarks", name)),
            "judge": self.asked("judge") if benchmark.judged else "",
        }
        score = self.step("score", f"score {row} {name} seed {seed}", scored, {"items": items, "responses": responses})
        second = {"benchmark": name, "options": scored["options"], "lmms-eval": plugins.lmms_eval()}
        reads = {"items": items, "responses": responses, "score": score}
        title = f"crosscheck {row} {name} seed {seed}"
        check = self.step("crosscheck", title, second, reads) if second["lmms-eval"] else None
        return Cell(row, label, seed, name, score, check)

    def asked(self, role: str) -> Any:
        """What identifies the judge or writer: for the oracle its code, for others what they are and how asked."""
        name = getattr(self.testbed, role)
        if name == "oracle":
            return f"{name}:{code('oracle')}"
        return identified(role, self.testbed) | {"code": code("llm")}

    def benchmark(self, name: str) -> Benchmark:
        """The benchmark with the testbed's options."""
        made: Benchmark = plugins.make("benchmarks", name, Benchmark, self.testbed.benchmarks.get(name, {}))
        return made

    def rows(self) -> Iterator[tuple[MethodSpec | None, str, str, dict[str, Any]]]:
        """(spec, row, label, changes to how responses are generated) of the table, baseline first."""
        yield None, "baseline", Baseline.label, {}
        if self.request.blank:
            yield None, "blank", "baseline, blank image", {"blank": True}
        if self.request.noise_batch:
            yield None, "noise", "noise floor", {"batch_size": self.request.noise_batch}
        for spec in self.request.methods:
            label = resolve(spec).label if spec.id == spec.stem else spec.id
            yield spec, spec.id, label, {}


def own_source(testbed: Testbed, request: Request) -> Testbed:
    """The testbed whose benchmarks on held-out data take them from the request's source, unless told otherwise."""
    heldout = [name for name in request.benchmarks if plugins.plugin("benchmarks", name, Benchmark).heldout]
    options = {name: {"source": request.data, **testbed.benchmarks.get(name, {})} for name in heldout}
    return testbed.model_copy(update={"benchmarks": testbed.benchmarks | options})


def pathless(spec: MethodSpec) -> dict[str, Any]:
    """A row's options without those that name a file its method reads: the file's content counts, not its place."""
    files = {str(path) for path in resolve(spec).sources}
    return {name: value for name, value in spec.options.items() if value not in files}


def resolve(spec: MethodSpec) -> Method:
    """The method with its options set."""
    if spec.name == "baseline":
        return Baseline()
    made: Method = plugins.make("methods", spec.name, Method, spec.options)
    return made


def training(spec: MethodSpec, testbed: Testbed) -> Training:
    """The testbed's training arguments, the method's own, the user's; later ones win."""
    merged = testbed.training.model_dump() | testbed.methods.get(spec.stem, {}) | spec.training
    try:
        return Training.model_validate(merged)
    except ValidationError as error:
        raise UsageError(f"{spec.id}.{first_error(error)}") from None


def plan(request: Request, testbed: Testbed, cached_reference: bool = True) -> Plan:
    """The plan of a request that passed `check`. `cached_reference=False`: references are computed while training."""
    planner = Planner(request, testbed, cached_reference)
    seeds = range(request.first_seed, request.first_seed + request.seeds)
    trained: dict[tuple[str, int], tuple[Step, ...]] = {}
    for seed in seeds:
        after: tuple[str, ...] = ()
        for spec in request.methods:
            made = planner.policy(spec, seed, after)
            trained[spec.id, seed] = made
            builds = [step.key for step in made if step.stage.kind == "build"]
            after = tuple(builds[:1])  # builds share own responses: one behind the other finds them in the store
    cells = [
        planner.cell(row, label, seed, name, trained[row, seed][-1] if spec else None, changes)
        for seed in seeds
        for spec, row, label, changes in planner.rows()
        for name in request.benchmarks
    ]
    titles = {f"{cell.row}/{cell.seed}/{cell.benchmark}": cell.score for cell in cells}
    identity = {
        "testbed": testbed.name,
        "synthetic": testbed.synthetic,
        "protocol": testbed.protocol,
        "data": request.data,
        "rows": {cell.row: cell.label for cell in cells},
    }
    checks = {f"lmms-eval/{name}": cell.crosscheck for name, cell in zip(titles, cells, strict=True) if cell.crosscheck}
    report = planner.step("report", "report", identity, titles | checks)
    splits = tuple(planner.split(seed) for seed in seeds) if request.methods else ()
    return Plan(request, testbed, tuple(planner.steps.values()), tuple(cells), splits, trained, report)


def check(request: Request, testbed: Testbed) -> None:
    """Everything that can be known to be wrong or missing before a plan is made, in one error."""
    known = plugins.names("harness.data")
    local = request.data.endswith(".json")
    if local and not (Path(request.data).expanduser().is_file() and Path(request.images or "").expanduser().is_dir()):
        raise UsageError(f"--data {request.data} needs that file to exist and --images DIR to name its image folder.")
    if not local and request.data not in known:
        raise plugins.unknown("data", request.data, [name for name in known if name != "local"])
    for name in request.benchmarks:
        if plugins.plugin("benchmarks", name, Benchmark).heldout and local:
            raise UsageError(f"{name} asks about held-out examples of a named source; --data {request.data} has none.")
    seen: set[str] = set()
    for spec in request.methods:
        method = resolve(spec)
        training(spec, testbed)
        if spec.id in seen:
            raise UsageError(f"the method {spec.id} is named twice; name it once, or give the rows different options.")
        seen.add(spec.id)
        if method.needs_writer and local and testbed.writer == "oracle":
            raise UsageError(
                f"{spec.name} needs a writer that knows these images; the oracle of {testbed.name} reads "
                f"its own scene graphs only. Leave {spec.name} out, or use --data llava150k."
            )
    missing = "\n".join(f"  - {what}" for what in absent(request, testbed))
    if missing:
        raise UsageError(f"the testbed {testbed.name} is not complete:\n{missing}")


def absent(request: Request, testbed: Testbed) -> Iterator[str]:
    """What a testbed lacks for this request: what, where from, which layout."""
    for folder in testbed.models:
        if not (Path(folder) / "config.json").is_file():
            yield (
                f"weights: no Hugging Face model folder at {folder}; fetch one with "
                f"`hf download llava-hf/{Path(folder).name} --local-dir {folder}`"
            )
    if testbed.data != "generated":
        root = Path(testbed.data)
        if not request.data.endswith(".json") and not (root / "sources" / request.data).is_dir():
            layout = plugins.module("harness.data", request.data).SOURCE.layout
            yield f"data: {root / 'sources' / request.data} is not there; {layout}"
        for name in request.benchmarks:
            if not (root / "benchmarks" / name).is_dir() and not testbed.benchmarks.get(name, {}).get("hub"):
                layout = plugins.plugin("benchmarks", name, Benchmark).layout
                yield f"benchmark: {root / 'benchmarks' / name} is not there; {layout}"
    who = {"judge": any(plugins.plugin("benchmarks", name, Benchmark).judged for name in request.benchmarks)}
    who["writer"] = any(resolve(spec).needs_writer for spec in request.methods)
    for role, needed in who.items():
        name = getattr(testbed, role)
        if needed and name != "oracle" and (why := unusable(name)):
            yield f"{role}: {why}"
