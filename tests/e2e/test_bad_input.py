"""Whatever the user gets wrong is one sentence with the cure; nothing that was done is lost."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import cli
from tests.e2e.conftest import ROOT, Ran, harness


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", "nfst"], 'no method "nfst"; did you mean "nsft"? Known:'),
        (["--data", "llava15k"], 'no data "llava15k"; did you mean "llava150k"? Known:'),
        (["--benchmarks", "popee"], 'did you mean "pope"? Known:'),
        (["--testbed", "minni"], 'no testbed "minni"; did you mean "mini"? Known:'),
        (["--set", "dpo.betta=1"], 'did you mean "beta"? Known:'),
        (["--set", "dpo.beta=large"], "dpo.beta"),
        (["--set", "beta"], "NAME.FIELD=VALUE"),
        (["--set", "sima.beta=1"], "Known: nsft, dpo"),
        (["--set", "runtime.zero_stage=7"], "zero_stage"),
        (["--set", "runtime.zero_stag=1"], 'did you mean "zero_stage"? Known:'),
        (["--exampels", "3"], "--examples) Known: --benchmarks"),
        (["--set", "training.learning_rat=1"], "learning_rat"),
        (["--set", "dpo.learning_rate=-1"], "learning_rate"),
        (["--methods", "./gone.py"], "gone.py; give a path to a Python file"),
        (["--data", "gone.json", "--images", "."], "gone.json"),
        (["--testbed", "gone.yaml"], "gone.yaml"),
        (["--examples", "0"], "--examples"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_a_wrong_name_exits_2_with_one_sentence(arguments: list[str], said: str, tmp_path: Path) -> None:
    ran = harness("compare", *arguments, "--store", str(tmp_path / "store"), cwd=tmp_path)
    assert ran.status == 2
    assert said in ran.stderr and "Traceback" not in ran.stderr
    assert not (tmp_path / "store").exists()


def test_a_wrong_name_is_found_without_importing_torch() -> None:
    program = (
        "import sys; sys.argv[1:] = ['compare', '--set', 'dpo.betta=1']\n"
        "from harness.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code == 2 and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sweep", "--rates", "fast"], "--rates fast: give numbers"),
        (["data", "mini", "--train-base", "--seeds", "x"], "--seeds x: give numbers"),
        (["compare", "--testbed", "llava-1.5-7b"], "$HARNESS_DATA is not set"),
    ],
)
def test_other_wrong_words_are_sentences_too(arguments: list[str], said: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "HARNESS_DATA"}
    command = [sys.executable, "-m", "harness.cli", *arguments]
    ran = subprocess.run(
        command, capture_output=True, text=True, env=environment | {"PYTHONPATH": str(ROOT)}, cwd=tmp_path, check=False
    )
    assert ran.returncode == 2 and said in ran.stderr and "Traceback" not in ran.stderr


def test_a_full_disk_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # a write to an open file has no name to tell

    monkeypatch.setattr(cli, "app", full)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 3
    assert capsys.readouterr().err == "harness: No space left on device. Finished stages are kept.\n"


def test_a_real_testbed_names_all_that_is_missing(tmp_path: Path) -> None:
    ran = harness("compare", "--testbed", "llava-1.5-7b", env={"HARNESS_DATA": str(tmp_path)}, cwd=tmp_path)
    assert ran.status == 2
    for word in ("weights", "hf download", "llava_instruct_150k.json", "coco_pope_random.json", "judge"):
        assert word in ran.stderr, word


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten real photographs from scikit-image with conversations, and five records that cannot be used."""
    from skimage import data, io

    folder = tmp_path_factory.mktemp("photographs")
    names = ["astronaut", "chelsea", "coffee", "rocket", "camera", "coins", "moon", "page", "clock", "brick"]
    records = []
    for name in names:
        io.imsave(folder / f"{name}.png", getattr(data, name)(), check_contrast=False)
        said = [
            {"from": "human", "value": "<image>\nWhat is this?"},
            {"from": "gpt", "value": f"This is the {name} picture."},
        ]
        worse = [said[0], {"from": "gpt", "value": "This is a picture of a zebra."}]
        records.append({"id": name, "image": f"{name}.png", "conversations": said, "rejected_conversations": worse})
    (folder / "broken.png").write_bytes((folder / "moon.png").read_bytes()[:500])
    (folder / "text.jpg").write_text("not a picture")
    for name, image in [("cut", "broken.png"), ("text", "text.jpg"), ("gone", "gone.png"), ("out", "../../etc/passwd")]:
        records.append({"id": name, "image": image, "conversations": records[0]["conversations"]})
    records.append({"id": "malformed", "image": "moon.png", "conversations": "What?"})
    (folder / "my.json").write_text(json.dumps(records))
    return folder


@pytest.fixture(scope="module")
def compared(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Path]:
    """The comparison of two methods on them, and its store."""
    store, out = (tmp_path_factory.mktemp(name) for name in ("store", "out"))
    ran = harness(
        "compare", "--methods", "sft,dpo", "--data", str(photographs / "my.json"), "--images", str(photographs),
        "--benchmarks", "pope", "--limit", "8", "--store", str(store), "--out", str(out),
    )  # fmt: skip
    return ran, store


@pytest.mark.heavy
def test_rejected_answers_in_the_data_are_not_lost_without_a_word(compared: tuple[Ran, Path]) -> None:
    said = compared[0].stderr
    assert "sft: the data have 10 rejected answers, not read: this method has no use for them" in said
    assert "dpo:rejected=data reads them" in said


@pytest.mark.heavy
def test_ones_own_photographs_are_compared_and_bad_records_named(compared: tuple[Ran, Path]) -> None:
    ran, store = compared
    assert ran.status == 0, ran.stderr
    (dropped,) = store.glob("split/*/dropped.jsonl")
    reasons = {row["id"]: row["reason"] for row in map(json.loads, dropped.read_text().splitlines())}
    assert reasons.keys() == {"cut", "text", "gone", "out", "malformed"}
    assert all(reasons.values())
    (examples,) = store.glob("split/*/examples.jsonl")
    assert len(examples.read_text().splitlines()) == 10
    assert "5 records" in ran.stderr


def test_a_store_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = harness("compare", "--limit", "8", "--store", str(tmp_path / "file"), cwd=tmp_path)
    assert ran.status in (2, 3)
    assert "Traceback" not in ran.stderr and str(tmp_path / "file") in ran.stderr


def test_ctrl_c_exits_130_before_the_work_is_done_and_says_how_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness.cli", "compare", "--examples", "200", "--limit", "50"]
    child = subprocess.Popen(
        [*command, "--store", str(tmp_path / "store")], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    for _ in range(600):
        if list((tmp_path / "store").glob("items/*/manifest.json")):
            break
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=300)
    assert child.returncode == 130, said
    assert not list((tmp_path / "store").glob("train/*/manifest.json"))
    assert "same command" in said


def test_help_names_the_commands() -> None:
    ran = harness("--help")
    assert ran.status == 0
    for command in ("compare", "plan", "sweep", "data", "doctor", "methods", "benchmarks"):
        assert command in ran.stdout
