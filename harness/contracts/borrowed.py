"""Plugins that another library has, by names like "lmms:gqa": a file of ours makes them when they are asked for.

That file has `made(word)`, which gives the plugin's class for what stands behind the colon, or a UsageError,
`members(word)`, the words that a group of that library's stands for (none for any other word), and `listed()`, what
there is. The class has `pinned()`: options that say which version of the other library's thing it is.
A comparison adds them to those given, so that keys and manifests have them.
"""

import importlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from harness.system.errors import UsageError

MAKERS = {("benchmarks", "lmms"): "_lmms_task"}  # package and the word before the colon -> the file that makes them


class Listed(NamedTuple):
    """A plugin of another library's: which data it is about, what its figure is called, or why it is not to be had."""

    name: str
    version: str
    data: str
    figure: str
    refused: str = ""


def maker(package: str, name: str) -> str:
    """The module that makes a plugin of this name; empty for a name that is not borrowed."""
    word, colon, rest = name.partition(":")
    file = MAKERS.get((package, word)) if colon and rest else None
    return f"{package}.{file}" if file else ""


def module(package: str, name: str) -> ModuleType:
    """The module that makes a plugin of this name, imported."""
    return importlib.import_module(maker(package, name))


def made(package: str, name: str) -> Any:
    """The plugin's class; UsageError where the other library is not there, or has none that fits."""
    return module(package, name).made(name.partition(":")[2])


def pinned(package: str, name: str) -> dict[str, Any]:
    """The options that a comparison adds; none for a plugin that is not borrowed."""
    return dict(made(package, name).pinned()) if maker(package, name) else {}


def listed(package: str, word: str) -> Iterator[Listed]:
    """All that there are behind a word, "lmms:"."""
    found: Iterator[Listed] = module(package, f"{word}*").listed()
    return found


def insist(package: str, name: str) -> None:
    """UsageError where the plugin is a borrowed one that cannot be had here."""
    if maker(package, name):
        made(package, name)


def there(package: str, name: str) -> bool:
    """Whether the plugin can be had here."""
    with suppress(UsageError):
        return bool(maker(package, name) and made(package, name))
    return False


def absent(foreign: Iterable[str]) -> str:
    """Why benchmarks of a run are left out."""
    theirs = {name: bool(maker("benchmarks", name)) for name in sorted(foreign)}
    files = ", ".join(f"--benchmarks {name}.py" for name, borrows in theirs.items() if not borrows)
    lent = ", ".join(name for name, borrows in theirs.items() if borrows)
    told = {"for their files were not named": files, "for the library that has them is not here": lent}
    return "; ".join(f"left out, {why}: {names}" for why, names in told.items() if names)


def spread(package: str, words: str) -> Iterator[str]:
    """The words of a list with commas between; for a group, "lmms:GROUP=FOLDER", its tasks, each with the folder.

    UsageError where tasks of a group cannot be had, which names those that can.
    """
    for word in filter(None, (word.strip() for word in words.split(","))):
        name, told, folder = word.partition("=")
        tasks = _members(package, name) if maker(package, name) else []
        yield from (f"{task}{told}{folder}" for task in tasks)
        if not tasks:
            yield word


def _members(package: str, group: str) -> list[str]:
    """The names of a group's tasks; none of a name that is no group."""
    word, _, rest = group.partition(":")
    tasks, refused = [f"{word}:{one}" for one in module(package, group).members(rest)], dict[str, UsageError]()
    for task in tasks:
        try:
            made(package, task)
        except UsageError as error:
            refused[task] = error
    if refused:
        others = ",".join(task for task in tasks if task not in refused)
        first, *more = map(str, refused.values())
        told = f"{first}{f' And {len(more)} more.' if more else ''}{f' Name the others: {others}' if others else ''}"
        raise UsageError(f"{group} is a group of {len(tasks)}. {told}")
    return tasks


def placed(package: str, words: str) -> tuple[str, Path | None]:
    """The name in "lmms:gqa=FOLDER" and the folder that its files are in; other words as they are, with none."""
    name, told, folder = words.partition("=")
    if not told or not maker(package, name):
        return words, None
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise UsageError(f"{words}: there is no folder {path}.")
    return name, path
