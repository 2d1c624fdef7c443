"""What the paper's Tables 1 to 7 look like, and what it printed in them.

nSFT, CVPR 2025, arXiv 2411.14797. Columns are named as in `paper_tables.json`, which holds the printed numbers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from harness.contracts import plugins
from harness.contracts.benchmark import Group
from harness.contracts.method import Baseline, Method, Role
from harness.system.errors import UsageError
from reports.grid import Head

PROTOCOL = "llava"  # the prompts and the single pass of LLaVA-1.5's own evaluation
SOURCES = {"ocrvqa": "OCRVQA", "textcaps": "TextCaps", "llava150k": "LLaVA-150k"}
BASES = {"llava-1.5-7b": "LLaVA-1.5-7B", "llava-1.5-13b": "LLaVA-1.5-13B", "llava-next-13b": "LLaVA-NeXT-13B"}
KL = {"kl", "kl_weight"}  # the options that turn a KL term on
YES, NO, NEITHER = "✓", "✗", "N/A"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the paper: the benchmark and the metric it shows; "" is the benchmark's first."""

    key: str
    heading: str
    benchmark: str
    metric: str = ""
    digits: int = 1
    lower: bool = False
    judged: bool = False
    total: Group | None = None


COLUMNS = {
    column.key: column
    for column in (
        Column("SQA", "SQA", "sqa"),
        Column("GQA", "GQA", "gqa"),
        Column("VQAT", "VQA^T", "textvqa"),
        Column("total_vqa", "total", "total", total="vqa"),
        Column("MMVet", "MMVet", "mmvet", judged=True),
        Column("MME", "MME", "mme", digits=0),
        Column("MMB", "MMB", "mmb"),
        Column("MMB_CN", "MMB^CN", "mmb_cn"),
        Column("total_mm", "total", "total", total="comprehension"),
        Column("POPE", "POPE", "pope"),
        Column("CHAIR", "CHAIR", "chair", lower=True),
        Column("MMHal", "MMHal", "mmhal", digits=2, judged=True),
        Column("total_hal", "total", "total", total="hallucination"),
        Column("SEED_I", "SEED^I", "seed"),
        Column("SHR", "SHR", "shr", lower=True, judged=True),
        Column("IF", "IF score", "indomain", "indomain/following", digits=2, judged=True),
        Column("ACC", "Accuracy", "indomain", "indomain/accuracy", digits=2, judged=True),
        Column("ACC_b10", "ACC^b10", "indomain", "indomain/accuracy_best10", digits=2, judged=True),
        Column("ACC_w10", "ACC^w10", "indomain", "indomain/accuracy_worst10", digits=2, judged=True),
    )
}


@dataclass(frozen=True, slots=True)
class Claim:
    """The paper's name for a method: its file, the options that differ from the defaults, rounds, with a KL term.

    With `rounds` or a KL term the paper does not say the other options.
    """

    label: str
    stem: str
    options: Mapping[str, Any] = field(default_factory=dict)
    rounds: int | None = None
    kl: bool | None = None

    def holds(self, stem: str, options: Mapping[str, Any]) -> bool:
        """Whether a row of ours is this one; options this version does not have are nobody's."""
        if stem != self.stem:
            return False
        made, wanted = method(stem, options), method(stem, self.options)
        if made is None or wanted is None or (self.kl is not None and with_kl(made) != self.kl):
            return False
        if self.rounds is not None:
            return made.rounds == self.rounds
        other = {f.name for f in fields(made) if getattr(made, f.name) != getattr(wanted, f.name)}
        return other <= (KL if self.kl else set())


@dataclass(frozen=True, slots=True)
class Layout:
    """One table: what its rows and columns are. `by` is what makes a block, `across` what repeats the columns.

    `examples`: how many a method was trained on.
    """

    number: int
    title: str
    stubs: tuple[str, ...]
    groups: tuple[tuple[str, tuple[str, ...]], ...]
    claims: tuple[Claim, ...]
    by: Literal["", "data", "base"] = ""
    across: bool = False
    bases: tuple[str, ...] = ("llava-1.5-7b",)
    sources: tuple[str, ...] = ("llava150k",)
    examples: int = 10_000

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns in order."""
        return tuple(COLUMNS[key] for _, keys in self.groups for key in keys)

    @property
    def heads(self) -> tuple[Head, ...]:
        """Their headings."""
        keyed = [(group, COLUMNS[key]) for group, keys in self.groups for key in keys]
        return tuple(Head(c.heading, group, c.lower, rank=c.total is None) for group, c in keyed)


_BASE, _NSFT = Claim("baseline", "baseline"), Claim("nSFT", "nsft")
_FOUR = (("Benchmark Results", ("MMB", "SQA", "MME", "POPE")),)
LAYOUTS = {
    layout.number: layout
    for layout in (
        Layout(
            1,
            "Table 1: methods by alignment data",
            ("Method",),
            (
                ("Traditional VQA", ("SQA", "GQA", "VQAT", "total_vqa")),
                ("MM Comprehension", ("MMVet", "MME", "MMB", "total_mm")),
                ("Hallucinations", ("POPE", "CHAIR", "MMHal", "total_hal")),
            ),
            (
                _BASE,
                Claim("GT-DPO", "dpo"),
                Claim("SeVa", "seva"),
                Claim("SIMA", "sima"),
                Claim("Cont. SFT", "sft"),
                _NSFT,
            ),
            by="data",
            sources=("ocrvqa", "textcaps", "llava150k"),
        ),
        Layout(
            2,
            "Table 2: state of the art",
            ("Method", "Language model"),
            (("", ("VQAT", "SQA", "GQA", "MMB", "MMB_CN", "MME", "POPE", "SEED_I", "SHR", "MMVet")),),
            (
                Claim("LLaVA-1.5", "baseline"),
                Claim("SeVa-7B", "seva"),
                Claim("SIMA-7B", "sima"),
                Claim("nSFT (ours)", "nsft"),
            ),
            sources=("a mixture of 5k OCRVQA, 5k TextCaps and 5k LLaVA-150k within LLaVA-665k",),
            examples=15_000,
        ),
        Layout(
            3,
            "Table 3: in-domain evaluation",
            ("Method",),
            (("", ("IF", "ACC", "ACC_b10", "ACC_w10")),),
            (
                Claim("LLaVA-1.5", "baseline"),
                Claim("+SeVa", "seva"),
                Claim("+GT-DPO", "dpo"),
                Claim("+nSFT(ours)", "nsft"),
            ),
            by="data",
            across=True,
            sources=("ocrvqa", "textcaps", "llava150k"),
        ),
        Layout(
            4,
            "Table 4: larger models",
            ("Method",),
            _FOUR,
            (_BASE, Claim("cont. SFT", "sft"), Claim("DPO", "seva"), Claim("nSFT (ours)", "nsft")),
            by="base",
            bases=("llava-1.5-13b", "llava-next-13b"),
        ),
        Layout(
            5,
            "Table 5: PPO and iterative DPO",
            ("Method",),
            _FOUR,
            (
                _BASE,
                Claim("RLHF (PPO)", "ppo"),
                *(Claim(f"CSR (iter {number})", "csr", rounds=number) for number in (1, 2, 3)),
                Claim("nSFT (ours)", "nsft"),
            ),
        ),
        Layout(
            6,
            "Table 6: components of nSFT",
            ("Method",),
            _FOUR,
            (
                _BASE,
                _NSFT,
                Claim("nSFT w/o VEC", "nsft", {"codebook": "none"}),
                Claim("nSFT w/o chosen", "nsft", {"keep_chosen": False}),
            ),
        ),
        Layout(
            7,
            "Table 7: a per-token KL constraint",
            ("Method", "w/ KL"),
            (("Benchmark Results", ("MMB", "VQAT", "SQA")),),
            (
                _BASE,
                Claim("cont. SFT", "sft", kl=False),
                Claim("cont. SFT", "sft", kl=True),
                Claim("nSFT(ours)", "nsft", kl=False),
                Claim("nSFT(ours)", "nsft", kl=True),
                Claim("DPO", "seva", kl=True),
            ),
            sources=("textcaps",),
            examples=5_000,
        ),
    )
}


def method(stem: str, options: Mapping[str, Any]) -> Method | None:
    """An installed method with options; None where this version has no such method or option."""
    if stem == "baseline":
        return Baseline()
    try:
        made: Method = plugins.make("methods", stem, Method, dict(options))
    except UsageError:
        return None
    return made


def with_kl(made: Method) -> bool:
    """Whether a reference model holds the policy back, by its role or by an option `kl`."""
    return Role.REFERENCE in made.roles or getattr(made, "kl", "none") != "none"


@cache
def printed() -> dict[str, Any]:
    """`paper_tables.json`: what the paper printed, with its source."""
    found: dict[str, Any] = json.loads(files("reports").joinpath("paper_tables.json").read_text(encoding="utf-8"))
    return found


def kl_sign(row: Mapping[str, Any]) -> str:
    """What Table 7 prints under "w/ KL"."""
    return NEITHER if row["with_kl"] is None else YES if row["with_kl"] else NO
