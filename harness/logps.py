"""Per-token log-probs at response positions: the only code that touches the language-model head.

Losses and methods never see logits. Log-probs are accumulated in float32 (float64 where the model is float64).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from harness.tree import Batch

CHUNK = 4096  # tokens whose logits exist at once: 0.5 GiB in float32 at LLaVA-1.5's 32,000 words


@dataclass(frozen=True)
class LogProbs:
    """What a method's loss is made from, for one micro-batch.

    policy: (N,) float32, natural log, graph attached. reference: the same, no graph, or None where the method has no
    reference role. branch: (N,) int64, the branch of each token. branch_tree: (branches,) int64, the tree (record) of
    each branch; the branches of a tree are neighbours, in the record's order.
    """

    policy: Tensor
    reference: Tensor | None
    branch: Tensor
    branch_tree: Tensor

    def sequence(self, values: Tensor) -> Tensor:
        """(N,) per-token values summed per branch, (branches,)."""
        return values.new_zeros(len(self.branch_tree)).index_add(0, self.branch, values)


class Policy(nn.Module):
    """A stock Hugging Face LLaVA (plain, or wrapped by peft) that answers with log-probs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        """(N,) log-probs of `batch.labels`, float32 or float64."""
        inner: Any = self.model
        llava = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
        hidden = llava.model(
            **_inputs(llava, batch),
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
        ).last_hidden_state
        wanted = hidden.flatten(0, 1)[batch.source]
        return torch.cat(
            [
                _score(llava.lm_head, states, labels, len(batch.labels) > CHUNK)
                for states, labels in zip(torch.split(wanted, CHUNK), torch.split(batch.labels, CHUNK), strict=True)
            ]
        )


def _inputs(llava: Any, batch: Batch) -> dict[str, Tensor]:
    """Words and pixels; where a batch has no image, the projector's part of the graph is kept with a weight of zero.

    Ranks exchange gradients in the order in which the backward pass yields them, so that order may not depend on data.
    """
    if batch.pixel_values is not None:
        return {"input_ids": batch.input_ids, "pixel_values": batch.pixel_values.to(llava.dtype)}
    words = llava.get_input_embeddings()(batch.input_ids)
    projector = llava.model.multi_modal_projector
    return {"inputs_embeds": words + projector(words.new_zeros(1, projector.linear_1.in_features)).sum() * 0}


def _score(head: nn.Module, states: Tensor, labels: Tensor, recompute: bool) -> Tensor:
    """(n, width) hidden states and (n,) labels to (n,) log-probs; logits live only while `recompute` needs them."""
    if recompute and torch.is_grad_enabled():
        scored: Tensor = checkpoint(_log_probs, head, states, labels, use_reentrant=False)
        return scored
    return _log_probs(head, states, labels)


def _log_probs(head: nn.Module, states: Tensor, labels: Tensor) -> Tensor:
    logits: Tensor = head(states)
    exact = logits if logits.dtype == torch.float64 else logits.float()
    return -cross_entropy(exact, labels, reduction="none")
