"""Where the files of a source or a benchmark come from: for whoever does not have them yet."""

import shlex
from pathlib import Path
from typing import ClassVar, NamedTuple


class Hub(NamedTuple):
    """A dataset repository of the hub: which of its files are meant, as patterns, and how much they are together.

    `size` is empty where nobody has told it.
    """

    repository: str
    files: tuple[str, ...]
    size: str

    def command(self, home: Path) -> str:
        """What fetches them into a folder."""
        wanted = " ".join(f"--include {shlex.quote(name)}" for name in self.files)
        return f"hf download {self.repository} --repo-type dataset {wanted} --local-dir {shlex.quote(str(home))}"


class Offered:
    """What has files that its makers publish.

    `layout` says which files it reads, of what size, and where from; `offered` are those of the hub, and `fetch` is the
    command that gets, or unpacks, whatever else it needs into {home}. Both are empty where code makes the files.
    """

    layout: ClassVar[str] = ""
    offered: ClassVar[Hub | None] = None
    fetch: ClassVar[str] = ""

    @classmethod
    def command(cls, home: Path) -> str:
        """The one command that gets its files into a folder; empty where none is known."""
        rest = cls.fetch.replace("{home}", shlex.quote(str(home)))
        return " && ".join(filter(None, (cls.offered.command(home) if cls.offered else "", rest)))

    @classmethod
    def told(cls, home: Path) -> str:
        """The layout, and how to fetch it into a folder."""
        size = f" ({cls.offered.size})" if cls.offered and cls.offered.size else ""
        return f"{cls.layout} Fetch it{size}: {command}" if (command := cls.command(home)) else cls.layout
