"""Per-token log-probs at response positions: the only code that touches the language-model head.

Losses and methods never see logits. Log-probs are accumulated in float32 (float64 where the model is float64).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from harness import families
from harness.models.narrow import Narrow
from harness.models.tree import Batch

CHUNK = 4096  # tokens whose logits exist at once: 0.5 GiB in float32 at LLaVA-1.5's 32,000 words
OF_LOGITS = ("policy", "logit", "competitor", "kl_forward", "kl_reverse")


@dataclass(frozen=True)
class LogProbs:
    """What a method's loss is made from, for one micro-batch.

    policy: (N,) float32, natural log, graph attached; empty where the lesson does not ask for it. reference: the same,
    no graph, or None where the method has no reference role. branch: (N,) int64, the branch of each token.
    branch_tree: (branches,) int64, the tree (record) of each branch; the branches of a tree are neighbours, in the
    record's order. columns: what else the lesson asks for (`harness.contracts.method.Lesson`), and the rollouts' own
    figures. anchor: the mean of `Method.anchor` over the whole step, where the lesson has one. past: means over the
    steps before this one of the loss's metrics, empty at the first.
    """

    policy: Tensor
    reference: Tensor | None
    branch: Tensor
    branch_tree: Tensor
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    anchor: float = 0.0
    past: Mapping[str, float] = field(default_factory=dict)

    def sequence(self, values: Tensor) -> Tensor:
        """(N,) per-token values summed per branch, (branches,)."""
        return values.new_zeros(len(self.branch_tree)).index_add(0, self.branch, values)

    def mean(self, values: Tensor) -> Tensor:
        """The same divided by each branch's number of supervised tokens, (branches,)."""
        return self.sequence(values) / self.branch.bincount(minlength=len(self.branch_tree))

    def ratios(self, mean: bool = False) -> Tensor:
        """Log-ratios of policy to reference, summed per branch or per token, (branches,)."""
        assert self.reference is not None, "the engine gives a lesson with a reference its log-probs"
        return (self.mean if mean else self.sequence)(self.policy - self.reference)


class Policy(nn.Module):
    """A stock Hugging Face model (plain, or wrapped by peft) that answers with log-probs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.family = families.of(self.plain)
        self.narrow = Narrow((), torch.zeros(0, dtype=torch.int64))  # of the forward pass under way, or the last

    def forward(self, batch: Batch) -> Tensor:
        """(N,) log-probs of `batch.labels`, float32 or float64."""
        return self.measure(self.hidden(batch), batch, ("policy",))["policy"]

    @property
    def head(self) -> nn.Module:
        """(n, width) states to (n, words) logits."""
        head: nn.Module = self.family.head(self.plain)
        return head

    @property
    def plain(self) -> Any:
        """The model without peft's wrapping; adapters stay in place."""
        inner: Any = self.model
        return inner.get_base_model() if hasattr(inner, "get_base_model") else inner

    def hidden(self, batch: Batch) -> Tensor:
        """(B*L, width) last hidden states. Those of `batch.read` are the model's, at others something else stands; of a
        batch that names no place all are."""
        family, plain = self.family, self.plain
        given = family.inputs(plain, batch.input_ids, batch.features, batch.layouts)
        self.narrow = Narrow(family.placewise(plain) if len(batch.read) else (), batch.read)
        with self.narrow.at_work():
            states: Tensor = family.decoder(plain)(
                **given,
                attention_mask=_added(family.masks(batch), given["inputs_embeds"].dtype),
                position_ids=batch.position_ids,
                use_cache=False,
            ).last_hidden_state
        return states.flatten(0, 1)

    def measure(
        self, hidden: Tensor, batch: Batch, columns: Sequence[str], reference: "tuple[nn.Module, Tensor] | None" = None
    ) -> dict[str, Tensor]:
        """Each of `columns`, a figure of the next-token distribution at the N supervised tokens, (N,).

        policy: log-prob of the label. logit: what the head gives the label. competitor: log-prob of the likeliest token
        that is not the label. kl_forward and kl_reverse: KL(reference | policy) and KL(policy | reference), nats; they
        need the reference's head and (B*L, width) hidden states.
        """
        wanted, labels = torch.split(hidden[batch.source], CHUNK), torch.split(batch.labels, CHUNK)
        other = torch.split(reference[1][batch.source], CHUNK) if reference else [None] * len(labels)
        heads = (self.head, reference[0] if reference else None)
        parts = [
            _score(heads, states, seen, tokens, tuple(columns), len(batch.labels) > CHUNK)
            for states, seen, tokens in zip(wanted, other, labels, strict=True)
        ]
        return dict(zip(columns, torch.cat(parts, 1).unbind(0), strict=True))


def _added(masks: Any, dtype: torch.dtype) -> Any:
    """Masks as what attention adds to its scores, made once: of booleans it makes such in each layer, and keeps all."""
    if isinstance(masks, dict):
        return {kind: _added(mask, dtype) for kind, mask in masks.items()}
    if masks is None or masks.dtype != torch.bool:
        return masks
    *rows, length = masks.shape
    added = masks.new_zeros(*rows, -(-length // 8) * 8, dtype=dtype)[..., :length]  # else a GPU's kernels copy it
    return added.masked_fill_(~masks, -torch.inf)


def _score(heads: Any, states: Tensor, other: Tensor | None, labels: Tensor, columns: Any, recompute: bool) -> Tensor:
    """(n, width) states and (n,) labels to (columns, n) figures; logits live only while `recompute` needs them."""
    if recompute and torch.is_grad_enabled():
        scored: Tensor = checkpoint(_figures, heads, states, other, labels, columns, use_reentrant=False)
        return scored
    return _figures(heads, states, other, labels, columns)


def _figures(heads: Any, states: Tensor, other: Tensor | None, labels: Tensor, columns: Sequence[str]) -> Tensor:
    logits = _exact(heads[0](states))
    rows: list[Tensor] = []
    for column in columns:
        if column == "policy":
            rows.append(-cross_entropy(logits, labels, reduction="none"))
            continue
        if column == "logit":
            rows.append(logits.gather(-1, labels[:, None])[:, 0])
            continue
        logs = logits.log_softmax(-1)
        if column == "competitor":
            rows.append(logs.scatter(-1, labels[:, None], -torch.inf).amax(-1))
        else:
            assert other is not None, "the engine gives a divergence its reference"
            with torch.no_grad():
                seen = _exact(heads[1](other)).log_softmax(-1)
            one, two = (seen, logs) if column == "kl_forward" else (logs, seen)
            rows.append((one.exp() * (one - two)).sum(-1))
    return torch.stack(rows)


def _exact(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
