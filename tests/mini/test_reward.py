"""PPO on the drawn world: its reward model tells truer responses, and its policy earns more reward as it learns."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.comparison.plan import plan
from harness.comparison.progress import Silent
from harness.comparison.worker import Bodies
from harness.contracts.backend import Sampling
from harness.contracts.method import Lesson, Role
from harness.contracts.records import Conversation, Example, Prompt, Record, Rollout, Turn
from harness.contracts.schedule import execute, insist, pending
from harness.contracts.settings import Lora, MethodSpec, Runtime
from harness.contracts.source import declared
from harness.contracts.steps import Plan, Request, Step
from harness.contracts.testbed_file import read_testbed
from harness.mini.oracles import errors, read_scenes
from harness.mini.sources import write_source
from harness.mini.world import Scene
from harness.models.load import load
from harness.models.reference import figures, trees
from harness.models.roles import assemble
from harness.sources._chosen import source
from harness.store.store import Store
from harness.system.jsonl import read_jsonl
from harness.system.profile import quiet
from methods.ppo import Ppo
from tests.responding import respond

BED = read_testbed("mini")
TRAINING = BED.methods["ppo"]["lora"]
WARM = Sampling(max_new_tokens=160, temperature=1.0)


@dataclass(frozen=True)
class Trained:
    """A store in which some rounds of PPO are finished."""

    store: Store
    plan: Plan

    def steps(self, seed: int, kind: str) -> list[Step]:
        return [step for step in self.plan.trained["ppo", seed] if step.stage.kind == kind]


def trained(root: Path, examples: int, seeds: int, rounds: int, batch: int, **options: object) -> Trained:
    """The first `rounds` rounds of PPO on so many examples."""
    chosen = {name: BED.methods["ppo"][name] for name in ("reward_learning_rate", "response_length", "facts")}
    tuned = {"learning_rate": 3e-4, "lora": TRAINING, "train_batch_size": batch}
    spec = MethodSpec(name="ppo", options={**chosen, **options}, training=tuned)
    request = Request((spec,), source("llava150k"), seeds=seeds, examples=examples, benchmarks=("gqa",), limit=4)
    made = plan(request, BED)
    goals = [[s for s in made.trained["ppo", seed] if s.stage.kind == "train"][rounds - 1] for seed in range(seeds)]
    todo = pending(goals, Store(root), made.steps)
    runtime = Runtime(workers=1)
    insist(execute(todo, Bodies(str(root), BED, request, runtime), Store(root), runtime, Silent()))
    return Trained(Store(root), made)


def heldout(folder: Path, count: int) -> tuple[list[Example], dict[str, Scene]]:
    write_source("llava150k", "heldout", 0, count, folder)
    return list(declared("llava150k")(folder).load()), read_scenes(folder / "scenes.jsonl")  # type: ignore[return-value]


@pytest.mark.heavy
def test_the_reward_model_prefers_the_truer_of_two_held_out_responses(tmp_path: Path) -> None:
    """Pairs of sampled responses to scenes it has not seen; truer is what the preferences are by: fewer errors."""
    made = trained(tmp_path / "store", 600, 1, 1, 32, reward_epochs=3)
    examples, scenes = heldout(tmp_path / "heldout", 200)
    asked = [Prompt(f"{e.id}#{n}", e.image, e.turns[0].question) for e in examples for n in (1, 2)]
    said = [response.text for response in respond(BED.models[0], asked, WARM, 128, quiet)]
    loaded = load(BED.models[0])
    adapter = made.store.path(made.steps(0, "train")[0].stage) / "adapters" / "reward"
    lora = Lora.model_validate(TRAINING)
    roles = assemble(loaded.model, lora, 0, Lesson(trains=()), {Role.REWARD: adapter}, [Role.REWARD])
    records = [
        Conversation(
            prompt.id,
            prompt.image,
            ((Turn(Ppo(facts=BED.methods["ppo"]["facts"]).told(examples[number // 2]), text),),),
        )
        for number, (prompt, text) in enumerate(zip(asked, said, strict=True))
    ]
    scored = figures(roles, loaded, trees(records, loaded), 32, ["reward"], quiet)
    right = []
    for number, example in enumerate(examples):
        assert example.image
        one, two = said[2 * number : 2 * number + 2]
        counts = [len(errors(scenes[example.image.sha256], example.turns[0].answer, text)) for text in (one, two)]
        rewards = [float(scored[f"{example.id}#{n}"]["reward"][0]) for n in (1, 2)]
        if counts[0] != counts[1]:
            right.append((rewards[0] > rewards[1]) == (counts[0] < counts[1]))
    assert len(right) > 120
    assert sum(right) / len(right) >= 0.75


@pytest.mark.heavy
def test_the_mean_reward_rises(tmp_path: Path) -> None:
    """From the first rollouts to the last, in at least four of five seeds."""
    made = trained(tmp_path, 96, 5, 4, 8, steps=3, reward_epochs=2)
    rises = []
    for seed in range(5):
        rollouts = [step for step in made.steps(seed, "build") if step.stage.identity["round"] in (1, 3)]
        means = []
        for step in rollouts:
            records = list(read_jsonl(Record, made.store.path(step.stage) / "records.jsonl"))
            scores = [record.columns["score"][0] for record in records if isinstance(record, Rollout)]
            means.append(sum(scores) / len(scores))
        rises.append(means[1] - means[0])
    assert sum(rise > 0 for rise in rises) >= 4, rises


@pytest.mark.parametrize("name", ["loss", "objective/scores", "objective/kl", "policy/clipfrac"])
def test_the_log_has_trl_s_names(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of one small round, trained once for all names."""
    root = tmp_path_factory.getbasetemp() / "ppo-log"
    made = trained(root, 8, 1, 2, 8, steps=1)
    log = made.store.path(made.steps(0, "train")[1].stage) / "log.jsonl"
    assert all(name in json.loads(line) for line in log.read_text().splitlines())
