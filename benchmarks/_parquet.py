"""Rows in the schema of lmms-eval's datasets: parquet files in a benchmark's folder, or a dataset on the hub.

A column of pictures holds `{"bytes": ..., "path": ...}`, as `datasets` writes it. Needs the extra `lmms` (pyarrow, and
`datasets` for the hub).
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.contracts.settings import HUB
from harness.system.errors import UsageError
from harness.system.untrusted import FREE, RATIO, plain

MOST_ROWS = 5_000_000  # of a file
BATCH = 64  # rows in memory at once; a row holds its picture


class Row(dict[str, Any]):
    """A row by column; a column that is not there is an error that lists those that are."""

    def __missing__(self, name: str) -> Any:
        raise UsageError(f'the parquet data have no column "{name}", only {", ".join(self)}.')


def rows(folder: Path, hub: str, split: str, config: str = "") -> Iterator[Row] | None:
    """The rows of a split, in order; None where no hub dataset is named and the folder has no parquet file.

    A clone of a hub repository has files "<config>/<split>-00000-of-00003.parquet" or "<config>/<split>/0000.parquet":
    where some are named like that, only those count. `hub` is "owner/name@<40-hex commit>"; nothing of it is fetched
    where HF_HUB_OFFLINE is set.
    """
    if hub:
        return _from_hub(hub, split, config)
    files = sorted(folder.rglob("*.parquet"))
    inside = [file for file in files if config in file.relative_to(folder).parts[:-1]]
    if config and inside:
        files = inside
    named = [file for file in files if file.parent.name == split or re.fullmatch(rf"{split}(-.*)?", file.stem)]
    return read(named or files) if files else None


def picture(cell: Any, where: str) -> bytes:
    """The picture's file in a cell; `where` names the row for the error."""
    data = cell.get("bytes") if isinstance(cell, dict) else None
    if not isinstance(data, bytes):
        raise UsageError(f"{where} has no embedded picture; save the dataset with its images inside (embed_storage).")
    return data


def read(files: Sequence[Path]) -> Iterator[Row]:
    """The rows of parquet files, one file after the other; UsageError for one that is none."""
    try:
        from pyarrow import ArrowException, parquet  # slow to import, and official files need none of it
    except ImportError:
        raise UsageError(f"{files[0]} needs pyarrow; pip install 'vlm-alignment-harness[lmms]'.") from None
    for file in files:
        try:
            opened = parquet.ParquetFile(plain(file))
            _modest(file, opened.metadata)
            for batch in opened.iter_batches(BATCH):
                yield from map(Row, batch.to_pylist())
        except (ArrowException, OSError, ValueError) as error:
            raise UsageError(f"{file} is not a parquet file: {error}") from None


def _modest(file: Path, about: Any) -> None:
    """UsageError where a file declares far more than it holds."""
    groups = (about.row_group(number).total_byte_size for number in range(about.num_row_groups))
    if about.num_rows > MOST_ROWS or sum(groups) > max(FREE, RATIO * file.stat().st_size):
        raise UsageError(
            f"{file} declares {about.num_rows:,} rows, or far more bytes than it holds; is it the right file?"
        )


def _from_hub(hub: str, split: str, config: str) -> Iterator[Row]:
    pinned = HUB.fullmatch(hub)
    if not pinned:
        raise UsageError(f"hub={hub}: write owner/name@<40-hex commit>, so that the data cannot change unnoticed.")
    try:
        import datasets  # never with trust_remote_code, which it no longer has
    except ImportError:
        raise UsageError(f"hub={hub} needs datasets; pip install 'vlm-alignment-harness[lmms]'.") from None
    try:
        found = datasets.load_dataset(pinned["id"], config or None, split=split, revision=pinned["revision"])
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UsageError(f"{hub}: {error} Put its parquet files into the benchmark's folder instead.") from None
    for batch in found.with_format("arrow").iter(BATCH):  # arrow: pictures as bytes, not decoded
        yield from map(Row, batch.to_pylist())
