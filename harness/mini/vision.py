"""The vision tower's pretraining: the stand-in for CLIP.

Each cell's feature, projected and normalized, is trained to point at the output embeddings of the words that are
true of the cell. So, as with CLIP, image features start out comparable with words.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from harness.mini.draw import pixels
from harness.mini.language import ACTIONS, NUMBERS
from harness.mini.world import (
    AUTHORS,
    CATEGORIES,
    COLOURS,
    FIRST,
    GENRES,
    GRID,
    LOCATIONS,
    POSITIONS,
    SECOND,
    SIGNS,
    SIZES,
    WEATHER,
    Cover,
    Scene,
    position_of,
)

EMPTY = "zero"  # the word for a cell with nothing in it
NAMES = (EMPTY, *CATEGORIES, *SIGNS, *FIRST, *SECOND, *AUTHORS, *GENRES)
# Per cell, except the last two, which are of the whole image; each with its weight in the loss.
GROUPS: dict[str, tuple[tuple[str, ...], float]] = {
    "name": (NAMES, 1.0),
    "colour": (tuple(COLOURS), 0.5),
    "size": (SIZES, 0.3),
    "count": (tuple(NUMBERS[1:4]), 0.3),
    "action": (ACTIONS, 0.3),
    "position": (POSITIONS, 0.2),
    "location": (LOCATIONS, 0.2),
    "weather": (WEATHER, 0.2),
}
CELLS = GRID * GRID
NONE = -100  # no label
TEXT_WEIGHT, EMPTY_WEIGHT = 2.0, 0.3  # of a written word, and of an empty cell, where a thing weighs 1


def normalized(images: NDArray[np.uint8]) -> torch.Tensor:
    """Images as the image processor gives them: mean .5, standard deviation .25."""
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25


def render(drawn: list[Scene | Cover]) -> NDArray[np.uint8]:
    """The pictures, stacked."""
    return np.stack([pixels(one) for one in drawn])


def _labels(drawn: Scene | Cover) -> dict[str, list[int]]:
    """For each group, the number of the true word in each cell."""
    rows = {group: [NONE] * CELLS for group in GROUPS}
    if isinstance(drawn, Cover):
        for row, word in enumerate((*drawn.title.split(), drawn.author, drawn.genre)):
            rows["name"][row * GRID : (row + 1) * GRID] = [NAMES.index(word)] * GRID
        return rows
    rows["name"] = [0] * CELLS
    rows["position"] = [POSITIONS.index(position_of(cell)) for cell in range(CELLS)]
    for thing in drawn.things:
        facts = {"name": thing.category, "colour": thing.colour, "size": thing.size}
        facts |= {"count": NUMBERS[thing.count]} | ({"action": thing.action} if thing.action else {})
        for group, word in facts.items():
            for cell in thing.cells:
                rows[group][cell] = GROUPS[group][0].index(word)
    if drawn.sign:
        rows["name"][drawn.sign_cell : drawn.sign_cell + 2] = [NAMES.index(drawn.sign)] * 2
    rows["location"] = [LOCATIONS.index(drawn.location)]
    rows["weather"] = [WEATHER.index(drawn.weather)]
    return rows


def labels(drawn: list[Scene | Cover]) -> dict[str, torch.Tensor]:
    """The labels of many images, by group."""
    rows = [_labels(one) for one in drawn]
    width = {group: 1 if group in ("location", "weather") else CELLS for group in GROUPS}
    return {group: torch.tensor([row[group][: width[group]] for row in rows]) for group in GROUPS}


def tower_features(model: Any, images: torch.Tensor) -> torch.Tensor:
    """What the vision tower hands to the projector."""
    hidden = model.model.vision_tower(images, output_hidden_states=True).hidden_states
    features: torch.Tensor = hidden[model.config.vision_feature_layer][:, 1:]
    return features


def _loss(model: Any, ids: dict[str, torch.Tensor], images: torch.Tensor, truth: dict[str, torch.Tensor]) -> Any:
    cells = model.model.multi_modal_projector(tower_features(model, images))
    total = torch.zeros(())
    things = 1 + len(CATEGORIES)
    name_weights = torch.tensor([EMPTY_WEIGHT, *[1.0] * len(CATEGORIES), *[TEXT_WEIGHT] * (len(NAMES) - things)])
    for group, (_, weight) in GROUPS.items():
        target = truth[group]
        seen = cells if target.shape[1] > 1 else cells.mean(1, keepdim=True)
        scaled = seen * torch.rsqrt(seen.pow(2).mean(-1, keepdim=True) + 1e-6)
        scores = functional.linear(scaled, model.lm_head.weight[ids[group]])
        scale = name_weights if group == "name" else None
        found = functional.cross_entropy(scores.flatten(0, 1), target.flatten(), scale, ignore_index=NONE)
        total = total + weight * found
    return total


def align(
    model: Any,
    tokenizer: Any,
    drawn: list[Scene | Cover],
    images: torch.Tensor,
    steps: int,
    rate: Callable[[float], float],
    progress: Callable[[str], None],
) -> None:
    """Train the tower, the projector and the output embeddings in place."""
    ids = {
        group: torch.tensor([tokenizer.convert_tokens_to_ids(f"\u0120{word}") for word in words])
        for group, (words, _) in GROUPS.items()
    }
    truth = labels(drawn)
    trained = [*model.model.vision_tower.parameters(), *model.model.multi_modal_projector.parameters()]
    trained.append(model.lm_head.weight)
    optimizer = torch.optim.AdamW(trained, lr=1.0, weight_decay=0.01, fused=True)
    for step in range(steps):
        chosen = torch.randint(0, len(drawn), (64,))
        noisy = images[chosen] + 0.1 * torch.randn(64, *images.shape[1:])
        loss = _loss(model, ids, noisy, {group: rows[chosen] for group, rows in truth.items()})
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1.0, (step + 1) / 50) * rate(step / steps)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if step % 50 == 49:
            progress(f"vision step {step + 1} of {steps}, loss {loss.item():.3f}")
