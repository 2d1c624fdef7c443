"""Keys change with what changes a result and with nothing else."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.comparison.plan import plan
from harness.comparison.preflight import check
from harness.contracts import plugins
from harness.contracts.behind import behind
from harness.contracts.settings import MethodSpec, Reading, Runtime
from harness.contracts.steps import ALL_BENCHMARKS, Plan, Request
from harness.contracts.testbed_file import read_testbed
from harness.judging.codebook import SHIPPED, read_codebook
from harness.sources._chosen import source
from harness.stages.data import Data
from harness.stages.generate import Generate
from harness.stages.items import Items
from harness.stages.lens import Lens
from harness.stages.split import Split
from harness.system.errors import UsageError

BED = read_testbed("mini")
REQUEST = Request((MethodSpec(name="nsft"), MethodSpec(name="dpo")), source("llava150k"))


def keys(planned: Plan, kind: str) -> set[str]:
    return {step.key for step in planned.steps if step.stage.kind == kind}


BEFORE = plan(REQUEST, BED)


def test_planning_twice_gives_the_same_keys() -> None:
    assert [step.key for step in plan(REQUEST, BED).steps] == [step.key for step in BEFORE.steps]


def test_every_method_consumes_the_same_split() -> None:
    builds = [step for step in BEFORE.steps if step.stage.kind == "build"]
    assert len(builds) == 2
    assert len({step.reads["split"].key for step in builds}) == 1


def test_a_step_comes_after_what_it_reads() -> None:
    seen: set[str] = set()
    for step in BEFORE.steps:
        assert {stage.key for stage in step.reads.values()} <= seen
        seen.add(step.key)


def test_the_row_of_most_rounds_begins_first_and_waits_for_no_other_row() -> None:
    planned = plan(replace(REQUEST, methods=tuple(MethodSpec(name=name) for name in ("dpo", "csr", "seva"))), BED)
    builds = {step.row: step for step in reversed(planned.steps) if step.stage.kind == "build"}  # of the first round
    places = {step.row: planned.steps.index(step) for step in builds.values()}
    assert sorted(places, key=places.__getitem__) == ["csr", "dpo", "seva"]
    assert {row: step.after for row, step in builds.items()} == {"csr": (), "dpo": (), "seva": (builds["dpo"].key,)}
    assert [row for row, _ in planned.trained] == ["dpo", "csr", "seva"]  # what is told of rows keeps their order


def test_how_it_is_run_is_in_no_key() -> None:
    run = Runtime(num_processes=4, executor="./somebody_s.py", executor_options={"patience": 1}, workers=8)
    assert [step.key for step in plan(REQUEST, BED, run).steps] == [step.key for step in BEFORE.steps]


def test_the_baseline_is_scored_on_everything_and_trained_on_nothing() -> None:
    baseline = [cell for cell in BEFORE.cells if cell.row == "baseline"]
    assert [cell.benchmark for cell in baseline] == list(ALL_BENCHMARKS)
    assert all("policy" not in cell.score.reads["responses"].inputs for cell in baseline)


def test_the_noise_floor_is_the_baseline_generated_once_more_in_other_batches() -> None:
    noisy = plan(replace(REQUEST, noise_batch=64), BED)
    for kind in ("split", "items", "build", "train", "generate"):
        assert keys(BEFORE, kind) <= keys(noisy, kind), kind
    rows = {row: [c.score.reads["responses"] for c in noisy.cells if c.row == row] for row in ("baseline", "noise")}
    for own, again in zip(*rows.values(), strict=True):
        assert again.identity == {**own.identity, "batch_size": 64}
        assert again.inputs == own.inputs


def test_adding_a_method_reuses_everything_but_the_report() -> None:
    more = plan(replace(REQUEST, methods=(*REQUEST.methods, MethodSpec(name="sft"))), BED)
    for kind in ("data", "split", "build", "reference", "train", "generate", "score"):
        assert keys(BEFORE, kind) <= keys(more, kind), kind
    assert keys(BEFORE, "report") != keys(more, "report")


def test_a_changed_option_changes_its_own_method_only() -> None:
    beta = MethodSpec(name="dpo", options={"beta": 0.5})
    changed = plan(replace(REQUEST, methods=(REQUEST.methods[0], beta)), BED)
    kept = {step.title for step in changed.steps} & {step.title for step in BEFORE.steps}
    by_title = {step.title: step.key for step in BEFORE.steps}
    moved = {step.title for step in changed.steps if step.title in kept and step.key != by_title[step.title]}
    assert moved and all("dpo" in title or title == "report" for title in moved)


def test_a_changed_learning_rate_retrains_but_builds_nothing_again() -> None:
    faster = MethodSpec(name="dpo", training={"learning_rate": 3e-4})
    changed = plan(replace(REQUEST, methods=(REQUEST.methods[0], faster)), BED)
    assert keys(changed, "build") == keys(BEFORE, "build")
    assert keys(changed, "reference") == keys(BEFORE, "reference")
    assert len(keys(changed, "train") - keys(BEFORE, "train")) == 1


def test_the_dtype_that_models_respond_in_is_the_testbeds_and_in_every_key() -> None:
    """Whatever the device: float32 on a CPU and bfloat16 on a GPU under one key would be two tables of one run."""
    halved = BED.model_copy(update={"training": BED.training.model_copy(update={"dtype": "bfloat16"})})
    changed = plan(REQUEST, halved)
    for kind in ("build", "generate", "probe"):
        assert keys(BEFORE, kind) and not keys(BEFORE, kind) & keys(changed, kind), kind
    assert {generate.sampling.dtype for _, generate in Generate.among(changed.steps)} == {"bfloat16"}


def test_another_prompt_for_pope_changes_popes_steps_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import benchmarks.pope

    original = Path(benchmarks.pope.__file__)
    edited = tmp_path / "pope.py"
    edited.write_text(original.read_text() + '\n\nPROMPT_NOTE = "asked in another way"\n')
    real = plugins.source
    monkeypatch.setattr(
        "harness.contracts.plugins.source", lambda package, name: edited if name == "pope" else real(package, name)
    )
    changed = plan(REQUEST, BED)
    moved = (
        {step.title for step in changed.steps}
        if len(changed.steps) != len(BEFORE.steps)
        else {after.title for after, before in zip(changed.steps, BEFORE.steps, strict=True) if after.key != before.key}
    )
    assert moved and all("pope" in title or title == "report" for title in moved)
    assert not any(title.startswith("data") for title in moved)


def test_a_comment_in_the_code_changes_no_key(tmp_path: Path) -> None:
    from harness.store.digest import source_digest

    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("x = 1\n")
    two.write_text("# why\nx  =  1\n")
    assert source_digest(one) == source_digest(two)


def test_seeds_take_different_bases_and_different_splits() -> None:
    planned = plan(replace(REQUEST, seeds=3), BED)
    assert len({step.key for step in planned.splits}) == 3
    assert len({Generate.of(cell.responses).model for cell in planned.cells}) == 3
    assert len(keys(planned, "items")) == len(ALL_BENCHMARKS)  # benchmarks are the same for every seed


def test_tuning_shares_no_data_with_the_comparison() -> None:
    tuning = plan(replace(REQUEST, tuning=True), BED)
    assert not keys(tuning, "data") & keys(BEFORE, "data")


def test_in_domain_items_are_held_out_examples_of_the_comparisons_source() -> None:
    planned = plan(replace(REQUEST, data=source("textcaps"), benchmarks=("indomain",)), BED)
    ((step, items),) = Items.among(planned.steps)
    assert items.options == {"source": "textcaps"}
    data = Items.Reads.of(step).data
    assert data and Data.of(data) == Data(source="textcaps", split="heldout", n=200, seed=0)
    drawn = [Split.Reads.of(step).data for step in planned.splits]
    assert {Data.of(data).split for data in drawn if data} == {"alignment"}


def test_a_users_file_has_no_held_out_examples(tmp_path: Path) -> None:
    (tmp_path / "my.json").write_text("[]")
    request = replace(REQUEST, data=source(str(tmp_path / "my.json")), benchmarks=("indomain",))
    with pytest.raises(UsageError, match="indomain asks about held-out examples of the source"):
        check(request, BED)


def test_how_the_work_is_laid_on_the_machine_is_in_no_key() -> None:
    known = {name for step in BEFORE.steps for name in step.stage.identity}
    assert not known & set(Runtime.model_fields)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (replace(REQUEST, methods=(MethodSpec(name="nfst"),)), 'did you mean "nsft"'),
        (replace(REQUEST, benchmarks=("pop",)), 'did you mean "pope"'),
        (replace(REQUEST, methods=(MethodSpec(name="dpo", options={"betta": 1}),)), 'did you mean "beta"'),
        (replace(REQUEST, methods=(MethodSpec(name="dpo", options={"beta": "big"}),)), "dpo.beta"),
        (replace(REQUEST, methods=(MethodSpec(name="dpo"), MethodSpec(name="dpo"))), "twice"),
        (replace(REQUEST, data=source("nowhere.json", ".")), "--images"),
    ],
)
def test_a_wrong_name_is_one_sentence_with_the_cure(request_: Request, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("(", r"\(")) as caught:
        check(request_, BED)
    assert caught.value.exit_status == 2


def test_a_testbed_without_weights_names_all_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    with pytest.raises(UsageError) as caught:
        bed = read_testbed("llava-1.5-7b")
        check(replace(REQUEST, data=source("llava150k", home=behind(bed.data).home)), bed)
    for word in ("hf download", "llava150k", "coco_pope", "judge", "writer"):
        assert word in str(caught.value), word


def test_the_mini_oracle_refuses_to_write_about_a_users_images(tmp_path: Path) -> None:
    (tmp_path / "my.json").write_text("[]")
    asked = replace(REQUEST, data=source(str(tmp_path / "my.json")))
    with pytest.raises(UsageError, match="scene graphs only"):
        check(asked, BED)


def test_a_data_file_of_a_method_counts_by_content_and_not_by_place(tmp_path: Path) -> None:
    def build_keys(name: str, text: str) -> set[str]:
        (tmp_path / name).write_text(text)
        spec = MethodSpec(name="nsft", options={"codebook": str(tmp_path / name)})
        return keys(plan(replace(REQUEST, methods=(spec,)), BED), "build")

    here = build_keys("here.yaml", "instance: {count: wrong number}")
    assert build_keys("there.yaml", "instance: {count: wrong number}") == here
    assert build_keys("here.yaml", "instance: {colour: wrong colour}") != here


def test_the_lens_asks_by_the_codebook_that_a_row_names(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("instance: {smell: what it smells of}")
    own = MethodSpec(name="nsft", options={"codebook": str(tmp_path / "my.yaml")})
    without = MethodSpec(name="nsft", options={"codebook": "none"}, row="none")

    def books(*methods: MethodSpec) -> list[dict[str, dict[str, str]]]:
        planned = plan(replace(REQUEST, methods=methods), BED)
        return [Lens.of(lens).codebook for _, lens in planned.lenses.values()]

    assert books(MethodSpec(name="dpo"), own, without) == [{"instance": {"smell": "what it smells of"}}] * 3
    assert books(without) == [read_codebook(SHIPPED)]


@pytest.mark.parametrize(
    ("text", "said"),
    [("- a", "must map a level"), ("a: {x: '', y: ''}\nb: {x: ''}", "under two levels"), ("a: [", "is not YAML")],
)
def test_a_broken_codebook_is_refused_before_anything_runs(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "my.yaml").write_text(text)
    spec = MethodSpec(name="nsft", options={"codebook": str(tmp_path / "my.yaml")})
    with pytest.raises(UsageError, match=said):
        plan(replace(REQUEST, methods=(spec,)), BED)


def test_how_pictures_and_texts_are_read_is_in_the_keys_of_split_and_items() -> None:
    upright = plan(REQUEST, BED.model_copy(update={"reading": Reading(images="upright")}))
    stripped = plan(REQUEST, BED.model_copy(update={"reading": Reading(texts="stripped")}))
    for kind in ("split", "items"):
        assert keys(BEFORE, kind).isdisjoint(keys(upright, kind)), kind
    assert keys(BEFORE, "split").isdisjoint(keys(stripped, "split"))
    assert keys(BEFORE, "items") == keys(stripped, "items")
    assert keys(BEFORE, "data") == keys(upright, "data") == keys(stripped, "data")


def test_another_picture_of_equal_size_is_another_split_and_all_that_is_made_of_it(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "What is it?\n<image>"}, {"from": "gpt", "value": "A cup."}]
    (tmp_path / "my.json").write_text(json.dumps([{"id": "1", "image": "a.png", "conversations": turns}]))
    request = Request((MethodSpec(name="sft"),), source(str(tmp_path / "my.json")))
    made = []
    for picture in (b"one", b"two"):
        (tmp_path / "a.png").write_bytes(picture)
        made.append({step.title: step.key for step in plan(replace(request, benchmarks=("pope",)), BED).steps})
    moved = {title for title in made[0] if made[0][title] != made[1][title]}
    assert {"split my.json seed 0", "build sft seed 0", "train sft seed 0"} <= moved
    assert not any("baseline" in title for title in moved)
