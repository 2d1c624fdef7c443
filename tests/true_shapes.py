"""Models at their true sizes that hold no memory: for counting what trainings compute and keep for a backward pass."""

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from transformers import CLIPVisionConfig, InternVLConfig, LlamaConfig, LlavaConfig, Qwen2_5_VLConfig

from harness import families
from harness.comparison import sizing
from harness.contracts.family import Layout
from harness.contracts.settings import Lora
from harness.families.llava import Llava
from harness.models.footprint import Decoder, Shape
from harness.models.load import adapt

ATEN = torch.ops.aten
ATTENTION = {  # torch's own formulas, which its counter does not apply to the CPU's kernel: dense, all of L x L
    ATEN._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *args, **named: sdpa_flop_count(q, k, v),
    ATEN._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, q, k, v, *args, **named: (
        sdpa_backward_flop_count(grad, q, k, v)
    ),
}


def llava_7b(layers: int = 32) -> LlavaConfig:
    """LLaVA-1.5-7B as its config.json has it; with fewer `layers`, each as in it."""
    tower = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336,
        patch_size=14, projection_dim=768,
    )  # fmt: skip
    return LlavaConfig(text_config=LlamaConfig(vocab_size=32064, num_hidden_layers=layers), vision_config=tower)


def planned_7b() -> sizing._Model:
    """LLaVA-1.5-7B as plans size it, where no weights lie."""
    config = llava_7b()
    shape = Shape(Decoder.of(config), 7_063_427_072, 303_507_456)
    return sizing._Model(shape, Llava().flops(config), Layout(576), 576 * 2048)


def qwen2_5_vl_7b() -> Qwen2_5_VLConfig:
    """Qwen2.5-VL-7B-Instruct as its config.json has it."""
    text = {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 128000, "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    tower = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 3584}
    return Qwen2_5_VLConfig(text_config=text, vision_config=tower, tie_word_embeddings=False)


def internvl_8b() -> InternVLConfig:
    """InternVL3.5-8B as its config.json has it: InternViT-300M and Qwen3-8B."""
    text = {
        "model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
        "max_position_embeddings": 40960, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    return InternVLConfig(text_config=text, tie_word_embeddings=False)


def model(config: Any, lora: Lora | None, dtype: torch.dtype = torch.bfloat16) -> Any:
    """A model of this config on the meta device, with adapters or learning in full, as a training has it."""
    family = families.of(config)
    with torch.device("meta"):
        made = family.model_class()._from_config(config, dtype=dtype, attn_implementation="sdpa")
        made.requires_grad_(True)
        family.tower(made).requires_grad_(False)
        return (adapt(made, lora, seed=0) if lora else made).to(dtype).train()


def faked(made: Any, mode: FakeTensorMode) -> Any:
    """The model with weights on a CPU that is only thought of, where operators choose what they choose on one."""
    for part in made.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                with mode:
                    new = torch.empty(weight.shape, dtype=weight.dtype)
                part._parameters[name] = torch.nn.Parameter(new, requires_grad=weight.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                with mode:
                    part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
    return made


class Counted(NamedTuple):
    """FLOPs of forward and backward, and bytes that are kept between the two."""

    flops: int
    saved: int


def counted(made: Any, run: Callable[[], Tensor]) -> Counted:
    """What `run`, whose value is a loss, takes; the model's own weights are not counted as kept."""
    own = {weight.untyped_storage()._cdata for weight in made.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(value: Tensor) -> Tensor:
        where = value.untyped_storage()._cdata
        if where not in own:
            kept.setdefault(where, value)
        return value

    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            loss = run()
        saved = sum(value.untyped_storage().nbytes() for value in kept.values())
        kept.clear()
        loss.backward()
    return Counted(counter.get_total_flops(), saved)


class Peak(TorchDispatchMode):
    """The most bytes that tensors made inside held at once, as an accelerator's allocator would count them."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._live: dict[int, weakref.ref[Any]] = {}

    @property
    def now(self) -> int:
        """Bytes that are held; a storage may have been emptied, or filled again, since it was made."""
        return sum(storage.nbytes() for one in tuple(self._live.values()) if (storage := one()) is not None)

    def reset(self) -> None:
        """Forget the peak so far."""
        self.most = self.now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what an operator has made."""
        made = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self.add, made)
        self.most = max(self.most, self.now)
        return made

    def add(self, value: Tensor) -> None:
        """Count a tensor's storage once, until it is gone; one on the meta device has none."""
        if value.device.type == "meta":
            return
        storage = value.untyped_storage()
        where = storage._cdata
        if where not in self._live:
            self._live[where] = weakref.ref(storage, lambda _: self._live.pop(where))
