"""MMBench dev in English, circular.

Traps: "vanilla" accuracy (here "mmb/single_pass", some ten points higher) is not MMBench's figure. LLaVA's file has
1,176 questions, today's v1.0 has 1,164 and v1.1 is another set. A letter must be a word of its own: "b" and "(B" are
none. Where the official code finds no choice it asks an LLM, and draws a random letter when that fails; here no
choice is wrong unless `matcher="judge"`, and a judge that fails leaves the question out and counted.
"""

from dataclasses import dataclass
from typing import ClassVar

from benchmarks._mmbench import Mmbench
from harness.contracts.benchmark import Metric
from harness.contracts.wordings import OPTION_LETTER


@dataclass(frozen=True)
class Mmb(Mmbench):
    """A question counts only where the options of every circular pass are answered right.

    A file without circular rows is expanded: pass k moves every option k places on. Beyond `metrics`, `compute`
    gives "mmb/category/<name>" and "mmb/l2-category/<name>".
    """

    file: str = "mmbench_dev_20230712.tsv"

    name: ClassVar[str] = "mmb"
    config: ClassVar[str] = "en"
    request: ClassVar[str] = OPTION_LETTER
    label: ClassVar[str] = "MMB"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("mmb/circular", "MMB", (0.0, 100.0), chance=2.7),
        Metric("mmb/circular@robust", "MMB (any clear choice)", (0.0, 100.0), chance=2.7),
        Metric("mmb/single_pass", "MMB single pass", (0.0, 100.0), chance=27.9),
        Metric("mmb/valid", "MMB rows with a choice", (0.0, 100.0)),
    )
    layout: ClassVar[str] = (
        "mmbench_dev_20230712.tsv (set mmb.file for another) from github.com/open-compass/MMBench. "
        "Or the parquet files of lmms-lab/MMBench (en)."
    )
    fetch: ClassVar[str] = (
        "wget -P {home} https://download.openmmlab.com/mmclassification/datasets/mmbench/mmbench_dev_20230712.tsv"
    )
    official_n: ClassVar[int] = 1176
