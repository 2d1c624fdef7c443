"""What a plan says that stages take: at the sizes of LLaVA-1.5-7B, on devices where they fit and where they do not."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from harness import families
from harness.commands.plan_text import show_plan
from harness.comparison import sizing
from harness.comparison.asking import Asked, asked_of_policy
from harness.comparison.devices import DEVICES, device_of
from harness.comparison.needs import Need, by_row
from harness.comparison.plan import plan
from harness.comparison.sizing import USED, needs
from harness.contracts import optimizer, prepared
from harness.contracts.family import Layout
from harness.contracts.settings import Lora, MethodSpec, Runtime, Training
from harness.contracts.steps import Plan, Request
from harness.contracts.testbed_file import read_testbed
from harness.models.load import load
from harness.sources._chosen import source
from harness.store.contents import CONTENTS
from harness.store.store import Store
from harness.system.errors import UsageError
from harness.system.profile import quiet
from methods.csr import Csr
from tests.small_models import FAMILIES, made, noise
from tests.true_shapes import planned_7b

TALK = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cup."}]
LIKE_THE_PAPER = Training(dtype="bfloat16", lora=Lora(), max_length=2048)


def asked(training: Training = LIKE_THE_PAPER, **methods: dict[str, Any]) -> Plan:
    """A plan of these methods, with training arguments of their own."""
    bed = read_testbed("mini").model_copy(update={"training": training, "response_tokens": 1024, "methods": {}})
    rows = tuple(MethodSpec(name=name, training=fields) for name, fields in methods.items())
    return plan(Request(rows, source("llava150k"), examples=10_000, benchmarks=("gqa",)), bed)


Sized = Callable[..., dict[tuple[str, str], Need]]


@pytest.fixture
def sized(monkeypatch: pytest.MonkeyPatch) -> Sized:
    """The needs by row and kind, as if the testbed's models were of 7 B."""
    model = planned_7b()
    monkeypatch.setattr(sizing, "_model", lambda *given: model)

    def made(planned: Plan, device: str = "h100", shown: Any = (), **runtime: Any) -> dict[tuple[str, str], Need]:
        monkeypatch.setattr(sizing, "_model", lambda *given: model._replace(trained=shown))
        found = by_row([*needs(planned, planned.steps, Runtime(**runtime), DEVICES[device])])
        return {(need.row, need.kind): need for need in found}

    return made


def test_the_papers_rows_fit_one_card_of_80_gb(sized: Sized) -> None:
    """GT-DPO with adapters of rank 128, SeVa's of 1024, PPO's two of 64, answers of 100 tokens."""
    found = sized(asked(dpo={"train_batch_size": 8}, seva={"lora": {"r": 1024}}, ppo={"lora": {"r": 64}}))
    for row in ("dpo", "seva", "ppo"):
        need = found[row, "train"]
        assert need.cure == "" and need.memory.peak < USED * 80e9
        assert need.memory.weights > 14e9
    assert found["seva", "train"].memory.optimizer == 12 * 8 * 319_815_680 == 8 * found["dpo", "train"].memory.optimizer


def test_what_will_not_fit_is_named_with_the_switch(sized: Sized, monkeypatch: pytest.MonkeyPatch) -> None:
    full = asked(LIKE_THE_PAPER.model_copy(update={"lora": None}), sft={})
    need = sized(full)["sft", "train"]
    assert need.memory.peak > 80e9 and "--set runtime.zero_stage=3" in need.cure
    world = int(need.cure.partition("num_processes=")[2].split()[0])
    assert sized(full, num_processes=world, zero_stage=3)["sft", "train"].cure == ""
    forced = sized(asked(sft={}), per_device_train_batch_size=64, gradient_checkpointing="off")["sft", "train"]
    assert "per_device_train_batch_size=auto" in forced.cure and "zero_stage" not in forced.cure
    assert "num_processes=8" in sized(full, "rtx4090")["sft", "train"].cure
    monkeypatch.setitem(DEVICES, "rtx4090", DEVICES["rtx4090"]._replace(memory=4 * 10**9))
    assert "no switch" in sized(full, "rtx4090")["sft", "train"].cure


def test_hours_are_those_of_the_work(sized: Sized) -> None:
    """20 TFLOP a record of GT-DPO at R = 100: 10,000 in about 8 minutes at 40 % of 989 TFLOP/s, thrice on an A100."""
    one, three = (sized(asked(dpo={"num_train_epochs": epochs}))["dpo", "train"] for epochs in (1, 3))
    assert one.flops / 10_000 == pytest.approx(23.7e12, rel=0.05)
    assert three.flops == 3 * one.flops and three.seconds == pytest.approx(3 * one.seconds)
    slow = sized(asked(dpo={}), "a100-80")["dpo", "train"]
    assert slow.seconds / one.seconds == pytest.approx(989 / 312, rel=0.1)


def test_own_responses_are_counted_where_a_method_asks_for_them(sized: Sized) -> None:
    found = sized(asked(sft={}, dpo={}, nsft={"lora": None}))
    assert found["sft", "build"].flops == 0 and found["sft", "build"].memory.cache == 0
    assert found["dpo", "build"].disk == 10_000 * 576 * 1024 * 2  # features: 1.2 MB a picture
    assert found["dpo", "build"].flops / 10_000 == pytest.approx(12.95e9 * 736, rel=0.15)
    assert found["dpo", "train"].disk == 2 * 319_815_680  # its adapter
    assert found["nsft", "train"].disk == 2 * 7_063_427_072


def test_methods_that_ask_about_pictures_alone_are_counted_too(sized: Sized) -> None:
    """SeVa answers with and without noise, SIMA judges a pair, CSR grows three nodes by five sentences each."""
    found = sized(asked(dpo={}, seva={}, sima={}, csr={}))
    count = {row: found[row, "build"].flops / found["dpo", "build"].flops for row in ("seva", "sima", "csr")}
    assert count["seva"] == pytest.approx(2, rel=0.05) and count["sima"] == pytest.approx(3, rel=0.05)
    first, *later = asked_of_policy(Csr(), 0, 0)
    assert first == Asked(1, 5, 20, 70) and later == [Asked(3, 15, 20, 70)] * 4  # levels, until there are 100 tokens
    assert 12 * 3 < count["csr"] < 14 * 3  # in three rounds; the prompt of each of 13 nodes is read once


def test_answers_have_room_for_as_many_tokens_as_a_method_lets_them_have(sized: Sized) -> None:
    """CSR's sentences end with 70 tokens, which leaves room for more of them than of answers with 1,024."""
    found = sized(asked(dpo={}, csr={}))
    dpo, csr = (int(found[row, "build"].how.split()[0]) for row in ("dpo", "csr"))
    assert csr >= 2 * dpo


def test_pictures_of_prepared_data_are_what_a_training_is_sized_by(sized: Sized) -> None:
    """Work by the picture nearest to their mean, memory by the longest; a benchmark's pictures are the usual ones."""
    usual = sized(asked(sft={}, dpo={}))
    small, large = Layout(100), Layout(1500)
    found = sized(asked(sft={}, dpo={}), shown=(small, small, Layout(110), large))
    assert found["sft", "train"].memory.activations > usual["sft", "train"].memory.activations
    for kind in ("train", "build", "reference"):
        assert found["dpo", kind].flops < usual["dpo", kind].flops
    assert found["dpo", "build"].disk < usual["dpo", "build"].disk
    assert found["dpo", "generate"].flops == usual["dpo", "generate"].flops


def test_they_are_looked_at_where_the_store_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CONTENTS, "root", None)
    rows = [{"id": str(n), "image": f"{n}.png", "conversations": TALK} for n in range(9)]
    for n in range(9):
        PIL.Image.new("RGB", (30 + n, 20)).save(tmp_path / f"{n}.png")
    (tmp_path / "my.json").write_text(json.dumps(rows))
    given = source(str(tmp_path / "my.json"))
    planned = replace(asked(sft={}), request=replace(asked(sft={}).request, data=given))
    assert sizing.pictures_of(planned) == []
    prepared.prepare(given, planned.testbed.reading, Store(tmp_path / "store"), quiet)
    assert {Path(one.path).name for one in sizing.pictures_of(planned)} == {f"{n}.png" for n in range(9)}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_picture_takes_what_the_model_makes_of_it(name: str, tmp_path: Path) -> None:
    """Of every family: places, bytes on disk, and FLOPs that depend on how it lies."""
    folder = made(families.named(name), tmp_path / "small")
    found, loaded, [shown] = sizing._model(folder, 4), load(folder), noise(tmp_path, [sizing.SHOWN[::-1]])
    layout = loaded.eyes.layout(shown)
    features = loaded.features(shown)
    assert found.seen == layout and found.flops.tower(layout) == loaded.flops.tower(layout) > 0
    assert found.shelf == 4 * features.numel()


def test_the_plan_prints_it(  # type: ignore[no-untyped-def]
    sized: Sized, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    full = asked(LIKE_THE_PAPER.model_copy(update={"lora": None}), sft={})
    show_plan(full, Store(tmp_path), 1, device="h100")
    said = capsys.readouterr().out
    assert "on one H100 SXM 80 GB" in said and "Cont. SFT train WILL NOT FIT; it does with --set runtime" in said
    assert "train, 1 at a time" in said and "Cont. SFT generate" not in said  # a row has one line
    show_plan(full, Store(tmp_path), 1, verbose=True, device="h100")
    assert "Cont. SFT generate" in capsys.readouterr().out
    show_plan(full, Store(tmp_path), 1, as_json=True, device="h100")
    told = json.loads(capsys.readouterr().out)
    assert {one["stage"] for one in told["estimate"]} == {"build", "train", "generate", "probe"}
    show_plan(full, Store(tmp_path), 1)
    assert "WILL NOT FIT" not in capsys.readouterr().out  # of a drawn world nobody asks that


def test_a_device_that_is_not_known_is_named() -> None:
    with pytest.raises(UsageError, match="--device b300: known are h100, h200"):
        device_of("b300")


def test_every_stage_with_a_model_is_sized(sized: Sized) -> None:
    """The base is asked too; POPE's 9,000 questions are the official ones, and a reference reads every pair."""
    found = sized(asked(dpo={}))
    assert {kind for row, kind in found if row == "dpo"} == {"build", "reference", "train", "generate", "probe"}
    assert {kind for row, kind in found if row == "baseline"} == {"generate"}
    answers, read = found["dpo", "generate"], found["dpo", "reference"]
    assert answers.memory.cache > 0 and answers.seconds > 0 and answers.disk == 0
    assert read.memory.working > 0 and read.flops / 10_000 == pytest.approx(12.95e9 * (636 + 200), rel=0.15)


def test_what_is_done_at_once_is_halved_until_it_fits(sized: Sized, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it will be: answers by keys and values, records of a reference by what one layer makes."""
    many, few = (sized(asked(dpo={}), generate_batch_size=size)["dpo", "generate"] for size in (512, 64))
    assert many == replace(few, how="64 at a time (512 do not fit)") and many.cure == ""
    many, few = (sized(asked(dpo={}), per_device_train_batch_size=size)["dpo", "reference"] for size in (2048, 512))
    assert many == replace(few, how="512 at a time (2048 do not fit)")
    assert USED * 80e9 / 2 < many.memory.peak < USED * 80e9
    monkeypatch.setitem(DEVICES, "h100", DEVICES["h100"]._replace(memory=4 * 10**9))
    assert "no switch" in sized(asked(dpo={}))["dpo", "generate"].cure


def test_processes_side_by_side_answer_in_that_part_of_the_time(sized: Sized) -> None:
    one, four = (sized(asked(dpo={}), generate_processes=many)["dpo", "generate"] for many in (1, 4))
    assert four.seconds == pytest.approx(one.seconds / 4, rel=0.02) and four.memory == one.memory


def test_one_device_and_its_host_can_do_what_four_devices_do(sized: Sized) -> None:
    full = asked(LIKE_THE_PAPER.model_copy(update={"lora": None}), sft={})
    devices, _, host = sized(full)["sft", "train"].cure.partition("; or, slower, with ")
    assert "num_processes=4" in devices and "offload_optimizer=cpu and 1" in host and "num_processes" not in host
    away = sized(full, offload_optimizer="cpu")["sft", "train"]
    assert away.cure == "" and "GB on the host" in away.how
    assert away.memory.optimizer == 0 and away.memory.host > 12 * 6.7e9


def test_an_8_bit_optimizer_is_cured_on_one_device_or_not(sized: Sized, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "find_spec", lambda package: package)
    full = LIKE_THE_PAPER.model_copy(update={"lora": None, "optim": "adamw_8bit"})
    usual = full.model_copy(update={"optim": "adamw_torch"})
    need, usual = (sized(asked(how, sft={}))["sft", "train"] for how in (full, usual))
    assert usual.memory.optimizer / need.memory.optimizer == pytest.approx(12 / 6, rel=0.01)
    assert "num_processes" not in need.cure
