"""Instruction tuning of a mini base on cached image features: batches, losses, steps."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from harness.contracts.family import Layout
from harness.contracts.records import Turn
from harness.families.llava import Llava
from harness.judging import preference
from harness.mini.draw import SIDE
from harness.mini.pairs import Judged, marks
from harness.mini.world import Cover, Scene

LLAVA = Llava()
PATCH = 16
IMAGE_TOKENS = (SIDE // PATCH) ** 2
BEFORE_IMAGE = 3  # <s>, the system text and " USER: " come before the image tokens
NONE = -100
LAYER = 2  # after so many of the three layers a word of a response must show whether it is so
Drawn = Scene | Cover
Progress = Callable[[str], None]
Stream = Iterator[list["Row"]]
Stage = tuple[tuple[Stream, ...], int]  # streams that take turns, and for how many steps


class Row(NamedTuple):
    """One conversation: its image, and per token its id and what is to be predicted (NONE where nothing is).

    `labels` are the answer's own tokens. A conversation with a critic has two more, see `judged_row`.
    """

    image: int
    ids: list[int]
    labels: list[int]
    evidence: Sequence[int] = ()
    verdicts: Sequence[int] = ()


def cosine(done: float) -> float:
    """The share of the learning rate when this share of the steps is done."""
    return 0.03 + 0.97 * (1 + math.cos(math.pi * done)) / 2


def row(tokenizer: Any, image: int, turns: list[Turn]) -> Row:
    """A conversation, supervised in its answers."""
    tokens = LLAVA.encode(tokenizer, LLAVA.segments(turns, True, tokenizer.eos_token), Layout(IMAGE_TOKENS))
    marked = zip(tokens.ids, tokens.supervised, strict=True)
    return Row(image, list(tokens.ids), [token if mark else NONE for token, mark in marked])


def judged_row(tokenizer: Any, image: int, drawn: Drawn, judged: Judged) -> Row:
    """The critic's task. Two hints come with it, since a verdict alone is one bit and too little to learn from.

    evidence: after `LAYER` layers, each word in which a response stands or falls says "Yes", or the verdict that
    it speaks for. verdicts: at each token of the second response, the verdict by the errors so far.
    """
    vocabulary = tokenizer.get_vocab()
    verdict = {number: vocabulary[f" {text}"] for number, text in preference.VERDICTS.items()}
    asked = preference.prompt(judged.question, judged.reference, judged.first, judged.second)
    plain = row(tokenizer, image, [Turn(asked, preference.VERDICTS[judged.better])])
    starts = [plain.ids.index(vocabulary[part]) for part in (preference.FIRST, preference.SECOND, preference.JUDGEMENT)]
    evidence, verdicts = [NONE] * len(plain.ids), [NONE] * len(plain.ids)
    for number, text in ((1, judged.first), (2, judged.second)):
        said = iter(marks(drawn, judged.reference, text))
        word, holds = next(said, ("", True))
        for at in range(starts[number - 1], starts[number]):
            if word and plain.ids[at] == vocabulary.get(f"\u0120{word}"):
                evidence[at] = vocabulary["\u0120Yes"] if holds else verdict[3 - number]
                word, holds = next(said, ("", True))
    lead = evidence[: starts[1]].count(verdict[2])
    for at in range(starts[1], starts[2]):
        lead -= evidence[at] == verdict[1]
        if lead:
            verdicts[at] = verdict[2 if lead > 0 else 1]
    verdicts[starts[2]] = verdict[judged.better]
    return plain._replace(evidence=evidence, verdicts=verdicts)


def batches(make: Callable[[], Row], size: int, rng: random.Random) -> Stream:
    """Endless batches of conversations of similar length."""
    while True:
        pool = sorted((make() for _ in range(size * 8)), key=lambda made: len(made.ids))
        starts = list(range(0, len(pool), size))
        rng.shuffle(starts)
        for start in starts:
            yield pool[start : start + size]


def _padded(rows: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])


def _loss(model: Any, features: torch.Tensor, batch: list[Row]) -> Any:
    """Cross-entropy of the answers and of a critic's hints. Padding is on the right: causal attention needs no mask."""
    words = model.get_input_embeddings()(_padded([made.ids for made in batch], 0))
    seen = model.model.multi_modal_projector(features[[made.image for made in batch]])
    whole = torch.cat([words[:, :BEFORE_IMAGE], seen, words[:, BEFORE_IMAGE + seen.shape[1] :]], 1)
    decoder, hints = model.model.language_model, bool(batch[0].evidence)
    output = decoder(inputs_embeds=whole, use_cache=False, output_hidden_states=hints)

    def error(hidden: torch.Tensor, labels: Sequence[Sequence[int]]) -> Any:
        """Mean cross-entropy, in nats, of what (B, L, width) states predict where there is a label."""
        target = _padded(labels, NONE)
        wanted = target != NONE
        return functional.cross_entropy(model.lm_head(hidden[wanted]), target[wanted])

    answers = error(output.last_hidden_state, [[*made.labels[1:], NONE] for made in batch])
    if not hints:
        return answers
    evidence = error(decoder.norm(output.hidden_states[LAYER]), [made.evidence for made in batch])
    return answers + evidence + error(output.last_hidden_state, [made.verdicts for made in batch])


def tune(
    model: Any,
    features: torch.Tensor,
    stages: list[Stage],
    rate: float,
    progress: Progress,
) -> None:
    """Train everything but the tower, so many steps in each stage, under one learning rate schedule."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1.0, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    plan = [streams[step % len(streams)] for streams, steps in stages for step in range(steps)]
    recent: list[float] = []
    for step, stream in enumerate(plan):
        loss = _loss(model, features, next(stream))
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 100) * cosine(step / len(plan))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        recent = [*recent[-49:], loss.item()]
        if step % 50 == 49:
            progress(f"chat step {step + 1} of {len(plan)}, loss {sum(recent) / len(recent):.3f}")
