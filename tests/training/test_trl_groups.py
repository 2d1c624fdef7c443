"""Ten steps of GRPO and its kin by our engine and by TRL 1.16's GRPOTrainer, on the same responses: the same losses.

Equalised, beside what `test_trl.py` says: responses and rewards are given (TRL takes ours by its `rollout_func`), and
TRL does not shuffle them, so that a step has whole groups, in our order. TRL computes advantages and old log-probs
itself. The divergence, for which TRL would load a second model, is 0 here; `test_group_losses.py` has it. dapo's
responses are of one length: TRL divides by the tokens that a step of the round has on average.
"""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.contracts.records import Image, Rollout
from harness.contracts.settings import Runtime
from harness.models.batches import steps
from harness.models.load import load
from harness.models.reference import Reference, reference_logps
from harness.models.tree import tree
from harness.system.jsonl import read_jsonl, write_jsonl
from harness.training import losses
from harness.training.engine import train
from harness.training.job import Job
from tests.trainings import lines
from tests.trl_side import farthest

STEPS, GROUPS, SIZE, SEED = 10, 2, 4, 3  # groups of a step, responses of a group
OPTIONS: dict[str, dict[str, Any]] = {
    "grpo": {}, "dapo": {"objective": "dapo"}, "gspo": {"objective": "gspo"},
}  # fmt: skip
CONFIG: dict[str, dict[str, Any]] = {
    "grpo": {"loss_type": "grpo", "epsilon": 0.2},
    "dapo": {"loss_type": "dapo", "epsilon": 0.2, "epsilon_high": 0.28},
    "gspo": {
        "loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4,
    },
}  # fmt: skip
RATE, NORM = 2e-3, 0.5


def responses(name: str) -> dict[str, list[tuple[tuple[int, ...], float]]]:
    """Record id -> sampled tokens and rewards; of one group all are equal."""
    rng, made = random.Random(SEED), dict[str, list[tuple[tuple[int, ...], float]]]()
    for number in range(STEPS * GROUPS):
        lengths = [4] * SIZE if name == "dapo" else [1 + (number + at) % 4 for at in range(SIZE)]
        earned = [0.5] * SIZE if number == 7 else rng.choices([0.0, 0.25, 1.0], k=SIZE)
        made[f"r{number}"] = [
            ((*(rng.randrange(5, 280) for _ in range(length)), 2), reward)
            for length, reward in zip(lengths, earned, strict=True)
        ]
    return made


def records(name: str, pictures: Sequence[Image], model: str, folder: Path) -> list[Rollout]:
    """Them as records, with old log-probs and our advantages."""
    bare = [
        Rollout(id, pictures[number % 2], "what is there", group[0][0], {}, more=tuple(ids for ids, _ in group[1:]))
        for number, (id, group) in enumerate(responses(name).items())
    ]
    reference_logps(model, bare, Runtime(), folder / "old.safetensors")
    old, loaded, made = Reference(folder / "old.safetensors"), load(model), []
    for record in bare:
        group = responses(name)[record.id]
        earned = torch.tensor([reward for _, reward in group], dtype=torch.float64)
        advantages = losses.group_advantages(earned, 1e-4).tolist()
        given = {"score": [reward for _, reward in group], "advantage": advantages}
        columns = {
            key: tuple(one for one, (ids, _) in zip(values, group, strict=True) for _ in ids)
            for key, values in given.items()
        }
        columns["old_policy"] = tuple(old([tree(record, loaded)])["policy"].tolist())
        made.append(Rollout(record.id, record.image, record.question, record.tokens, columns, more=record.more))
    return made


def trls(job: Job, name: str, processor: Any) -> SimpleNamespace:
    """TRL's course over the same groups, in the order of our plan."""
    import PIL.Image
    import trl.trainer.grpo_trainer
    from datasets import Dataset, Features, Value
    from datasets import Image as Picture
    from trl import GRPOConfig, GRPOTrainer

    loaded, known = load(job.model), {r.id: r for r in read_jsonl(Rollout, Path(job.records))}
    order = [id for ids in steps(list(known), job.seed, 1, GROUPS) for id in ids]
    rows = [
        {"prompt": [{"role": "user", "content": id}], "image": PIL.Image.open(known[id].image.path)} for id in order
    ]
    told = Features({"prompt": [{"role": Value("string"), "content": Value("string")}], "image": Picture()})
    earned: list[float] = []

    def rollout(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        place, found = Counter[str](), {"prompt_ids": [], "completion_ids": [], "logprobs": []}
        for prompt in prompts:
            id = next(part["text"] for part in prompt[-1]["content"] if part["type"] == "text")
            ids, reward = responses(name)[id][place[id]]
            place[id] += 1
            earned.append(reward)
            found["prompt_ids"].append(list(tree(known[id], loaded).prefix))
            found["completion_ids"].append(list(ids))
            found["logprobs"].append([0.0] * len(ids))  # of vLLM's, which TRL does not read without vLLM
        return found

    processor.chat_template = "{% for message in messages %}<image>{% endfor %}"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LOCAL_RANK", raising=False)  # set for DeepSpeed; TRL would think itself one of many
        patch.setattr(trl.trainer.grpo_trainer, "shuffle_sequence_dict", lambda batch: batch)
        patch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
        args = GRPOConfig(
            output_dir=str(Path(job.work) / "trl"), num_generations=SIZE, per_device_train_batch_size=GROUPS * SIZE,
            steps_per_generation=STEPS, max_steps=STEPS, gradient_accumulation_steps=1, shuffle_dataset=False, beta=0.0,
            learning_rate=RATE, lr_scheduler_type="cosine", warmup_steps=2, weight_decay=0.0, max_grad_norm=NORM,
            optim="adamw_torch", use_cpu=True, bf16=False, gradient_checkpointing=False, logging_steps=1,
            report_to="none", save_strategy="no", disable_tqdm=True, **CONFIG[name],
        )  # fmt: skip
        trainer = GRPOTrainer(
            loaded.model, reward_funcs=lambda prompts, **_: earned[-len(prompts) :], args=args,
            train_dataset=Dataset.from_list(rows, told), processing_class=processor, rollout_func=rollout,
        )  # fmt: skip
        for name_, weight in trainer.model.named_parameters():
            weight.requires_grad_(not any(part in name_ for part in ("vision_tower", "vision_model")))
        trainer.train()
    return SimpleNamespace(log=[line for line in trainer.state.log_history if "loss" in line])


@pytest.mark.heavy
@pytest.mark.parametrize("name", CONFIG)
def test_ten_steps_equal_trl(job, pictures: list[Image], name: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from transformers import LlavaProcessor

    made: Job = job(
        "a", "grpo", learning_rate=RATE, num_train_epochs=1, train_batch_size=GROUPS, warmup_ratio=0.15,
        max_grad_norm=NORM, per_device_train_batch_size=1,
    )  # fmt: skip
    made = made.model_copy(update={"options": {"variant": "as_shipped", "group": SIZE, **OPTIONS[name]}})
    square = [pictures[0], pictures[3]]
    write_jsonl(Path(made.records), records(name, square, made.model, tmp_path))
    processor: Any = LlavaProcessor.from_pretrained(made.model, image_processor=load(made.model).eyes.processor)
    theirs = trls(made, name, processor)
    train(made)
    own = SimpleNamespace(log=lines(made))
    assert len(own.log) == len(theirs.log) == STEPS
    assert farthest(own, theirs, "loss") < 1e-4  # type: ignore[arg-type]
    assert farthest(own, theirs, "grad_norm") < 1e-4  # type: ignore[arg-type]
    assert max(abs(line["loss"]) for line in own.log) > 1e-2
    if name != "gspo":
        assert max(line["clip_ratio/region_mean"] for line in own.log) > 0
