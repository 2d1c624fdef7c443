"""What a Python file says of others: the modules that it imports, and texts that may name files."""

import ast
from collections.abc import Iterator


def imports_of(tree: ast.Module, package: bool) -> tuple[str, ...]:
    """What a file imports, relative imports with their dots, sorted; `package`: the file is a package's `__init__`."""
    return tuple(sorted({*_imported(tree), *(_listed(tree) if package else ())}))


def _imported(tree: ast.AST) -> Iterator[str]:
    """What a syntax tree imports, relative imports with their dots; of `from a import b` both a and a.b."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and _for_types(node.test):
            for other in node.orelse:
                yield from _imported(ast.Module([other], []))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            dots, module = "." * node.level, node.module or ""
            yield dots + module
            yield from (f"{dots}{module}{'.' * bool(module)}{alias.name}" for alias in node.names)
        else:
            yield from _imported(node)


def _listed(tree: ast.Module) -> Iterator[str]:
    """What a package's `__all__` names, relative to it: whoever imports `*` from it imports these, its modules too."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(getattr(target, "id", "") == "__all__" for target in targets):
            named = (one.value for one in ast.walk(node) if isinstance(one, ast.Constant))
            yield from (f".{name}" for name in named if isinstance(name, str))


def _for_types(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def texts_in(tree: ast.AST) -> Iterator[str]:
    """Texts of a user's file that may name one, and `__file__` where it asks for its own place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\0" not in node.value:
            yield node.value
        elif isinstance(node, ast.Name) and node.id == "__file__":
            yield node.id
