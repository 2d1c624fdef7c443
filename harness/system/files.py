"""Files that others have to do with meanwhile: one is written whole or not at all, and what they wrote is seen."""

import os
from contextlib import suppress
from pathlib import Path


def look_anew(folder: Path) -> None:
    """Have this machine see what others have put into a folder that is there.

    NFS remembers for up to a minute which names are not; whoever changes a folder is told that others have.
    """
    with suppress(OSError):  # none is there, or nothing may be written
        os.utime(folder)


def put(file: Path, content: str | bytes) -> None:
    """Write a file whole; a link that lies in its place, in a run of somebody else's, is not followed."""
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    part.replace(file)
