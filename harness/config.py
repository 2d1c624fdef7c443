"""What a comparison holds fixed and what it may vary, as pydantic models.

A model whose name says `Runtime` never changes a result and is in no key; every other model is identity: each of
its fields is in the key of the stages that use it.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Fixed(BaseModel):
    """A frozen model that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Lora(Fixed):
    """Low-rank adapters on the language model's linear layers, head excluded (peft's names)."""

    r: int = Field(128, gt=0)
    lora_alpha: int = Field(256, gt=0)
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Training(Fixed):
    """One optimisation, with Hugging Face's argument names. The vision tower is always frozen (LLaVA-1.5).

    `train_batch_size` counts records per optimiser step over all devices; `lora=None` tunes the language model
    and the projector in full.
    """

    learning_rate: float = Field(2e-6, gt=0)
    num_train_epochs: int = Field(1, gt=0)
    train_batch_size: int = Field(128, gt=0)
    warmup_ratio: float = Field(0.03, ge=0, le=1)
    weight_decay: float = Field(0.0, ge=0)
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    max_grad_norm: float = Field(1.0, gt=0)
    dtype: Literal["float32", "bfloat16"] = "float32"
    lora: Lora | None = None


class Runtime(Fixed):
    """How the work is laid on the machine. Changes speed and memory, never a key."""

    workers: int = Field(2, gt=0)
    num_processes: int = Field(1, gt=0)
    per_device_train_batch_size: int = Field(16, gt=0)
    generate_batch_size: int = Field(128, gt=0)
    zero_stage: Literal[0, 1, 2, 3] = 2
    checkpoint_every_steps: int = Field(50, gt=0)
    reference: Literal["cached", "adapter_off"] = "cached"
