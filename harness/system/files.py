"""How a file that others may read meanwhile is written: whole or not at all."""

from pathlib import Path


def put(file: Path, content: str | bytes) -> None:
    """Write a file whole; a link that lies in its place, in a run of somebody else's, is not followed."""
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    part.replace(file)
