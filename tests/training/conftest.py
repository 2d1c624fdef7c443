"""The small LLaVA of `tests/tiny.py`, for the tests of this room."""

from tests.tiny import double, folder, job, loaded, local_rank, pictures

__all__ = ["double", "folder", "job", "loaded", "local_rank", "pictures"]
