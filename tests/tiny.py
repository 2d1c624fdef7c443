"""A tiny LLaVA with random weights and its own byte-level tokenizer, written once as a Hugging Face folder."""

import hashlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from harness.contracts.records import Image
from harness.contracts.settings import Runtime, Training
from harness.families.llava import Squares
from harness.models.load import Loaded, load, save
from harness.system.jsonl import write_jsonl
from harness.training.job import Job
from tests.trainings import conversations, pairs
from tests.words import tokenizer

torch.set_num_threads(1)


def tiny(hidden: int, layers: int, words: int, vision: CLIPVisionConfig | None = None) -> LlavaForConditionalGeneration:
    torch.manual_seed(0)
    return LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision or CLIPVisionConfig(
                hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=2, num_attention_heads=4,
                image_size=16, patch_size=8, projection_dim=hidden,
            ),
            text_config=LlamaConfig(
                vocab_size=words, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
                num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=1024,
                bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.2,
            ),
            image_token_id=4, vision_feature_layer=-1, vision_feature_select_strategy="default", image_seq_length=4,
        )
    )  # fmt: skip


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model: hidden 32, two layers, four image tokens."""
    path = tmp_path_factory.mktemp("model") / "tiny"
    words = tokenizer("<image>")
    eyes = Squares(CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}), places=4)
    save(tiny(32, 2, len(words)), words, eyes, path)
    return path


@pytest.fixture
def loaded(folder: Path) -> Loaded:
    return load(folder)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Image]:
    """Six small pictures, not all square."""
    root, made = tmp_path_factory.mktemp("images"), []
    for number in range(6):
        shape = (16, 16 + 4 * (number % 3), 3)
        path = root / f"{number}.png"
        PIL.Image.fromarray(np.random.default_rng(number).integers(0, 255, shape, dtype=np.uint8)).save(path)
        made.append(Image(str(path), hashlib.sha256(path.read_bytes()).hexdigest()))
    return made


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Llama in float64 throughout: transformers computes RMSNorm and the rotary embedding in float32 otherwise."""
    from transformers.models.llama import modeling_llama as llama

    def norm(self, x):  # type: ignore[no-untyped-def]
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    def rotary(self, x, position_ids):  # type: ignore[no-untyped-def]
        angles = torch.einsum("bl,d->bld", position_ids.double(), self.inv_freq.double())
        both = torch.cat((angles, angles), -1)
        return both.cos().to(x.dtype), both.sin().to(x.dtype)

    monkeypatch.setattr(llama.LlamaRMSNorm, "forward", norm)
    monkeypatch.setattr(llama.LlamaRotaryEmbedding, "forward", rotary)


@pytest.fixture(autouse=True)
def local_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that use parts of the engine; `train` sets it for itself."""
    monkeypatch.setenv("LOCAL_RANK", "0")


@pytest.fixture
def job(tmp_path: Path, folder: Path, pictures: list[Image]):  # type: ignore[no-untyped-def]
    """Makes a job in a folder of its own; fields of Training and Runtime by name."""

    def make(name: str = "a", method: str = "sft", **fields: object) -> Job:
        home = tmp_path / name
        (home / "out").mkdir(parents=True, exist_ok=True)
        records = pairs(pictures) if method == "dpo" else conversations(pictures)
        write_jsonl(home / "records.jsonl", records)
        training = {"learning_rate": 1e-3, "train_batch_size": 4, "num_train_epochs": 2}
        runtime = {"per_device_train_batch_size": 4, "zero_stage": 0, "checkpoint_every_steps": 2}
        training |= {k: v for k, v in fields.items() if k in Training.model_fields}
        runtime |= {k: v for k, v in fields.items() if k in Runtime.model_fields}
        return Job(
            method=method, options={}, records=str(home / "records.jsonl"), model=str(folder),
            reference=fields.get("logps"), training=Training.model_validate(training),
            runtime=Runtime.model_validate(runtime), seed=3, out=str(home / "out"), work=str(home / "work"),
        )  # fmt: skip

    return make


@pytest.fixture
def compared(job, tmp_path: Path) -> Job:  # type: ignore[no-untyped-def]
    """Ten pairs on six pictures, whose reference is not there yet."""
    made: Job = job(method="dpo", logps=str(tmp_path / "logps.safetensors"))
    return made
