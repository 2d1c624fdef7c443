"""What the steps of a plan take, by formula: memory of a device, FLOPs, hours, disk; and which of them will not fit.

The lengths of texts and the size of pictures are assumed (`PROMPT`, `ANSWER`, `SHOWN`) until a training has its
records, and sizes itself for them. Hours are FLOPs by a share of what the device's maker publishes; of generation they
are weights and keys read once per token.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import PIL.Image

from harness.comparison.bill import Taken, Unmeasured
from harness.contracts.family import Eyes, Stored
from harness.contracts.family import Layout as Places
from harness.contracts.method import Method, Role
from harness.contracts.records import Example, Image, Prompt, Response, Turn
from harness.contracts.settings import Runtime
from harness.contracts.steps import Plan, Step
from harness.models.folder import inspect
from harness.models.footprint import BYTES, Decoder, Memory, Shape, generating, laid, most_rows
from harness.models.load import config_of, revision
from harness.models.tree import Branch, Tree
from harness.stages.build import Build
from harness.stages.reference import Reference
from harness.stages.split import Split
from harness.stages.train import Train
from harness.system.errors import UsageError
from harness.system.profile import Flops

PROMPT, ANSWER = 60, 100  # tokens, of template and question and of an answer
SHOWN = (640, 480)  # pixels of a picture, width and height, as most of COCO's are
MFU, READING = 0.4, 0.5  # of the published FLOP/s while training, of the published bandwidth while generating
USED = 0.92  # of a device's memory, as a training uses it (`harness.training.room`)


class Device(NamedTuple):
    """What its maker publishes: FLOP/s in bfloat16 without sparsity, bytes per second of memory, bytes of memory."""

    title: str
    flops: float
    bandwidth: float
    memory: int


DEVICES = {
    "h100": Device("H100 SXM 80 GB", 989e12, 3.35e12, 80 * 10**9),
    "h200": Device("H200 141 GB", 989e12, 4.8e12, 141 * 10**9),
    "a100-80": Device("A100 SXM 80 GB", 312e12, 2.04e12, 80 * 10**9),
    "rtx4090": Device("RTX 4090 24 GB", 165e12, 1.01e12, 24 * 10**9),
    "cpu": Device("a CPU of eight cores", 0.5e12, 0.05e12, 64 * 10**9),
}


def device_of(name: str) -> Device:
    """A device by name; UsageError, which lists them, for one that is not known."""
    if name not in DEVICES:
        raise UsageError(f"--device {name}: known are {', '.join(DEVICES)}.")
    return DEVICES[name]


@dataclass(frozen=True)
class Need:
    """What a step takes. `how`: as it is laid out; `cure`: switches with which it fits, "" where it does."""

    row: str
    kind: str
    memory: Memory
    flops: int
    seconds: float
    disk: int
    how: str = ""
    cure: str = ""


class _Model(NamedTuple):
    shape: Shape
    flops: Flops
    seen: Places
    shelf: int  # bytes of one picture's features


def needs(planned: Plan, steps: Sequence[Step], runtime: Runtime, device: Device) -> Iterator[Need]:
    """One for each step of a kind whose cost is known before it runs: build, reference, train."""
    known: dict[str, _Model] = {}
    for step in steps:
        if made := next((one for one in (Build, Reference, Train) if one.kind() == step.stage.kind), None):
            wanted = made.of(step).model
            folder = next(one for one in planned.testbed.models if revision(one) == wanted)
            model = known.setdefault(folder, _model(Path(folder), BYTES[planned.testbed.training.dtype]))
            if made is Train:
                yield _train(planned, step, runtime, device, model)
            elif made is Build:
                yield _build(planned, step, device, model)
            else:
                yield _reference(planned, step, device, model)


def _model(folder: Path, size: int) -> _Model:
    looked, config = inspect(folder), config_of(folder)
    tower = sum(prod(one.shape) for name, one in looked.tensors.items() if "vision" in name or "visual" in name)
    shape = Shape(Decoder.of(config), looked.architecture["parameters"], tower)
    seen = _seen(looked.family.eyes(lambda kind: kind.from_pretrained(folder, local_files_only=True), config))
    kept = seen.places * _kept(looked.tensors, shape.decoder.width)
    return _Model(shape, looked.family.flops(config), seen, kept * size)


def _seen(eyes: Eyes) -> Places:
    """How a picture of the usual size lies in a sequence."""
    with TemporaryDirectory() as home:
        PIL.Image.new("RGB", SHOWN).save(Path(home) / "picture.png")
        return eyes.layout(Image(f"{home}/picture.png", ""))


def _kept(tensors: Mapping[str, Stored], width: int) -> int:
    """Width of what is kept of a place: what a projector reads, or what frozen mergers make for the decoder."""
    read = [one.shape[1] for name, one in tensors.items() if name.endswith("projector.linear_1.weight")]
    mergers = [one for name, one in tensors.items() if "merger" in name and len(one.shape) == 2]
    return read[0] if read else sum(width for one in mergers if one.shape[0] == width)


def _examples(planned: Plan, step: Step) -> int:
    """How many a step's split has."""
    split = next((stage for stage in step.reads.values() if stage.kind == Split.kind()), None)
    said = Split.of(split).n if split else None
    return said or planned.request.examples or planned.testbed.examples


def _tree(model: _Model, answers: tuple[int, ...]) -> Tree:
    """A record with so many answers under each of its pictures."""
    branch, prefix = Branch((0,) * ANSWER, (True,) * ANSWER), (0,) * (model.seen.places + PROMPT)
    first, *more = (Tree("", None, prefix, (branch,) * count, layout=model.seen) for count in answers)
    return replace(first, more=tuple(more))


def _train(planned: Plan, step: Step, runtime: Runtime, device: Device, model: _Model) -> Need:
    made, row = Train.of(step), planned.rows[step.row]
    lesson, how = row.lessons[made.round], made.training
    tree = _tree(model, lesson.answers if lesson.unit == "record" else (1,))
    passes = 2 if "value" in lesson.columns and not lesson.shared_trunk else 1
    count = ceil(_examples(planned, step) / lesson.part[1])

    def fitted(runtime: Runtime, room: float) -> tuple[str, Memory, float]:
        lengths = [(tree.tokens, tree.supervised)] * how.train_batch_size
        found = laid(model.shape, how, runtime, lengths, int(room), passes, passes)
        again = f", {found.again} of {model.shape.decoder.layers} layers computed again" if found.again else ""
        return f"{found.rows} at a time{again}", found.memory, found.again / model.shape.decoder.layers

    room = USED * device.memory
    text, memory, share = fitted(runtime, room)
    cure = "" if memory.peak <= room else "no switch: up to 16 such devices are not enough"
    for world in (1, 2, 4, 8, 16) if cure else ():
        switches = {"per_device_train_batch_size": "auto", "gradient_checkpointing": "auto"}
        switches |= {} if world == 1 else {"num_processes": str(world), "zero_stage": "3"}
        other = Runtime.model_validate(
            runtime.model_dump() | switches | {"num_processes": world, "zero_stage": 2 + (world > 1)}
        )
        if fitted(other, room)[1].peak <= room:
            cure = " ".join(f"--set runtime.{name}={value}" for name, value in switches.items())
            break
    learns = model.shape.decoder.adapters(how.lora) if how.lora else None
    flops = passes * how.num_train_epochs * count * model.flops.train(tree, learns)
    more = passes * how.num_train_epochs * count * model.flops.forward(tree) * (share + lesson.anchored)
    seconds = (flops + more) / (MFU * device.flops * runtime.num_processes)
    kept = model.shape.parameters * (Role.POLICY in lesson.trains) + passes * (learns or 0)
    return Need(step.row, "train", memory, flops, seconds, BYTES[how.dtype] * kept, text, cure)


def _reference(planned: Plan, step: Step, device: Device, model: _Model) -> Need:
    answers = planned.rows[_row(planned, step)].lessons[0].answers
    flops = _examples(planned, step) * model.flops.forward(_tree(model, answers))
    memory = Memory(weights=BYTES[Reference.of(step).dtype] * model.shape.parameters)
    return Need(_row(planned, step), "reference", memory, flops, flops / (MFU * device.flops), 0)


def _row(planned: Plan, step: Step) -> str:
    return next((row for (row, _), steps in planned.trained.items() if step in steps), step.row)


def _build(planned: Plan, step: Step, device: Device, model: _Model) -> Need:
    """The own responses that the method asks for, and the features of their pictures."""
    build, row = Build.of(step), planned.rows[step.row]
    count = ceil(_examples(planned, step) / row.lessons[build.round].part[1])
    asked, prompt, places = count * _responses(row.method, build), model.seen.places + PROMPT, model.seen
    if not asked:
        weights = Memory(weights=BYTES[build.dtype] * model.shape.parameters)
        return Need(step.row, "build", weights, 0, 0.0, 0)
    rows = most_rows(model.shape, build.dtype, prompt, build.response_tokens, int(USED * device.memory))
    memory = generating(model.shape, build.dtype, rows, prompt, build.response_tokens)
    flops = asked * model.flops.respond(prompt, ANSWER, places) + count * model.flops.tower(places)
    read = asked * model.flops.respond(prompt, 0, places) / (MFU * device.flops)
    said = ceil(asked / rows) * ANSWER * (memory.weights + memory.cache) / (READING * device.bandwidth)
    return Need(step.row, "build", memory, flops, read + said, count * model.shelf, f"{rows} at a time")


def _responses(method: Method, build: Build) -> int:
    """How many own responses a method asks for one example, by trying; 1 where it takes no made-up example."""
    turn = Turn("What is in the image?", "A cup.")
    round = _Asking(build.round, build.seed)
    try:
        list(method.build([Example("", "", Image("", ""), (turn,))], round))
    except Exception:  # it came to figures that only a model gives, or a file of the user's knows its own data alone
        round.asked.append(0 if round.asked else 1)
    return sum(round.asked)


@dataclass(frozen=True)
class _Asking(Taken):
    """A round that counts the responses it is asked for."""

    asked: list[int] = field(default_factory=list)

    def respond(self, prompts: Sequence[Prompt], *rest: Any, **named: Any) -> list[Response]:
        self.asked.append(len(prompts))
        said = super().respond(prompts, *rest, **named)
        return [replace(one, text=f"{one.text} {len(self.asked)}") for one in said]  # no two of them are alike

    def candidates(
        self, prompts: Sequence[Prompt], count: int, penalty: float, stop: str, max_new_tokens: int
    ) -> list[list[Response]]:
        self.asked.append(len(prompts) * count)
        raise Unmeasured


def by_row(found: Sequence[Need]) -> list[Need]:
    """One per row and kind: the most memory, all else summed over seeds and rounds; features are on disk once."""
    groups: dict[tuple[str, str], list[Need]] = {}
    for need in found:
        groups.setdefault((need.row, need.kind), []).append(need)
    return [
        replace(
            max(members, key=lambda one: one.memory.peak),
            flops=sum(one.flops for one in members),
            seconds=sum(one.seconds for one in members),
            disk=sum(one.disk for one in members) if kind == "train" else max(one.disk for one in members),
            cure=next((one.cure for one in members if one.cure), ""),
        )
        for (_, kind), members in groups.items()
    ]
