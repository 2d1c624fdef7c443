"""Runs a plan, one function per kind of stage. GPU work ends at `generate`; `score` and `report` are cheap."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness import plugins
from harness.benchmark import Benchmark
from harness.config import MethodSpec, Runtime, Testbed, Training
from harness.images import StoreImages, resolve
from harness.judge import Judge, Writer, answered
from harness.llm import Llm, hire
from harness.method import Lesson, Method, Role
from harness.panel import combined, insist, keep_replies, keep_verdicts, score_runs
from harness.plan import Request, Step, spec_of
from harness.profile import Tick
from harness.rounds import NoWriter, OwnRound, refuse_malformed, shelf, trainable
from harness.rows import resolve as resolve_method
from harness.split import EXAMPLES, LOCK, Load, check_lock, split, write_split
from harness.store import Stage, Store
from harness.types import (
    Conversation,
    Dropped,
    Example,
    HarnessError,
    Item,
    Prompt,
    Record,
    Response,
    Score,
    Unscored,
    dumps,
    read_jsonl,
    write_jsonl,
)


@dataclass(frozen=True)
class Bodies:
    """Makes stages. Picklable, so that a worker process can have one; call it to get the body of a step."""

    root: str
    testbed: Testbed
    request: Request
    runtime: Runtime

    def __call__(self) -> Callable[[Step, Tick], None]:
        """A body bound to an open store."""
        return Worker(Store(Path(self.root)), self.testbed, self.request, self.runtime).run


@dataclass(frozen=True)
class Worker:
    """Everything a stage's function needs beside its step."""

    store: Store
    testbed: Testbed
    request: Request
    runtime: Runtime

    def run(self, step: Step, tick: Tick) -> None:
        """Make the step's stage, unless somebody made it meanwhile."""
        body = getattr(self, step.stage.kind)
        self.store.run(step.stage, lambda out: body(step, out, tick))

    def folder(self, step: Step, name: str) -> Path:
        """The finished stage a step reads under this name."""
        return self.store.path(step.reads[name])

    def spec(self, step: Step) -> MethodSpec:
        """The row whose method a stage is made by."""
        return spec_of(step, self.request)

    def model(self, step: Step) -> Path:
        """The policy a step starts from: the last round's checkpoint, or the base model it names."""
        return self.folder(step, "policy") / "checkpoint" if "policy" in step.reads else self.base(step)

    def base(self, step: Step) -> Path:
        """The base model a step names."""
        from harness.model import revision

        wanted = step.stage.identity["model"]
        return next(Path(folder) for folder in self.testbed.models if revision(Path(folder)) == wanted)

    def shelf(self, step: Step) -> Path:
        """Where images' features by the step's base model are kept."""
        return shelf(self.store, step.stage.identity["model"])

    def data(self, step: Step, out: Path, tick: Tick) -> None:
        """The embedded world's files for one source or benchmark, in the official layout."""
        what = step.stage.identity
        if "source" in what:
            from harness.mini.sources import write_source

            write_source(what["source"], what["split"], what["seed"], what["n"], out)
        else:
            from harness.mini.benchsets import write_benchmark

            write_benchmark(what["benchmark"], what["seed"], what["scenes"], out, split=what["split"])

    def split(self, step: Step, out: Path, tick: Tick) -> None:
        """The examples every method consumes, and their lock."""
        what = step.stage.identity
        if what["source"] == "local":
            from harness.data import local

            file, images = (Path(given).expanduser() for given in (self.request.data, self.request.images))
            load: Load = partial(local.load, file, images)
        else:
            generated = self.testbed.data == "generated"
            home = Path(self.testbed.data) / "sources" / what["source"]
            module = plugins.module("harness.data", what["source"])
            load = partial(module.load, self.folder(step, "data") if generated else home)
        write_split(out, split(load, what["n"], what["seed"]), self.store.root)

    def items(self, step: Step, out: Path, tick: Tick) -> None:
        """A benchmark's items with their images' identities."""
        what = step.stage.identity
        generated = self.testbed.data == "generated"
        home = self.folder(step, "data") if generated else Path(self.testbed.data) / "benchmarks" / what["benchmark"]
        images = StoreImages(self.store.root, out, self.store.path(step.stage))
        items = list(benchmark_of(what).items(home, images))
        limit = what.get("limit")
        write_jsonl(out / "items.jsonl", items[:limit] if limit else items)

    def examples(self, step: Step) -> list[Example]:
        """The split's examples, as locked, their images where they lie now."""
        locked = list(read_jsonl(Example, self.folder(step, "split") / EXAMPLES))
        check_lock(self.folder(step, "split") / LOCK, locked)
        return [replace(e, image=resolve(e.image, self.store.root) if e.image else None) for e in locked]

    def build(self, step: Step, out: Path, tick: Tick) -> None:
        """A method's records; `dropped.jsonl` names every example that gave none."""
        what = step.stage.identity
        method: Method = resolve_method(self.spec(step))
        writer = self.asked("writer", step.reads["split"], tick) if method.needs_writer else NoWriter()
        lesson = method.lesson(what["round"])
        examples = self.examples(step)[lesson.part[0] :: lesson.part[1]]

        def work(writer: Writer) -> tuple[list[Record | Dropped], dict[str, int]]:
            round = self.round(step, lesson, writer, tick)
            return list(method.build(examples, round)), round.spent

        built, spent = answered(writer, work)
        insist(writer)
        made = [trainable(record, self.model(step)) for record in built]
        refuse_malformed(built, made)
        if [record.id for record in made] != [example.id for example in examples]:
            raise HarnessError(f"{what['method']} must build one record per example, in order, or a Dropped.")
        write_jsonl(out / "records.jsonl", (record for record in made if not isinstance(record, Dropped)))
        write_jsonl(out / "dropped.jsonl", (record for record in made if isinstance(record, Dropped)))
        profile: dict[str, Any] = {"examples": len(examples), "parts": lesson.part[1]}
        profile["records"] = sum(not isinstance(record, Dropped) for record in made)
        errors = Counter(e.type for record in made if isinstance(record, Conversation) for e in record.errors)
        profile |= {"errors": errors} if errors else {}
        if isinstance(writer, Llm):
            profile |= {"writer": keep_replies(out, writer)}
        (out / "profile.json").write_text(dumps(profile | spent), encoding="utf-8")

    def round(self, step: Step, lesson: Lesson, writer: Writer, tick: Tick) -> OwnRound:
        """What the step's method is handed."""
        return OwnRound(
            number=step.stage.identity["round"],
            seed=step.stage.identity["seed"],
            asked=writer,
            step=step,
            store=self.store,
            testbed=self.testbed,
            runtime=self.runtime,
            lesson=lesson,
            policy=self.model(step),
            policy_key=step.reads["policy"].key if "policy" in step.reads else step.stage.identity["model"],
            base=self.base(step),
            shelf=self.shelf(step),
            tick=tick,
        )

    def reference(self, step: Step, out: Path, tick: Tick) -> None:
        """The reference's per-token log-probs of every record, once."""
        from harness.reference import reference_logps

        records = list(read_jsonl(Record, self.folder(step, "build") / "records.jsonl"))
        file, what = out / "logps.safetensors", step.stage.identity
        profile = reference_logps(
            self.model(step), records, self.runtime, file, tick, what["dtype"], what["columns"], self.shelf(step)
        )
        (out / "profile.json").write_text(dumps(profile), encoding="utf-8")

    def train(self, step: Step, out: Path, tick: Tick) -> None:
        """A trained policy: `checkpoint/` in Hugging Face's layout, `log.jsonl`, `summary.json`."""
        from harness.engine import Job, launch

        what = step.stage.identity
        reference = self.folder(step, "reference") / "logps.safetensors" if "reference" in step.derived else None
        lesson = resolve_method(self.spec(step)).lesson(what["round"])
        heirs = {role: self.store.path(step.reads[role]) / "adapters" / role for role in Role if role in step.reads}
        job = Job(
            method=self.spec(step).name,
            options=self.spec(step).options,
            round=what["round"],
            records=str(self.folder(step, "build") / "records.jsonl"),
            model=str(self.base(step) if lesson.continues else self.model(step)),
            reference=str(reference) if reference else None,
            adapters={role: str(folder) for role, folder in heirs.items() if folder.is_dir()},
            training=Training.model_validate(what["training"]),
            runtime=self.runtime,
            seed=what["seed"],
            out=str(out),
            work=str(self.store.work(step.stage)),
            shelf=str(self.shelf(step)),
        )
        launch(job, tick)

    def lens(self, step: Step, out: Path, tick: Tick) -> None:
        """What training did to chosen and rejected responses and to errors, on the split's first examples."""
        from harness import lens

        what, size = step.stage.identity, self.runtime.per_device_train_batch_size
        examples = self.examples(step)[: what["examples"]]
        trained = self.round(step, Lesson(), NoWriter(), tick)
        base = replace(trained, policy=trained.base, policy_key=what["model"])
        prompts = [Prompt(e.id, e.image, e.turns[0].question) for e in examples]
        before, after = ([response.text.strip() for response in one.respond(prompts)] for one in (base, trained))
        found: dict[str, float] = {"examples": len(examples)}
        if pairs := lens.probes(examples, before):
            found |= lens.ratios(*(lens.sequences(one.policy, pairs, size, tick, one.shelf) for one in (base, trained)))
        if self.testbed.writer != "oracle" or "data" in step.reads["split"].inputs:
            writer = self.asked("writer", step.reads["split"], tick)
            found |= answered(writer, lambda who: lens.corrected(examples, before, after, who, what["codebook"]))
        (out / "profile.json").write_text(dumps(found), encoding="utf-8")

    def generate(self, step: Step, out: Path, tick: Tick) -> None:
        """The policy's responses to a benchmark's items."""
        from harness.model import kept
        from harness.profile import forward_flops, measure
        from harness.sampler import Sampling, respond

        what = step.stage.identity
        items = list(read_jsonl(Item, self.folder(step, "items") / "items.jsonl"))
        prompts = [
            Prompt(item.id, resolve(item.image, self.store.root) if item.image else None, item.prompt) for item in items
        ]
        sampling = Sampling.model_validate(what["sampling"])
        size = what.get("batch_size", self.runtime.generate_batch_size)
        with measure() as used:
            loaded = kept(self.model(step))
            before, folder = loaded.features.made, self.shelf(step)
            responses = respond(self.model(step), prompts, sampling, size, tick, what["blank"], shelf=folder)
        write_jsonl(out / "responses.jsonl", responses)
        cost = forward_flops(loaded.model.config)
        towers = 1 if what["blank"] else loaded.features.made - before
        profile = used() | {
            "items": len(items),
            "batch_size": size,
            "generated_tokens": sum(response.tokens for response in responses),
            "forward_tokens": sum(response.prompt_tokens + response.tokens for response in responses),
            "flops": towers * cost.tower
            + sum(
                cost.respond(response.prompt_tokens, response.tokens, item.image is not None)
                for item, response in zip(items, responses, strict=True)
            ),
        }
        (out / "profile.json").write_text(dumps(profile), encoding="utf-8")

    def score(self, step: Step, out: Path, tick: Tick) -> None:
        """A score or the reason for none per item, and the units that tables are made of."""
        what = step.stage.identity
        benchmark = benchmark_of(what)
        items = list(read_jsonl(Item, self.folder(step, "items") / "items.jsonl"))
        answered = read_jsonl(Response, self.folder(step, "responses") / "responses.jsonl")
        responses = {response.id: response for response in answered}
        judge = self.asked("judge", step.reads["items"], tick) if benchmark.judged else None
        runs = score_runs(benchmark, items, responses, judge)
        scores = combined(runs)
        write_jsonl(out / "scores.jsonl", scores)
        write_units(out / "units.json", benchmark, items, scores)
        if judge:
            keep_verdicts(out, benchmark, items, judge, runs, scores)

    def asked(self, role: str, of: Stage, tick: Tick) -> Judge:
        """The testbed's judge or writer, for a stage that asks about the images of `of`."""
        if getattr(self.testbed, role) == "oracle":
            return self.oracle(of)
        return hire(role, self.testbed, self.runtime, self.store.root, tick)

    def crosscheck(self, step: Step, out: Path, tick: Tick) -> None:
        """What lmms-eval's stock tasks say about the same responses."""
        from benchmarks._lmms import second_opinion

        what = step.stage.identity
        items = list(read_jsonl(Item, self.folder(step, "items") / "items.jsonl"))
        responses = read_jsonl(Response, self.folder(step, "responses") / "responses.jsonl")
        scores = read_jsonl(Score | Unscored, self.folder(step, "score") / "scores.jsonl")
        said, scored = {r.id: r.text for r in responses}, {score.id: score for score in scores}
        found = second_opinion(what["benchmark"], benchmark_of(what), items, said, scored)
        write_jsonl(out / "crosscheck.jsonl", found)

    def oracle(self, of: Stage) -> Judge:
        """The embedded testbed's judge and writer: it reads the scene graphs behind a split or a benchmark."""
        from harness.mini.oracles import Oracle, read_scenes

        return Oracle(read_scenes(self.store.path(of.inputs["data"]) / "scenes.jsonl"))

    def report(self, step: Step, out: Path, tick: Tick) -> None:
        """Tables and rows from stored units: pure, no model, no judge."""
        from reports.files import write_report
        from reports.outcomes import Outcome, read_runs, read_second, read_units
        from reports.table import Setting

        what = step.stage.identity
        outcomes = []
        reads = {name: stage for name, stage in step.reads.items() if stage.kind == "score"}
        for name, stage in reads.items():
            row, seed, benchmark = name.rsplit("/", 2)
            units, unscored = read_units(self.store.path(stage) / "units.json")
            check = step.reads.get(f"lmms-eval/{name}")
            second = read_second(self.store.path(check) / "crosscheck.jsonl") if check else {}
            runs, label = read_runs(self.store.path(stage) / "judge.json"), what["rows"][row]
            outcomes.append(Outcome(row, label, int(seed), benchmark, units, unscored, stage.key, runs, second))
        benchmarks = {stage.identity["benchmark"]: benchmark_of(stage.identity) for stage in reads.values()}
        setting = Setting(what["testbed"], what["protocol"], what["synthetic"])
        write_report(out, outcomes, benchmarks, list(what["rows"]), setting)


def benchmark_of(what: Mapping[str, Any]) -> Benchmark:
    """The benchmark a stage's identity names."""
    made: Benchmark = plugins.make("benchmarks", what["benchmark"], Benchmark, what["options"])
    return made


def write_units(path: Path, benchmark: Benchmark, items: Sequence[Item], scores: Sequence[Score | Unscored]) -> None:
    """The units of what was scored, and how many items were not, with reasons."""
    by_id = {item.id: item for item in items}
    failed = {score.id: score.reason for score in scores if isinstance(score, Unscored)}
    spoilt = {by_id[name].unit for name in failed}
    scored = [
        (by_id[score.id], score) for score in scores if isinstance(score, Score) and by_id[score.id].unit not in spoilt
    ]
    units = [{"id": unit.id, "cluster": unit.cluster, "parts": unit.parts} for unit in benchmark.units(scored)]
    path.write_text(dumps({"units": units, "unscored": failed, "items": len(items)}), encoding="utf-8")
