"""Makes the steps of a request, each once, with its key (`harness.comparison.plan` says which, in which order).

A step's key covers its kind's fields, the keys of what it reads, and the source of the code that makes it; never a
path, a batch size or a worker count. So equal work has one key, and a change runs what depends on it and nothing else.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness import backends, families
from harness.comparison import parity
from harness.comparison.bed import base_model, own_source
from harness.comparison.shown import Shown
from harness.contracts import borrowed, plugins
from harness.contracts.backend import Backend, Sampling
from harness.contracts.behind import behind
from harness.contracts.benchmark import Benchmark, folder_of
from harness.contracts.method import Role, realised
from harness.contracts.optimizer import insist_on_optimizer
from harness.contracts.row import Row
from harness.contracts.settings import Dtype, Runtime, Testbed, Training
from harness.contracts.source import Source
from harness.contracts.stage import Kind, Plugins
from harness.contracts.steps import Cell, Request, Step
from harness.judging.codebook import common
from harness.judging.hire import Office, answering, identity, kind_for
from harness.models.folder import family_of
from harness.models.load import revision
from harness.sources import _chosen
from harness.stages._model import Modelled
from harness.stages.answer import Answer
from harness.stages.build import Build
from harness.stages.crosscheck import Crosscheck
from harness.stages.data import Data
from harness.stages.generate import Generate
from harness.stages.items import Items
from harness.stages.lens import Lens
from harness.stages.parity import Parity
from harness.stages.probe import Probe
from harness.stages.reference import Reference
from harness.stages.report import Report
from harness.stages.respond import Respond
from harness.stages.score import Score
from harness.stages.split import Split
from harness.stages.train import Train
from harness.store.closure import Entry, code
from harness.store.contents import listing
from harness.store.store import Stage
from harness.system.errors import UsageError

HELDOUT_SHARE = 5  # a fifth as many held-out examples as scenes


class Planner:
    """Builds the steps of one request; every method of it makes or finds one step, or those of one row."""

    def __init__(self, request: Request, testbed: Testbed, runtime: Runtime, rows: Sequence[Row]) -> None:
        self.request = request
        self.testbed = own_source(testbed, request)
        self.bed = behind(testbed.data)
        self.runtime = runtime
        self.rows = rows
        self.steps, self.known = dict[str, Step](), dict[str, dict[str, str]]()  # what identifies sources, by name
        folders = (*testbed.models, *(folder for _, folder in request.published))
        self.models = {folder: revision(Path(folder)) for folder in folders}
        self.families = {self.models[folder]: families.file_of(family_of(Path(folder))) for folder in folders}
        self.codebook = common(getattr(row.method, "codebook", "") for row in rows)

    def step(
        self, made: Kind, reads: Kind.Reads, title: str, row: Row | None = None, after: tuple[str, ...] = ()
    ) -> Step:
        """The step of a stage that reads these; planned once however often it is asked for.

        TypeError for what its kind does not read.
        """
        if not isinstance(reads, made.Reads):
            raise TypeError(f"{title}: {type(reads).__qualname__} is not what a {made.kind()} reads.")
        given = reads.named()
        inputs = {name: stage for name, stage in given.items() if name not in reads.derived}
        derived = {name: stage for name, stage in given.items() if name in reads.derived}
        sources = tuple(self.sources(made, row))
        stage = Stage(made.kind(), {**made.identity(), **code(*sources)}, inputs)
        takes = made.takes(self.runtime)
        if "backend" in type(made).model_fields:  # none computes where the model has responded ahead
            gpus = takes.gpus * max(1, self.responder.gpus)
            takes = replace(takes, processes=1, gpus=0) if "responded" in derived else replace(takes, gpus=gpus)
        step = Step(title, stage, derived, after, row.id if row else "", takes, sources)
        return self.steps.setdefault(step.key, step)

    def sources(self, made: Kind, row: Row | None = None) -> Iterator[Entry]:
        """Modules and files whose code is in a stage's key: its kind's, and the plugins that this loads by name."""
        yield from (type(made).__module__, *made.also)
        family = self.families[made.model] if isinstance(made, Modelled) else None
        backend = backends.file_of(self.testbed.generation)
        yield from filter(None, made.loads(Plugins(row.file if row else None, family, backend, self.bed.code())))

    def model(self, seed: int) -> str:
        """The revision of a seed's base model."""
        return self.models[base_model(self.testbed, seed)]

    @property
    def dtype(self) -> Dtype:
        """In which models respond, on any device."""
        return self.testbed.training.dtype

    @cached_property
    def responder(self) -> Backend:
        """Who makes models respond."""
        return backends.chosen(self.testbed.generation)

    @cached_property
    def backend(self) -> dict[str, Any]:
        """What identifies who makes models respond."""
        return backends.identity(self.testbed.generation)

    @property
    def responding(self) -> dict[str, Any]:
        """How models respond to a split's examples."""
        return {"backend": self.backend, "response_tokens": self.testbed.response_tokens, "dtype": self.dtype}

    def split(self, seed: int) -> Step:
        """The examples that every method of this seed consumes."""
        request, source = self.request, self.request.data
        count = request.examples or (None if source.own else self.testbed.examples)
        return self.draw(source, count, seed, request.pool or count)

    def joint(self, training: Training, seed: int) -> Stage | None:
        """The examples that are learnt together with a row's records; None where none are."""
        if training.joint is None:
            return None
        source = _chosen.beside(training.joint.data, self.bed.home)
        count = training.joint.examples or (self.testbed.examples if source.home is None else None)
        return self.draw(source, count, seed, count).stage

    def draw(self, source: Source, count: int | None, seed: int, pool: int | None) -> Step:
        """So many examples of a source, None for all; a world draws `pool` of them."""
        split = Split(**self.examples(source), n=count, seed=seed, reading=self.testbed.reading)
        reads, named = Split.Reads(), f"{source} seed {seed}"
        if source.home is None:
            world = Data(source=source.name, split="tuning" if self.request.tuning else "alignment", seed=seed, n=pool)
            reads = Split.Reads(data=self.step(world, Data.Reads(), f"data {named}").stage)
        return self.step(split, reads, f"split {named}")

    def examples(self, source: Source) -> dict[str, str]:
        """What identifies all examples of a source, wherever they lie."""
        if source.name not in self.known:
            told = plugins.plain(source.identity(self.testbed.reading), source.name)
            if "source" not in told or not told.keys() <= Split.model_fields.keys():
                raise UsageError(f'{source.name}.identity must have "source", and may have "content": no {[*told]}.')
            self.known[source.name] = told
        return self.known[source.name]

    def items(self, name: str) -> Step:
        """A benchmark's items: the same for every model and seed."""
        title, asked = f"items {name}", {"benchmark": name, "options": self.options(name)}
        asked["images"] = self.testbed.reading.images
        source = self.request.data
        own = source.own if self.benchmark(name).heldout else plugins.own_folder("benchmarks", name)
        if self.bed.home or own or borrowed.maker("benchmarks", name):
            content = listing(folder_of(name, self.bed.home, source))
            return self.step(Items(**asked, content=content, limit=self.request.limit), Items.Reads(), title)
        data = self.step(self.world(name), Data.Reads(), f"data {name}")
        return self.step(Items(**asked), Items.Reads(data=data.stage), title)

    def world(self, name: str) -> Data:
        """The files of a benchmark that the testbed draws."""
        request, scenes = self.request, self.request.limit or self.testbed.scenes
        if self.benchmark(name).heldout:
            where = "tuning-heldout" if request.tuning else "heldout"
            return Data(source=self.options(name)["source"], split=where, seed=0, n=max(1, scenes // HELDOUT_SHARE))
        where = "tuning-benchmark" if request.tuning else "benchmark"
        return Data(benchmark=name, split=where, seed=0, scenes=scenes)

    def policy(self, row: Row, seed: int, after: tuple[str, ...]) -> tuple[Step, ...]:
        """Every step that makes a row's policy: (build, reference?, train) per round; none for zero rounds."""
        made, roles = list[Step](), dict[str, Stage]()  # role -> the training that trained it last
        for number, lesson in enumerate(row.lessons):
            insist_on_optimizer(row.training[number], self.runtime)
            tag = f"{row.id} seed {seed}" + (f" round {number + 1}" if row.method.rounds > 1 else "")
            *ahead, build = self.build(row, seed, number, roles, tag, after)
            reference = self.reference_of(row, seed, number, build, roles, f"reference log-probs {tag}")
            identity = Train(**self.who(row, seed, number), training=row.training[number])
            cached = reference.stage if reference else None
            joint = self.joint(row.training[number], seed)
            reads = Train.Reads(build=build.stage, reference=cached, joint=joint, **roles)
            train = self.step(identity, reads, f"train {tag}", row)
            made += [*ahead, build, *([reference] if reference else []), train]
            roles |= {str(role): train.stage for role in lesson.trains}
        return tuple(made)

    def who(self, row: Row, seed: int, number: int) -> dict[str, Any]:
        """Whose round it is."""
        method = {"method": row.spec.stem, "options": row.options, "files": row.files}
        return {**method, "seed": seed, "model": self.model(seed), "round": number}

    def build(
        self, row: Row, seed: int, number: int, roles: Mapping[str, Stage], tag: str, after: tuple[str, ...]
    ) -> list[Step]:
        """The records of a row's round; where a slow writer is asked last, the own responses come ahead by themselves,
        and no GPU is held meanwhile.
        """
        who, split = self.who(row, seed, number) | {"options": row.build_options}, self.split(seed).stage
        steps = list[Step]()
        if row.method.needs_writer and row.lessons[number].asks_last and kind_for("writer", self.testbed).paid:
            respond = Respond(**who, **self.responding, writer="")
            steps.append(self.step(respond, Respond.Reads(split=split, **roles), f"respond {tag}", row, after))
        build = Build(
            **who,
            **self.responding,
            writer=self.asked("writer") if row.method.needs_writer else "",
            clip=revision(self.testbed.clip) if row.method.needs_clip else "",
            max_length=row.training[number].max_length,
        )
        ahead = steps[0].stage if steps else None
        reads = Build.Reads(split=split, responded=ahead, **roles)
        return [*steps, self.step(build, reads, f"build {tag}", row, () if ahead else after)]

    def reference_of(
        self, row: Row, seed: int, number: int, build: Step, roles: Mapping[str, Stage], title: str
    ) -> Step | None:
        """The reference's log-probs for a row's round; None where they are not cached."""
        lesson, training = row.lessons[number], row.training[number]
        if realised(lesson, self.runtime.reference, training.lora is not None) != "cached":
            return None
        reference = Reference(
            model=self.model(seed),
            dtype=training.dtype,
            columns=list(lesson.columns),
            max_length=training.max_length,
        )
        policy = None if lesson.continues else roles.get(Role.POLICY)
        return self.step(reference, Reference.Reads(build=build.stage, policy=policy), title)

    def lens(self, row: Row, seed: int, policy: Step) -> tuple[Step, ...]:
        """What a row's training did to chosen and rejected responses of its split's first examples, and to errors."""
        who, split = f"{row.id} seed {seed}", self.split(seed).stage
        asked = {"model": self.model(seed), "examples": self.testbed.lens, "round": 0, "seed": seed, "writer": ""}
        probe = self.step(
            Probe(**asked, **self.responding), Probe.Reads(split=split, policy=policy.stage), f"probe {who}"
        )
        lens = Lens(writer=self.asked("writer"), codebook=self.codebook)
        return probe, self.step(lens, Lens.Reads(split=split, probe=probe.stage), f"lens {who}")

    def cell(self, shown: Shown, seed: int, name: str, policy: Step | None) -> Cell:
        """The steps of one cell: its responses, their scores, and a second opinion."""
        benchmark, items, where = self.benchmark(name), self.items(name), f"{shown.id} {name} seed {seed}"
        most = min(benchmark.max_new_tokens, self.testbed.response_tokens)
        responses = self.answers(shown, most, items) if shown.who else self.responses(shown, seed, most, items, policy)
        judge = self.asked("judge") if benchmark.judged else ""
        said = {"items": items.stage, "responses": responses.stage}
        score = Score(benchmark=name, options=self.options(name), judge=judge)
        scored = self.step(score, Score.Reads(**said), f"score {where}")
        check = None
        theirs = borrowed.maker("benchmarks", name)  # their own task gives no second opinion
        if self.testbed.crosscheck and not theirs and (version := plugins.lmms_eval()):
            second = Crosscheck(benchmark=name, options=self.options(name), lmms_eval=version)
            check = self.step(second, Crosscheck.Reads(**said, score=scored.stage), f"crosscheck {where}")
        return Cell(shown.id, shown.label, seed, name, items, responses, scored, check)

    def responses(self, shown: Shown, seed: int, most: int, items: Step, policy: Step | None) -> Step:
        """What a row's model says to a benchmark's items, in so many tokens at most."""
        sampling = Sampling(max_new_tokens=most, dtype=self.dtype)
        usual = {"model": self.model(seed), "backend": self.backend, "sampling": sampling, "blank": False}
        generate = Generate(**{**usual, **shown.changes})
        asked = Generate.Reads(items=items.stage, policy=policy.stage if policy else None)
        return self.step(generate, asked, f"generate {shown.id} {Items.of(items).benchmark} seed {seed}")

    def answers(self, shown: Shown, most: int, items: Step) -> Step:
        """What somebody else says to them, whatever the seed."""
        made = Answer(who=identity(answering(shown.who, self.testbed)), max_tokens=most)
        return self.step(made, Answer.Reads(items=items.stage), f"answer {shown.id} {Items.of(items).benchmark}")

    def parity(self, seed: int) -> Step | None:
        """Whether another backend is the model that transformers is; None where that is who responds."""
        if not parity.other(self.testbed):
            return None
        asked: dict[str, Any] = {"prompts": parity.PROMPTS, "tokens": parity.TOKENS, "dtype": self.dtype}
        asked |= {"lora": self.testbed.training.lora} if self.responder.merges else {}
        made = Parity(model=self.model(seed), backend=self.backend, **asked)
        items = {name: self.items(name).stage for name in self.request.benchmarks}
        return self.step(made, Parity.Reads(items=items), f"parity {self.backend['name']}")

    def report(self, cells: Sequence[Cell]) -> Step:
        """The tables."""
        scores = {f"{cell.row}/{cell.seed}/{cell.benchmark}": cell for cell in cells}
        report = Report(
            testbed=self.testbed.name,
            synthetic=self.testbed.synthetic,
            protocol=self.testbed.protocol,
            data=str(self.request.data),
            models={str(cell.seed): self.model(cell.seed) for cell in cells},
            rows={cell.row: cell.label for cell in cells},
        )
        checks = {name: cell.crosscheck.stage for name, cell in scores.items() if cell.crosscheck}
        reads = Report.Reads(scores={name: cell.score.stage for name, cell in scores.items()}, checks=checks)
        return self.step(report, reads, "report")

    def asked(self, role: Office) -> dict[str, Any]:
        """What identifies the judge or writer: what it is, how it is asked, and its code."""
        return identity(kind_for(role, self.testbed))

    def options(self, name: str) -> dict[str, Any]:
        """A benchmark's options on the testbed."""
        return self.testbed.benchmarks.get(name, {})

    def benchmark(self, name: str) -> Benchmark:
        """The benchmark with the testbed's options."""
        made: Benchmark = plugins.make("benchmarks", name, Benchmark, self.options(name))
        return made
