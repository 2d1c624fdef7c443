"""What cannot be learnt from is dropped with its reason; too much of it stops the run before any training."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

import harness.models.load
import harness.models.roles
from harness.backends import taken
from harness.backends.transformers import Transformers
from harness.contracts.backend import Adapted
from harness.contracts.method import Lesson, Role
from harness.contracts.records import Conversation, Dropped, Pair, Prompt, Record, Response, Rollout, Turn
from harness.contracts.settings import Lora, Runtime, Training
from harness.contracts.testbed_file import read_testbed
from harness.models.load import kept, load
from harness.models.roles import assemble
from harness.store.store import Stage, Store
from harness.system.errors import HarnessError, UsageError
from harness.system.profile import quiet
from harness.training.rounds import PREFIX, NoWriter, OwnRound, readable, refuse_malformed, trainable

BASE = Path(__file__).parents[2] / "harness" / "mini" / "bases" / "0"
ADAPTERS = Lora(r=4, lora_alpha=8)
GOOD = [Pair(str(n), None, "What is it?", "a dog", "a cat") for n in range(200)]
SPELT = Conversation("spelt", None, ((Turn("What is it?", "An <image> of a dog."),),))


def built(records: list[Record | Dropped]) -> list[Record | Dropped]:
    loaded = kept(BASE)
    return [trainable(record, loaded) for record in records]


def test_a_good_record_stays() -> None:
    assert built([GOOD[0]]) == [GOOD[0]]


def test_a_pair_with_equal_sides_is_dropped_whatever_method_made_it() -> None:
    assert built([Pair("x", None, "What is it?", "a dog", "a dog")]) == [
        Dropped("x", "chosen and rejected are the same")
    ]


def test_an_answer_that_spells_the_image_token_is_dropped() -> None:
    [dropped] = built([SPELT])
    assert isinstance(dropped, Dropped) and dropped.id == "spelt" and "<image>" in dropped.reason


def test_a_sampled_picture_s_token_or_too_many_cost_one_record_and_not_the_round() -> None:
    loaded = kept(BASE)
    shown = Rollout("shown", None, "What is it?", (5, loaded.model.config.image_token_id), {})
    assert readable(shown, loaded, Role.POLICY) == Dropped("shown", "the response is empty or holds an image token")
    long = Rollout("long", None, "What is it?", (5,) * 9, {})
    assert readable(long, loaded, Role.CRITIC, 9) == Dropped("long", "too long for the critic to read")
    assert not isinstance(readable(long, loaded, Role.CRITIC), Dropped)


def test_more_than_one_percent_malformed_stops_the_run() -> None:
    two, three = [*GOOD[:198], SPELT, SPELT], [*GOOD[:197], SPELT, SPELT, SPELT]
    refuse_malformed(two, built(two))
    with pytest.raises(HarnessError, match="3 of 200 records are malformed, the first spelt"):
        refuse_malformed(three, built(three))


def test_what_a_method_drops_itself_only_counts() -> None:
    mostly: list[Record | Dropped] = [*GOOD[:100], *(Dropped(str(n), "own filter") for n in range(100))]
    refuse_malformed(mostly, built(mostly))


def learned(folder: Path, role: Role) -> None:
    """What a training of a role leaves behind, at random."""
    torch.manual_seed(len(role))
    roles = assemble(load(BASE).model, ADAPTERS, 0, Lesson((role,)), {})
    for name, weight in roles.named_parameters():
        if "lora_" in name or "heads." in name:
            weight.data.normal_(std=0.1)
    roles.save(role, folder / "adapters" / role)


@pytest.fixture
def round(tmp_path: Path) -> OwnRound:
    """One of PPO's, whose reward model and critic have been trained."""
    stages = {role: Stage("train", {"role": str(role)}) for role in (Role.REWARD, Role.CRITIC)}
    for role, stage in stages.items():
        learned(tmp_path / stage.name, role)
    lesson = Lesson((Role.POLICY, Role.CRITIC), ("policy", "value"), continues=True)
    store = cast(Store, SimpleNamespace(sound=lambda name: tmp_path / name))
    return OwnRound(
        1, 0, NoWriter(), store, read_testbed("mini"), Runtime(), lesson, 8, "float32", BASE, "", BASE,
        tmp_path / "shelf", quiet, trained=stages, training=Training(lora=ADAPTERS),
    )  # fmt: skip


def test_what_a_policy_says_is_computed_once_and_a_longer_split_asks_for_the_rest(tmp_path: Path) -> None:
    """Whichever method asks; another policy, as the mutant does for each round, says all of it again."""
    made = list[int]()

    def said(policy: str, count: int) -> list[Response]:
        one = OwnRound(0, 0, NoWriter(), Store(tmp_path), read_testbed("mini"), Runtime(), Lesson(), 8, "float32", BASE,
                       policy, BASE, tmp_path / "shelf", quiet)  # fmt: skip
        prompts = [Prompt(str(n), None, "What is it?") for n in range(count)]
        return one.kept("responses", prompts, {}, lambda part: made.append(len(part)) or [
            Response(prompt.id, "a dog", 2, 5) for prompt in part])  # fmt: skip

    assert said("base", PREFIX) == said("base", PREFIX) == said("base", PREFIX + 3)[:PREFIX]
    assert made == [PREFIX, 3]
    said("other", PREFIX)
    assert made == [PREFIX, 3, PREFIX]


def test_all_roles_are_measured_on_one_model(round: OwnRound, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is loaded once, and each role reads what it reads on a model of its own."""
    records = [Rollout(str(n), None, "What is it?", (5, 6 + n), {}) for n in range(3)]
    roles, loads = (Role.REWARD, Role.POLICY, Role.CRITIC, Role.REFERENCE, Role.REWARD), list[object]()
    alone = []
    for role in roles:
        harness.models.load._kept.clear()
        alone.append(round.measure(records, role))
    assert alone[0] == alone[-1] != alone[2] != alone[1] == alone[3]
    harness.models.load._kept.clear()
    monkeypatch.setattr(harness.models.load, "load", lambda *how: (loads.append(how), load(*how))[1])
    assert [round.measure(records, role) for role in roles] == alone
    assert len(loads) == 1


def test_adapters_that_stay_behind_would_be_caught(round: OwnRound, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next role finds no bare layer to put its own on."""
    monkeypatch.setattr(harness.models.roles, "bare", lambda roles: nullcontext())
    harness.models.load._kept.clear()
    round.measure([], Role.REWARD)
    with pytest.raises(UsageError, match="none of the language model's linear layers"):
        round.measure([], Role.CRITIC)
    harness.models.load._kept.clear()


def test_a_backend_that_merges_no_adapters_is_given_a_whole_folder_written_once(tmp_path: Path) -> None:
    learned(tmp_path, Role.POLICY)
    model, store = Adapted(BASE, (tmp_path / "adapters" / "policy",)), Store(tmp_path / "store")
    backend = Transformers()
    assert taken(backend, model, store) is model and not store.finished()
    stranger = type("Stranger", (Transformers,), {"merges": False})()
    assert taken(stranger, BASE, store) == BASE
    folder = taken(stranger, model, store)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert taken(stranger, model, store) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written and len(store.finished("merged")) == 1
    found, expected = (load(one).model.state_dict() for one in (folder, model))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
