"""MMBench dev in Chinese, circular: the English questions translated, scored alike.

Traps: very sensitive to the prompt. LLaVA-1.5-7B gets 58.3 with LLaVA's Chinese request for the letter and between 22
and 44 with other wordings; lmms-eval mixes an English sentence in. The rest as for `mmb`.
"""

from dataclasses import dataclass
from typing import ClassVar

from benchmarks._mmbench import Mmbench
from harness.contracts.benchmark import Metric


@dataclass(frozen=True)
class MmbCn(Mmbench):
    """A question counts only where the options of every circular pass are answered right.

    Beyond `metrics`, `compute` gives "mmb_cn/category/<name>" and "mmb_cn/l2-category/<name>".
    """

    file: str = "mmbench_dev_cn_20231003.tsv"

    name: ClassVar[str] = "mmb_cn"
    config: ClassVar[str] = "cn"
    request: ClassVar[str] = "\n请直接回答选项字母。"
    label: ClassVar[str] = "MMB-CN"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("mmb_cn/circular", "MMB-CN", (0.0, 100.0), chance=2.7),
        Metric("mmb_cn/circular@robust", "MMB-CN (any clear choice)", (0.0, 100.0), chance=2.7),
        Metric("mmb_cn/single_pass", "MMB-CN single pass", (0.0, 100.0), chance=27.9),
        Metric("mmb_cn/valid", "MMB-CN rows with a choice", (0.0, 100.0)),
    )
    layout: ClassVar[str] = (
        "mmbench_dev_cn_20231003.tsv (set mmb_cn.file for another) from github.com/open-compass/MMBench. "
        "Or the parquet files of lmms-lab/MMBench (cn)."
    )
    fetch: ClassVar[str] = (
        "wget -P {home} https://download.openmmlab.com/mmclassification/datasets/mmbench/mmbench_dev_cn_20231003.tsv"
    )
    official_n: ClassVar[int] = 1164
