"""What a base of the embedded testbed must be able to do, and must not: otherwise a comparison on it says nothing.

A base that cannot see would be judged by its prior, one that makes no errors leaves nothing to correct. So each number
has a floor and a ceiling, and stands beside what the same base says when it is shown a blank image.
"""

from collections.abc import Sequence

from harness.contracts.testbed_kind import Bar
from harness.mini.language import mentions
from harness.mini.world import CATEGORIES, Scene, home

BARS = (
    Bar("POPE accuracy", "pope/accuracy_macro3", 78, 90, 15),
    Bar("POPE adversarial accuracy", "pope/adversarial/accuracy", 70, 97),
    Bar("CHAIR_i", "chair/i@listed", 8, 30, -100),
    Bar("caption length, words", "chair/words", 50, 110, -100),
    Bar("invented objects that fit the scene, over chance", "plausible", 10, 100, -100),
    Bar("sign reading", "textvqa/all", 60, 97, 15),
    Bar("open questions", "gqa/all", 60, 97, 15),
    Bar("options, ScienceQA style", "sqa/img", 47, 97, 5),
    Bar("options, MMBench style, single pass", "mmb/single_pass", 35, 97, 5),
    Bar("options, MMBench style, circular", "mmb/circular", 10, 97, 5),
    Bar("MME perception per subtask", "per_subtask", 90, 195, 5),
    Bar("MM-Vet style", "mmvet/all", 20, 95, 5),
    Bar("MMHal style", "mmhal/rating", 1, 5.5, 0.2),
    # SIMA learns from these verdicts; one that always names the same response is right half of the time.
    Bar("right verdicts on own pairs (SIMA's critic)", "critic", 58, 97, -100),
)


def plausible(scenes: Sequence[Scene], captions: Sequence[str]) -> float:
    """How much oftener an invented object is a partner of, or at home in, the scene than an absent one is by chance.

    In points of percent; 0 where objects are invented at random. NaN-free: 0 where nothing was invented.
    """
    fits: list[bool] = []
    chance: list[float] = []
    for scene, caption in zip(scenes, captions, strict=True):
        present = scene.categories()
        expected = {CATEGORIES[category].partner for category in present}
        absent = [category for category in CATEGORIES if category not in present]
        fit = {category: category in expected or home(category, scene.location) for category in absent}
        invented = [category for category in mentions(caption) if category in fit]
        fits += [fit[category] for category in invented]
        chance += [sum(fit.values()) / len(absent)] * len(invented)
    return 100 * (sum(fits) - sum(chance)) / len(fits) if fits else 0.0
