"""What the steps of a plan take, by formula: memory of a device, FLOPs, hours, disk; and which of them will not fit.

The lengths of texts are assumed (`PROMPT`, `ANSWER`) until a training has its records, and sizes itself for them; so is
the size of pictures (`SHOWN`), unless `harness data prepare` has read the data: then some of these are looked at. Hours
are FLOPs by a share of the device's FLOP/s; of generation they are weights and keys read once per token.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from itertools import islice
from math import ceil, prod
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import PIL.Image

from harness import backends
from harness.comparison.asking import ANSWER, Asked, asked_of_policy
from harness.comparison.devices import Device
from harness.comparison.joining import added, amount
from harness.comparison.needs import Need, together
from harness.contracts import plugins, prepared
from harness.contracts.benchmark import Benchmark
from harness.contracts.family import Eyes
from harness.contracts.family import Layout as Places
from harness.contracts.method import Lesson, Role
from harness.contracts.records import Example, Image
from harness.contracts.settings import Dtype, Runtime, Training
from harness.contracts.steps import Plan, Step
from harness.models.folder import inspect
from harness.models.footprint import BYTES, Decoder, Load, Memory, Shape, generating, laid, most_rows, reading
from harness.models.footprint import Layout as Fitted
from harness.models.load import config_of, revision
from harness.models.tree import Branch, Tree
from harness.stages._model import Modelled
from harness.stages._responding import Responding
from harness.stages.build import Build
from harness.stages.generate import Generate
from harness.stages.probe import Probe
from harness.stages.reference import Reference
from harness.stages.respond import Respond
from harness.stages.split import Split
from harness.stages.train import Train
from harness.system.profile import Flops

PROMPT = 60  # tokens, of template and question
SHOWN = (640, 480)  # pixels of a picture, width and height, as most of COCO's are
LOOKED = 200  # pictures of prepared data
NOTHING = "no switch: up to 16 such devices are not enough"
USED = 0.92  # of a device's memory, as a training uses it (`harness.training.room`)


class _Model(NamedTuple):
    shape: Shape
    flops: Flops
    seen: Places  # a picture of a benchmark
    shelf: int  # bytes of one picture's features
    trained: tuple[Places, ...] = ()  # pictures of the data, where these were prepared

    @property
    def prompt(self) -> int:
        """Places of a picture and a question."""
        return self.seen.places + PROMPT

    @property
    def on_data(self) -> "_Model":
        """The same about a picture of the data: the one whose places are nearest to their mean."""
        if not self.trained:
            return self
        mean = fmean(one.places for one in self.trained)
        middle = min(self.trained, key=lambda one: abs(one.places - mean))
        return self._replace(seen=middle, shelf=self.shelf * middle.places // self.seen.places)


class _Fit(NamedTuple):
    rows: int
    memory: Memory
    how: str
    cure: str


class _Here(NamedTuple):
    """Whose plan it is, and on what it is to run."""

    planned: Plan
    runtime: Runtime
    device: Device

    @property
    def room(self) -> int:
        """Bytes."""
        return int(USED * self.device.memory)

    def seconds(self, flops: float) -> float:
        """Of work that is bound by them, on one device."""
        return flops / (self.device.training * self.device.flops)


def needs(
    planned: Plan, steps: Sequence[Step], runtime: Runtime, device: Device, pictures: Sequence[Image] = ()
) -> Iterator[Need]:
    """One for each step in which a model computes; `pictures` are what those of the data are taken to be like."""
    known, here = dict[str, _Model](), _Here(planned, runtime, device)
    folders = {revision(one): one for one in (*planned.testbed.models, *(one for _, one in planned.request.published))}
    for step in (step for step in steps if step.resources.gpus):
        if made := next((one for one in SIZED if one.kind() == step.stage.kind), None):
            folder = folders[made.of(step).model]
            if folder not in known:
                known[folder] = _model(Path(folder), BYTES[planned.testbed.training.dtype], pictures)
            one = known[folder]
            yield SIZED[made](here, step, one if made is Generate else one.on_data)


def pictures_of(planned: Plan) -> list[Image]:
    """Some pictures of the data, as `harness data prepare` has read them; none where it has not."""
    reading, found = planned.testbed.reading, list[Image]()
    for part in planned.request.data.parts:
        made = prepared.found(part, reading)
        examples = made.examples(lambda id: sha256(id.encode()).hexdigest(), part.start.absolute()) if made else ()
        shown = (one.image for one in examples if isinstance(one, Example) and one.image)
        found += islice(shown, LOOKED // len(planned.request.data.parts))
    return found


def _model(folder: Path, size: int, pictures: Sequence[Image] = ()) -> _Model:
    looked, config = inspect(folder), config_of(folder)
    tower = sum(prod(one.shape) for name, one in looked.tensors.items() if "vision" in name or "visual" in name)
    shape = Shape(Decoder.of(config), looked.architecture["parameters"], tower)
    eyes = looked.family.eyes(lambda kind: kind.from_pretrained(folder, local_files_only=True), config)
    seen, trained = _seen(eyes), list[Places]()
    for picture in pictures:
        with suppress(OSError, ValueError):  # gone since: others speak for it
            trained.append(eyes.layout(picture))
    kept = looked.family.rows(seen) * looked.family.width(looked.tensors)
    return _Model(shape, looked.family.flops(config), seen, kept * size, tuple(trained))


def _seen(eyes: Eyes) -> Places:
    """How a picture of the usual size lies in a sequence."""
    with TemporaryDirectory() as home:
        PIL.Image.new("RGB", SHOWN).save(Path(home) / "picture.png")
        return eyes.layout(Image(f"{home}/picture.png", ""))


def _examples(planned: Plan, step: Step) -> int:
    """How many a step's split has, of a training that of its records."""
    split = next((stage for name, stage in step.reads.items() if name != "joint" and stage.kind == Split.kind()), None)
    said = Split.of(split).n if split else None
    return said or planned.request.examples or planned.testbed.examples


def _tree(model: _Model, answers: tuple[int, ...]) -> Tree:
    """A record with so many answers under each of its pictures."""
    branch, prefix = Branch((0,) * ANSWER, (True,) * ANSWER), (0,) * model.prompt
    first, *more = (Tree("", None, prefix, (branch,) * count, layout=model.seen) for count in answers)
    return replace(first, more=tuple(more))


def _answers(lesson: Lesson) -> tuple[int, ...]:
    """How many answers a record of a round has under each of its pictures."""
    if lesson.sampled:
        return (lesson.sampled,)
    return lesson.answers if lesson.unit == "record" else (1,)


def _train(here: _Here, step: Step, model: _Model) -> Need:
    made, row = Train.of(step), here.planned.rows[step.row]
    lesson, how, runtime = row.lessons[made.round], made.training, here.runtime
    tree = _tree(model, _answers(lesson))
    passes = 2 if "value" in lesson.columns and not lesson.shared_trunk else 1
    own, layers = ceil(_examples(here.planned, step) / lesson.part[1]), model.shape.decoder.layers
    count = own + (beside := amount(here.planned, how))
    longest = max((one.places for one in model.trained), default=model.seen.places) - model.seen.places
    lengths = [(tree.tokens + longest, tree.supervised)] * how.train_batch_size

    def fitted(runtime: Runtime) -> Fitted:
        """The layout under other switches."""
        return laid(model.shape, how, runtime, lengths, here.room, passes, passes)

    rows, found, memory = fitted(runtime)
    again = f", {found} of {layers} layers computed again" if found else ""
    host = f", {memory.host / 1e9:.0f} GB on the host" if memory.host else ""
    cure = "" if memory.peak <= here.room else _cure(how, runtime, here.room, fitted)
    learns = model.shape.decoder.adapters(how.lora) if how.lora else None
    flops = passes * how.num_train_epochs * count * model.flops.train(tree, learns)
    more = passes * how.num_train_epochs * count * model.flops.forward(tree) * (found / layers + lesson.anchored)
    seconds = here.seconds(flops + more) / runtime.num_processes
    kept = passes * learns if learns else model.shape.parameters
    if learns and Role.POLICY in lesson.trains and not backends.chosen(here.planned.testbed.generation).merges:
        kept += model.shape.parameters
    text, joint = f"{rows} at a time{again}{host}", ""
    text += f", over {runtime.nodes} machines" if runtime.nodes > 1 else ""
    if how.joint:
        part = beside / count
        joint = added(how.joint.data, beside, own, part * flops, part * seconds, beside * model.shelf)
    return Need(step.row, "train", memory, flops, seconds, BYTES[how.dtype] * kept, text, cure, joint)


def _cure(how: Training, runtime: Runtime, room: int, fitted: Callable[[Runtime], Fitted]) -> str:
    """Switches with which a training fits: on more devices of each machine, or on fewer with its optimiser there."""
    nodes, found = runtime.nodes, list[tuple[int, str]]()
    usual = {"zero_stage": 2, "num_processes": nodes, "offload_optimizer": "none", "offload_param": "none"}
    for away in ({}, {"offload_optimizer": "cpu"}):
        for each in (1, 2, 4, 8, 16) if how.optim != "adamw_8bit" else (1,) if not away else ():
            switches: dict[str, Any] = {"per_device_train_batch_size": "auto", "gradient_checkpointing": "auto"}
            switches |= {**({"num_processes": each * nodes, "zero_stage": 3} if each * nodes > 1 else {}), **away}
            memory = fitted(Runtime.model_validate(runtime.model_dump() | usual | switches)).memory
            if memory.peak <= room:
                host = f" and {each * memory.host / 1e9:.0f} GB of the machine's memory" if away else ""
                words = " ".join(f"--set runtime.{name}={value}" for name, value in switches.items())
                found.append((each, f"{words}{host}"))
                break
    if len(found) == 2 and found[1][0] >= found[0][0]:
        found.pop()
    return "; or, slower, with ".join(words for _, words in found) or NOTHING


def _reference(here: _Here, step: Step, model: _Model) -> Need:
    planned = here.planned
    row = next((row for (row, _), steps in planned.trained.items() if step in steps), step.row)
    tree = _tree(model, planned.rows[row].lessons[0].answers)
    flops = _examples(planned, step) * model.flops.forward(tree)
    _, memory, how, cure = _read(here, model, Reference.of(step).dtype, tree)
    return Need(row, "reference", memory, flops, here.seconds(flops), 0, how, cure)


def _read(here: _Here, model: _Model, dtype: Dtype, tree: Tree) -> _Fit:
    """A pass without a gradient."""

    def taken(rows: int) -> Memory:
        """Memory with so many rows at once."""
        return reading(model.shape, dtype, Load(rows, tree.tokens, rows * tree.supervised))

    return _halved(here.runtime.read_batch_size, taken, here.room)


def _halved(rows: int, taken: Callable[[int], Memory], room: int) -> _Fit:
    """As many rows at once as fit of those that are wanted: halved, as they will be where memory runs out."""
    fitting = next((less for at in range(16) if (less := rows >> at) and taken(less).peak <= room), 1)
    memory, how = taken(fitting), f"{fitting} at a time" + (f" ({rows} do not fit)" if fitting < rows else "")
    return _Fit(fitting, memory, how, "" if memory.peak <= room else NOTHING)


def _build(here: _Here, step: Step, model: _Model) -> Need:
    """The own responses that the method asks for, and the features of their pictures."""
    kind, build, row = step.stage.kind, Responding.part(step.stage), here.planned.rows[step.row]
    count = ceil(_examples(here.planned, step) / row.lessons[build.round].part[1])
    each, answers = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
    for one in asked_of_policy(row.method, build.round, build.seed):
        long = one.tokens, min(build.response_tokens, one.most or build.response_tokens)
        each[long] += one.prompts
        answers[long] += one.answers
    if not each:
        weights = Memory(weights=BYTES[build.dtype] * model.shape.parameters)
        return Need(step.row, kind, weights, 0, 0.0, count * model.shelf)  # of features, made while it is trained
    asked = (Asked(count * prompts, count * answers[long], *long) for long, prompts in each.items())
    said = together([_respond(here, step.row, kind, model, build.dtype, one, one.most) for one in asked], max)
    return replace(said, flops=said.flops + count * model.flops.tower(model.seen), disk=count * model.shelf)


def _generate(here: _Here, step: Step, model: _Model) -> Need:
    """Responses to a benchmark's questions; the official number of them, where a world draws none."""
    planned, made = here.planned, Generate.of(step)
    cell = next(cell for cell in planned.cells if cell.responses.key == step.key)
    benchmark = plugins.plugin("benchmarks", cell.benchmark, Benchmark)
    asked = min(filter(None, (planned.request.limit, benchmark.official_n)), default=planned.testbed.scenes)
    most = made.sampling.max_new_tokens
    return _respond(here, cell.row, "generate", model, made.sampling.dtype, Asked(asked, asked), most)


def _probe(here: _Here, step: Step, model: _Model) -> Need:
    """Responses of base and policy to some examples, then both models' log-probs of them."""
    made = Probe.of(step)
    row = next(row for (row, _), (probe, _) in here.planned.lenses.items() if probe.key == step.key)
    asked = Asked(2 * made.examples, 2 * made.examples)
    said = _respond(here, row, "probe", model, made.dtype, asked, made.response_tokens)
    tree = _tree(model, (2,))
    read = _read(here, model, made.dtype, tree)
    flops = 2 * made.examples * model.flops.forward(tree)
    most, seconds = max(said.memory, read.memory, key=lambda one: one.peak), said.seconds + here.seconds(flops)
    return replace(said, memory=most, flops=said.flops + flops, seconds=seconds, cure=said.cure or read.cure)


def _respond(here: _Here, row: str, kind: str, model: _Model, dtype: Dtype, asked: Asked, new: int) -> Need:
    """Answers of at most `new` tokens. Those to one prompt read it once."""
    said, shape, prompt = min(new, asked.tokens), model.shape, model.prompt
    wanted = here.runtime.answered_at_once or most_rows(shape, dtype, prompt, new, here.room)
    fit = _halved(wanted, lambda rows: generating(shape, dtype, rows, prompt, said), here.room)
    once, all_of_it = (model.flops.respond(prompt, tokens, model.seen) for tokens in (0, said))
    flops = asked.prompts * once + asked.answers * (all_of_it - once)
    many = here.runtime.generate_processes
    passes, part = ceil(asked.answers / fit.rows / many), asked.answers / fit.rows / many  # the last one may be smaller
    told = said * (passes * fit.memory.weights + part * fit.memory.cache)
    seconds = here.seconds(asked.prompts * once) / many + told / (here.device.reading * here.device.bandwidth)
    return Need(row, kind, fit.memory, flops, seconds, 0, fit.how, fit.cure)


SIZED: dict[type[Modelled], Callable[[_Here, Step, _Model], Need]] = {
    Respond: _build,
    Build: _build,
    Reference: _reference,
    Train: _train,
    Generate: _generate,
    Probe: _probe,
}
