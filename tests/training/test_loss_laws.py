"""What every method's loss owes the loop: its gradient, no word between records, nothing into the reference.

Over every different lesson of every method, on made-up log-probs in float64; and what the loop keeps: cached references
by record and token, states that verify.
"""

import json
import math
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from harness.contracts import plugins
from harness.contracts.method import Lesson, Loss, Method
from harness.models.logps import LogProbs
from harness.models.reference import Reference
from harness.models.tree import Branch, Tree
from harness.store.digest import file_digest
from harness.system.errors import HarnessError
from harness.training import checkpoint, losses
from harness.training.checkpoint import KEPT, Checkpoints
from tests.laws import caught, law
from tests.seams.found import found
from tests.trainings import ROLLOUT

OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "sft": ({}, {"kl": "forward"}, {"kl": "reverse", "kl_weight": 0.3}),
    "sima": ({}, {"rejected_term": "competitor"}),
    "ppo": ({}, {"variant": "as_shipped"}, {"critic": "shared_trunk"}),
    "ipo": ({"log_probs": "mean"},),
    "mpo": ({}, {"shift": "none"}),
    "grpo": ({}, {"objective": "dapo"}, {"objective": "dapo", "variant": "as_shipped"}, {"objective": "gspo"}),
}
ANCHOR, PAST = 0.7, {"rewards/chosen": 0.4, "rewards/rejected": -0.1}  # what is known of a step before its loss


def lessons() -> Iterator[Any]:
    """A method and every different lesson of it."""
    for name in found("method"):
        for options in OPTIONS.get(plugins.stem(name), ({},)):
            method: Method = plugins.make("methods", name, Method, options)
            seen: list[Lesson] = []
            for number in range(method.rounds):
                lesson = replace(method.lesson(number), part=(0, 1), training={})
                if lesson not in seen:
                    seen.append(lesson)
                    words = " ".join([plugins.stem(name), *map(str, options.values()), str(number)])
                    yield pytest.param(method, lesson, id=words)


every_lesson = pytest.mark.parametrize(("method", "lesson"), list(lessons()))


class World:
    """Made-up figures of a few records: what a loss reads, cut into whichever batches."""

    def __init__(self, lesson: Lesson, seed: int, records: int) -> None:
        rng = random.Random(seed)
        self.lesson = lesson
        pairs = lesson.unit == "record" and not lesson.sampled
        most = min(3, lesson.sampled or 3)
        self.lengths = [
            [rng.randint(1, 4) for _ in range(sum(lesson.answers) if pairs else rng.randint(1, most))]
            for _ in range(records)
        ]
        if pairs:  # under further pictures stand the first answers again
            self.lengths = [[*own[: lesson.answers[0]], *(n for few in lesson.answers[1:] for n in own[:few])]
                            for own in self.lengths]  # fmt: skip
        drawn = torch.Generator().manual_seed(seed)

        def figures(count: int, shift: float = 0.0) -> Tensor:
            return shift + torch.randn(count, generator=drawn, dtype=torch.float64)

        tokens, branches = sum(map(sum, self.lengths)), sum(map(len, self.lengths))
        self.learned = {
            name: figures(branches if name == "reward" else tokens, 0.0 if name in ("value", "reward") else -3.0)
            for name in lesson.columns
        }
        for name in ("kl_forward", "kl_reverse"):
            if name in self.learned:
                self.learned[name] = self.learned[name].abs()
        self.reference = {f"reference/{name}": figures(tokens, -3.0) for name in lesson.columns if lesson.reference}
        self.given = {name: figures(tokens) for name in ROLLOUT} if lesson.sampled else {}
        if self.given:  # a ratio near one, and beyond the clip for some
            self.given["old_policy"] = self.learned["policy"] + 0.2 * figures(tokens)

    def of(self, records: Sequence[int]) -> LogProbs:
        """The log-probs of these records, as the engine hands them over; those that learn are leaves."""
        token, branch = 0, 0
        spans: list[tuple[slice, slice]] = []
        for lengths in self.lengths:
            spans.append((slice(token, token + sum(lengths)), slice(branch, branch + len(lengths))))
            token, branch = token + sum(lengths), branch + len(lengths)

        def cut(name: str, values: Tensor) -> Tensor:
            return torch.cat([values[spans[at][name == "reward"]] for at in records])

        columns = {name: cut(name, values).requires_grad_() for name, values in self.learned.items()}
        columns |= {name: cut(name, values) for name, values in (self.reference | self.given).items()}
        owner, tree = list[int](), list[int]()
        for place, at in enumerate(records):
            for length in self.lengths[at]:
                owner += [len(tree)] * length
                tree.append(place)
        policy = columns.get("policy", torch.zeros(0, dtype=torch.float64))
        reference = columns.get("reference/policy")
        return LogProbs(policy, reference, torch.tensor(owner), torch.tensor(tree), columns, ANCHOR, PAST)


def units(lesson: Lesson, logps: LogProbs, at: int) -> int:
    """How many units the `at`-th record has."""
    if lesson.unit == "record":
        return 1
    branches = (logps.branch_tree == at).nonzero().flatten()
    return int(sum((logps.branch == one).sum() for one in branches))


@every_lesson
@law(6)
@given(st.integers(0, 10**6), st.integers(2, 5))
def test_a_record_s_values_are_its_own_in_any_company(method: Method, lesson: Lesson, seed: int, records: int) -> None:
    """A batch's values are its records' one behind the other, however the batch is cut and turned."""
    world, rng = World(lesson, seed, records), random.Random(seed)
    alone = [method.loss(world.of([at])) for at in range(records)]
    order = rng.sample(range(records), records)
    whole = world.of(order)
    together = method.loss(whole)
    assert torch.allclose(together.values, torch.cat([alone[at].values for at in order]), atol=1e-12)
    for place, at in enumerate(order):
        assert len(alone[at].values) == units(lesson, whole, place)
    for name, metric in together.metrics.items():
        assert torch.allclose(metric.double(), torch.cat([alone[at].metrics[name] for at in order]).double(), atol=1e-9)
        assert metric.shape == together.values.shape and not metric.requires_grad and metric.isfinite().all()


@every_lesson
@law(4)
@given(st.integers(0, 10**6))
def test_the_gradient_is_that_of_finite_differences(method: Method, lesson: Lesson, seed: int) -> None:
    """In every figure that learns; and none goes into what does not."""
    world = World(lesson, seed, 3)
    logps = world.of(range(3))
    method.loss(logps).values.sum().backward()
    for name in world.learned:
        leaf = logps.columns[name]
        for place in range(len(leaf)):
            ends = []
            for step in (1e-6, -1e-6):
                moved = World(lesson, seed, 3)
                moved.learned[name][place] += step
                ends.append(float(method.loss(moved.of(range(3))).values.detach().sum()))
            slope = (ends[0] - ends[1]) / 2e-6
            got = 0.0 if leaf.grad is None else float(leaf.grad[place])
            assert got == pytest.approx(slope, abs=2e-4), (name, place)
    for name in (*world.reference, *world.given):
        assert logps.columns[name].grad is None and not logps.columns[name].requires_grad


@every_lesson
def test_no_log_prob_however_small_makes_a_loss_that_is_none(method: Method, lesson: Lesson) -> None:
    """Log-probs of -1,000 a token, of policy, reference or both: finite values and finite gradients in float32."""
    if lesson.sampled:
        pytest.skip("a ratio of sampled tokens cannot be that far off")
    for policy, reference in ((-1000.0, -1.0), (-1.0, -1000.0), (-1000.0, -1000.0), (0.0, 0.0)):
        world = World(lesson, 3, 2)
        for name, values in world.learned.items():
            values.fill_(abs(policy) if name.startswith("kl_") else policy)
        for values in world.reference.values():
            values.fill_(reference)
        logps = world.of([0, 1])
        columns = {
            name: values.detach().float().requires_grad_(name in world.learned)
            for name, values in logps.columns.items()
        }
        logps = replace(
            logps,
            policy=columns.get("policy", torch.zeros(0)),
            reference=columns.get("reference/policy"),
            columns=columns,
        )
        values = method.loss(logps).values
        values.sum().backward()
        assert values.isfinite().all()
        assert all(columns[name].grad is None or columns[name].grad.isfinite().all() for name in world.learned)  # type: ignore[union-attr]


def batch_mean(self: Method, logps: LogProbs) -> Loss:
    """A mutant: centred over the micro-batch, as LLaVA-RLHF's reward model is."""
    return Loss(logps.policy.mean().detach() - logps.policy, {})


def into_the_reference(chosen: Tensor, rejected: Tensor, *more: Any) -> tuple[Tensor, Tensor, Tensor]:
    """A mutant of DPO's loss: the wrong sign at the rejected response."""
    values, *rewards = right_dpo(chosen, chosen - (rejected - chosen), *more)
    return values, rewards[0], rewards[1]


right_dpo = losses.dpo


def test_a_loss_that_depends_on_its_batch_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    method: Method = plugins.make("methods", "sft", Method, {})
    monkeypatch.setattr(type(method), "loss", batch_mean)
    caught(test_a_record_s_values_are_its_own_in_any_company, method, method.lesson(0))


def test_a_detached_term_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: only the chosen response learns."""

    def half(chosen: Tensor, rejected: Tensor, *more: Any) -> Any:
        return right_dpo(chosen, rejected.detach(), *more)

    method: Method = plugins.make("methods", "dpo", Method, {})
    monkeypatch.setattr(losses, "dpo", half)
    caught(test_the_gradient_is_that_of_finite_differences, method, method.lesson(0))


@law(60)
@given(st.lists(st.floats(-30, 30), min_size=4, max_size=4), st.floats(0.01, 2), st.floats(0, 0.4), st.floats(-20, 20))
def test_a_preference_knows_differences_only(at: list[float], beta: float, smoothing: float, shift: float) -> None:
    """What is added to policy and reference of a side changes nothing; the closed form and its gradient, in p alone."""
    chosen, rejected, ref_chosen, ref_rejected = (
        torch.tensor([x], dtype=torch.float64, requires_grad=True) for x in at
    )
    value, one, other = losses.dpo(chosen, rejected, ref_chosen, ref_rejected, beta, smoothing)
    p = at[0] - at[2] - at[1] + at[3]
    softplus = [math.log1p(math.exp(-abs(beta * x))) + max(-beta * x, 0) for x in (p, -p)]
    assert value.item() == pytest.approx((1 - smoothing) * softplus[0] + smoothing * softplus[1], abs=1e-9)
    assert (one - other).item() == pytest.approx(beta * p, abs=1e-9)
    moved, *_ = losses.dpo(chosen + shift, rejected, ref_chosen + shift, ref_rejected, beta, smoothing)
    assert moved.item() == pytest.approx(value.item(), abs=1e-9)
    value.sum().backward()
    assert chosen.grad is not None and rejected.grad is not None
    assert chosen.grad.item() == pytest.approx(-rejected.grad.item(), abs=1e-12)


def test_a_preference_that_takes_a_mean_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "dpo", into_the_reference)
    caught(test_a_preference_knows_differences_only)


@law(60)
@given(
    st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=8), st.floats(0, 1), st.floats(0, 1)
)
def test_advantages_solve_their_own_recursion(at: list[tuple[float, float]], gamma: float, lam: float) -> None:
    """A(t) = r(t) + gamma V(t+1) - V(t) + gamma lambda A(t+1), the value behind the end 0; returns are A + V."""
    rewards, values = (torch.tensor(row, dtype=torch.float64) for row in zip(*at, strict=True))
    advantage, returns = losses.advantages(rewards, values, gamma, lam)
    after = torch.cat([values[1:], torch.zeros(1, dtype=torch.float64)])
    later = torch.cat([advantage[1:], torch.zeros(1, dtype=torch.float64)])
    assert torch.allclose(advantage, rewards + gamma * after - values + gamma * lam * later, atol=1e-9)
    assert torch.allclose(returns, advantage + values)
    if gamma == 0:
        assert torch.allclose(returns, rewards)


# Cached references


@st.composite
def caches(draw: st.DrawFn) -> dict[str, list[float]]:
    """Record id -> a figure for each supervised token."""
    names = draw(st.lists(st.text("abc/1é", min_size=1, max_size=4), min_size=1, max_size=6, unique=True))
    return {name: [round(x, 3) for x in draw(st.lists(st.floats(-9, 0), min_size=1, max_size=5))] for name in names}


def stored(folder: Path, known: dict[str, list[float]], **more: list[float]) -> Path:
    """As `reference_logps` writes it."""
    at = [0]
    for figures in known.values():
        at.append(at[-1] + len(figures))
    flat = [x for figures in known.values() for x in figures]
    columns = {"policy": torch.tensor(flat), "competitor": torch.tensor(flat) - 1}
    save_file({**columns, "offsets": torch.tensor(at)}, folder / "x.safetensors", {"ids": json.dumps([*known])})
    return folder / "x.safetensors"


def supervised(name: str, tokens: int) -> Tree:
    return Tree(name, None, (1,), (Branch((2,) * tokens, (True,) * tokens),))


@law(40)
@given(caches(), st.randoms(use_true_random=False))
def test_a_reference_is_found_by_record_and_token(
    tmp_path_factory: pytest.TempPathFactory, known: dict[str, list[float]], rng: Any
) -> None:
    """Whatever the order of the batch; a record that is not there, or has other tokens, is an error, never a shift."""
    read = Reference(stored(tmp_path_factory.mktemp("cache"), known))
    names = rng.sample([*known], len(known))
    wanted = [x for name in names for x in known[name]]
    got = read([supervised(name, len(known[name])) for name in names])
    assert got["policy"].tolist() == pytest.approx(wanted)
    assert got["competitor"].tolist() == pytest.approx([x - 1 for x in wanted])
    for name, tokens in ((names[0], len(known[names[0]]) + 1), ("nobody", 1)):
        with pytest.raises(HarnessError, match="not of these records"):
            read([supervised(name, tokens)])


def test_a_reference_by_place_would_be_caught(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any) -> None:
    """A mutant: the figures in the order of the file, as a data loader without shuffling would have them."""

    def wrong(self: Reference, made: Sequence[Tree]) -> dict[str, Tensor]:
        count = sum(one.supervised for one in made)
        return {name: values[:count] for name, values in self._values.items()}

    monkeypatch.setattr(Reference, "__call__", wrong)
    caught(test_a_reference_is_found_by_record_and_token, tmp_path_factory)


# States


class Writes:
    """Stands for DeepSpeed: writes a few files that hold the step."""

    def save_checkpoint(self, folder: str, tag: str, state: dict[str, Any], **_: Any) -> None:
        (Path(folder) / tag).mkdir()
        for rank in range(2):
            (Path(folder) / tag / f"rank{rank}").write_text(f"{state['step']} of rank {rank}")


class Killed(BaseException):
    """Stands for SIGKILL."""


DEEDS = st.lists(
    st.one_of(
        st.just(("save",)),
        st.just(("save",)),
        st.tuples(st.just("die"), st.sampled_from(["engine.checkpoint", "engine.manifest", "engine.rename"])),
        st.tuples(st.just("flip"), st.integers(0, 9), st.integers(0, 9)),
        st.tuples(st.just("lose"), st.integers(0, 9), st.integers(0, 9)),
        st.just(("rename",)),
        st.tuples(st.just("another layout"), st.integers(0, 2)),
    ),
    max_size=14,
)


def history(folder: Path, deeds: list[tuple[Any, ...]]) -> None:
    """Steps are saved, kills and damages come between, and now and then the command comes with another layout.

    A training goes on from the newest whole state of its own, and what it has just saved is there.
    """
    there = dict[int, str]()  # step -> the layout of its state, "" where that is no state any more
    step, layout = 0, "layout 0"
    for what, *how in deeds:
        if what in ("save", "die"):
            step += 1
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(checkpoint, "failpoint", lambda name, at=tuple(how): die(name, at))
                try:
                    Checkpoints(folder, layout, 0, lambda: None).save(Writes(), step, {"step": step})
                    there[step] = layout
                    there = {at: there[at] for at in sorted(there, reverse=True) if at <= step}
                    there = dict(list(there.items())[:KEPT])
                except Killed:
                    if how == ["engine.rename"]:
                        there.pop(step, None)  # the old state of this step was on its way out
        if what in ("flip", "lose") and (victim := spoil(folder, what, *how)):
            there[victim] = ""
        if what == "rename" and there:
            (folder / f"step-{max(there):08d}").rename(folder / "renamed")
            there.pop(max(there))
            shutil.rmtree(folder / f"step-{step + 5:08d}", ignore_errors=True)
            (folder / "renamed").rename(folder / f"step-{step + 5:08d}")
            there[step + 5] = ""
        if what == "another layout":
            layout = f"layout {how[0]}"
        assert {int(path.name[5:]) for path in folder.glob("step-*")} == there.keys()
        found = Checkpoints(folder, layout, 0, lambda: None).newest()
        own = [at for at in there if there[at] == layout]
        assert (found.step if found else None) == max(own, default=None)
        if found:
            assert (found.folder / "state" / "rank1").read_text() == f"{found.step} of rank 1"
        if what == "save":
            assert found and found.step == step
        elif what != "die":
            step = found.step if found else 0  # the command comes again, and goes on from there


def spoil(folder: Path, what: str, which: int, file: int) -> int | None:
    """One file of one state changed or lost; the step of its folder."""
    folders = sorted(folder.glob("step-*"))
    files = sorted(path for path in folders[which % len(folders)].rglob("*") if path.is_file()) if folders else []
    if not files:
        return None
    path = files[file % len(files)]
    data = path.read_bytes()
    path.unlink() if what == "lose" else path.write_bytes(bytes([data[0] ^ 1]) + data[1:] + b"x")
    return int(folders[which % len(folders)].name[5:])


def die(name: str, at: tuple[Any, ...]) -> None:
    if at and name == at[0]:
        raise Killed


@law(60)
@given(DEEDS)
def test_the_newest_whole_state_is_loaded_whatever_happened(
    tmp_path_factory: pytest.TempPathFactory, deeds: list[tuple[Any, ...]]
) -> None:
    history(tmp_path_factory.mktemp("states"), deeds)


def by_name_alone(self: Checkpoints, folder: Path) -> int | str:
    """A mutant: a folder that is there is a state."""
    return int(folder.name[5:])


def without_digests(self: Checkpoints, folder: Path) -> int | str:
    """A mutant: a manifest that can be read is enough."""
    try:
        told = json.loads((folder / "manifest.json").read_text())
        return int(told["step"]) if told["identity"] == self._identity else "another's"
    except (OSError, ValueError):
        return "no manifest"


def last_two_of_anybody(self: Checkpoints, staging: Path, step: int) -> None:
    """A mutant, which stood here: the two states of the highest steps stay, whosever they are."""
    files = {path.relative_to(staging).as_posix(): file_digest(path) for path in staging.rglob("*") if path.is_file()}
    told = {"step": step, "identity": self._identity, "files": files}
    (staging / "manifest.json").write_text(json.dumps(told))
    final = self.folder / f"step-{step:08d}"
    checkpoint.failpoint("engine.manifest")
    shutil.rmtree(final, ignore_errors=True)
    checkpoint.failpoint("engine.rename")
    staging.rename(final)
    for old in self._found()[KEPT:]:
        shutil.rmtree(old)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("_verified", by_name_alone),
        ("_verified", without_digests),
        ("_publish", last_two_of_anybody),
    ],
    ids=["by name", "without digests", "the last two of anybody"],
)
def test_a_state_that_is_taken_on_trust_would_be_caught(
    name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(Checkpoints, name, wrong)
    with pytest.raises((AssertionError, FileNotFoundError)):
        test_the_newest_whole_state_is_loaded_whatever_happened(tmp_path_factory)


def test_a_training_cut_otherwise_keeps_what_it_saves(tmp_path: Path) -> None:
    """Killed at step 300 for want of memory, begun anew with smaller batches: step 50 must not go for 250 and 300."""
    for step in (250, 300):
        Checkpoints(tmp_path, "batches of 16", 0, lambda: None).save(Writes(), step, {"step": step})
    smaller = Checkpoints(tmp_path, "batches of 8", 0, lambda: None)
    assert smaller.newest() is None
    smaller.save(Writes(), 50, {"step": 50})
    found = Checkpoints(tmp_path, "batches of 8", 0, lambda: None).newest()
    assert found and found.step == 50
