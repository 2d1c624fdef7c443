"""What is fetched from a hub where somebody asked for it, at a commit that is written down, and what is put there.

The hub is the one that huggingface_hub asks (HF_ENDPOINT), with the user's own token and cache.
"""

import hashlib
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from harness.system.errors import HarnessError, UsageError

NOTE = ".cache/huggingface/revision"
"""Where a folder says which commit its files are of: beside what huggingface_hub keeps, and no part of the data."""


def download(repository: str, files: Sequence[str], home: Path, revision: str = "") -> str:
    """Fetch files, given as patterns, into a folder; "owner/name@commit". By default the commit is today's.

    What is there already and is whole is not fetched again. UsageError where the hub does not give them.
    """
    from huggingface_hub import HfApi, snapshot_download  # slow to import
    from huggingface_hub.hf_api import RepoFile

    try:
        commit = HfApi().dataset_info(repository, revision=revision or None).sha
        if not commit:
            raise OSError("it names no commit")
        tree = HfApi().list_repo_tree(repository, recursive=True, revision=commit, repo_type="dataset")
        there = [entry for entry in tree if isinstance(entry, RepoFile)]
        wanted = [entry for entry in there if any(fnmatch(entry.path, pattern) for pattern in files)]
        if not wanted:
            raise OSError(f"it has none of {', '.join(files)}")
        snapshot_download(repository, repo_type="dataset", revision=commit, allow_patterns=list(files), local_dir=home)
        for entry in wanted:  # where it cannot reach the hub any more, it returns what the folder has
            _check(home / entry.path, entry)
    except Exception as error:  # huggingface_hub's own, and those of its HTTP client, which changes with its version
        line = " ".join(str(error).split())[:300]
        raise UsageError(f"{repository} cannot be fetched ({type(error).__name__}: {line}).") from None
    note = home / NOTE
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(f"{repository}@{commit}\n", encoding="utf-8")
    return f"{repository}@{commit}"


def _check(file: Path, entry: Any) -> None:
    """OSError where a file is not the one that the hub lists: by its sha256, of a small one by git's digest."""
    if entry.lfs:
        with file.open("rb") as data:
            same = hashlib.file_digest(data, "sha256").hexdigest() == entry.lfs.sha256
    else:
        content = file.read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        same = git.hexdigest() == entry.blob_id
    if not same:
        raise OSError(f"{file} is not the hub's; delete it and fetch it again")


def revision_of(home: Path | None) -> str:
    """What `download` fetched into a folder, "owner/name@commit"; empty where it fetched nothing."""
    note = home / NOTE if home else None
    return note.read_bytes()[:200].decode("utf-8", "replace").strip() if note and note.is_file() else ""


def check_name(name: str) -> None:
    """UsageError for what is no OWNER/NAME."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UsageError(f"--push {name}: give OWNER/NAME, the repository on the hub.")


def pushed(folder: Path, name: str, kind: Literal["model", "dataset"]) -> str:
    """Upload a folder to a private repository of the hub; its address. HarnessError with what the hub said."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        hub = HfApi()
        address = hub.create_repo(name, private=True, exist_ok=True, repo_type=kind)
        hub.upload_folder(folder_path=folder, repo_id=name, repo_type=kind)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise HarnessError(
            f"{folder} is written, and could not be uploaded to {name}: {why}. See to the network and the login "
            "(`hf auth login`), then upload the folder with `hf upload`."
        ) from error
    return str(address)
