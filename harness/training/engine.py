"""THE training loop, for every method, on CPU or GPU: DeepSpeed, accumulation, NaN guard, checkpoints, resume.

A step's loss is the sum of the method's values over the units of the whole step, so it does not depend on how the step
was cut into micro-batches or over ranks, and dropout does not either (`harness.training.dropout`); over ranks sums are
taken in another order, so that their last bits differ. Nothing is compiled at run time, and one process opens no port.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.contracts import plugins
from harness.contracts.method import Method, Role, realised
from harness.contracts.records import Image
from harness.models import batches, reference
from harness.models.batches import Sized
from harness.models.load import load, save
from harness.models.logps import LogProbs, Policy
from harness.models.roles import assemble
from harness.models.tree import Batch, pack
from harness.models.weights import brought, gathered, shape_of
from harness.store.store import failpoint
from harness.system.boards import Boards
from harness.system.errors import Exhausted, HarnessError, UsageError
from harness.system.jsonl import dumps
from harness.system.machine import exhausted
from harness.system.profile import GIB, Tick, measure, quiet
from harness.training import checkpoint, deepspeed_engine, dropout, recompute, room
from harness.training.ahead import Ahead
from harness.training.forest import Forest
from harness.training.job import Job as Job
from harness.training.job import TrainResult


def train(job: Job, tick: Tick = quiet, seat: deepspeed_engine.Seat = deepspeed_engine.ALONE) -> TrainResult:
    """Train in this process, which is alone or one of several (`training.launch`); rank 0 writes the results."""
    torch.set_num_threads(1)  # sums then have one order, and a resumed training gives the same bits
    plugins.adopt("harness.families", job.family)
    plugins.hold(job.editions)
    method = plugins.make("methods", job.method, Method, job.options)
    rank, world = deepspeed_engine.distributed(seat)
    with deepspeed_engine.local_rank(seat), measure() as usage:
        run = Run(job, method, rank, world, tick)
        resumed = run.resume()
        try:
            run.steps(resumed, tick)
        except Exception as error:
            if exhausted(error):
                raise Exhausted(f"out of memory with {run.layout.rows} records at a time ({error}).") from error
            raise
        finally:
            run.ahead.close()
        run.save()
        run.boards.close()
        run.engine.destroy()
    result = run.result(usage(), resumed)
    if rank == 0:
        (Path(job.out) / "summary.json").write_text(result.model_dump_json(), encoding="utf-8")
    torch.distributed.barrier()  # a rank that left earlier would close its connections under one that still writes
    return result


class Run:
    """One training under way in one process."""

    def __init__(self, job: Job, method: Method, rank: int, world: int, tick: Tick = quiet) -> None:
        self.job, self.method, self.rank, self.world = job, method, rank, world
        shelf = Path(job.shelf or Path(job.work) / "features")
        shards = deepspeed_engine.shards(job.training, job.runtime, world)
        self.sharded = shards is not None
        self.loaded = load(job.policy, job.training.dtype, reference.device(), shelf, shards)
        self.forest = Forest(job, self.loaded, rank, world)
        self.trees = self.forest.trees
        training = job.training
        self.plan = batches.steps(list(self.trees), job.seed, training.num_train_epochs, training.train_batch_size)
        self.flops = self.loaded.flops
        self.see(tick)
        self.lesson = method.lesson(job.round)
        folders = {role: Path(folder) for role, folder in job.adapters.items()}
        self.roles = assemble(self.loaded.model, training.lora, job.seed, self.lesson, folders)
        self.draws = dropout.placed(self.roles.train())
        sizes = self.trees.values()
        self.layout = room.laid_out(self.roles, training, job.runtime, self.lesson, sizes, job.shortages)
        self.longest = room.longest(job.runtime, sizes)
        recompute.again(self.roles, self.layout.again)
        learned = {name: shape_of(p).numel() for name, p in self.roles.named_parameters() if p.requires_grad}
        self.trainable = sum(learned.values())
        self.adapters = sum(count for name, count in learned.items() if "lora_" in name)
        self.realised = realised(self.lesson, job.runtime.reference, training.lora is not None)
        self.cached = _reference(job) if self.realised == "cached" else None
        self.copy = (
            Policy(load(job.policy, training.dtype, reference.device()).model) if self.realised == "copy" else None
        )
        self.engine = deepspeed_engine.engine(
            self.roles, training, job.runtime, len(self.plan), world, self.layout.rows
        )
        self.states = checkpoint.Checkpoints(Path(job.work), job.identity(), rank, torch.distributed.barrier)
        self.log = Path(job.out) / "log.jsonl"
        self.lines: list[str] = []  # of the log; every rank has them, and saves them with its part of the state
        self.seen_tokens = 0
        self.ahead = Ahead(self.prepared)
        self.number = 0  # of the step under way
        self.anchor = 0.0  # of the step under way
        self.past: dict[str, float] = {}  # means over the steps so far of what a loss told
        name = f"{plugins.stem(job.method)}-seed-{job.seed}-round-{job.round + 1}-{Path(job.work).name[-8:]}"
        settings = {"method": job.method, "seed": job.seed, "round": job.round + 1, **job.training.model_dump()}
        shown = job.runtime.report_to if rank == 0 else ()
        self.boards = Boards(shown, name, Path(job.runtime.logging_dir), settings)

    def see(self, tick: Tick) -> None:
        """All images' features onto the shelf: where weights are sharded, no rank can run the tower alone later."""
        images = {image.key: image for tree in self.trees.values() for image in tree.images}
        mine = list(images.values())[self.rank :: self.world]
        with gathered(self.loaded.family.tower(self.loaded.model)):
            for number, image in enumerate(mine, 1):
                self.loaded.features.put(image, whole=self.sharded)
                tick(number, len(mine))
        spent = torch.tensor(self.loaded.features.flops, device=reference.device())
        torch.distributed.all_reduce(spent)
        self.tower_flops = int(spent)
        if self.world > 1 and self.sharded:
            self.loaded.features.make = _lost

    def resume(self) -> int:
        """Load the newest state that verifies; returns the steps it had done, 0 where there is none."""
        chosen: list[checkpoint.State | None] = [self.states.newest() if self.rank == 0 else None]
        torch.distributed.broadcast_object_list(chosen)
        done = 0
        if chosen[0] is not None:
            state, done = checkpoint.load(self.engine, chosen[0].folder), chosen[0].step
            self.lines, self.seen_tokens = state["log"], state["seen_tokens"]
            for number, line in enumerate(self.lines, 1):
                self.remember(number, json.loads(line))
        self.agree(done)
        if self.rank == 0:
            self.log.write_text("".join(self.lines), encoding="utf-8")
        return done

    def agree(self, done: int) -> None:
        """Stop where the ranks have not loaded the same step: they would mix gradients of different steps."""
        loaded: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(loaded, [done, len(self.lines), self.seen_tokens])
        if any(one != [done, done, self.seen_tokens] for one in loaded):
            raise HarnessError(
                f"the states of the ranks are not of one step ([step, lines, tokens]: {loaded}); delete "
                f"{self.job.work} and give the same command again."
            )

    def steps(self, done: int, tick: Tick) -> None:
        """All steps after the first `done`, with checkpoints on the way."""
        per_epoch = math.ceil(len(self.trees) / self.job.training.train_batch_size)
        if room.scarce() and self.plan[done:]:
            room.tried(self, done + 1)
        for number, ids in enumerate(self.plan[done:], done + 1):
            failpoint("engine.step")
            torch.manual_seed(_seed(self.job.seed, number))  # for a loss that draws; dropout does not (`dropout`)
            following = [self.trees[name] for names in self.plan[number : number + 1] for name in names]
            line = self.step(number, [self.trees[name] for name in ids], following)
            self.lines.append(dumps(line) + "\n")
            self.remember(number, line)
            if self.rank == 0:
                with self.log.open("a", encoding="utf-8") as file:
                    file.write(self.lines[-1])
                self.boards.log(line)
            tick(number, len(self.plan))
            if number % self.job.runtime.checkpoint_every_steps == 0 or number % per_epoch == 0:
                self.states.save(self.engine, number, {"log": self.lines, "seen_tokens": self.seen_tokens})

    def remember(self, number: int, line: dict[str, float]) -> None:
        """Take the `number`-th step into the means of those so far."""
        before = dict.fromkeys(line, 0.0) | self.past
        self.past = {name: before[name] + (value - before[name]) / number for name, value in line.items()}

    def step(self, number: int, trees: Sequence[Sized], following: Sequence[Sized] = ()) -> dict[str, float]:
        """One optimiser step over `trees`; returns its line of the log. Those `following` are the next step's."""
        units, self.number = self.units(trees), number
        learning_rate, parts = self.engine.get_lr()[0], self.parts(trees)
        after = [*(mine for mine, _ in parts[1:]), self.parts(following)[0][0] if following else ()]
        self.anchor = self.anchored(parts) / units if self.lesson.anchored else 0.0
        self.guard(number, trees, "anchor", self.anchor)  # a loss may clamp it, and NaN would be a number
        sums: dict[str, Tensor] = {}  # on the device: to read one is to wait for it
        for at, (mine, share) in enumerate(parts):
            self.engine.set_gradient_accumulation_boundary(at == len(parts) - 1)
            loss = self.method.loss(self.logps(mine, after[at]))
            if loss.values.shape != (self.units(mine),):
                raise HarnessError(f"{self.job.method}.loss must give one value per {self.lesson.unit}.")
            self.engine.backward(loss.values.sum() * (share * self.world / units), scale_wrt_gas=False)
            for name, value in {"loss": loss.values.detach(), **loss.metrics}.items():
                part = share * value.detach().sum().to(self.engine.device, torch.float64)
                sums[name] = sums[name] + part if name in sums else part
        means = {name: value / units for name, value in self.total(sums).items()}
        self.guard(number, trees, "loss", means["loss"])
        norm = deepspeed_engine.step(self.engine)
        self.guard(number, trees, "gradient", norm)
        self.seen_tokens += sum(tree.tokens for tree in trees)
        numbers = {"step": number, "learning_rate": learning_rate, "grad_norm": norm, "num_tokens": self.seen_tokens}
        return {**numbers, **means}

    def parts(self, trees: Sequence[Sized]) -> list[tuple[Sequence[Sized], float]]:
        """This rank's micro-batches of a step. One with nothing left still takes part in the exchange, with a loss of
        zero.
        """
        rounds = batches.micro_batches(trees, self.layout.rows, self.world, self.longest)
        return [(ranks[self.rank], 1.0) if ranks[self.rank] else ([trees[0]], 0.0) for ranks in rounds]

    @torch.no_grad()
    def anchored(self, parts: Sequence[tuple[Sequence[Sized], float]]) -> float:
        """The sum of the method's anchor over a step, from a pass before the one that learns: it needs all records."""
        after = [*parts[1:], parts[0]]
        summed = torch.zeros((), dtype=torch.float64, device=self.engine.device)
        for (mine, share), (following, _) in zip(parts, after, strict=True):
            summed += share * self.method.anchor(self.logps(mine, following)).sum().double()
        return self.total({"anchor": summed})["anchor"]

    def units(self, trees: Sequence[Sized]) -> int:
        """What the method's loss is averaged over."""
        return sum(tree.supervised for tree in trees) if self.lesson.unit == "token" else len(trees)

    def prepared(self, trees: Sequence[Sized]) -> tuple[Batch, dict[str, Tensor]]:
        """A micro-batch on its device, and what a cache has of the reference, (N,) each."""
        device = self.engine.device
        known = self.cached(trees) if self.cached is not None else {}
        batch = pack([self.forest.whole(tree) for tree in trees], self.loaded)
        return batch.to(device), {name: values.to(device) for name, values in known.items()}

    def logps(self, trees: Sequence[Sized], after: Sequence[Sized] = ()) -> LogProbs:
        """Everything the lesson's loss reads of one micro-batch, after which the next one is asked for."""
        batch, cached = self.ahead(trees, after)
        self.draws.off()
        other = self.reference_states(batch) if self.realised in ("adapter_off", "copy") else None
        moment = (self.job.seed, self.job.round, self.number)
        length, device = batch.input_ids.shape[1], self.engine.device
        self.draws.at(*moment, ids=batch.ids, length=length, device=device, read=batch.read)
        found: dict[str, Tensor] = self.engine(batch, self.lesson.columns, other)
        known = cached or (self.reference(batch, other) if self.lesson.reference else {})
        columns = {**found, **{f"reference/{name}": values for name, values in known.items()}, **batch.columns}
        policy = found.get("policy", torch.zeros(0, device=self.engine.device))
        owners = batch.branch, batch.branch_tree
        return LogProbs(policy, known.get("policy"), *owners, columns, self.anchor, self.past)

    def reference_states(self, batch: Batch) -> tuple[nn.Module, Tensor]:
        """Head and (B*L, width) states of the reference: the copy's, or those without adapters."""
        if self.copy is None:
            return self.roles.without_adapters(batch)
        with torch.no_grad():
            return self.copy.head, self.copy.hidden(batch)

    @torch.no_grad()
    def reference(self, batch: Batch, states: tuple[nn.Module, Tensor] | None) -> dict[str, Tensor]:
        """The lesson's columns of the reference, (N,) each, made from its `states`."""
        assert states is not None, "a reference that is not cached is computed"
        wanted = [name for name in self.lesson.columns if not name.startswith("kl_")]
        return (self.copy or self.roles.policy).measure(states[1], batch, wanted)

    def total(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Sums over all ranks, of float64 scalars."""
        values = torch.stack(list(sums.values()))
        torch.distributed.all_reduce(values)
        return dict(zip(sums, values.tolist(), strict=True))

    def guard(self, number: int, trees: Sequence[Sized], what: str, value: float) -> None:
        """Stop at the first number that is none: later weights would be worthless and look like weights."""
        if not math.isfinite(value):
            ids = ", ".join(tree.id for tree in trees[:8]) + (", ..." if len(trees) > 8 else "")
            raise HarnessError(
                f"the {what} of step {number} is not finite; its records: {ids}. Nothing was saved after the last "
                "checkpoint; a lower learning_rate is the usual cure."
            )

    def save(self) -> None:
        """Write what was trained, if every weight is finite."""
        if self.sharded:
            written = [
                weight for weight in self.roles.parameters() if weight.requires_grad or not self.job.training.lora
            ]
            brought(written, here=self.rank == 0)
        if self.rank == 0:
            if not all(bool(torch.isfinite(p).all()) for p in self.roles.parameters()):
                raise HarnessError("the trained weights are not all finite; nothing was saved.")
            failpoint("engine.save")
            self.write(Path(self.job.out))

    def write(self, out: Path) -> None:
        """The adapters that a later round goes on from, or the policy's where none does; or the policy as a whole."""
        for role in self.lesson.trains:
            if not self.job.training.lora:
                save(self.roles.policy.model, self.loaded.tokenizer, self.loaded.eyes, out / "checkpoint")
            elif self.lesson.continues or role is not Role.POLICY:
                self.roles.save(role, out / "adapters" / role)
            else:
                self.roles.save(role, out / "adapter")

    def result(self, usage: dict[str, float], resumed: int) -> TrainResult:
        """The summary."""
        online = self.realised in ("adapter_off", "copy")
        had = dict.fromkeys(self.lesson.trains, "trained") | ({Role.REFERENCE: self.realised} if self.realised else {})
        trees, epochs = self.trees.values(), self.job.training.num_train_epochs
        passes = 2 if "value" in self.lesson.columns and not self.lesson.shared_trunk else 1
        learns = None if self.job.training.lora is None else self.adapters // passes  # each pass has its own
        read = (online + 1) * (1 + self.lesson.anchored) - 1  # forward passes beside those that learn
        costs = (passes * self.flops.train(t, learns) + read * self.flops.forward(t) for t in trees)
        return TrainResult(
            records=len(trees),
            joint_records=len(self.forest.joint),
            joint_dropped=self.forest.dropped,
            joint_tokens=epochs * sum(self.trees[id].supervised for id in self.forest.joint),
            cut_records=sum(tree.cut > 0 for tree in trees),
            cut_tokens=sum(tree.cut for tree in trees),
            steps=len(self.plan),
            supervised_tokens=epochs * sum(tree.supervised for tree in trees),
            forward_tokens=epochs * (passes + read) * sum(tree.tokens for tree in trees),
            flops=epochs * sum(costs) + self.tower_flops,
            trainable_parameters=self.trainable,
            roles={str(role): how for role, how in had.items()},
            batch_size=self.layout.rows,
            recomputed_layers=self.layout.again,
            shortages=self.job.shortages,
            estimated_gib=self.layout.memory.peak / GIB,
            resumed_from_step=resumed,
            rejected_checkpoints=tuple(self.states.rejected),
            **usage,
        )


def _reference(job: Job) -> reference.Reference:
    """The file of reference log-probs."""
    if job.reference is None:
        raise UsageError(f"{job.method} needs the reference's log-probs; write them with reference_logps first.")
    return reference.Reference(job.reference)


def _lost(image: Image) -> Tensor:
    """What a shelf does instead of running the tower, where no rank can run it alone: the others would wait."""
    raise HarnessError(
        f"the features of picture {image.path} were lost or damaged after the training had begun; give the same "
        "command again, it makes them anew and goes on from the last checkpoint."
    )


def _seed(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1
