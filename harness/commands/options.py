"""Options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

Methods = Annotated[str, typer.Option(help="Comma-separated method names, or paths of files that define one.")]
Data = Annotated[
    str,
    typer.Option(
        help="A data source, several with + (ocrvqa+textcaps:2); or your own JSON, JSONL, parquet, datasets folder or "
        "Python file."
    ),
]
Images = Annotated[str, typer.Option(help="Where image paths of your own --data start; default: where the data are.")]
TestbedName = Annotated[str, typer.Option("--testbed", help="A built-in testbed or a YAML file.")]
Model = Annotated[
    str, typer.Option(help="The base model, not the testbed's: a folder, or owner/name@COMMIT; several with commas.")
]
Rows = Annotated[
    str,
    typer.Option(help="Rows that nobody trains here: a folder, owner/name@COMMIT, openai:MODEL, or NAME=any of these."),
]
Judge = Annotated[str, typer.Option(help="Who judges, not the testbed's: openai:MODEL, script:FILE, ./mine.py.")]
Writer = Annotated[str, typer.Option(help="Who writes training text, likewise.")]
Seeds = Annotated[int, typer.Option(min=1, help="Repetitions; each takes another base model (if there are) and split.")]
Benchmarks = Annotated[
    str, typer.Option(help="Comma-separated benchmark names, or files of your own; empty: the paper's nine.")
]
Examples = Annotated[int | None, typer.Option(min=1, help="Training examples; default: the testbed's.")]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Benchmark scenes (mini) or items, drawn in proportion from its groups; default: all."),
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="NAME.FIELD=VALUE, e.g. dpo.beta=0.5, dpo.learning_rate=1e-4.")
]
Out = Annotated[Path | None, typer.Option(help="Folder for the tables; default: runs/METHODS-DATA-TESTBED-SETTINGS.")]
StoreRoot = Annotated[Path, typer.Option("--store", envvar="HARNESS_STORE", help="Where finished stages are kept.")]
StoreOf = Annotated[
    Path | None, typer.Option("--store", help="The runs' store; default: the one their manifest names.")
]
Own = Annotated[
    str, typer.Option("--benchmarks", help="Files of benchmarks of yours that are among them; their code runs.")
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes side by side; default: one per CPU, at most 8.")]
Executor = Annotated[
    str,
    typer.Option(
        help="Who runs the stages: local, slurm, ray (docs/clusters.md), or a file (docs/extend/executor.md)."
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(min=0, help="USD that LLM judge and writer may cost, all runs on this store together."),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show everything that is left out by default.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]

STORE = Path("runs/store")
