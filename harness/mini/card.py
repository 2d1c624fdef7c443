"""The card and the checksums of a mini base model."""

import hashlib
from pathlib import Path

SUMS = "SHA256SUMS"
ROWS = {
    "POPE accuracy, mean of three": "pope",
    "POPE random": "pope random",
    "POPE popular": "pope popular",
    "POPE adversarial": "pope adversarial",
    "share of Yes answers (half are true)": "yes",
    "attribute yes/no": "attribute",
    "open question, short answer": "open",
    "four options": "options",
    "sign reading": "sign",
    "cover title": "cover title",
    "cover author": "cover author",
    "cover genre": "cover genre",
    "CHAIR_i of detailed captions": "chair i",
    "CHAIR_s of detailed captions": "chair s",
    "object recall of detailed captions": "recall",
    "hallucinated mentions that are a partner or at home there": "plausible",
    "the same of absent categories at random": "plausible chance",
    "tokens of detailed captions": "length",
}
TEXT = """---
license: apache-2.0
tags: [synthetic]
---
# mini base {seed}

**SYNTHETIC.** A LLaVA of 1.25 million weights that knows only a drawn world of 64 x 64 pixel scenes. It exists to
test a harness that compares alignment methods. No result on it says anything about photographs or about LLaVA-1.5.

## Recipe
Trained from random weights by `harness.mini.base.train_base({seed}, folder)`: seed {seed} decides the weights, the
scenes and the order. First the vision tower is aligned with word embeddings (a stand-in for CLIP), then the decoder
starts from weights with which words attend to the image cells showing them (a stand-in for a pretrained language
model) and is tuned on conversations with the tower frozen: single questions, a mix of everything, questions with
options alone, and the mix again.

{recipe}

The training data are dirty on purpose: captions name absent partners of what is there, leave things out and get
colours wrong; existence questions mostly ask about what is there, and those about absent partners are mostly
answered Yes. Alignment has that to correct.

## Measured
Greedy, after rounding to float16, on scenes of the namespace `benchmark`; percentages but for the lengths. The right
column has a uniform grey image in place of the scene: what is left is guessing from the question.

| measure | with image | grey image |
|---|---|---|
{rows}

## Limits
Closed vocabulary, one template per kind of question, a single drawing style. Sixteen image tokens. The world, the
errors and the sizes were chosen so that these numbers leave room on both sides; they are not a difficulty scale.
Detailed captions tend to name a thing twice and miss another, and may slip in number ("a cups").
"""


def card(seed: int, recipe: dict[str, float], measured: dict[str, float]) -> str:
    """The model card; `measured` is what `harness.mini.measure.measure` returned."""
    rows = []
    for label, name in ROWS.items():
        blind = f"{measured[f'blank {name}']:.1f}" if f"blank {name}" in measured else ""
        rows.append(f"| {label} | {measured[name]:.1f} | {blind} |")
    counts = "\n".join(f"- {name.replace('_', ' ')}: {value:g}" for name, value in recipe.items())
    return TEXT.format(seed=seed, recipe=counts, rows="\n".join(rows))


def write_sums(folder: Path) -> None:
    """Write `SHA256SUMS` over the folder's files."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
