"""What identifies files: digests of bytes, and of Python files what they say."""

import ast
import hashlib
from pathlib import Path

from harness.system.blame import import_fault
from harness.system.errors import UsageError

PIECE = 1 << 18  # bytes read at a time


def file_digest(path: Path | str) -> str:
    """sha256 of a file's bytes, in hex; of a small file in half the time of `hashlib.file_digest`."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 -- a string, where there are 100,000
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def source(path: Path) -> tuple[str, ast.Module | None]:
    """Digest of a source file, and its syntax tree where it is Python.

    Of Python the tree counts, not comments or layout; docstrings do, and so does the Python version that parses.
    """
    try:
        data = path.read_bytes()
        tree = ast.parse(data, str(path)) if path.suffix == ".py" else None
    except (SyntaxError, ValueError) as error:
        raise import_fault(error, path) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    return _sha256(ast.dump(tree).encode() if tree else data), tree


def source_digest(*paths: Path) -> str:
    """One digest of several files, each by `source`."""
    return _sha256("".join(source(path)[0] for path in paths).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
