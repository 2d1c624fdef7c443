"""On 1,000 simulated null comparisons of every kind of metric the tests cry wolf as often as they say, and the
intervals hold the truth as often as they say. Mutants that forget the clusters or the pairs fail by the same rule.

The metrics are the benchmarks' own. In every world method and baseline answer the same questions about the same images.
On most images both say the same (so pairing matters); on the others each is on its own, and mostly right or mostly
wrong about all questions of an image (so clusters matter). Nobody is better.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks.chair import Chair
from benchmarks.mmb import Mmb
from benchmarks.mme import Mme
from benchmarks.pope import SPLITS, Pope
from benchmarks.sqa import Sqa
from harness.contracts.benchmark import Benchmark
from reports.statistics import Array, Sums, bootstrap, interval, p_value, sign_flip

WORLDS, AT_ONCE, REPLICATES = 1000, 100, 1000
IMAGES, QUESTIONS = 120, 4
Right = Array  # (worlds, 2, images, questions): 1 where baseline (0) or method (1) is right


@dataclass(frozen=True)
class Kind:
    """A metric, and how right and wrong answers become its parts: name -> (worlds, 2, images, units of an image)."""

    benchmark: Benchmark
    metric: str
    parts: Callable[[np.random.Generator, Right], dict[str, Array]]


def accuracy(_: np.random.Generator, right: Right) -> dict[str, Array]:
    return {"img/sum": right, "img/n": np.ones_like(right)}


def f1(rng: np.random.Generator, right: Right) -> dict[str, Array]:
    """One yes and one no of each kind of negatives in turn."""
    made: dict[str, Array] = {}
    for place, split in enumerate(SPLITS):
        here = (np.arange(IMAGES) % 3 == place)[None, None, :, None]
        positive = (np.arange(QUESTIONS) % 2 == 0)[None, None, None, :]
        for name, which, so in (("tp", positive, right), ("fn", positive, 1 - right)):
            made[f"{split}/{name}"] = here * which * so
        for name, which, so in (("tn", ~positive, right), ("fp", ~positive, 1 - right)):
            made[f"{split}/{name}"] = here * which * so
    lenient = {f"{name}@robust": values for name, values in made.items()}
    return made | lenient | {f"{split}/valid": np.ones_like(right) for split in SPLITS}


def paired_questions(_: np.random.Generator, right: Right) -> dict[str, Array]:
    """MME: two questions are a unit, which also counts where both are right."""
    pairs = right.reshape(*right.shape[:3], -1, 2)
    made = {"existence/n": np.full(pairs.shape[:-1], 2.0), "existence/pairs": np.full(pairs.shape[:-1], 1.0)}
    made["existence/valid"] = made["existence/n"]
    for way in ("", "@robust"):
        made |= {f"existence/right{way}": pairs.sum(-1), f"existence/both{way}": pairs.prod(-1)}
    return made


def circular(_: np.random.Generator, right: Right) -> dict[str, Array]:
    """MMBench: a question counts where it is right in all (here two) passes."""
    passes = right.reshape(*right.shape[:3], -1, 2).prod(-1)
    return {"circular/sum": passes, "circular/n": np.ones_like(passes)}


def corpus(rng: np.random.Generator, right: Right) -> dict[str, Array]:
    """CHAIR: a caption per question, each with several mentions; a wrong one makes one or two of them up."""
    mentions = rng.integers(3, 8, right.shape[2:]) * np.ones_like(right)
    made_up = (1 - right) * rng.integers(1, 3, right.shape[2:])
    return {
        "made_up": made_up,
        "mentions": mentions + made_up,
        "captions": np.ones_like(right),
        "captions_with_made_up": (made_up > 0).astype(float),
        "objects": np.ones_like(right),
        "found": right,
        "words": mentions,
        "length": mentions,
    }


KINDS = {
    "accuracy": Kind(Sqa(), "sqa/img", accuracy),
    "f1": Kind(Pope(), "pope/f1_macro3", f1),
    "paired questions": Kind(Mme(), "mme/perception", paired_questions),
    "circular": Kind(Mmb(), "mmb/circular", circular),
    "corpus": Kind(Chair(), "chair/mean_is@noun", corpus),
}


def answers(rng: np.random.Generator, worlds: int) -> Right:
    """Who is right about what."""
    shape = (worlds, 1, IMAGES, 1)
    same = rng.random(shape) < 0.6
    shared = rng.random((worlds, 1, IMAGES, QUESTIONS)) < rng.choice([0.3, 0.95], shape)
    level = rng.choice([0.3, 0.95], (worlds, 2, IMAGES, 1))
    own = rng.random((worlds, 2, IMAGES, QUESTIONS)) < level
    right: Right = np.where(same, shared, own).astype(float)
    return right


def sums(parts: dict[str, Array], tag: str) -> Sums:
    """The worlds side by side over the same images; `tag` makes their names, and so the draw, another one."""
    stacked = np.stack(list(parts.values()), axis=-1)  # (worlds, 2, images, units, names)
    by_image = stacked.sum(axis=3).transpose(2, 0, 1, 3)
    flat = by_image.reshape(len(by_image), -1, len(parts))
    return Sums([f"{tag}/{i}" for i in range(len(flat))], list(parts), flat, [len(flat)] * flat.shape[1])


Found = tuple[Array, Array, Array]  # low, high and p of every world


def honest(kind: Kind, parts: dict[str, Array], tag: str) -> Found:
    """As the report does it."""
    made = sums(parts, tag)
    worlds = made.parts.shape[1] // 2
    drawn = [values[kind.metric] for values in bootstrap(kind.benchmark, made, REPLICATES)]
    flipped = sign_flip(kind.benchmark, made, [(2 * w, 2 * w + 1) for w in range(worlds)], REPLICATES)
    found = []
    for w in range(worlds):
        delta = float(flipped[w][kind.metric][0])
        ends = interval([delta], (drawn[2 * w + 1] - drawn[2 * w])[None])
        found.append((*ends, p_value([delta], flipped[w][kind.metric][None])))
    low, high, p = np.array(found).T
    return low, high, p


def without_clusters(kind: Kind, parts: dict[str, Array], tag: str) -> Found:
    """Every unit is its own image."""
    apart = {name: values.reshape(*values.shape[:2], -1, 1) for name, values in parts.items()}
    return honest(kind, apart, tag)


def without_pairs(kind: Kind, parts: dict[str, Array], tag: str) -> Found:
    """Method and baseline on other images: resampled each for itself; p says whether the interval holds zero."""
    sides = []
    for side in (0, 1):
        made = sums({name: values[:, side : side + 1] for name, values in parts.items()}, f"{tag} {side}")
        whole = made.metrics(kind.benchmark, made.parts.sum(axis=0))[kind.metric]
        sides.append((whole, [values[kind.metric] for values in bootstrap(kind.benchmark, made, REPLICATES)]))
    (old, olds), (new, news) = sides
    found = [
        interval([float(b - a)], (after - before)[None])
        for a, b, before, after in zip(old, new, olds, news, strict=True)
    ]
    low, high = np.array(found).T
    return low, high, np.where((low > 0) | (high < 0), 0.0, 1.0)


def rates(kind: Kind, way: Callable[[Kind, dict[str, Array], str], Found]) -> tuple[int, int]:
    """In how many of the worlds the interval holds zero, and in how many p < .05."""
    rng = np.random.default_rng(0)
    covered = positive = 0
    for batch in range(WORLDS // AT_ONCE):
        low, high, p = way(kind, kind.parts(rng, answers(rng, AT_ONCE)), f"batch {batch}")
        covered += int(((low <= 0) & (high >= 0)).sum())
        positive += int((p < 0.05).sum())
    return covered, positive


def hold(covered: int, positive: int) -> bool:
    """False positives within the 99 % limits of a binomial with 5 %, coverage between 93 and 97 %."""
    few, many = binom.interval(0.99, WORLDS, 0.05)
    return few <= positive <= many and 0.93 <= covered / WORLDS <= 0.97


@pytest.mark.parametrize("name", KINDS)
def test_false_positives_and_coverage_are_what_they_say(name: str) -> None:
    found = rates(KINDS[name], honest)
    assert hold(*found), found


@pytest.mark.heavy
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("mutant", [without_clusters, without_pairs])
def test_a_mutant_that_ignores_clusters_or_pairs_is_caught(
    name: str, mutant: Callable[[Kind, dict[str, Array], str], Found]
) -> None:
    found = rates(KINDS[name], mutant)
    assert not hold(*found), found
