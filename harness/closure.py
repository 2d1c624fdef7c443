"""Which source files make a kind of stage: their digest is in its key."""

from functools import cache
from pathlib import Path

from harness.store import source_digest

HERE = Path(__file__).parent
MODEL_CODE = ("model.py", "features.py", "pixels.py", "template.py", "images.py")
TREE_CODE = ("tree.py", "logps.py", "roles.py", "reference.py", "batches.py", *MODEL_CODE)
WORLD_CODE = ("mini/world.py", "mini/language.py", "mini/questions.py")
SECOND = "../benchmarks/_lmms.py"
# Which source files decide what a kind of stage holds, beside the plugin's own; relative to this file.
CODE = {
    "data": (*WORLD_CODE, "mini/glyphs.py", "mini/draw.py", "mini/sources.py", "mini/benchsets.py", "mini/opensets.py"),
    "split": ("split.py", "images.py", "data/*.py"),
    "items": ("images.py", "../benchmarks/_*.py", "../benchmarks/chair_data/*", "data/*.py"),
    "build": ("sampler.py", "kvcache.py", "rounds.py", "clip.py", "codebook.py", *TREE_CODE),
    "features": ("features.py", "clip.py", "pixels.py", "images.py"),
    "reference": TREE_CODE,
    "train": ("engine.py", "zero.py", "losses.py", "method.py", *TREE_CODE),
    "generate": ("sampler.py", "kvcache.py", "tree.py", *MODEL_CODE),
    "score": ("benchmark.py", "../benchmarks/_*.py", "../benchmarks/chair_data/*"),
    "report": ("../reports/*.py", "../reports/pages/*", "benchmark.py"),
    "crosscheck": (SECOND, "../benchmarks/_coco_objects.py", "../benchmarks/chair_data/*"),
    "llm": ("asking.py", "llm.py", "panel.py"),
    "lens": ("lens.py", "codebook.py", *TREE_CODE),
    "oracle": (*WORLD_CODE, "mini/oracles.py"),
}


@cache
def code(kind: str) -> str:
    """Digest of the source files that make a kind of stage."""
    files = [file for pattern in CODE[kind] for file in sorted(HERE.glob(pattern))]
    return source_digest(*(file for file in files if kind == "crosscheck" or file.name != Path(SECOND).name))
