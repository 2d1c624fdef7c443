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
CRITIC = {
    "verdicts that agree with the scene graph": "critic",
    "the same, of pairs of detailed captions": "critic detailed",
    "the same, of pairs of short captions": "critic short",
    "pairs with the same verdict in both orders": "critic stable",
    "verdicts of those that agree with the scene graph": "critic of stable",
    "verdicts for the response named first (half are right)": "critic first",
    "unparsable verdicts": "critic unparsable",
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
model) and is tuned on conversations with the tower frozen: single questions, a mix of everything, the critic's task in
turns with the mix (simple pairs first), questions with options alone, and the critic's task in turns with the mix
again. While it learns to criticize, the words in which a response stands or falls are marked as so or not so: a verdict
alone is too little to learn from.

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

As a critic (`harness/judging/preference.py`), on {pairs:.0f} pairs of its own responses to {scenes} scenes, one sampled
(temperature 0.8, top-p 0.9) and one greedy, each pair asked in both orders, the ground truth in the prompt. The better
response makes fewer false statements, or equally many and leaves out less; pairs without a better one do not count.
Chance is 50.

| measure | percent |
|---|---|
{critic}

## Limits
Closed vocabulary, one template per kind of question, a single drawing style. Sixteen image tokens. The world, the
errors and the sizes were chosen so that these numbers leave room on both sides; they are not a difficulty scale.
Detailed captions tend to name a thing twice and miss another, and may slip in number ("a cups").
"""


def card(seed: int, recipe: dict[str, float], measured: dict[str, float], scenes: int) -> str:
    """The model card; `measured` is what `harness.mini.measure`'s two functions returned on so many scenes."""
    rows = []
    for label, name in ROWS.items():
        blind = f"{measured[f'blank {name}']:.1f}" if f"blank {name}" in measured else ""
        rows.append(f"| {label} | {measured[name]:.1f} | {blind} |")
    counts = "\n".join(f"- {name.replace('_', ' ')}: {value:g}" for name, value in recipe.items())
    critic = "\n".join(f"| {label} | {measured[name]:.1f} |" for label, name in CRITIC.items())
    pairs, table = measured["critic pairs"], "\n".join(rows)
    return TEXT.format(seed=seed, recipe=counts, rows=table, critic=critic, pairs=pairs, scenes=scenes)


def write_sums(folder: Path) -> None:
    """Write `SHA256SUMS` over the folder's files."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


CLIP = """---
license: apache-2.0
tags: [synthetic]
---
# mini CLIP

**SYNTHETIC.** A CLIPModel of {weights} weights that knows only the drawn world of 64 x 64 pixel scenes. The embedded
testbed's CSR takes its image-text similarity where real testbeds take CLIP-L's. One for all bases.

## Recipe
Trained from random weights by `harness data mini --train-clip`: an image tower that was taught what each cell holds,
then contrast of images with true sentences, those of other images, and false ones about the same scene.

{recipe}

## Measured
Percent of pairs in which the true sentence is more similar to the image than the false one, after rounding to float16,
on scenes of the namespace `benchmark`; 50 is chance. "any two": the false sentence is about something else.

| what is wrong | true sentence first |
|---|---|
{rows}

## Limits
One-sentence texts of the world's own wording; similarities of different kinds of sentence are not on one scale.
"""


def clip_card(weights: int, recipe: dict[str, float], measured: dict[str, float]) -> str:
    """The CLIP's card; `measured` is what `harness.mini.similarity.measure_clip` returned."""
    rows = "\n".join(f"| {kind} | {value:.1f} |" for kind, value in measured.items())
    counts = "\n".join(f"- {name.replace('_', ' ')}: {value:g}" for name, value in recipe.items())
    return CLIP.format(weights=f"{weights / 1e6:.2f} million", recipe=counts, rows=rows)
