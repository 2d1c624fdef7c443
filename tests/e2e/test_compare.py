"""The main job end to end on the embedded testbed, as a user runs it."""

import csv
import json
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from transformers import LlavaForConditionalGeneration

import harness as comparisons
from reports.manifest import Manifest
from reports.report import fitted_table
from tests import fake_slurm, vllm_environment
from tests.e2e.conftest import SMALL, Done, fingerprint, harness
from tests.seams.found import OUTSIDE
from tests.toy_steps import until

IN_ORDER = OUTSIDE / "executor" / "in_order.py"


def test_the_table_has_the_baseline_and_both_methods(done: Done) -> None:
    for row in ("baseline", "nSFT", "GT-DPO"):
        assert row in done.ran.stdout


def test_a_table_shown_from_what_its_page_was_made_of_is_the_one_that_the_store_gives(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(done.store, tmp_path / "store", ignore=lambda folder, names: {"pages"} & {*names})
    monkeypatch.setenv("COLUMNS", "100")  # at 120 it is the file's
    ran = replace(done, store=tmp_path / "store", out=tmp_path / "out").again("--page")
    lines = [line.rstrip() for line in fitted_table(tmp_path / "out", tmp_path / "store").rstrip().splitlines()]
    assert "\n".join(lines) in ran.stdout and (tmp_path / "store" / "pages").is_dir(), ran.stderr


def test_its_manifest_has_every_field_and_reads_back_byte_by_byte(done: Done, tmp_path: Path) -> None:
    told = Manifest.read(done.out / "manifest.json")
    assert told.model_fields_set == {*Manifest.model_fields} and told.finished
    told.write(tmp_path / "manifest.json")
    assert (tmp_path / "manifest.json").read_bytes() == (done.out / "manifest.json").read_bytes()


def test_every_file_is_there_and_says_synthetic(done: Done) -> None:
    for name in ("table.md", "table.csv", "table.tex", "results.jsonl", "manifest.json"):
        assert "synthetic" in (done.out / name).read_text(), name
    assert json.loads((done.out / "profile.json").read_text())["testbed"] == "mini-small"


def test_the_page_and_the_figures_lie_beside_the_table(done: Done) -> None:
    page = (done.out / "report.html").read_text()
    assert "synthetic testbed" in page and "every method consumed the same examples: seed 0: 24 of split.lock" in page
    for name in ("figure2", "figure6", "intervals", "curves", "lens"):
        assert (done.out / f"{name}.svg").is_file() and (done.out / f"{name}.png").is_file()
    table = harness("report", str(done.out), "--table", "1")
    assert table.status == 0 and re.search(r"nSFT +– +\d", table.stdout) and "no run has SQA" in table.stdout
    assert harness("report", str(done.out), "--table", "1", "--paper").status == 2


def test_results_have_one_row_per_method_seed_benchmark_and_metric(done: Done) -> None:
    rows = [json.loads(line) for line in (done.out / "results.jsonl").read_text().splitlines()]
    ids = [(row["method"], row["seed"], row["benchmark"], row["metric"]) for row in rows]
    assert len(ids) == len(set(ids))
    assert {row["method"] for row in rows} == {"baseline", "nsft", "dpo"}
    for row in rows:
        assert row.keys() >= {"n", "unscored", "direction", "protocol", "testbed", "stage"}
        assert "value" in row or "withheld" in row


def test_caption_length_and_recall_stand_beside_chair(done: Done) -> None:
    metrics = {row["metric"] for row in csv.DictReader((done.out / "table.csv").open())}
    assert any(metric.startswith("chair/recall") for metric in metrics)
    assert "chair/words" in metrics


def test_the_models_were_trained_and_say_different_things(done: Done) -> None:
    weights = {file.read_bytes() for file in done.store.glob("train/*/checkpoint/model.safetensors")}
    assert len(weights) == 2
    captions = {file.read_bytes() for file in done.store.glob("generate/*/responses.jsonl")}
    assert len(captions) > 5  # five would mean that all three models answer the five benchmarks alike


def test_every_method_trained_on_the_examples_of_one_lock(done: Done) -> None:
    (lock,) = done.store.glob("split/*/split.lock")
    locked = [example for example, _ in json.loads(lock.read_text())["examples"]]
    for build in done.store.glob("build/*"):
        lines = (build / "records.jsonl").read_text() + (build / "dropped.jsonl").read_text()
        assert sorted(json.loads(line)["id"] for line in lines.splitlines()) == sorted(locked)


def test_own_responses_were_generated_once_for_both_methods(done: Done) -> None:
    assert len(list(done.store.glob("responses/*"))) == 1


def test_python_reads_the_same_comparison(done: Done) -> None:
    found = comparisons.load(done.out)
    rows = [row for row in csv.DictReader((done.out / "table.csv").open()) if row["method"] == "dpo" and row["value"]]
    assert found.table().loc["GT-DPO"].dropna().to_dict() == {row["metric"]: float(row["value"]) for row in rows}
    items = found.items("pope")
    assert set(items["label"]) == {"baseline", "nSFT", "GT-DPO"} and Path(items["image"][0]).is_file()
    assert items["response"].map(len).min() > 0 and items["unscored"].eq("").all()
    assert (found.checkpoint("nsft") / "model.safetensors").is_file() and found.failed == []
    assert str(found) == (done.out / "table.txt").read_text()


def test_what_a_row_was_trained_on_can_be_taken_elsewhere_and_compared_on(done: Done, tmp_path: Path) -> None:
    ran = harness("export", str(done.out), "--records", "dpo", "--format", "trl", "--out", str(tmp_path / "x"))
    assert ran.status == 0 and "rows of" in ran.stdout, ran.stderr
    plan = ["plan", "--methods", "dpo:rejected=data", "--data", str(tmp_path / "x" / "records.json"), "--examples", "8"]
    assert harness(*plan, "--store", str(tmp_path / "store"), *SMALL).status == 0


def test_responses_taken_out_score_the_same_by_the_official_files(done: Done, tmp_path: Path) -> None:
    ran = harness(
        "export", str(done.out), "--responses", "baseline", "--benchmarks", "pope", "--out", str(tmp_path / "x")
    )
    assert ran.status == 0, ran.stderr
    words = []
    for split in ("random", "popular", "adversarial"):
        (questions,) = done.store.glob(f"data/*/coco_pope_{split}.json")
        words += [
            "--questions",
            f"{split}={questions}",
            "--answers",
            f"{split}={tmp_path / 'x' / 'pope' / split}.jsonl",
        ]
    found = harness("score", "pope", *words, "--json").json["metrics"]["pope/f1_macro3"]
    rows = csv.DictReader((done.out / "table.csv").open())
    [mine] = (row for row in rows if (row["method"], row["metric"]) == ("baseline", "pope/f1_macro3"))
    assert found == float(mine["value"])


def test_a_trained_model_can_be_taken_to_plain_transformers(done: Done, tmp_path: Path) -> None:
    ran = harness("export", str(done.out), "--checkpoint", "dpo", "--out", str(tmp_path / "model"))
    assert ran.status == 0, ran.stderr
    number = r"\d[\d.]*"
    row = rf"\| CHAIR \| `chair/\S+` \| {number} \| {number} to {number} \| {number} \| \d+ \|"
    assert re.search(row, (tmp_path / "model" / "README.md").read_text())
    stored = {file.read_bytes() for file in done.store.glob("train/*/checkpoint/model.safetensors")}
    assert (tmp_path / "model" / "model.safetensors").read_bytes() in stored
    _, info = LlavaForConditionalGeneration.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(info.values())


def test_the_same_command_again_runs_nothing_and_imports_no_torch(done: Done) -> None:
    before = fingerprint(done.store, done.out)
    command = ["compare", "--methods", "nsft,dpo", *SMALL, "--store", str(done.store), "--out", str(done.out), "--json"]
    program = (
        "import json, sys; from harness.cli import app; "
        "sys.argv[1:] = json.loads(sys.argv[1]); app(standalone_mode=False); "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )

    again = subprocess.run(
        [sys.executable, "-c", program, json.dumps(command)], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["stages_run"] == 0
    assert fingerprint(done.store, done.out) == before


@pytest.mark.heavy
def test_a_lost_stage_is_made_again_with_the_same_bits(done: Done) -> None:
    before = fingerprint(done.store, done.out)
    lost = next(iter(done.store.glob("generate/*")))
    for stage in (lost, *done.store.glob("score/*"), *done.store.glob("report/*")):
        (stage / "manifest.json").unlink()
    again = done.again("--json", "--workers", "1")
    assert again.json["stages_run"] == 1 + 15 + 1
    assert fingerprint(done.store, done.out) == before


@pytest.mark.heavy
def test_adding_a_method_runs_its_own_stages_only(done: Done, tmp_path: Path) -> None:
    more = harness(
        "compare", "--methods", "nsft,dpo,sft", *SMALL, "--store", str(done.store), "--out", str(tmp_path), "--json"
    )
    assert more.json["stages_run"] == 2 + 5 + 5 + 5 + 1  # build and train, generate, score, crosscheck, report


def made_alike(done: Done, folder: Path, executor: str, *how: str) -> None:
    """A comparison by this executor has the stages and the table of one that the local one runs."""
    small = ["--benchmarks", "pope,gqa"]
    local = done.again(*small, "--out", str(folder / "local"), methods="dpo")
    own = ["--store", str(folder / "store"), "--out", str(folder / "own"), "--executor", executor, *how]
    ran = harness("compare", "--methods", "dpo", *SMALL, *small, *own)
    assert (local.status, ran.status) == (0, 0), ran.stderr
    assert (folder / "own" / "table.csv").read_bytes() == (folder / "local" / "table.csv").read_bytes()
    stages = [json.loads((folder / name / "manifest.json").read_text())["stages"] for name in ("local", "own")]
    assert stages[0] == stages[1] and len(stages[0]) > 10


@pytest.mark.heavy
def test_another_executor_makes_the_same_stages_and_the_same_table(done: Done, tmp_path: Path) -> None:
    made_alike(done, tmp_path, str(IN_ORDER))


@pytest.mark.heavy
def test_vllm_answers_with_the_same_table(done: Done, tmp_path: Path) -> None:
    """Greedy, in float32, on a CPU: policies that are trained on its responses, and asked by it."""
    vllm, small = vllm_environment.made(), ["--benchmarks", "pope,gqa"]
    usual = done.again(*small, "--out", str(tmp_path / "usual"), methods="dpo")
    how = ["--set", "generation.backend=vllm", "--set", f"generation.options={{environment: {vllm.environment}}}"]
    ran = done.again(*small, *how, "--out", str(tmp_path / "own"), methods="dpo")
    assert (usual.status, ran.status) == (0, 0), ran.stderr
    assert (tmp_path / "own" / "table.csv").read_bytes() == (tmp_path / "usual" / "table.csv").read_bytes()
    told = Manifest.read(tmp_path / "own" / "manifest.json").parity
    assert told and told.same == told.prompts == 32 and told.largest < 1e-4


@pytest.mark.heavy
def test_processes_side_by_side_answer_with_the_same_table(done: Done, tmp_path: Path) -> None:
    made_alike(done, tmp_path, "local", "--set", "runtime.generate_processes=2")


@pytest.mark.heavy
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_ray_makes_the_same_stages_and_the_same_table(done: Done, tmp_path: Path) -> None:
    made_alike(done, tmp_path, "ray")


@pytest.mark.heavy
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_ray_that_loses_a_machine_on_the_way_makes_the_same_table(done: Done, tmp_path: Path) -> None:
    """The one that trains; another comes in its place."""
    from ray.cluster_utils import Cluster  # type: ignore[import-not-found,unused-ignore]

    machines, ours = Cluster(initialize_head=True, head_node_args={"num_cpus": 0}), tmp_path / "store"
    first, how = machines.add_node(num_cpus=2), f"runtime.executor_options={{address: '{machines.address}'}}"
    try:
        with ThreadPoolExecutor(1) as pool:  # Ray begins machines in the main thread alone
            compared = pool.submit(made_alike, done, tmp_path, "ray", "--set", how)
            assert until(lambda: compared.done() or (ours / ".jobs").is_dir(), 1200)  # the local one has ended
            stages = json.loads((tmp_path / "local" / "manifest.json").read_text())["stages"]
            [name] = (one for one in stages if one.startswith("train/"))
            assert until((ours / ".jobs" / Path(name).name / "ticks").is_file, 1200)  # it has begun
            machines.add_node(num_cpus=2)
            machines.remove_node(first, allow_graceful=False)
            assert not (ours / name / "manifest.json").exists()
            compared.result()
    finally:
        machines.shutdown()


@pytest.mark.heavy
def test_a_cluster_that_loses_a_machine_on_the_way_makes_the_same_table(done: Done, tmp_path: Path) -> None:
    def lose() -> None:
        until(lambda: any(title.startswith("train dpo") for title, state in jobs() if state == "RUNNING"), 300)
        fake_slurm.lose(next(title for title, _ in jobs() if title.startswith("train dpo")))

    def jobs() -> list[tuple[str, str]]:
        return [(job["title"], job["state"]) for job in fake_slurm.all_jobs()]

    with pytest.MonkeyPatch.context() as patch:
        for name, value in fake_slurm.install(tmp_path / "cluster").items():
            patch.setenv(name, value)
        thread = threading.Thread(target=lose)
        thread.start()
        made_alike(done, tmp_path, "slurm", "--set", "runtime.executor_options={poll_s: 0.5, settle_s: 2}")
        thread.join()
        assert any(title.startswith("train dpo") for title, state in jobs() if state == "NODE_FAIL")


def test_the_plan_says_what_is_done_and_why_the_rest_runs(done: Done) -> None:
    plan = harness("plan", "--methods", "nsft,dpo", *SMALL, "--store", str(done.store), "--set", "dpo.beta=0.5", "-v")
    assert "reused     build nsft seed 0" in plan.stdout
    assert "options.beta" in next(line for line in plan.stdout.splitlines() if re.match("run +train dpo", line))


def test_the_profile_has_time_memory_tokens_and_flops(done: Done) -> None:
    stages = json.loads((done.out / "profile.json").read_text())["stages"]
    train = next(stage for stage in stages if stage["stage"] == "train")
    generate = next(stage for stage in stages if stage["stage"] == "generate")
    assert train["flops"] > 0 and train["forward_tokens"] > 0 and train["peak_host_gib"] > 0
    assert generate["generated_tokens"] > 0 and generate["flops"] > 0 and generate["seconds"] > 0
    assert next(stage for stage in stages if stage["stage"] == "reference")["flops"] > 0


@pytest.mark.heavy
def test_the_documented_method_trains_and_shows_in_the_table(done: Done, tmp_path: Path) -> None:
    ran = done.again("--out", str(tmp_path / "out"), methods=str(OUTSIDE / "method" / "margin.py"))
    assert ran.status == 0, ran.stderr
    assert "margin" in ran.stdout
    assert len(list(done.store.glob("responses/*"))) == 1  # it found the own responses the others had asked for


def test_results_carry_lmms_evals_figures_beside_ours(done: Done) -> None:
    rows = [json.loads(line) for line in (done.out / "results.jsonl").read_text().splitlines()]
    both = {(row["method"], row["metric"]): row for row in rows if "lmms_eval" in row}
    for method in ("baseline", "nsft", "dpo"):
        row = both[method, "gqa/all"]
        assert row["lmms_eval"]["source"] == "lmms-eval 0.7.3"
        assert abs(row["lmms_eval"]["value"] - row["value"]) < 1e-9
        assert both[method, "mmhal/rating"]["lmms_eval"]["withheld"] == "no task of lmms-eval is set beside it"
    assert "lmms" not in (done.out / "table.csv").read_text()


def test_the_crosscheck_explains_every_difference(done: Done) -> None:
    ran = harness("report", str(done.out), "--crosscheck")
    assert ran.status == 0, ran.stderr
    assert "(0 of them not explained)" in ran.stdout
    assert "counts the labels, not the responses" in ran.stdout
    assert harness("report", "--crosscheck").status == 2
