"""YAML from a stranger: testbeds, policies, codebooks, values on the command line. Plain data or a sentence, at once.

What comes out is what JSON can hold. Anchors are fine; a few of them that stand for millions of values are not, and
neither are tags, nor a name twice in one mapping (YAML keeps the last in silence).
"""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from harness.system.errors import UsageError
from harness.system.untrusted import DEPTH, DIGITS, MIB, text

MOST = MIB  # bytes of a file
VALUES = 20_000  # of a file, each alias counted with all it stands for
_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map", "merge")}
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class _Refused(ValueError):
    """Valid YAML that is no settings file; the message is a clause."""


class _Loader(yaml.SafeLoader):
    """Gives up at once on what is too much, and takes dates for text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's own attribute)
        first: [(tag, pattern) for tag, pattern in resolvers if tag in _PLAIN]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, given: str) -> None:
        super().__init__(given)
        self.depth = self.count = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """As yaml's own; _Refused beyond `DEPTH` levels or `VALUES` values."""
        self.depth, self.count = self.depth + 1, self.count + 1
        if self.depth > DEPTH:
            raise _Refused(f"it is nested deeper than {DEPTH} levels")
        if self.count > VALUES:
            raise _Refused(f"it holds more than {VALUES:,} values")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def yaml_file(path: Path, what: str = "") -> Any:
    """The value in a YAML file; None where it is empty. UsageError names the file, as `what`, and what is wrong."""
    return parse_yaml(text(path, what, MOST), f"{what} {path}".strip())


def parse_yaml(given: str, name: str) -> Any:
    """The value of a text; `name` says in a UsageError where it comes from."""
    try:
        loader = _Loader(given)
        node = loader.get_single_node()
        if node is None:
            return None
        _expanded(node, {})
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        problem = error.problem or error.context or "malformed"
        raise UsageError(f"{name} is not YAML ({where}{problem}); text with signs of its own needs quotes.") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{name} is not YAML ({' '.join(str(error).split())}).") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} cannot be used: {error or 'it is nested too deeply'}.") from None


def _expanded(node: yaml.Node, sizes: dict[int, int]) -> int:
    """How many values a node stands for, every alias expanded; _Refused for what settings never hold."""
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise _Refused("an anchor stands inside itself")
        return sizes[id(node)]
    sizes[id(node)] = 0  # under way
    _check(node)
    size = 1 + sum(_expanded(part, sizes) for part in _parts(node))
    if size > VALUES:
        raise _Refused(f"its anchors stand for more than {VALUES:,} values")
    sizes[id(node)] = size
    return size


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair


def _check(node: yaml.Node) -> None:
    line = node.start_mark.line + 1
    if node.tag not in _PLAIN:
        raise _Refused(f"line {line} has the tag {node.tag[:60]!r}; only plain values are read")
    if node.tag in _NUMBERS:
        if len(node.value) > DIGITS:
            raise _Refused(f"line {line} has a number of {len(node.value):,} digits")
        if node.value.strip("+-").lower() in (".nan", ".inf") or not math.isfinite(_as_float(node.value)):
            raise _Refused(f"line {line} has {node.value}, which is not a finite number")
    if isinstance(node, yaml.MappingNode):
        keys = [key for key, _ in node.value]
        for key in keys:
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                shown = f"{key.value!r}"[:60] if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                raise _Refused(f"line {line} has {shown} for a name; put names that look like values into quotes")
        twice = [name for name, count in Counter(key.value for key in keys).items() if count > 1]
        if twice:
            raise _Refused(f"it says {twice[0][:60]!r} twice in one mapping; take one of them out")


def _as_float(digits: str) -> float:
    """What decimal digits say; YAML's other notations (hexadecimal, base 60) of so few digits are finite anyway."""
    try:
        return float(digits.replace("_", ""))
    except ValueError:
        return 0.0
