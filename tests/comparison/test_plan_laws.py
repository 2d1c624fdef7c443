"""Keys over whole requests: what is asked in another order has the same, a change moves what depends on it alone.

A step's key moves if and only if what identifies it moved or something that it reads did; so every field of every
options class is changed in turn, and where it may show is said in one table.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.comparison.plan import USUAL, plan
from harness.comparison.planner import Planner
from harness.comparison.run_folder import LONGEST, identity, name
from harness.contracts import optimizer, plugins
from harness.contracts.benchmark import Benchmark
from harness.contracts.method import Method
from harness.contracts.settings import Chat, Judging, MethodSpec, Runtime, Testbed, Training
from harness.contracts.steps import ALL_BENCHMARKS, Plan, Request, Step
from harness.contracts.testbed_file import read_testbed
from harness.sources._chosen import source
from harness.stages.score import Score
from harness.system.errors import UsageError
from tests.laws import caught, law

BED = read_testbed("mini").model_copy(update={"crosscheck": False})
METHODS = ("nsft", "dpo", "sft", "seva", "sima", "csr")
BENCHMARKS = ("sqa", "pope", "chair", "mmhal", "indomain")
Keys = dict[str, str]  # a step's title -> its key


def spec(method: str, **given: Any) -> MethodSpec:
    """A row as the testbed has it."""
    mine = BED.methods.get(method, {}) | given
    training = {field: value for field, value in mine.items() if field in Training.model_fields}
    return MethodSpec(
        name=method, options={f: v for f, v in mine.items() if f not in training}, training=training, row=method
    )


def request(methods: tuple[str, ...] = ("nsft", "dpo"), benchmarks: tuple[str, ...] = BENCHMARKS) -> Request:
    return Request(tuple(spec(one) for one in methods), source("llava150k"), benchmarks=benchmarks)


def planned(asked: Request, bed: Testbed = BED, runtime: Runtime = USUAL) -> Plan:
    return plan(asked, bed, runtime)


def keys(made: Plan) -> Keys:
    return {step.title: step.key for step in made.steps}


BEFORE = planned(request())


def moved(after: Plan, before: Plan = BEFORE) -> set[str]:
    """The titles whose key is another now, or that are there in one alone."""
    one, other = keys(before), keys(after)
    return {title for title in one.keys() | other.keys() if one.get(title) != other.get(title)}


def kinds(titles: set[str]) -> set[str]:
    return {title.split()[0] for title in titles} - {"report"}


@law(7)
@given(
    st.lists(st.sampled_from(METHODS), min_size=1, max_size=4, unique=True),
    st.lists(st.sampled_from(BENCHMARKS), min_size=1, max_size=4, unique=True),
    st.randoms(use_true_random=False),
)
def test_the_same_asked_in_another_order_has_the_same_keys(methods: list[str], benchmarks: list[str], rng: Any) -> None:
    """Rows and columns in any order; a table's order is the report's alone."""
    first = keys(planned(request(tuple(methods), tuple(benchmarks))))
    rng.shuffle(methods)
    rng.shuffle(benchmarks)
    second = keys(planned(request(tuple(methods), tuple(benchmarks))))
    assert {t: k for t, k in first.items() if t != "report"} == {t: k for t, k in second.items() if t != "report"}


@law(7)
@given(
    st.lists(st.sampled_from(METHODS), min_size=1, max_size=4, unique=True),
    st.lists(st.sampled_from(BENCHMARKS), min_size=1, max_size=3, unique=True),
    st.integers(1, 3),
)
def test_a_plan_is_made_of_its_cells_and_of_nothing_else(methods: list[str], benchmarks: list[str], seeds: int) -> None:
    """Every step is read by another or is a goal; a larger request has the steps of each smaller one."""
    asked = replace(request(tuple(methods), tuple(benchmarks)), seeds=seeds)
    whole = planned(asked)
    read = {stage.key for step in whole.steps for stage in step.reads.values()}
    goals = {step.key for step in whole.goals}
    assert all(step.key in read | goals for step in whole.steps)
    place = {step.key: at for at, step in enumerate(whole.steps)}
    for step in whole.steps:
        assert all(place[stage.key] < place[step.key] for stage in step.reads.values())
        assert all(place[first] < place[step.key] for first in step.after)
    shown = [(cell.row, cell.seed, cell.benchmark) for cell in whole.cells]
    assert shown == [(r, s, b) for s in range(seeds) for r in ("baseline", *methods) for b in benchmarks]
    part = planned(replace(asked, methods=asked.methods[:1], benchmarks=asked.benchmarks[:1], seeds=1))
    known = {step.key for step in whole.steps}
    assert {step.key for step in part.steps if step.stage.kind != "report"} <= known


def other_than(value: Any, hint: Any = None) -> Iterator[Any]:
    """Other values of the same kind, likely to be allowed."""
    if get_origin(hint) is Literal:
        yield from (one for one in get_args(hint) if one != value)
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, max(value - 1, 1))
    elif isinstance(value, float):
        yield from (value / 2 + 0.01, value * 0.9)
    elif value is None:
        yield from (0.5, 1, "x")
    elif isinstance(value, tuple):
        yield (*value, "x")
    elif isinstance(value, str):
        yield f"{value}x"


def every_option(package: str, base: type, names: tuple[str, ...]) -> list[tuple[str, str, Any]]:
    """(plugin, field, another value that it takes) of all that have some."""
    found = []
    for one in names:
        given = dict(spec(one).options) if package == "methods" else {}
        made: Any = plugins.make(package, one, base, given)
        hints = get_type_hints(type(made))
        for field in fields(made):
            for value in other_than(getattr(made, field.name), hints[field.name]):
                try:
                    plugins.make(package, one, base, {**given, field.name: value})
                except (UsageError, OSError):
                    continue
                found.append((one, field.name, value))
                break
    return found


OPTIONS = every_option("methods", Method, METHODS)  # type: ignore[type-abstract]


def test_there_are_options_to_change() -> None:
    assert {one for one, *_ in OPTIONS} >= {"nsft", "dpo", "sima", "csr"} and len(OPTIONS) > 20


@cache
def alone(method: str) -> Plan:
    """A row beside another, on one benchmark."""
    return planned(request((method, "sft" if method != "sft" else "dpo"), ("sqa",)))


@pytest.mark.parametrize(("method", "option", "value"), OPTIONS, ids=lambda one: str(one)[:30])
def test_an_option_of_a_method_moves_that_row_and_no_other(method: str, option: str, value: Any) -> None:
    """Its build or its training at least; the split, the items, the baseline and the other row never."""
    before = alone(method)
    row = replace(before.request, methods=(spec(method, **{option: value}), *before.request.methods[1:]))
    try:
        after = planned(row)
    except (UsageError, OSError):
        pytest.skip("no such file")
    titles = moved(after, before) - {"report"}
    assert titles, "a change of an option changes some key"
    assert all(f" {method} " in f"{title} " for title in titles), titles
    assert downstream(after, before)


def downstream(after: Plan, before: Plan) -> bool:
    """Whether exactly those keys moved whose identity did, or something that is in their key."""
    old = {step.title: step for step in before.steps}
    new = {step.title: step for step in after.steps}
    for title, step in new.items():
        if title not in old:
            continue
        same = dict(step.stage.identity) == dict(old[title].stage.identity)
        inputs = {name: stage.key for name, stage in step.stage.inputs.items()}
        was = {name: stage.key for name, stage in old[title].stage.inputs.items()}
        if (step.key == old[title].key) != (same and inputs == was):
            return False
    return True


# How it is run

RUNTIME: dict[str, Any] = {
    "workers": 7, "executor": "./mine.py", "executor_options": {"patience": 3}, "num_processes": 3,
    "per_device_train_batch_size": 5, "generate_batch_size": 9, "generate_processes": 4,
    "gradient_checkpointing": "off", "zero_stage": 3,
    "checkpoint_every_steps": 7, "reference": "copy", "report_to": ("tensorboard",), "logging_dir": "elsewhere",
    "offload_optimizer": "cpu", "offload_param": "cpu",
    "budget": 3.0, "ask_concurrency": 2, "ask_attempts": 2, "ask_timeout_s": 3.0, "ask_deadline_s": 9.0,
    "ask_batch": 7, "nodes": 3, "rdzv_endpoint": "node1:29500",
}  # fmt: skip


def test_the_table_of_runtime_fields_is_whole() -> None:
    assert RUNTIME.keys() == Runtime.model_fields.keys()


@pytest.mark.parametrize("field", RUNTIME)
def test_how_it_is_run_moves_no_key(field: str) -> None:
    """Every field of `Runtime` changed in turn; other ways to have a reference leave its cache out and move nothing."""
    runtime = Runtime.model_construct(**{**USUAL.model_dump(), field: RUNTIME[field]})
    assert getattr(runtime, field) != getattr(USUAL, field)
    after = planned(request(), runtime=runtime)
    gone = {title for title in moved(after) if title.startswith("reference log-probs")}
    assert moved(after) == gone
    assert bool(gone) == (field == "reference")


def test_all_of_it_at_once_moves_no_key_either() -> None:
    runtime = Runtime.model_construct(**RUNTIME)
    assert kinds(moved(planned(request(), runtime=runtime))) <= {"reference"}


def test_a_runtime_field_in_a_key_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: responses are kept under the batch size that they were made in."""
    real = Planner.step

    def wrong(self: Planner, made: Any, reads: Any, *more: Any, **named: Any) -> Step:
        if made.kind() == "generate":
            made = made.model_copy(update={"batch_size": self.runtime.generate_batch_size})
            made.model_fields_set.add("batch_size")
        return real(self, made, reads, *more, **named)

    monkeypatch.setattr(Planner, "step", wrong)
    caught(test_how_it_is_run_moves_no_key, "generate_batch_size")


# The testbed's fields

EVERYTHING = {"split", "build", "reference", "train", "generate", "score", "items", "data", "probe", "lens"}
TRAINED = {"train", "generate", "score", "probe", "lens"}
"""What moves where a policy does; the baseline's cells not."""

BED_FIELDS: dict[str, tuple[Any, set[str]]] = {
    "name": ("another", set()),
    "synthetic": (False, set()),
    "prices": ({"m": (1.0, 2.0)}, set()),
    "lens": (7, {"probe", "lens"}),
    "examples": (77, {"data", "split", "build", "reference", *TRAINED}),
    "scenes": (77, {"data", "items", "generate", "score"}),
    "response_tokens": (33, {"build", "reference", *TRAINED}),
    "judge": ("openai:gpt-4-0613", {"score"}),
    "writer": ("openai:gpt-4-0613", {"respond", "build", *TRAINED}),  # of nsft, which has no reference
    "training": (BED.training.model_copy(update={"weight_decay": 0.5}), TRAINED),
    "judging": (Judging(temperature=0.5), set()),
    "writing": (Chat(temperature=0.5), set()),
}


@pytest.mark.parametrize("field", BED_FIELDS)
def test_a_field_of_the_testbed_moves_the_kinds_that_it_says(field: str) -> None:
    """The report tells of some that move nothing else."""
    value, expected = BED_FIELDS[field]
    after = planned(request(), BED.model_copy(update={field: value}))
    assert kinds(moved(after)) == expected
    assert downstream(after, BEFORE)
    if not expected & {"data", "items", "split"} and field not in ("response_tokens", "judge"):
        assert not any("baseline" in title for title in moved(after))


TRAINING: dict[str, tuple[Any, set[str]]] = {
    "learning_rate": (3e-3, TRAINED), "num_train_epochs": (3, TRAINED), "train_batch_size": (5, TRAINED),
    "warmup_ratio": (0.5, TRAINED), "lr_scheduler_type": ("constant_with_warmup", TRAINED),
    "optim": ("adamw_8bit", TRAINED), "weight_decay": (0.1, TRAINED),
    "adam_beta1": (0.8, TRAINED), "adam_beta2": (0.9, TRAINED),
    "max_grad_norm": (0.5, TRAINED), "dtype": ("bfloat16", {"reference", *TRAINED}),
    "max_length": (444, {"build", "reference", *TRAINED}), "lora": ({"r": 4}, TRAINED), "joint": ("mix665k", TRAINED),
}  # fmt: skip


def test_the_table_of_training_arguments_is_whole() -> None:
    assert TRAINING.keys() == Training.model_fields.keys()


@pytest.mark.parametrize("field", TRAINING)
def test_a_training_argument_of_a_row_moves_its_training_and_what_comes_of_it(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizer, "find_spec", lambda package: package)  # as if every optimiser were installed
    value, expected = TRAINING[field]
    row = "nsft" if field == "joint" else "dpo"  # not every loss can
    rows = tuple(spec(one, **({field: value} if one == row else {})) for one in ("nsft", "dpo"))
    after = planned(replace(request(), methods=rows))
    titles = {title for title in moved(after) if "mix665k" not in title} - {"report"}  # which nobody had before
    assert kinds(titles) == expected - ({"reference"} if field == "lora" else set())
    assert all(f" {row} " in f"{title} " for title in titles)
    assert downstream(after, BEFORE)


@pytest.mark.parametrize(("method", "tuned"), [("dpo", {"learning_rate": 1e-3}), ("nsft", {"num_train_epochs": 2})])
def test_a_training_argument_that_is_in_no_key_would_be_caught(
    method: str, tuned: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mutant of `Train`'s identity that forgets how it trains: another table under the same key."""
    from harness.stages.train import Train

    real = Train.identity
    monkeypatch.setattr(Train, "identity", lambda self: {**real(self), "training": {}})
    before = planned(request())
    after = planned(
        replace(request(), methods=tuple(spec(m, **(tuned if m == method else {})) for m in ("nsft", "dpo")))
    )
    assert not moved(after, before)  # the mutant is really there
    caught(test_a_training_argument_of_a_row_moves_its_training_and_what_comes_of_it, "learning_rate", monkeypatch)


# Benchmarks' options

COLUMNS = [one for one in every_option("benchmarks", Benchmark, BENCHMARKS) if one[1] != "source"]


@pytest.mark.parametrize(("benchmark", "option", "value"), COLUMNS, ids=lambda one: str(one)[:30])
def test_an_option_of_a_benchmark_moves_its_own_column(benchmark: str, option: str, value: Any) -> None:
    """Its items, responses and scores; no other column, no training, no example."""
    given = {**BED.benchmarks, benchmark: {**BED.benchmarks.get(benchmark, {}), option: value}}
    after = planned(request(), BED.model_copy(update={"benchmarks": given}))
    titles = moved(after) - {"report"}
    assert titles and all(benchmark in title.split() for title in titles)
    assert kinds(titles) <= {"items", "generate", "score"}
    judged = {step.title for step, _ in Score.among(after.steps) if step.title.split()[2] == benchmark}
    assert judged <= titles


def test_seeds_share_what_no_seed_decides() -> None:
    """Two seeds: items once; splits, responses and trainings twice, and none of the first seed's moves."""
    both = planned(replace(request(), seeds=2))
    assert kinds(moved(both)) == {"data", "split", "build", "reference", "train", "generate", "score", "probe", "lens"}
    once = keys(BEFORE)
    assert all(keys(both)[title] == key for title, key in once.items() if title != "report")
    assert sum(step.stage.kind == "items" for step in both.steps) == len(BENCHMARKS)


# What a folder is called, and whose it is

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@law(150)
@given(
    st.lists(st.tuples(st.sampled_from(METHODS), WORDS), max_size=6),
    st.dictionaries(WORDS, WORDS, max_size=3),
    st.integers(1, 3),
    st.sampled_from([None, 5]),
)
def test_a_folder_s_name_is_plain_and_short_whatever_the_words(
    rows: list[tuple[str, str]], settings: dict[str, str], seeds: int, examples: int | None
) -> None:
    methods = tuple(MethodSpec(name=method, row=f"{method}:{word}") for method, word in rows)
    asked = replace(request(), methods=methods, seeds=seeds, examples=examples)
    found = name(asked, BED, settings)
    assert 0 < len(found) <= LONGEST and found.isascii()
    assert not {*found} & {*'/\\:*?"<>| \n\t\0'} and found[0] not in ".-" and found not in (".", "..")
    assert name(asked, BED, settings) == found
    if seeds > 1 and len(found) < LONGEST:
        assert f"seeds={seeds}" in found


CHANGES: dict[str, Callable[[Request], Request]] = {
    "a method more": lambda r: replace(r, methods=(*r.methods, spec("sft"))),
    "a method less": lambda r: replace(r, methods=r.methods[:1]),
    "another order": lambda r: replace(r, methods=r.methods[::-1]),
    "another option": lambda r: replace(r, methods=(spec("nsft"), spec("dpo", beta=0.7))),
    "another benchmark": lambda r: replace(r, benchmarks=r.benchmarks[:-1]),
    "another source": lambda r: replace(r, data=source("textcaps")),
    "more seeds": lambda r: replace(r, seeds=2),
    "another first seed": lambda r: replace(r, first_seed=1),
    "examples": lambda r: replace(r, examples=9),
    "limit": lambda r: replace(r, limit=9),
    "tuning": lambda r: replace(r, tuning=True),
    "blank": lambda r: replace(r, blank=True),
    "noise": lambda r: replace(r, noise_batch=8),
    "pool": lambda r: replace(r, pool=9),
    "a row of an API": lambda r: replace(r, answered=(("gpt", "openai:gpt"),)),
    "a published row": lambda r: replace(r, published=(("seva", BED.models[0]),)),
}


def test_whose_a_folder_is_tells_every_two_requests_apart() -> None:
    """One field each; and every field of a request is among them."""
    asked = request()
    found = {what: identity(change(asked), BED) for what, change in CHANGES.items()} | {"": identity(asked, BED)}
    assert len(set(found.values())) == len(found)
    changed = {
        f.name
        for what in CHANGES
        for f in fields(asked)
        if getattr(CHANGES[what](asked), f.name) != getattr(asked, f.name)
    }
    assert changed == {f.name for f in fields(asked)}
    assert identity(asked, BED, "1,2") != identity(asked, BED)
    for field, (value, _) in BED_FIELDS.items():
        assert identity(asked, BED.model_copy(update={field: value})) != found[""], field


@law(6)
@given(st.lists(st.sampled_from(ALL_BENCHMARKS), min_size=1, max_size=9, unique=True))
def test_steps_have_titles_of_their_own_and_the_kinds_of_stages(benchmarks: list[str]) -> None:
    """A title names one step, for plans are read by title."""
    made = planned(request(("nsft",), tuple(benchmarks)))
    titles = [step.title for step in made.steps]
    assert len(titles) == len(set(titles))
    by_kind: Mapping[str, int] = {kind: sum(s.stage.kind == kind for s in made.steps) for kind in ("train", "generate")}
    assert by_kind == {"train": 1, "generate": 2 * len(benchmarks)}
