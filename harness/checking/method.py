"""Whether a method keeps its contract, tried on made-up data before anything is paid for.

A broken contract is a UsageError: one sentence with the file, what is wrong and what is wanted.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from harness.checking.fake_round import FakeRound, examples
from harness.checking.promises import asked, want
from harness.contracts import plugins
from harness.contracts.method import Lesson, Method, Role
from harness.contracts.records import Conversation, Dropped, Pair, Record, Rollout
from harness.contracts.settings import Lora
from harness.system.errors import UsageError
from harness.system.jsonl import dumps, loads

if TYPE_CHECKING:
    from harness.models.tree import Tree

BASE = Path(__file__).parents[1] / "mini/bases/0"
COLUMNS = ("policy", "logit", "competitor", "kl_forward", "kl_reverse", "value", "reward")


def check_named(name: str, options: Mapping[str, Any], data: Path | None) -> Iterator[str]:
    """A method by its name or file."""
    method: Method = plugins.make("methods", name, Method, dict(options))
    yield from check_method(plugins.stem(name), method, options)


def check_method(here: str, method: Method, options: Mapping[str, Any]) -> Iterator[str]:
    """A method, with these options set: its declarations, two records, one step of each round on a tiny model."""
    asked(here, "its options", lambda: dumps(options))
    want(isinstance(getattr(method, "label", None), str), here, "label", "a text, the row's name in tables", method)
    want(
        isinstance(method.roles, tuple) and all(isinstance(role, Role) for role in method.roles),
        here, "roles", "a tuple of Role", method,
    )  # fmt: skip
    rounds = asked(here, "rounds", lambda: method.rounds)
    if type(rounds) is not int or rounds < 1:
        raise UsageError(f"{here}.rounds is {rounds!r}; wanted: a number of rounds, 1 or more.")
    for source in asked(here, "sources", lambda: tuple(method.sources)):
        if not isinstance(source, Path) or not source.is_file():
            raise UsageError(
                f"{here}.sources names {source}, which is no file; wanted: paths of files that build reads."
            )
    with TemporaryDirectory(prefix="harness-check-") as scratch:
        tried: list[Lesson] = []
        for number in range(rounds):
            lesson = asked(here, "lesson", lambda number=number: method.lesson(number))  # type: ignore[misc]
            _check_lesson(here, lesson)
            if (same := replace(lesson, part=(0, 1))) in tried:
                continue
            tried.append(same)
            records, dropped = _built(here, method, lesson, number, Path(scratch))
            tag = f"{here}, round {number + 1}" if rounds > 1 else here
            if not records:
                yield f"{tag}: no record from two made-up examples ({dropped[0].reason}); its loss was not tried"
                continue
            _check_joins(here, method, lesson, records)
            _check_training_only(here, method, number, Path(scratch), [*records, *dropped])
            yield f"{tag}: {len(records)} records from two examples"
            units = one_step(here, method, lesson, records, Path(scratch) / "features")
            yield f"{tag}: one step on a tiny model, {units} {lesson.unit}s, loss and gradient finite"


def _check_lesson(here: str, lesson: object) -> None:
    if not isinstance(lesson, Lesson):
        raise UsageError(f"{here}.lesson gives a {type(lesson).__name__}; wanted: a Lesson.")
    for column in lesson.columns:
        if column not in COLUMNS:
            raise plugins.unknown(f"column of {here}.lesson", str(column), list(COLUMNS))
    part = lesson.part
    if lesson.unit not in ("token", "record") or not 0 <= part[0] < part[1]:
        raise UsageError(
            f"{here}.lesson has unit {lesson.unit!r} and part {part!r}; wanted: token or record, and (k, n) with k < n."
        )


def _built(here: str, method: Method, lesson: Lesson, number: int, folder: Path) -> tuple[list[Record], list[Dropped]]:
    """What `build` makes of two examples; the contract says one record or Dropped per example, in order."""
    given = examples(folder)
    round = FakeRound(number=number, needs_writer=method.needs_writer)
    made = asked(here, "build", lambda: _listed(here, method.build(iter(given), round)))
    if lesson.asks_last and (what := round.too_late()):
        raise UsageError(
            f"{here}.build asks its model (round.{what}) where it may have none: lesson(...).asks_last says that it "
            "asks by respond and candidates alone, and the writer after that."
        )
    for thing in made:
        if not isinstance(thing, Conversation | Pair | Rollout | Dropped):
            raise UsageError(
                f"{here}.build gives a {type(thing).__name__}; wanted: a Conversation, Pair, Rollout or Dropped for "
                "each example."
            )
        asked(here, "a record that is not plain data", lambda thing=thing: _round_trip(here, thing))  # type: ignore[misc]
    ids, wanted = [thing.id for thing in made], [example.id for example in given]
    if ids != wanted:
        raise UsageError(
            f"{here}.build gives records for {', '.join(map(str, ids)) or 'nothing'} of examples {', '.join(wanted)}; "
            "wanted: one record or Dropped per example, with its id, in their order."
        )
    return [one for one in made if not isinstance(one, Dropped)], [one for one in made if isinstance(one, Dropped)]


def _check_joins(here: str, method: Method, lesson: Lesson, records: Sequence[Record]) -> None:
    """UsageError where conversations cannot stand beside the records of a method that says so."""
    plain = lesson.unit == "token" and not lesson.reference and all(isinstance(one, Conversation) for one in records)
    if method.joins and not plain:
        raise UsageError(
            f"{here}.joins says that conversations are learnt as its records are, and these are no conversations, or "
            "its loss reads more of them than log-probs of tokens. Take joins out."
        )


def _check_training_only(
    here: str, method: Method, number: int, folder: Path, usual: Sequence[Record | Dropped]
) -> None:
    """UsageError for an option that only training should read, and that a record changes with."""
    for name in method.training_only:
        for other in _others(type(method), name, getattr(method, name)):
            round = FakeRound(number=number, needs_writer=method.needs_writer)
            built = _listed(here, replace(method, **{name: other}).build(iter(examples(folder)), round))
            if sorted(map(dumps, built)) != sorted(map(dumps, usual)):
                raise UsageError(
                    f"{here}.build gives other records with {name}={other!r}; training_only says that it does not read "
                    "it. Take it out there: it must be in the records' key."
                )


def _others(kind: type[Method], name: str, value: Any) -> list[Any]:
    """Other values that an option may have, as far as its type tells."""
    hint = get_type_hints(kind)[name]
    if get_origin(hint) is Literal:
        return [other for other in get_args(hint) if other != value]
    return [value * 2 + 7] if type(value) in (int, float) else []


def _listed(here: str, built: object) -> list[Any]:
    if not isinstance(built, Iterable) or isinstance(built, str | Mapping):
        raise UsageError(f"{here}.build gives a {type(built).__name__}; wanted: an iterator of records (yield them).")
    return list(built)


def _round_trip(here: str, record: Record | Dropped) -> None:
    back = loads(type(record), dumps(record))
    if back != record:
        raise UsageError(f"{here}.build's record {record.id} does not come back from JSON as it was; use plain data.")


def _check_answers(here: str, lesson: Lesson, records: Sequence[Record], forest: "Sequence[Tree]") -> None:
    """UsageError for a pair that has more or fewer answers, by picture, than its lesson says."""
    for record, grown in zip(records, forest, strict=True):
        answers = tuple(len(row.branches) for row in grown.rows)
        if isinstance(record, Pair) and answers != lesson.answers:
            raise UsageError(
                f"{here}.build gives the pair {record.id} with {answers} answers by picture; lesson(...).answers says "
                f"{lesson.answers}."
            )


def one_step(
    here: str, method: Method, lesson: Lesson, records: Sequence[Record], shelf: Path, base: Path = BASE
) -> int:
    """The loss and its gradient on a base, the embedded testbed's; how many units the loss had."""
    import torch

    from harness.models.load import load
    from harness.models.logps import LogProbs
    from harness.models.reference import trees
    from harness.models.roles import assemble
    from harness.models.tree import pack
    from harness.training import recompute

    warnings.simplefilter("ignore", FutureWarning)  # transformers' own, at every adapter
    loaded = load(base, "float32", "cpu", shelf)
    forest = asked(here, "records that cannot be trained on", lambda: trees(records, loaded))
    _check_answers(here, lesson, records, forest)
    adapters = lesson.continues or lesson.trains != (Role.POLICY,)
    roles = assemble(loaded.model, Lora(r=4, lora_alpha=8) if adapters else None, 0, lesson, {})
    batch = pack(forest, loaded)
    with torch.no_grad():
        frozen = (roles.policy.head, roles.policy.hidden(batch))
        recompute.again(roles, 0)  # from here on as the engine has it
    if not torch.equal(frozen[1], roles.policy.hidden(batch)):  # with gradients: without them nothing is made again
        raise UsageError(f"{here}: an MLP that the family's `gated` names is another than it says; leave it out.")
    found = roles(batch, lesson.columns, frozen)
    plain = {name: values.detach().clone() for name, values in found.items() if not name.startswith("kl_")}
    known = {f"reference/{name}": values for name, values in plain.items()} if lesson.reference else {}
    reference = plain.get("policy") if lesson.reference else None
    policy = found.get("policy", torch.zeros(0))
    given = LogProbs(policy, reference, batch.branch, batch.branch_tree, {**found, **known, **batch.columns})
    units = sum(tree.supervised for tree in forest) if lesson.unit == "token" else len(forest)
    if lesson.anchored:
        anchor = asked(here, "anchor", lambda: method.anchor(given))
        if not isinstance(anchor, torch.Tensor) or anchor.shape != (units,):
            raise UsageError(f"{here}.anchor gives no tensor of shape ({units},), one figure per {lesson.unit}.")
        given = replace(given, anchor=float(anchor.detach().mean()))
    loss = asked(here, "loss", lambda: method.loss(given))
    _check_loss(here, lesson, loss, units)
    asked(here, "the gradient of loss", lambda: torch.autograd.backward(loss.values.sum()))
    slopes = [weight.grad for weight in roles.parameters() if weight.grad is not None]
    if not slopes or not all(bool(torch.isfinite(slope).all()) for slope in slopes):
        raise UsageError(f"{here}.loss has a gradient that is not finite on two records.")
    return units


def _check_loss(here: str, lesson: Lesson, loss: object, units: int) -> None:
    """UsageError for what is no loss: one finite value per unit that depends on the policy, and finite metrics."""
    import torch

    from harness.contracts.method import Loss

    if not isinstance(loss, Loss) or not isinstance(loss.values, torch.Tensor):
        raise UsageError(f"{here}.loss gives a {type(loss).__name__}; wanted: a Loss with a tensor of values.")
    if loss.values.shape != (units,):
        raise UsageError(
            f"{here}.loss gives values of shape {tuple(loss.values.shape)}; wanted: ({units},), one per {lesson.unit} "
            "(lesson(...).unit says which)."
        )
    metrics = loss.metrics if isinstance(loss.metrics, dict) else {"": None}
    for name, value in metrics.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor) or not bool(torch.isfinite(value).all()):
            raise UsageError(f"{here}.loss gives the metric {name!r} that is no tensor of finite numbers.")
    if not bool(torch.isfinite(loss.values).all()):
        raise UsageError(
            f"{here}.loss gives {loss.values.detach().tolist()[:4]} for two records; wanted: finite numbers."
        )
    if not loss.values.requires_grad:
        raise UsageError(
            f"{here}.loss depends on no log-prob of the policy, so nothing would be learnt; was it detached?"
        )
