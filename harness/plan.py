"""Turns a request into ordered steps with keys: methods x data x seeds x benchmarks. Pure; what --dry-run prints.

A step's key covers its own fields, the keys of what it reads, and the source of the code that makes it; never a path,
a batch size or a worker count. So equal work has one key, and a change runs what depends on it and nothing else.
"""

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from harness import families, plugins
from harness.benchmark import Benchmark, folder_of
from harness.closure import code
from harness.codebook import common
from harness.config import MethodSpec, Testbed
from harness.contents import CONTENTS, listing
from harness.data import local as own_data
from harness.digest import source_digest
from harness.folder import family_of
from harness.hire import Office, kind_for
from harness.method import Baseline, Role, realised
from harness.model import revision
from harness.rows import pathless, resolve, training
from harness.steps import BASELINE, BLANK, NOISE, Cell, Plan, Request, Step
from harness.store import Stage

BODIES = {"train": ("harness.stages.train", "harness.stages.reference")}  # cached log-probs are in no key of their own
HELDOUT_SHARE = 5  # a fifth as many held-out examples as scenes


class Planner:
    """Builds the steps of one request; every method of it makes or finds one step."""

    def __init__(self, request: Request, testbed: Testbed, reference: str) -> None:
        self.request = request
        self.testbed = own_source(testbed, request)
        self.reference = reference
        self.steps: dict[str, Step] = {}
        self.models = {folder: revision(Path(folder)) for folder in testbed.models}
        self.families = {folder: families.file_of(family_of(Path(folder))) for folder in testbed.models}
        self.codebook = common(getattr(resolve(spec), "codebook", "") for spec in request.methods)

    def step(
        self,
        kind: str,
        title: str,
        identity: dict[str, Any],
        inputs: dict[str, Step],
        derived: dict[str, Step] | None = None,
        after: tuple[str, ...] = (),
        plugin: tuple[Path, ...] = (),
    ) -> Step:
        """The step with this identity; planned once however often it is asked for.

        `plugin` are the files of what its body loads by name: their code is in the key as the body's is.
        """
        stages = {name: step.stage for name, step in inputs.items()}
        aside = {name: step.stage for name, step in (derived or {}).items()}
        identity = {**identity, **code(*BODIES.get(kind, (f"harness.stages.{kind}",)), *plugin)}
        made = Step(title, Stage(kind, identity, stages), aside, after)
        return self.steps.setdefault(made.key, made)

    def model(self, seed: int) -> str:
        """The base model's folder for a seed."""
        return base_model(self.testbed, seed)

    def split(self, seed: int) -> Step:
        """The examples that every method of this seed consumes."""
        request, local = self.request, own_data.is_local(self.request.data)
        count = request.examples or (None if local else self.testbed.examples)
        where = "tuning" if request.tuning else "alignment"
        identity: dict[str, Any] = {"source": request.data, "n": count, "seed": seed}
        identity["reading"] = self.testbed.reading.model_dump(exclude={"max_dropped"})
        inputs: dict[str, Step] = {}
        if local:
            identity |= {"source": "local", **self.own}
        elif self.testbed.data == "generated":
            made = {"source": request.data, "split": where, "seed": seed, "n": request.pool or count}
            inputs["data"] = self.step("data", f"data {request.data} seed {seed}", made, {})
        else:
            identity["content"] = listing(Path(self.testbed.data) / "sources" / request.data)
        plugin = (plugins.source("harness.data", identity["source"]),)
        return self.step("split", f"split {request.data} seed {seed}", identity, inputs, plugin=plugin)

    @cached_property
    def own(self) -> dict[str, str]:
        """What identifies data of the user's own: their content, and that of the pictures that they name."""
        file, images = own_data.places(self.request.data, self.request.images)
        named = own_data.pictures(file, images, self.testbed.reading)
        data = CONTENTS.digest(file) if file.is_file() else listing(file)
        return {"file": data, "images": listing(images, [os.path.relpath(path, images) for path in named])}

    def items(self, name: str) -> Step:
        """A benchmark's items: the same for every model and seed."""
        where = "tuning-benchmark" if self.request.tuning else "benchmark"
        benchmark, options = self.benchmark(name), self.testbed.benchmarks.get(name, {})
        identity: dict[str, Any] = {"benchmark": name, "options": options, "images": self.testbed.reading.images}
        source = (plugins.source("harness.data", options["source"]),) if benchmark.heldout else ()
        plugin = (plugins.source("benchmarks", name), *source)
        inputs: dict[str, Step] = {}
        if self.testbed.data == "generated" and not plugins.own_folder("benchmarks", name):
            scenes = self.request.limit or self.testbed.scenes
            made: dict[str, Any] = {"benchmark": name, "split": where, "seed": 0, "scenes": scenes}
            if benchmark.heldout:
                where = "tuning-heldout" if self.request.tuning else "heldout"
                made = {"source": self.request.data, "split": where, "seed": 0, "n": max(1, scenes // HELDOUT_SHARE)}
            inputs["data"] = self.step("data", f"data {name}", made, {})
        else:
            identity["content"] = listing(folder_of(name, self.testbed.data))
            identity["limit"] = self.request.limit
        return self.step("items", f"items {name}", identity, inputs, plugin=plugin)

    def policy(self, spec: MethodSpec, seed: int, after: tuple[str, ...]) -> tuple[Step, ...]:
        """Every step that makes a row's policy: (build, reference?, train) per round; none for zero rounds."""
        method = resolve(spec)
        family = self.families[self.model(seed)]
        plugin = (plugins.source("methods", spec.name), family)
        who = {"method": spec.stem, "options": pathless(spec), "files": source_digest(*method.sources), "seed": seed}
        base: dict[str, Any] = {"model": self.models[self.model(seed)]}
        split, made = self.split(seed), list[Step]()
        roles: dict[str, Step] = {}  # role -> the step that trained it last
        for number in range(method.rounds):
            lesson, tag = method.lesson(number), f"{spec.id} seed {seed}"
            tag += f" round {number + 1}" if method.rounds > 1 else ""
            policy = {} if lesson.continues else {role: step for role, step in roles.items() if role == Role.POLICY}
            built = {**who, **base, "round": number, **self.responding}
            built["writer"] = self.asked("writer") if method.needs_writer else ""
            built["clip"] = revision(self.testbed.clip) if method.needs_clip else ""
            tuned = training(spec, self.testbed, lesson)
            built["max_length"] = tuned.max_length
            build = self.step("build", f"build {tag}", built, {"split": split, **roles}, None, after, plugin)
            derived: dict[str, Step] = {}
            if realised(lesson, self.reference, tuned.lora is not None) == "cached":
                known = {**base, "dtype": tuned.dtype, "columns": list(lesson.columns), "max_length": tuned.max_length}
                reads = {"build": build, **policy}
                derived["reference"] = self.step(
                    "reference", f"reference log-probs {tag}", known, reads, plugin=(family,)
                )
            identity = {**who, **base, "round": number, "training": tuned.model_dump()}
            train = self.step("train", f"train {tag}", identity, {"build": build, **roles}, derived, (), plugin)
            made += [build, *derived.values(), train]
            roles |= {str(role): train for role in lesson.trains}
        return tuple(made)

    def lens(self, spec: MethodSpec, seed: int, policy: Step) -> Step:
        """What a row's training did to chosen and rejected responses of its split's first examples."""
        identity = {
            "model": self.models[self.model(seed)],
            "examples": self.testbed.lens,
            **self.responding,
            "writer": self.asked("writer"),
            "codebook": self.codebook,
            "round": 0,
            "seed": seed,
        }
        reads, plugin = {"split": self.split(seed), "policy": policy}, (self.families[self.model(seed)],)
        return self.step("lens", f"lens {spec.id} seed {seed}", identity, reads, plugin=plugin)

    def cell(self, row: str, label: str, seed: int, name: str, policy: Step | None, changes: Mapping[str, Any]) -> Cell:
        """The generate and score steps of one cell; `changes` are to how it is generated."""
        benchmark = self.benchmark(name)
        items = self.items(name)
        most = min(benchmark.max_new_tokens, self.testbed.response_tokens)
        sampling = {"max_new_tokens": most, "temperature": 0.0, "dtype": self.testbed.training.dtype}
        identity = {"model": self.models[self.model(seed)], "sampling": sampling, "blank": False, **changes}
        inputs = {"items": items} | ({"policy": policy} if policy else {})
        family = (self.families[self.model(seed)],)
        responses = self.step("generate", f"generate {row} {name} seed {seed}", identity, inputs, plugin=family)
        scored = {
            "benchmark": name,
            "options": self.testbed.benchmarks.get(name, {}),
            "judge": self.asked("judge") if benchmark.judged else "",
        }
        reads, plugin = {"items": items, "responses": responses}, (plugins.source("benchmarks", name),)
        score = self.step("score", f"score {row} {name} seed {seed}", scored, reads, plugin=plugin)
        version = plugins.lmms_eval() if self.testbed.crosscheck else ""
        second = {"benchmark": name, "options": scored["options"], "lmms-eval": version}
        title = f"crosscheck {row} {name} seed {seed}"
        check = self.step("crosscheck", title, second, reads | {"score": score}) if version else None
        return Cell(row, label, seed, name, score, check)

    @property
    def responding(self) -> dict[str, Any]:
        """How models respond to a split's examples: no longer than this, and in the testbed's dtype on any device."""
        return {"response_tokens": self.testbed.response_tokens, "dtype": self.testbed.training.dtype}

    def asked(self, role: Office) -> dict[str, Any]:
        """What identifies the judge or writer: what it is, how it is asked, and its code."""
        kind = kind_for(role, self.testbed)
        return {**kind.identity(), **code(kind.file)}

    def benchmark(self, name: str) -> Benchmark:
        """The benchmark with the testbed's options."""
        made: Benchmark = plugins.make("benchmarks", name, Benchmark, self.testbed.benchmarks.get(name, {}))
        return made

    def rows(self) -> Iterator[tuple[MethodSpec | None, str, str, dict[str, Any]]]:
        """(spec, row, label, changes to how responses are generated) of the table, baseline first."""
        yield None, BASELINE, Baseline.label, {}
        if self.request.blank:
            yield None, BLANK, "baseline, blank image", {"blank": True}
        if self.request.noise_batch:
            yield None, NOISE, "noise floor", {"batch_size": self.request.noise_batch}
        for spec in self.request.methods:
            label = resolve(spec).title if spec.id == spec.stem else spec.id
            yield spec, spec.id, label, {}


def base_model(testbed: Testbed, seed: int) -> str:
    """The base model's folder for a seed."""
    return testbed.models[seed % len(testbed.models)]


def own_source(testbed: Testbed, request: Request) -> Testbed:
    """The testbed whose benchmarks on held-out data take them from the request's source, unless told otherwise."""
    heldout = [name for name in request.benchmarks if plugins.plugin("benchmarks", name, Benchmark).heldout]
    options = {name: {"source": request.data, **testbed.benchmarks.get(name, {})} for name in heldout}
    return testbed.model_copy(update={"benchmarks": testbed.benchmarks | options})


def plan(request: Request, testbed: Testbed, reference: str = "cached") -> Plan:
    """The plan of a request that passed `check`. `reference`: how references are had (`Runtime.reference`)."""
    planner = Planner(request, testbed, reference)
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
        "models": {str(seed): planner.models[planner.model(seed)] for seed in seeds},
        "rows": {cell.row: cell.label for cell in cells},
    }
    lenses = {
        (spec.id, seed): planner.lens(spec, seed, trained[spec.id, seed][-1])
        for seed in seeds
        for spec in request.methods
        if testbed.lens and trained[spec.id, seed]
    }
    checks = {f"lmms-eval/{name}": cell.crosscheck for name, cell in zip(titles, cells, strict=True) if cell.crosscheck}
    report = planner.step("report", "report", identity, titles | checks)
    splits = tuple(planner.split(seed) for seed in seeds) if request.methods else ()
    return Plan(request, testbed, tuple(planner.steps.values()), tuple(cells), splits, trained, lenses, report)
