"""One micro-batch of ours and one of TRL's at true sizes, of which no float is computed: FLOPs, and bytes kept.

The weights are on a CPU that is only thought of, so that operators choose what they choose on one; ids, labels and
masks are real, because either side looks at them. TRL's side is the loss function of its own trainer.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten

from harness import families
from harness.contracts.family import Layout
from harness.contracts.method import Method
from harness.contracts.records import Image
from harness.models.load import Loaded
from harness.models.logps import LogProbs
from harness.models.roles import Roles
from harness.models.tree import Batch, Branch, Tree, pack
from harness.training import dropout, recompute
from tests import true_shapes
from tests.perf.fair import flops
from tests.true_shapes import ATEN, Counted


class Work(NamedTuple):
    """What one record costs: a step with the reference's log-probs at hand, a reference pass, the tower."""

    step: Counted
    reference: int = 0
    tower: int = 0

    @property
    def cold(self) -> int:
        """FLOPs where nothing was kept."""
        return self.step.flops + self.reference + self.tower


class Known(TorchDispatchMode):
    """Integers and masks are computed, floats are not; who reads a float that is none gets a one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run what is real for real, and everything else under the mode around this one."""
        kwargs = kwargs or {}
        tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        if func is ATEN._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            return 1.0
        if func is ATEN.index.Tensor:  # a mask says how many there are
            args = (args[0], list(places(args[1])))
        whole = kwargs.get("dtype") in (torch.int64, torch.int32, torch.bool)
        if (tensors or whole) and not any(isinstance(value, FakeTensor) for value in tensors):
            with _disable_current_modes():
                return func(*args, **kwargs)
        return func(*args, **kwargs)


def places(indices: Any) -> Iterator[Tensor | None]:
    """Masks as the indices of what they let through."""
    for index in indices:
        if index is not None and index.dtype == torch.bool and not isinstance(index, FakeTensor):
            with _disable_current_modes():
                found = index.nonzero(as_tuple=True)
            yield from found
        else:
            yield index


@contextmanager
def thought() -> Iterator[FakeTensorMode]:
    """Where floats are only thought of."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, Known():
        yield mode


def model(config: Any, lora: Any, mode: FakeTensorMode) -> Any:
    """The model with thought weights."""
    with _disable_current_modes():
        made = true_shapes.model(config, lora)
        return true_shapes.faked(made, mode)


def forest(config: Any, method: str, marks: tuple[bool, ...], rows: int = 1, prompt: int = 50) -> list[Tree]:
    """Records with a picture, `prompt` tokens of words, and one or two answers of which `marks` are learnt."""
    spots = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
    prefix = (1,) + (5,) * (prompt - 2) + (config.image_token_id,) * spots + (6,)
    answers = (Branch((7,) * len(marks), marks), Branch((8,) * len(marks), marks))[: 2 if method == "dpo" else 1]
    return [Tree(f"t{n}", Image("", str(n)), prefix, answers, layout=Layout(spots)) for n in range(rows)]


def ours(config: Any, lora: Any, method: Method, trees: list[Tree]) -> Work:
    """Our roles over packed trees and the method's own loss; features come from the shelf."""
    family, vision, lesson = families.of(config), config.vision_config, method.lesson(0)
    spots = trees[0].layout.places if trees[0].layout else 0
    seen = torch.empty(spots, vision.hidden_size, dtype=torch.bfloat16)
    loaded = SimpleNamespace(family=family, pad_id=0, model=SimpleNamespace(config=config), features=lambda image: seen)
    batch: Batch = pack(trees, cast(Loaded, loaded))
    with thought() as mode:
        roles = Roles(model(config, lora, mode), {}, shared_trunk=False)
        dropout.placed(roles.train())
        recompute.again(roles, 0)
        batch = replace(batch, features=mode.from_tensor(batch.features))
        known = torch.zeros(len(batch.labels), dtype=torch.float32)
        reference = mode.from_tensor(known) if lesson.reference else None

        def loss() -> Tensor:
            columns = roles(batch, lesson.columns)
            logps = LogProbs(columns["policy"], reference, batch.branch, batch.branch_tree, columns)
            return method.loss(logps).values.sum()

        step = true_shapes.counted(roles, loss)
        asked = 0
        if lesson.reference:
            asked = forward(lambda: roles.without_adapters(batch) if lora else roles.policy.hidden(batch))
            asked += head(config, trees)
        plain, pixels = roles.policy.plain, torch.empty(1, 3, vision.image_size, vision.image_size)
        tower = forward(lambda: family.squares(plain, mode.from_tensor(pixels)))
    return Work(step, asked, tower * len(trees))


def forward(run: Callable[[], object]) -> int:
    """FLOPs of a forward pass."""
    with torch.no_grad():
        return flops(run)


def head(config: Any, trees: list[Tree]) -> int:
    """FLOPs of the head at all places that are scored."""
    text = config.text_config
    return 2 * text.hidden_size * text.vocab_size * sum(tree.supervised for tree in trees)


def theirs(
    config: Any, lora: Any, trainer: Any, trees: list[Tree], on: str = "cuda", cached: bool = False, read: bool = False
) -> Counted:
    """The loss of TRL's `trainer` over the same rows, each with its picture; `cached`: it has the reference's sums;
    `read`: without a gradient.
    """
    import trl.trainer.utils as utils

    dpo = len(trees[0].branches) == 2
    rows = [(tree.prefix + tree.branches[side].ids, (False,) * len(tree.prefix) + tree.branches[side].supervised)
            for side in range(2 if dpo else 1) for tree in trees]  # fmt: skip
    ids, marks = torch.tensor([ids for ids, _ in rows]), torch.tensor([marks for _, marks in rows])
    side = config.vision_config.image_size
    with pytest.MonkeyPatch.context() as patch, thought() as mode:
        made = model(config, lora, mode)
        patch.setattr(utils, "_use_triton", lambda device: on == "cuda")
        outputs = ("log_probs", "entropy", *(("mean_logits",) if dpo else ()), "is_top1")  # as its trainers do
        utils.add_fused_lm_head(made.get_base_model() if lora else made, outputs=outputs)
        patch.setattr(trainer, "model", made.train())
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids),
                 "pixel_values": mode.from_tensor(torch.empty(len(ids), 3, side, side)).to(torch.bfloat16)}  # fmt: skip
        if dpo:
            given["completion_mask"] = marks.long()
            patch.setattr(trainer, "ref_model", None)
            patch.setattr(trainer, "precompute_ref_logps", cached)
            if cached:
                known = mode.from_tensor(torch.zeros(len(trees)))
                given |= {"ref_chosen_logps": known, "ref_rejected_logps": known}
            elif not lora:
                other = model(config, None, mode)
                utils.add_fused_lm_head(other)
                patch.setattr(trainer, "ref_model", other)
        else:
            given["labels"] = ids.masked_fill(~marks, -100)
        if read:
            return Counted(forward(lambda: trainer.compute_loss(made, given)), 0)
        return true_shapes.counted(made, lambda: trainer.compute_loss(made, given))
