"""What ours spares alone, where no trainer of TRL's has a part: weights, places of prompts and batches, stages.

All but weights is measured on what `harness compare --methods nsft,dpo --data llava150k` makes on `mini` with base 0:
the plan's own stages, made here in a store that begins empty, up to the trainings, which are cut and not run.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from rich.progress import track

from harness.comparison.face import Wanted
from harness.comparison.worker import Worker
from harness.contracts import plugins
from harness.contracts.backend import Sampling
from harness.contracts.method import Method, Role
from harness.contracts.records import Item, Prompt, Response
from harness.contracts.schedule import pending
from harness.contracts.settings import Lora
from harness.contracts.steps import Cell, Step
from harness.models.batches import Sized, places
from harness.models.roles import assemble
from harness.stages.train import Train
from harness.system.jsonl import read_jsonl
from harness.system.profile import quiet
from harness.training.deepspeed_engine import distributed, local_rank
from harness.training.engine import Run
from harness.training.job import Job
from tests import true_shapes
from tests.passes import Passes, passes
from tests.perf import work
from tests.perf.row import Row
from tests.responding import respond
from tests.small_models import noise

HELD, READ, PADS = 3.7, 5.0, 0.03  # goals
MADE = {"chair": ("CHAIR", 0.9), "mmvet": ("MM-Vet", 0.8)}
AT_ONCE = 128  # prompts, as on a CPU by default
PICTURES = 42  # of six questions each: two batches
RANKS = ((64, HELD), (128, None))  # LLaVA-RLHF's script's; ours where nobody says
SPARED = "places of prompts ÷ places computed"
SETTING = "dpo.beta=0.5"
MINI = "base 0 of `mini`"


class Mini:
    """The comparison, whose stages are made where they are asked for. `asked` are other words of `Wanted.of`."""

    def __init__(self, home: Path, **asked: Any) -> None:
        home.mkdir()
        self.home = home
        self.wanted = Wanted.of("nsft,dpo", "llava150k", store=home / "store", workers=1, **asked)
        self.plan, self.store = self.wanted.plan(), self.wanted.store
        self.worker = Worker(self.store, self.plan.testbed, self.plan.request, self.wanted.runtime)

    def make(self, keys: Iterable[str]) -> None:
        """The stages of these keys, and what they are made from."""
        wanted = set(keys)
        goals = [step for step in self.plan.steps if step.key in wanted]
        for step in pending(goals, self.store, self.plan.steps):
            self.worker.run(step, quiet)

    def cell(self, benchmark: str) -> Cell:
        """The baseline's."""
        return next(cell for cell in self.plan.cells if (cell.row, cell.benchmark) == ("baseline", benchmark))

    def items(self, benchmark: str) -> list[Item]:
        """All that is asked."""
        step = self.cell(benchmark).items
        self.make([step.key])
        return list(read_jsonl(Item, self.store.path(step.stage) / "items.jsonl"))

    def responses(self, benchmark: str) -> tuple[list[Response], Passes]:
        """Base 0's to all items, and what was computed for them."""
        step = self.cell(benchmark).responses
        self.items(benchmark)
        with passes() as seen:
            self.make([step.key])
        return list(read_jsonl(Response, self.store.path(step.stage) / "responses.jsonl")), seen

    def training(self, row: str) -> Job:
        """A row's training as it is handed to the engine, with all that it reads."""
        step = self.plan.trained[row, 0][-1]
        self.make(stage.key for stage in step.reads.values())
        out = self.home / row
        out.mkdir()
        with mock.patch("harness.training.launch.launch") as launched:
            Train.of(step).fill(self.worker.work(step, out, quiet))
        job: Job = launched.call_args.args[0]
        return job


def held(rank: int) -> float:
    """Bytes of weights of align-anything's PPO (04233a3), which loads policy, reference, reward model and critic one
    by one (`trainers/text_image_to_text/ppo.py`, `init_models`), over those of our roles with adapters of this rank.
    """
    lesson = plugins.make("methods", "ppo", Method, {}).lesson(1)
    with torch.device("meta"):
        whole = weights(model := true_shapes.model(true_shapes.llava_7b(), None))
        roles = assemble(model, Lora(r=rank), 0, lesson, {}, [Role.REWARD])
    return 4 * whole / weights(roles.to(torch.bfloat16))


def weights(module: torch.nn.Module) -> int:
    """Bytes of them."""
    return sum(weight.numel() * weight.element_size() for weight in module.parameters())


def read(home: Path, items: Sequence[Item]) -> float:
    """Of POPE's random set, six questions on a picture, put to pictures of 576 places: places of the prompts over
    those that are computed to read them. The tokenizer knows every word of a question.
    """
    asked: dict[str, list[str]] = {}
    for item in items:
        if item.image and item.id.startswith("random/"):
            asked.setdefault(item.image.key, []).append(item.prompt)
    chosen = [*asked.values()][:PICTURES]
    model = work.folder(home / "large", 16, " ".join(text for texts in chosen for text in texts))
    pictures = noise(home, ((336, 336),) * len(chosen))
    prompts = [Prompt(f"{n}-{at}", picture, text) for n, picture in enumerate(pictures)
               for at, text in enumerate(chosen[n])]  # fmt: skip
    with passes() as seen:
        said = respond(str(model), prompts, Sampling(max_new_tokens=1), AT_ONCE)
    return spared(said, seen)


def spared(said: Iterable[Response], seen: Passes) -> float:
    """Places of the prompts that were responded to, over those that were computed to read them."""
    return sum(response.prompt_tokens for response in said) / seen.places


def cut(job: Job) -> list[Sequence[Sized]]:
    """All micro-batches of a training, as the engine cuts its steps."""
    with local_rank():
        run = Run(job, plugins.make("methods", job.method, Method, job.options), *distributed())
        found = [mine for ids in run.plan for mine, _ in run.parts([run.trees[id] for id in ids])]
        run.ahead.close()
        run.engine.destroy()
    return found


def padding(batches: Sequence[Sequence[Sized]]) -> float:
    """The share of places that nobody reads."""
    return 1 - sum(tree.tokens for batch in batches for tree in batch) / sum(map(places, batches))


def again(store: Path) -> list[Step]:
    """What is not in the store of the whole comparison for the same one with `SETTING`, without DPO's training and what
    stands behind it.
    """
    done, asked = (Wanted.of("nsft,dpo", "llava150k", store=store, set=given).plan() for given in ([], [SETTING]))
    known, behind = {step.key for step in done.steps}, {asked.trained["dpo", 0][-1].key}
    for step in asked.steps:  # in an order that respects what they read
        if any(stage.key in behind for stage in step.reads.values()):
            behind.add(step.key)
    return [step for step in asked.steps if step.key not in known | behind]


def holding(mini: Mini) -> Iterator[Row]:
    """What PPO's four roles are, at 7B shapes."""
    for rank, goal in RANKS:
        condition = (
            "7B shapes, bfloat16; there policy, reference, reward model and critic are a model each, here adapters of "
            f"rank {rank} on one"
        )
        yield Row("ppo: weights held", condition, held(rank), goal, "align-anything ÷ ours")


def reading(mini: Mini) -> Iterator[Row]:
    """Prompts that ask about one picture."""
    items = mini.items("pope")
    condition = (
        f"tiny model with LLaVA's template, a word a token; six questions on each of {PICTURES} pictures of 576 "
        f"places, {AT_ONCE} at once"
    )
    yield Row("prompts of POPE read", condition, read(mini.home, items), READ, SPARED)
    said, seen = mini.responses("pope")
    different = {(item.prompt, item.image and item.image.key) for item in items}
    condition = (
        f"{MINI}, {len(items):,} questions, {len(different):,} of them different, on {pictures(items)} pictures of 16 "
        f"places, {AT_ONCE} at once"
    )
    yield Row("prompts of POPE read", condition, spared(said, seen), of=SPARED)


def pictures(items: Iterable[Item]) -> int:
    """How many there are."""
    return len({item.image.key for item in items if item.image})


def responding(mini: Mini) -> Iterator[Row]:
    """Tokens of responses, one by one."""
    for name, (label, goal) in MADE.items():
        _, seen = mini.responses(name)
        least, most = min(seen.asked), max(seen.asked)
        condition = f"{MINI}, {len(seen.asked):,} responses of {least} to {most} tokens, {AT_ONCE} at once"
        yield Row(
            f"responses to {label} made token by token", condition, seen.useful, goal, "share of places asked for"
        )


def learning(mini: Mini) -> Iterator[Row]:
    """Batches of trainings."""
    for name in ("nsft", "dpo"):
        job = mini.training(name)
        batches = cut(job)
        condition = (
            f"{MINI}, {sum(map(len, batches)):,} records in steps of {job.training.train_batch_size}, "
            f"{len(batches)} batches of at most {max(map(len, batches))}"
        )
        yield Row(f"{name}: padding of batches", condition, padding(batches), PADS, "share of places", less=True)


def staged(mini: Mini) -> Iterator[Row]:
    """Stages of another comparison that differs in what DPO's loss is given."""
    condition = f"`mini`, `{SETTING}` where all of the comparison without it is in the store"
    what = "dpo: stages run again beside its training and what stands behind it"
    yield Row(what, condition, len(again(mini.store.root)), 0, "stages", less=True)


def rows(home: Path, **asked: Any) -> Iterator[Row]:
    """Every figure, measured in a new folder `home`. `asked`: of a smaller comparison (`Mini`)."""
    mini = Mini(home, **asked)
    for part in track((holding, reading, responding, learning, staged), "ours alone"):
        yield from part(mini)
