"""Formulas against torch's own counter, and measurements against known work."""

from dataclasses import replace
from mmap import mmap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlavaConfig, LlavaForConditionalGeneration

from harness import families
from harness.contracts.family import Layout
from harness.contracts.records import Image
from harness.contracts.settings import Lora
from harness.families.llava import Llava
from harness.models.load import load
from harness.models.tree import Branch, Tree
from harness.system.energy import meter
from harness.system.profile import Usage, measure
from tests import true_shapes

LLAVA, SEEN = Llava(), Layout(4)


def counted(model: LlavaForConditionalGeneration, ids: torch.Tensor, pixels: torch.Tensor | None) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=ids, pixel_values=pixels)
    return counter.get_total_flops()


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_forward_flops(folder: Path, kv_heads: int) -> None:
    """With eager attention torch counts all L * L pairs, and the head at every position."""
    config = LlavaConfig.from_pretrained(folder)
    config.text_config.num_key_value_heads = kv_heads
    config._attn_implementation = "eager"
    model = LlavaForConditionalGeneration(config)
    flops, length = LLAVA.flops(model.config), 60
    text = length * (flops.token + flops.scored) + length**2 * flops.pair
    assert counted(model, torch.full((1, length), 7), None) == pytest.approx(text, rel=0.02)
    ids = torch.tensor([[4] * 4 + [7] * (length - 4)])
    assert counted(model, ids, torch.zeros(1, 3, 16, 16)) == pytest.approx(
        text + flops.image(SEEN) + flops.tower(SEEN), rel=0.02
    )


def test_llava_7b_is_as_known() -> None:
    """GFLOP: 12.95 per token, 0.262 per scored position, 24 per image in the projector, 382 in the tower, of whose 24
    layers 23 are read."""
    config = LlavaConfig(
        vision_config={
            "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
            "num_attention_heads": 16, "image_size": 336, "patch_size": 14,
        },
        text_config={
            "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000,
        },
    )  # fmt: skip
    flops = LLAVA.flops(config)
    assert flops.token == pytest.approx(12.95e9, rel=0.001)
    assert flops.scored == pytest.approx(0.262e9, rel=0.002)
    assert flops.pair == 4 * 4096 * 32
    assert flops.tower(SEEN) == pytest.approx(0.382e12 * 23 / 24, rel=0.002)
    assert flops.image(SEEN) == pytest.approx(0.024e12, rel=0.02)


def test_a_tree_counts_its_prefix_once_and_only_kept_pairs(folder: Path) -> None:
    """Prefix 2, branches 3 and 1: pairs 3 + (6 + 6) + (2 + 1) = 18; 6 positions; 2 scored; the states of 4 are read,
    at 1 and 5 of the second branch, at 3 and 4 of the first.
    """
    flops = load(folder).flops
    tree = Tree("t", None, (1, 2), (Branch((3, 4, 5), (False, False, True)), Branch((6,), (True,))))
    layers = 6 * flops.token - 2 * flops.last
    forward = layers + 18 * flops.pair + 2 * flops.scored
    assert flops.forward(tree) == forward
    assert flops.train(tree) == 3 * forward
    seen = replace(tree, image=Image("x", "y"), layout=SEEN)
    adapters = 3 * (2 * 100 * layers // flops.token)  # forward, and a gradient for weights and inputs, of 100 weights
    assert flops.train(seen, adapters=100) == 2 * forward + 18 * flops.pair + adapters + flops.image(SEEN)


def taught(made: Any, length: int, scored: int, device: str) -> torch.Tensor:
    """A loss of a causal language model at its last `scored` places."""
    family, plain = families.of(made), made.get_base_model() if hasattr(made, "get_base_model") else made
    ids = torch.zeros(1, length, dtype=torch.long, device=device)
    states = family.decoder(plain)(
        inputs_embeds=plain.get_input_embeddings()(ids),
        attention_mask=torch.ones(1, 1, length, length, dtype=torch.bool, device=device),
        position_ids=torch.arange(length, device=device)[None],
        use_cache=False,
    ).last_hidden_state
    logits = family.head(plain)(states[0, -scored:])
    return cross_entropy(logits.float(), torch.zeros(scored, dtype=torch.long, device=device))


def held(config: Any, lora: Lora | None, length: int, scored: int, rel: float) -> None:
    """torch counts all L * L pairs, which a tree of one branch at each place of a causal mask does not, and here the
    last layer is run everywhere.
    """
    made = true_shapes.model(config, lora)
    found = true_shapes.counted(made, lambda: taught(made, length, scored, "meta")).flops
    adapters = sum(p.numel() for p in made.parameters() if p.requires_grad) if lora else None
    flops, branch = (
        replace(LLAVA.flops(config), last=0),
        Branch((1,) * (length - 1), (False,) * (length - 1 - scored) + (True,) * scored),
    )
    tree = Tree("t", None, (1,), (branch,))
    pairs = 3 * flops.pair * (length**2 - tree.pairs)
    assert found == pytest.approx(flops.train(tree, adapters) + pairs, rel=rel)


@pytest.mark.parametrize("lora", [None, Lora(r=2), Lora(r=32), Lora(r=8, target_modules=("q_proj", "v_proj"))])
def test_training_flops_are_those_that_torch_counts(folder: Path, lora: Lora | None) -> None:
    """The first layer of twelve has no gradient to pass on: 1 % less."""
    config = LlavaConfig.from_pretrained(folder)
    config.text_config.num_hidden_layers = 12
    held(config, lora, length=60, scored=20, rel=0.02)


@pytest.mark.parametrize("rank", [0, pytest.param(128, marks=pytest.mark.heavy), 1024])
def test_training_flops_at_7b(rank: int) -> None:
    """Without its adapters the formula had 0.62 of the truth at r = 1024."""
    held(true_shapes.llava_7b(), Lora(r=rank, lora_alpha=2 * rank) if rank else None, 726, 200, rel=0.02)


def test_measure_sees_a_peak_that_is_gone() -> None:
    with measure() as before:
        pass
    with measure() as usage, mmap(-1, 64 << 20) as pages:  # 64 MiB, touched and given back
        pages[:: 1 << 12] = bytes(64 << 8)
    assert usage()["peak_host_gib"] == usage.peak_host_gib
    assert usage.peak_host_gib - before.peak_host_gib > 0.05
    assert usage.wall_s > 0
    assert usage.peak_device_gib == 0 or torch.cuda.is_available()


def test_a_response_costs_what_reading_it_everywhere_would(folder: Path) -> None:
    flops = replace(load(folder).flops, last=0)
    read = Tree("a", Image("a.png", "0"), (1,) * 30, (Branch((2,) * 9, (True,) * 9),), layout=SEEN)
    assert flops.respond(30, 9, SEEN) == flops.forward(read) + flops.scored  # the end token is scored, not read


def rapl(folder: Path, name: str, micro: int) -> None:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "energy_uj").write_text(f"{micro}\n")
    (folder / name / "max_energy_range_uj").write_text("9000000\n")


def test_energy_is_the_packages_own_counters_which_start_anew(tmp_path: Path) -> None:
    """Package 0 goes from 1 J to 3.5, package 1 from 8 over its 9 to 2; a core's counter is in its package's."""
    for name, micro in (("intel-rapl:0", 1_000_000), ("intel-rapl:1", 8_000_000), ("intel-rapl:0:0", 0)):
        rapl(tmp_path, name, micro)
    joules = meter(tmp_path)
    for name, micro in (("intel-rapl:0", 3_500_000), ("intel-rapl:1", 2_000_000), ("intel-rapl:0:0", 5_000_000)):
        rapl(tmp_path, name, micro)
    assert joules() == pytest.approx(2.5 + 3.0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU tells")
def test_energy_nobody_tells_is_none_and_in_no_profile(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl:0").mkdir()
    assert meter(tmp_path)() is None
    assert "energy_j" not in Usage(wall_s=1.0)()
