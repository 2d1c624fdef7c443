"""Sources that are joined: shares, ids, what is drawn for them, and what cannot be joined."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.comparison.bed import own_source
from harness.comparison.plan import plan
from harness.comparison.planner import Planner
from harness.comparison.preflight import check
from harness.comparison.run_folder import identity, name
from harness.comparison.worker import Worker
from harness.contracts import plugins
from harness.contracts.joined import parts_of, shares
from harness.contracts.judge_kind import Post
from harness.contracts.records import Example
from harness.contracts.settings import MethodSpec, Reading, Runtime
from harness.contracts.steps import Request
from harness.contracts.testbed_file import read_testbed
from harness.judging.hire import kind_for
from harness.mini.oracles import Oracle
from harness.sources._chosen import source
from harness.stages.data import Data
from harness.stages.split import Split
from harness.store.store import Store
from harness.system.errors import UsageError
from harness.system.jsonl import read_jsonl
from harness.system.profile import quiet
from harness.training.split import EXAMPLES
from tests.seams.sources import made, picture, published, record

BED = read_testbed("mini")
THREE = "ocrvqa+textcaps+llava150k"
WEIGHTS = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_adopted", {})


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A folder of official files with a dozen records of each source."""
    for one in ("ocrvqa", "textcaps", "llava150k"):
        published(one, tmp_path / "sources" / one)
    return tmp_path


@given(WEIGHTS, st.integers(0, 60))
def test_a_share_is_within_one_example_of_what_the_weights_say(weights: list[int], n: int) -> None:
    taken = shares(weights, n)
    assert sum(taken) == n
    exact = [Fraction(n * weight, sum(weights)) for weight in weights]
    whole = n // sum(weights) * sum(weights)
    assert all(count >= (n // sum(weights)) * weight for count, weight in zip(taken, weights, strict=True))
    assert n != whole or taken == exact
    assert all(now >= before for now, before in zip(shares(weights, n + 1), taken, strict=True))


def drawn(request: Request, root: Path, seed: int = 0) -> tuple[Store, Planner, list[Example]]:
    """A split of mini, with all that it reads."""
    planner, store = Planner(request, BED, Runtime(), ()), Store(root)
    step = planner.split(seed)
    for one in planner.steps.values():
        Worker(store, BED, request, Runtime(workers=1)).run(one, quiet)
    return store, planner, list(read_jsonl(Example, store.path(step.stage) / EXAMPLES))


def test_mini_draws_every_part_and_its_oracle_knows_them_all(tmp_path: Path) -> None:
    request = Request((), source("llava150k:2+ocrvqa"), benchmarks=(), examples=9)
    store, planner, examples = drawn(request, tmp_path)
    assert Counter(example.source for example in examples) == {"llava150k": 6, "ocrvqa": 3}
    assert all(example.id.startswith(f"{example.source}:") for example in examples)
    data = next(step for step in planner.steps.values() if step.stage.kind == Data.kind())
    lies = {len(json.loads(file.read_text())) for file in store.path(data.stage).glob("*/*.json")}
    assert lies == {6, 3}, "as many are drawn as are taken"
    oracle = kind_for("writer", BED).hire(Post(Runtime(), store.root, drawn=store.path(data.stage)))
    assert isinstance(oracle, Oracle)
    assert all(example.image and example.image.sha256 in oracle.scenes for example in examples)


def test_the_order_of_the_words_decides_nothing(tmp_path: Path) -> None:
    first, second = (Request((), source(word), examples=6) for word in ("ocrvqa:2+textcaps:2", "textcaps+ocrvqa"))
    one, two = (Planner(request, BED, Runtime(), ()).split(0).key for request in (first, second))
    assert one == two and identity(first, BED) == identity(second, BED)
    assert name(first, BED, {}) == "baseline-ocrvqa+textcaps-mini-examples=6"
    assert Planner(replace(first, data=source("ocrvqa:2+textcaps")), BED, Runtime(), ()).split(0).key != one


def test_a_smaller_draw_is_the_beginning_of_a_larger_one(official: Path) -> None:
    ids = [example.id for example in source(THREE, home=official).load(lambda id: id[::-1])]
    assert len({*ids}) == 36
    for n in (3, 8, 30):
        assert {*Counter(id.partition(":")[0] for id in ids[:n]).values()} <= {n // 3, n // 3 + 1}


def test_a_part_that_has_too_few_is_never_filled_up_by_the_others(official: Path, tmp_path: Path) -> None:
    file = official / "sources" / "textcaps" / "llava_v1_5_mix665k.json"
    rows = [row for row in json.loads(file.read_text()) if "textvqa" in row["image"]][:4]
    file.write_text(json.dumps([*rows, rows[0], {**rows[1], "id": "gone", "image": "textvqa/gone.png"}]))
    bed = BED.model_copy(update={"data": str(official)})
    for n, enough in ((12, True), (13, True), (18, False)):
        reading = Reading(max_dropped=0.5)
        request = Request((), source(THREE, home=official), benchmarks=(), examples=n)
        planner = Planner(request, bed.model_copy(update={"reading": reading}), Runtime(), ())
        worker = Worker(Store(tmp_path / "store"), planner.testbed, request, Runtime(workers=1))
        if enough:
            worker.run(planner.split(0), quiet)
        else:
            with pytest.raises(UsageError, match=r"textcaps has 4 usable examples, and its share of 18 in .* is 6"):
                worker.run(planner.split(0), quiet)


def test_every_part_s_files_and_weights_are_in_the_identity(official: Path) -> None:
    before = source(THREE, home=official).identity(Reading())
    for one in ("ocrvqa", "textcaps", "llava150k"):
        (file,) = (official / "sources" / one).glob("*.json")
        text = file.read_text()
        file.write_text(text + " ")
        assert source(THREE, home=official).identity(Reading()) != before
        file.write_text(text)
    assert source(THREE, home=official).identity(Reading()) == before
    assert source(f"{THREE}:3", home=official).identity(Reading()) != before
    assert "source" in before and set(before) <= Split.model_fields.keys()


def test_what_a_source_declares_holds_for_its_own_examples_alone(tmp_path: Path) -> None:
    """nSFT asks its writer about captions, and not about what can be read off a cover."""
    request = Request((MethodSpec(name="nsft"),), source("ocrvqa+textcaps"), benchmarks=(), examples=2)
    planned = plan(request, BED, rows=check(request, BED))
    from harness.comparison.bill import _texts

    alone = {word: plan(replace(request, data=source(word)), BED) for word in ("ocrvqa", "textcaps")}
    asks = {
        word: sum(times for _, times in _texts(one, one.steps, Store(tmp_path)))
        for word, one in {**alone, "both": planned}.items()
    }
    lens = 2 * BED.lens
    assert asks["textcaps"] - lens == 2 * (asks["both"] - lens) and asks["ocrvqa"] == lens


def test_a_file_of_records_joins_official_sources(official: Path, tmp_path: Path) -> None:
    mine = tmp_path / "my photos"
    for number in range(4):
        picture(mine / f"{number}.png", 200 + number)
    (mine / "my+cats.jsonl").write_text("".join(json.dumps(record(number)) + "\n" for number in range(4)))
    assert source(str(mine / "my+cats.jsonl")).name == "local", "a file that is there is one word"
    (mine / "my+cats.jsonl").rename(mine / "cats.jsonl")
    both = source(f"textcaps+{mine / 'cats.jsonl'}", str(mine), official)
    assert (both.name, str(both), both.own) == ("local+textcaps", "cats+textcaps", True)
    assert Counter(example.source for example in both.load() if isinstance(example, Example)) == {
        "local": 4,
        "textcaps": 12,
    }


def refused() -> Iterator[tuple[str, str, str]]:
    yield "ocrvqa+textcap", "", 'no data "textcap"; did you mean "textcaps"'
    yield "ocrvqa+ocrvqa", "", "2 parts that are called ocrvqa; give it a weight, ocrvqa:2"
    yield "ocrvqa:0+textcaps", "", "weights in whole numbers, 1 or more"
    yield "ocrvqa+", "", "write NAME"
    yield "ocrvqa+textcaps", "photos", "--images goes with a data file of your own"
    yield "ocrvqa+./squares.py", "", "this testbed draws its own sources"
    yield "./a.jsonl+./b.jsonl", "", "2 parts that are called local; put the files into one"


@pytest.mark.parametrize(("word", "images", "said"), list(refused()))
def test_what_cannot_be_joined_is_a_sentence(
    word: str, images: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made("signs", tmp_path / "data")
    (tmp_path / "data" / "signs.py").rename(tmp_path / "squares.py")
    for file in ("a.jsonl", "b.jsonl"):
        (tmp_path / file).write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said):
        source(word, images)


def test_held_out_examples_are_those_of_the_part_that_is_named() -> None:
    request = Request((), source(THREE), benchmarks=("indomain",), examples=3, limit=10)
    with pytest.raises(UsageError, match=r"--data joins 3; name it: --set indomain\.source=llava150k"):
        check(request, BED)
    bed = BED.model_copy(update={"benchmarks": {"indomain": {"source": "textcaps"}}})
    check(request, bed)
    planner = Planner(request, own_source(bed, request), Runtime(), ())
    assert planner.world("indomain").source == "textcaps"


def test_a_single_source_is_what_it_was() -> None:
    """Its split and its data are identified by the same fields with the same values."""
    assert parts_of("llava150k") == {"llava150k": 1}
    planner = Planner(Request((), source("llava150k"), benchmarks=(), examples=5), BED, Runtime(), ())
    step = planner.split(0)
    identity = {key: value for key, value in step.stage.identity.items() if key in Split.model_fields}
    assert identity == {"source": "llava150k", "n": 5, "seed": 0, "reading": identity["reading"]}
    data = {key: value for key, value in step.stage.inputs["data"].identity.items() if key in Data.model_fields}
    assert data == {"source": "llava150k", "n": 5, "split": "alignment", "seed": 0}
