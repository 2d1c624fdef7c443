"""Policy, reference, reward model and critic on one backbone: an adapter and, where it scores, a scalar head for each.

A full fine-tuning has the policy alone: it is the backbone.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import linear

from harness.contracts.method import Lesson, Role
from harness.contracts.settings import Lora
from harness.models.adapters import WEIGHTS, describe, unwrapped
from harness.models.load import adapt
from harness.models.logps import OF_LOGITS, Policy
from harness.models.tree import Batch

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADED = (Role.REWARD, Role.CRITIC)
HEAD = "head.safetensors"


class Head(nn.Linear):
    """(n, width) states to (n,) scalars, in float32 whatever the weights are kept in.

    DeepSpeed keeps all weights in the training's dtype; a score of 8 bits could not tell two responses apart.
    """

    def forward(self, states: Tensor) -> Tensor:
        """(n,) float32."""
        return linear(states.float(), self.weight.float(), self.bias.float()).squeeze(-1)


class Roles(nn.Module):
    """What is resident for one lesson. `heads` (`Head`) make a role's states its scores."""

    def __init__(self, model: Any, heads: Mapping[Role, nn.Module], shared_trunk: bool) -> None:
        super().__init__()
        self.policy = Policy(model)
        self.heads = nn.ModuleDict({str(role): head for role, head in heads.items()})
        self.shared_trunk = shared_trunk

    def forward(
        self, batch: Batch, columns: Sequence[str], reference: "tuple[nn.Module, Tensor] | None" = None
    ) -> dict[str, Tensor]:
        """The `columns` of `harness.contracts.method.Lesson`: (N,) each, "reward" (branches,)."""
        found: dict[str, Tensor] = {}
        text = [column for column in columns if column in OF_LOGITS]
        if text or self.shared_trunk:
            hidden = self.seen_by(Role.POLICY, batch)
            found |= self.policy.measure(hidden, batch, text, reference) if text else {}
        if "value" in columns:
            hidden = hidden if self.shared_trunk else self.seen_by(Role.CRITIC, batch)
            found["value"] = self.heads["critic"](hidden[batch.source])
        if "reward" in columns:
            hidden = self.seen_by(Role.REWARD, batch)
            found["reward"] = self.heads["reward"](hidden[batch.last])
        return found

    def seen_by(self, role: Role, batch: Batch) -> Tensor:
        """(B*L, width) states under the role's adapter; the backbone's own where there are no adapters."""
        if len(getattr(self.policy.model, "peft_config", ())) > 1:
            self.activate(str(role))
        return self.policy.hidden(batch)

    @property
    def active(self) -> str:
        """The name of the adapter that is active; "" where there are none."""
        return str(getattr(self.policy.model, "active_adapter", ""))

    def activate(self, name: str) -> None:
        """Make this adapter the active one."""
        model: Any = self.policy.model
        if name != self.active:
            with self.learning():
                model.set_adapter(name)

    def without_adapters(self, batch: Batch) -> tuple[nn.Module, Tensor]:
        """Head and (B*L, width) states of the backbone itself: the reference while adapters learn."""
        model: Any = self.policy.model
        with torch.no_grad(), self.learning(), model.disable_adapter():
            return self.policy.head, self.policy.hidden(batch)

    @contextmanager
    def learning(self) -> "Iterator[None]":
        """Keeps what learns learning: peft freezes adapters that are not active."""
        learned = [weight for weight in self.parameters() if weight.requires_grad]
        try:
            yield
        finally:
            for weight in self.parameters():
                weight.requires_grad_(False)
            for weight in learned:
                weight.requires_grad_(True)

    def save(self, role: Role, folder: Path) -> None:
        """Write a role's adapter, in peft's layout, and its head; a critic on the policy's trunk has a head alone."""
        from peft import get_peft_model_state_dict

        folder.mkdir(parents=True)
        if not (role is Role.CRITIC and self.shared_trunk):
            model: Any = self.policy.model
            config, state = model.peft_config[str(role)], get_peft_model_state_dict(model, adapter_name=str(role))
            describe(config.r, config.lora_alpha, config.target_modules, folder)
            save_file({name: weight.contiguous() for name, weight in state.items()}, folder / WEIGHTS)
        if role in HEADED:
            save_file(dict(self.heads[str(role)].state_dict()), folder / HEAD)


def assemble(
    model: Any,
    lora: Lora | None,
    seed: int,
    lesson: Lesson,
    folders: Mapping[Role, Path],
    active: Collection[Role] = (),
) -> Roles:
    """The roles a lesson trains and those in `active`, each as its folder has it or new; only the trained ones learn.

    A new adapter changes nothing (peft: random A, zero B), a new critic is the reward model with a head of zeros
    (LLaVA-RLHF), a new reward head is drawn by `seed`.
    """
    if lora is None:
        return Roles(model, {}, shared_trunk=False)
    wanted = [role for role in Role if role in {*lesson.trains, *active}]
    adapted = [role for role in wanted if not (role is Role.CRITIC and lesson.shared_trunk)]
    wrapped = adapt(model, lora, seed, [str(role) for role in adapted or [Role.POLICY]])
    heads = {role: _head(role, model.config.get_text_config().hidden_size) for role in wanted if role in HEADED}
    roles = Roles(wrapped, heads, lesson.shared_trunk).to(model.device)
    for role in wanted:
        _fill(roles, role, folders, role in adapted)
    for name, weight in roles.named_parameters():
        own = (f".lora_A.{role}." in name or f".lora_B.{role}." in name or name.startswith(f"heads.{role}.")
               for role in lesson.trains)  # fmt: skip
        weight.requires_grad_(any(own))
    return roles


@contextmanager
def bare(roles: Roles) -> "Iterator[None]":
    """The backbone is as it was before `assemble` when this ends, for whoever it is kept."""
    try:
        yield
    finally:
        wrapped: Any = roles.policy.model
        if hasattr(wrapped, "unload"):
            unwrapped(wrapped)


def _head(role: Role, width: int) -> Head:
    head = Head(width, 1)
    nn.init.zeros_(head.bias)
    if role is Role.CRITIC:
        nn.init.zeros_(head.weight)
    else:
        nn.init.normal_(head.weight, std=1 / (width + 1))  # Stiennon et al. 2020, as LLaVA-RLHF's reward head
    return head


def _fill(roles: Roles, role: Role, folders: Mapping[Role, Path], adapted: bool) -> None:
    """Put what was saved into a role, the reward model's adapter into a critic that is new."""
    from peft import set_peft_model_state_dict

    folder = folders.get(role)
    source = folder or (folders.get(Role.REWARD) if role is Role.CRITIC else None)
    if source and adapted:
        set_peft_model_state_dict(roles.policy.model, load_file(source / WEIGHTS), adapter_name=str(role))
    if folder and role in HEADED:
        roles.heads[str(role)].load_state_dict(load_file(folder / HEAD))
