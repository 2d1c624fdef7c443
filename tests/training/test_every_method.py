"""Every method by the real engine: it sees the image, no cut of a step matters, and its bits come back after a kill.

A new file in methods/ or tests/outside/method/ is tested by being there. OPTIONS lists what else trains differently.
"""

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import harness.models.logps
import harness.training.engine
from harness.contracts import plugins
from harness.contracts.backend import Sampling
from harness.contracts.method import Lesson, Loss, Method, Role, realised
from harness.contracts.records import Beside, Conversation, Image, Pair, Prompt, Record, Turn
from harness.contracts.settings import Lora
from harness.families.llava import Llava
from harness.models.load import Loaded, load
from harness.models.logps import LogProbs
from harness.models.reference import reference_logps
from harness.models.roles import Roles
from harness.models.tree import Batch, Tree, pack
from harness.system.errors import HarnessError
from harness.system.jsonl import write_jsonl
from harness.system.profile import quiet
from harness.training import dropout
from harness.training.deepspeed_engine import distributed
from harness.training.engine import Run, train
from harness.training.job import Job
from harness.training.launch import launch
from tests.passes import readings
from tests.responding import respond
from tests.seams.found import found
from tests.trainings import conversations, killed, lines, pairs, policy, rollouts

os.environ["HF_HUB_OFFLINE"] = "1"
OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "sft": ({}, {"kl": "forward"}),
    "nsft": ({"layout": "separate"},),
    "sima": ({"rejected_term": "competitor"},),
    "ppo": ({}, {"critic": "shared_trunk", "variant": "as_shipped"}),
    "grpo": ({}, {"objective": "dapo", "variant": "as_shipped"}),
}


def cases() -> Iterator[Any]:
    """Method, options and round of every different lesson."""
    for name in found("method"):
        seen: list[Lesson] = []
        for options in OPTIONS.get(name, ({},)):
            method = plugins.make("methods", name, Method, options)
            for number in range(method.rounds):
                lesson = replace(method.lesson(number), part=(0, 1))
                if lesson not in seen:
                    seen.append(lesson)
                    yield pytest.param(name, options, number, id=called(name, options, number))


def called(name: str, options: dict[str, Any], number: int) -> str:
    """What a case is called."""
    return " ".join([plugins.stem(name), *options.values(), f"round {number}"])


CASES = list(cases())
OFTEN = ("nsft", "dpo", "ppo")  # a conversation, a pair, rounds of samples
KILLED = [case if case.values[0] in OFTEN else pytest.param(*case.values, id=case.id, marks=pytest.mark.heavy)
          for case in CASES]  # fmt: skip
every_method = pytest.mark.parametrize(("name", "options", "number"), CASES)


def beside(pair: Pair, answers: tuple[int, ...]) -> Pair:
    """The pair with as many more answers, under its picture and parts of it."""
    own = [Beside("a red ball" + " dog" * n) for n in range(answers[0] - 2)]
    crops = [Beside(answer, (0.1, 0.2 * n, 0.5, 0.2 * n + 0.4)) for n, few in enumerate(answers[1:])
             for answer in (pair.chosen, pair.rejected)[:few]]  # fmt: skip
    return replace(pair, beside=(*own, *crops))


def records(lesson: Lesson, options: dict[str, Any], pictures: list[Image]) -> list[Record]:
    """Records of the kind that the lesson learns from."""
    if lesson.sampled:
        return rollouts(pictures, lesson.sampled)
    if lesson.unit == "record":
        return [beside(pair, lesson.answers) for pair in pairs(pictures) if isinstance(pair, Pair)]
    if options.get("layout") == "separate":
        more = (Turn("is there a cat", "yes"), Turn("a dog", "no"))
        return [replace(c, branches=(*c.branches, more[: n % 3])) if n % 3 else c
                for n, c in enumerate(conversations(pictures)) if isinstance(c, Conversation)]  # fmt: skip
    return conversations(pictures)


@pytest.fixture
def task(job, pictures: list[Image]):  # type: ignore[no-untyped-def]
    """Makes a job of one round of a method, with the reference's log-probs where the lesson reads them."""

    def make(
        name: str, options: dict[str, Any], number: int, home: str = "a", dropout: float = 0.0, **fields: Any
    ) -> Job:
        lesson = plugins.make("methods", name, Method, options).lesson(number)
        lora = None if lesson.trains == (Role.POLICY,) else Lora(r=4, lora_alpha=8, lora_dropout=dropout)
        made: Job = job(home, name, **{"lora": lora, **fields})
        lora = made.training.lora
        chosen, update = records(lesson, options, pictures), {"options": options, "round": number}
        write_jsonl(Path(made.records), chosen)
        if realised(lesson, "cached", lora is not None) == "cached":
            logps = Path(made.out).parent / "logps.safetensors"
            dtype, columns = made.training.dtype, lesson.columns
            reference_logps(made.model, chosen, made.runtime, logps, dtype=dtype, columns=columns)
            update |= {"reference": str(logps)}
        return made.model_copy(update=update)

    return make


@pytest.fixture
def begun(task):  # type: ignore[no-untyped-def]
    """Makes a training under way whose weights have left the start, where adapters and reference give zeros."""

    def make(name: str, options: dict[str, Any], number: int, dropout: float = 0.0) -> Run:
        made = task(name, options, number, dropout=dropout)
        run = Run(made, plugins.make("methods", name, Method, options), *distributed())
        torch.manual_seed(0)
        with torch.no_grad():
            for weight in run.roles.parameters():
                weight += 0.1 * torch.randn_like(weight) * weight.requires_grad
        return run

    return make


def perturbed(loaded: Loaded) -> Any:
    """Features of images with a brighter corner."""

    def view(image: Image) -> Tensor:
        pixels = loaded.eyes.pixels(image)
        pixels[:, :4, :4] += 1
        return loaded.family.features(loaded.model, pixels, loaded.eyes.layout(image))

    return view


def moved(run: Run) -> dict[str, dict[str, bool]]:
    """Record id -> column -> whether every figure of the record changes with a corner of its image."""
    found: dict[str, dict[str, bool]] = {}
    plain = run.loaded
    for tree in run.trees.values():
        run.loaded = plain
        before = run.logps([tree]).columns
        run.loaded = plain._replace(features=perturbed(plain))
        after = run.logps([tree]).columns
        found[tree.id] = {name: bool((before[name] != after[name]).all()) for name in run.lesson.columns}
    run.loaded = plain
    return found


@every_method
def test_what_a_loss_reads_depends_on_the_image(  # type: ignore[no-untyped-def]
    begun, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any], number: int
) -> None:
    run = begun(name, options, number)
    for id, columns in moved(run).items():
        assert set(columns.values()) == {run.trees[id].image is not None}, (id, columns)
    words_and_pictures = Llava.inputs
    monkeypatch.setattr(
        Llava, "inputs", lambda self, model, ids, features, layouts: words_and_pictures(self, model, ids, None, ())
    )
    assert not any(any(columns.values()) for columns in moved(run).values())


def prefers(name: str, options: dict[str, Any], number: int) -> bool:
    """Whether a round compares policy and reference on pairs."""
    return plugins.make("methods", name, Method, options).lesson(number).reference


STARTS = {"ipo": 25.0, "kto": 0.5, "mdpo": 3 * math.log(2)}  # (1 / (2 * 0.1))^2, sigma(0); others: log 2


@pytest.mark.parametrize(("name", "options", "number"), [case for case in CASES if prefers(*case.values)])
def test_a_preference_starts_at_log_2(task, name: str, options: dict[str, Any], number: int) -> None:  # type: ignore[no-untyped-def]
    """The policy is the reference, whose log-probs come from a file."""
    made = task(name, options, number)
    run = Run(made, plugins.make("methods", name, Method, options), *distributed())
    line, _ = step(run, 4)
    if name == "mpo":  # 0.8 log 2 + 0.2 * 2 log 2, and the likelihood of what is chosen
        line["loss"] -= 0.2 * math.log(2) + line["loss/generation"]
    assert line["loss"] == pytest.approx(STARTS.get(name, math.log(2)), rel=1e-6)
    assert line["rewards/margins"] == pytest.approx(0, abs=1e-5)


def apart(trees: Sequence[Tree], loaded: Loaded) -> Batch:
    """Every branch as a sequence of its own, with its own image: no tree."""
    rows = [(number, row) for number, tree in enumerate(trees) for row in tree.rows]
    alone = pack([replace(row, branches=(branch,), more=()) for _, row in rows for branch in row.branches], loaded)
    owners = [number for number, row in rows for _ in row.branches]
    return replace(alone, branch_tree=torch.tensor(owners), columns=pack(trees, loaded).columns)


Step = tuple[dict[str, float], dict[str, Tensor]]


def step(run: Run, size: int, **changed: Any) -> Step:
    """The log's line and the gradients of one optimiser step over all records, in micro-batches of `size`."""
    found: dict[str, Tensor] = {}

    def taken(engine: Any) -> float:
        for name, weight in run.roles.named_parameters():
            if weight.grad is not None:
                found[name], weight.grad = weight.grad, None
        return 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "layout", run.layout._replace(rows=size))
        patch.setattr(harness.training.engine.deepspeed_engine, "step", taken)
        for name, value in changed.items():
            patch.setattr(
                harness.training.engine.batches if name == "micro_batches" else harness.training.engine, name, value
            )
        line = run.step(1, list(run.trees.values()))
    return {name: line[name] for name in line if name not in ("step", "num_tokens")}, found


def distance(one: Step, other: Step) -> float:
    """The largest relative distance of a logged number or of a weight's gradient."""
    assert one[0].keys() == other[0].keys() and one[1].keys() == other[1].keys()
    numbers = [abs(one[0][name] - other[0][name]) / max(1.0, abs(one[0][name])) for name in one[0]]
    scale = max(float(gradient.norm()) for gradient in one[1].values())
    return max([*numbers, *(float((one[1][name] - other[1][name]).norm()) / scale for name in one[1])])


@every_method
def test_no_cut_of_a_step_matters(begun, name: str, options: dict[str, Any], number: int) -> None:  # type: ignore[no-untyped-def]
    """Loss, metrics and gradients in micro-batches, without padding, in another order, and as separate sequences."""
    run = begun(name, options, number)
    whole = step(run, 10)
    others = {
        "micro-batches": step(run, 3),
        "no padding": step(run, 1),
        "another order": step(run, 10, micro_batches=lambda trees, *how: [[list(trees)[::-1]]]),
        "separate sequences": step(run, 10, pack=apart),
    }
    for what, other in others.items():
        assert distance(whole, other) < 1e-5, what
    right = run.method.loss

    def mean(logps: LogProbs) -> Loss:
        """The mutant: each micro-batch normalised by its own units."""
        loss = right(logps)
        return Loss(loss.values / len(loss.values), loss.metrics)

    run.method = cast(Method, SimpleNamespace(loss=mean, anchor=run.method.anchor))
    assert distance(step(run, 10), step(run, 3)) > 1e-2


def read(run: Run) -> float:
    """How often the decoder reads each record in a step."""
    with readings() as batches:
        step(run, 10)
    return sum(len(batch.branch_tree.unique()) for batch in batches) / len(run.trees)


# The base's distributions; the anchor, before any loss; the critic's states, under an adapter of its own. Others: once.
READ = {"sft forward round 0": 2, "kto round 0": 2, "ppo round 1": 2}


@every_method
def test_a_step_reads_a_record_as_often_as_its_loss_has_to(  # type: ignore[no-untyped-def]
    begun, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any], number: int
) -> None:
    run = begun(name, options, number)
    budget = READ.get(called(name, options, number), 1)
    assert read(run) == budget
    again = Roles.forward
    monkeypatch.setattr(Roles, "forward", lambda self, *told: again(self, *told) | again(self, *told))  # the mutant
    assert read(run) > budget


def adapted(name: str, options: dict[str, Any], number: int) -> bool:
    """Whether the tests here train a round with adapters, which may have dropout."""
    return plugins.make("methods", name, Method, options).lesson(number).trains != (Role.POLICY,)


@pytest.mark.parametrize(("name", "options", "number"), [case for case in CASES if adapted(*case.values)])
def test_no_cut_of_a_step_matters_to_dropout(  # type: ignore[no-untyped-def]
    begun, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any], number: int
) -> None:
    run = begun(name, options, number, dropout=0.2)
    whole = step(run, 10)
    assert distance(whole, step(run, 3)) < 1e-5
    assert distance(whole, step(run, 10, micro_batches=lambda trees, *how: [[list(trees)[::-1]]])) < 1e-5
    with monkeypatch.context() as patch:
        patch.setattr(dropout, "keep", lambda words, p: torch.rand(words.shape) >= p)
        assert distance(whole, step(run, 3)) > 1e-2


def written(job: Job) -> dict[str, str]:
    """Every weight file that a training left, by its digest."""
    out = Path(job.out)
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(out.rglob("*.safetensors"))}  # fmt: skip


@pytest.mark.parametrize(("name", "options", "number"), KILLED)
def test_the_same_bits_again_and_after_a_kill(  # type: ignore[no-untyped-def]
    task, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any], number: int
) -> None:
    """Six steps, killed before the fifth; adapters have dropout, so that the random state counts."""
    clean, again, broken = (task(name, options, number, home, 0.2) for home in ("clean", "again", "broken"))
    train(clean)
    train(again)
    killed(broken, monkeypatch, "engine.step", 5)
    assert train(broken).resumed_from_step == 4
    assert written(clean)
    assert written(again) == written(clean) == written(broken)
    assert lines(again) == lines(clean) == lines(broken)
    assert len({line["loss"] for line in lines(clean)}) > 3


def trained_in_bfloat16(task, name: str, options: dict[str, Any], number: int, **fields: Any) -> None:  # type: ignore[no-untyped-def]
    """Every weight that was written is finite and has moved; a policy is loaded again and answers."""
    made: Job = task(name, options, number, dtype="bfloat16", **fields)
    train(made)
    assert all(math.isfinite(value) for line in lines(made) for value in line.values())
    roles, out = plugins.make("methods", name, Method, options).lesson(number).trains, Path(made.out)
    for file in out.glob("adapters/*/*.safetensors"):
        weights = [weight for weight in load_file(file).values() if weight.ndim > 1]
        assert all(weight.dtype == torch.bfloat16 and weight.isfinite().all() and weight.any() for weight in weights)
    assert (out / "checkpoint").is_dir() == (Role.POLICY in roles and not made.training.lora)
    if Role.POLICY in roles:
        before, after = (load(model, "bfloat16").model.state_dict() for model in (made.model, policy(made)))
        assert any(not torch.equal(before[weight], after[weight]) for weight in before)
        [said] = respond(policy(made), [Prompt("q", None, "what is there")], Sampling(max_new_tokens=4), 1, quiet)
        assert said.tokens


def adapters_or_all(name: str) -> list[Lora | None]:
    """How a method can be trained: as adapters, and in full where it needs no roles of its own."""
    lora = Lora(r=4, lora_alpha=8, lora_dropout=0.1)
    return [lora] if name == "ppo" else [None, lora]


@pytest.mark.parametrize("round", [0, 1])
def test_ppo_trains_in_bfloat16(task, round: int) -> None:  # type: ignore[no-untyped-def]
    """Its heads score in float32 although DeepSpeed keeps their weights in bfloat16."""
    trained_in_bfloat16(task, "ppo", {}, round, zero_stage=2)


@pytest.mark.heavy
@pytest.mark.parametrize("stage", [0, 2, 3])
@every_method
def test_every_method_trains_in_bfloat16(task, name: str, options: dict[str, Any], number: int, stage: int) -> None:  # type: ignore[no-untyped-def]
    for lora in adapters_or_all(name):
        trained_in_bfloat16(task, name, options, number, home=f"{lora is None}", zero_stage=stage, lora=lora)


def test_a_resume_without_the_optimiser_is_noticed(task, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    clean, broken = (task("dpo", {}, 0, home) for home in ("clean", "broken"))
    train(clean)
    killed(broken, monkeypatch, "engine.step", 5)

    def forgetful(engine: Any, folder: Path) -> dict[str, Any]:
        _, state = engine.load_checkpoint(str(folder), "state", load_module_strict=False, load_optimizer_states=False)
        return dict(state)

    monkeypatch.setattr(harness.training.engine.checkpoint, "load", forgetful)
    assert train(broken).resumed_from_step == 4
    assert written(clean).keys() == written(broken).keys()
    assert written(clean) != written(broken)


@pytest.mark.parametrize("critic", ["separate", "shared_trunk"])
def test_a_later_round_goes_on_from_what_was_written(task, critic: str) -> None:  # type: ignore[no-untyped-def]
    """Policy and critic of the next round give the bits of those that were trained."""
    first: Job = task("ppo", {"critic": critic}, 1)
    train(first)
    folders = {role: str(Path(first.out) / "adapters" / role) for role in (Role.POLICY, Role.CRITIC)}
    second: Job = task("ppo", {"critic": critic}, 2, "second").model_copy(update={"adapters": folders})
    trained, goes_on = (
        Run(made, plugins.make("methods", "ppo", Method, made.options), *distributed()) for made in (first, second)
    )
    assert (trained.resume(), goes_on.resume()) == (6, 0)
    trees = list(trained.trees.values())
    before, after = trained.logps(trees).columns, goes_on.logps(trees).columns
    assert before["value"].abs().min() > 0
    assert all(torch.equal(before[name], after[name]) for name in ("policy", "value"))


def told(job: Job, monkeypatch: pytest.MonkeyPatch) -> list[LogProbs]:
    """What the method's loss is given at each micro-batch of a training."""
    kind, given = plugins.plugin("methods", job.method, Method), list[LogProbs]()  # type: ignore[type-abstract]
    right = kind.loss

    def watched(self: Method, logps: LogProbs) -> Loss:
        given.append(logps)
        return right(self, logps)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "loss", watched)
        train(job)
    return given


def test_a_loss_knows_the_means_of_what_it_told_before(task, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    made = task("mpo", {}, 0)
    given, rewards = told(made, monkeypatch), [line["rewards/chosen"] for line in lines(made)]
    assert given[0].past == {} and len(given) == len(rewards) == 6
    for number in range(1, 6):
        assert given[number].past["rewards/chosen"] == pytest.approx(sum(rewards[:number]) / number, abs=1e-9)
    assert max(map(abs, rewards)) > 1e-3


def test_a_resume_that_forgets_what_a_loss_told_is_noticed(task, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    clean, broken = (task("mpo", {}, 0, home) for home in ("clean", "broken"))
    train(clean)
    killed(broken, monkeypatch, "engine.step", 5)
    monkeypatch.setattr(harness.training.engine, "json", SimpleNamespace(loads=lambda line: {}))
    assert train(broken).resumed_from_step == 4
    assert written(clean) != written(broken)


def test_an_anchor_is_the_whole_step_s(task, begun, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """In two micro-batches both have the mean over both; with each its own, how a step is cut would matter."""
    made = task("kto", {}, 0, per_device_train_batch_size=2)
    method = plugins.make("methods", "kto", Method, {})
    given = told(made, monkeypatch)
    assert len(given) == 10  # of 10 records in steps of 4, 4 and 2, twice
    for one, other in zip(given[5:9:2], given[6:9:2], strict=True):
        anchors = torch.cat([method.anchor(one), method.anchor(other)])
        assert one.anchor == other.anchor == pytest.approx(float(anchors.mean()), abs=1e-5)
        assert abs(one.anchor - float(method.anchor(one).mean())) > 1e-4
    run, right = begun("kto", {}, 0), Run.logps
    whole = step(run, 10)

    def own(self: Run, trees: Sequence[Tree], after: Sequence[Tree] = ()) -> LogProbs:
        """The mutant: as TRL has it with accumulation."""
        found = right(self, trees, after)
        return replace(found, anchor=float(method.anchor(found).mean()))

    monkeypatch.setattr(Run, "logps", own)
    assert distance(whole, step(run, 3)) > 1e-4


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_an_anchor_that_is_no_number_stops_the_training(task, monkeypatch: pytest.MonkeyPatch, broken: float) -> None:  # type: ignore[no-untyped-def]
    """KTO's loss takes the larger of it and 0, which is 0 for NaN and still a number for the others."""
    method = plugins.make("methods", "kto", Method, {})
    monkeypatch.setattr(type(method), "anchor", lambda self, logps: torch.full((logps.branch_tree.max() + 1,), broken))
    with pytest.raises(HarnessError, match="the anchor of step 1 is not finite; its records: "):
        train(task("kto", {}, 0))


@pytest.mark.heavy
def test_an_anchor_is_the_step_s_over_two_processes_too(task) -> None:  # type: ignore[no-untyped-def]
    """With unequal work: the last step of an epoch has two records, of which a rank may have none left."""
    one = task("kto", {}, 0, "one")
    two = task("kto", {}, 0, "two", num_processes=2, per_device_train_batch_size=1)
    train(one)
    launch(two, quiet)
    for alone, shared in zip(lines(one), lines(two), strict=True):
        assert {name: shared[name] for name in alone} == pytest.approx(alone, abs=1e-4)
    assert max(line["kl"] for line in lines(one)) > 1e-3
