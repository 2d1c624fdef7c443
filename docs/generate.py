"""Writes what pages take from the code: docs/settings.md, docs/glossary.md, the figures in docs/mini.md.

`make docs` runs it; a test says where a page is not what this would write.
"""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from harness.contracts import plugins  # noqa: E402
from harness.contracts.benchmark import Benchmark  # noqa: E402
from harness.contracts.method import Method  # noqa: E402
from harness.contracts.settings import (  # noqa: E402
    Chat,
    Fixed,
    Generation,
    Joint,
    Judging,
    Lora,
    Price,
    Reading,
    Runtime,
    Testbed,
    Training,
)
from reports.gate import Budget, Policy  # noqa: E402

MODELS: tuple[tuple[str, type[Fixed], str], ...] = (
    ("A testbed's YAML", Testbed, "What `--testbed FILE.yaml` reads; those that there are lie in `harness/testbeds/`."),
    ("training", Training, "`--set training.FIELD=VALUE` for all rows, `--set dpo.FIELD=VALUE` for one method."),
    ("training.lora", Lora, '`--set training.lora="{r: 16}"`, or null for full tuning.'),
    ("training.joint", Joint, '`--set training.joint=mix665k`, or `"{data: mix665k, examples: 5000}"`; null for none.'),
    ("reading", Reading, ""),
    ("generation", Generation, ""),
    (
        "writing",
        Chat,
        "How the writer is asked. `answering` has the same fields, for `--rows openai:MODEL`, where `images` is true.",
    ),
    ("judging", Judging, "All of `writing`, and:"),
    ("runtime", Runtime, "How the work is laid on the machine; `--set runtime.FIELD=VALUE` alone, in no testbed."),
    ("A gate's policy", Policy, "What `harness gate --policy FILE.yaml` reads ([ci.md](ci.md))."),
    ("budgets of a policy", Budget, ""),
)
HEAD = """# Every setting

Fields of a testbed's YAML, and what `--set PART.FIELD=VALUE` takes; values are YAML. What is required says so, every
other has the default shown. All of it is in the keys of what it changes, but for `runtime`, which changes no result.
Written by `docs/generate.py` from the code.
"""


def explained(model: type[Fixed]) -> dict[str, str]:
    """Field -> the text below it in the class."""
    body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    assert isinstance(body, ast.ClassDef)
    texts: dict[str, str] = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            texts[field.target.id] = " ".join(str(below.value.value).split())
    return texts


def kind(annotation: Any) -> str:
    """A type as a reader of YAML would say it."""
    if annotation == Price | None:
        return "[float, float] or null"
    text = (
        annotation.__name__ if isinstance(annotation, type) and not hasattr(annotation, "__args__") else str(annotation)
    )
    text = re.sub(r"\b(typing|harness[\w.]*|pathlib|collections\.abc)\.", "", text)
    text = re.sub(r"Annotated\[(.+?), (FieldInfo\(.*?\)|BeforeValidator\(.*?\)|Field\(.*?\))\]", r"\1", text)
    text = re.sub(r"Literal\[(.*?)\]", lambda found: " or ".join(found[1].split(", ")), text).replace("'", '"')
    text = re.sub(r"Union\[(.*), int, bool\]", r"\1 or int", text)
    text = re.sub(r"tuple\[([^\[\]]+), \.\.\.\]", r"list of \1", text).replace("dict[str, Any]", "mapping")
    return re.sub(r"dict\[(.+), (.+)\]", "mapping", text).replace(" | None", " or null").replace("NoneType", "null")


def bounds(field: FieldInfo) -> str:
    """What a number must be: "> 0"."""
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    found = [
        f"{signs[name]} {getattr(limit, name)}" for limit in field.metadata for name in signs if hasattr(limit, name)
    ]
    return f", {', '.join(found)}" if found else ""


def shown(value: Any) -> str:
    """A default as YAML has it."""
    if isinstance(value, Fixed):
        return "as below"
    texts = {None: "null", True: "true", False: "false", "": '""'}
    if value is None or isinstance(value, bool) or value == "":
        return texts[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(str, value))}]"
    return "{}" if value == {} else str(value)


def cell(text: str) -> str:
    """Text that a table's cell can hold."""
    return re.sub(r"docs/([\w/]+\.md)", r"[\1](\1)", text.replace("|", "\\|"))


def of_model(model: type[Fixed]) -> Iterator[str]:
    """The rows of a settings model's own fields."""
    texts, inherited = explained(model), model.__mro__[1]
    for name, field in model.model_fields.items():
        if name in getattr(inherited, "model_fields", {}):
            continue
        default = "**required**" if field.is_required() else f"`{shown(field.get_default(call_default_factory=True))}`"
        yield f"| `{name}` | {cell(kind(field.annotation) + bounds(field))} | {cell(default)} | {cell(texts[name])} |"


def options(cls: type[Any]) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """Name, default and what is said of every option of a method or benchmark."""
    option: Field[Any]
    for option in fields(cls):
        default = option.default if option.default is not MISSING else option.default_factory()  # type: ignore[misc]
        yield option.name, shown(default).replace(f"{ROOT}/", ""), option.metadata


def of_methods() -> Iterator[str]:
    """A table for each method."""
    for name in plugins.installed("methods"):
        yield f"### {name}\n\n| option | default | |\n|-|-|-|"
        for option, default, said in options(plugins.plugin("methods", name, Method)):
            yield f"| `{option}` | `{cell(default)}` | {cell(said['help'])} ({cell(said['source'])}) |"
        yield ""


def of_benchmarks() -> Iterator[str]:
    """For each benchmark its options, and the text of its class, which explains them."""
    for name in plugins.installed("benchmarks"):
        cls = plugins.plugin("benchmarks", name, Benchmark)
        if told := [f"`{option}` = `{default}`" for option, default, _ in options(cls)]:
            yield f"### {name}\n\n{', '.join(told)}\n\n{inspect.cleandoc(cls.__doc__ or '')}\n"


def settings() -> str:
    """docs/settings.md."""
    lines = [HEAD]
    for title, model, about in MODELS:
        said = about or cell(" ".join((model.__doc__ or "").split()))
        lines += [f"## {title}\n", f"{said}\n", "| field | what | default | |", "|-|-|-|-|", *of_model(model), ""]
    lines += ["## Options of methods\n", "`--set NAME.FIELD=VALUE`, or `NAME:FIELD=VALUE` for one row of several."]
    lines += ["A field of `training` there is that method's alone.\n", *of_methods()]
    lines += ["## Options of benchmarks\n", "`--set NAME.FIELD=VALUE`.\n", *of_benchmarks()]
    return "\n".join(lines).rstrip() + "\n"


def bases() -> str:
    """The table of the bases' own scores, from their cards."""
    cards = [
        (folder / "README.md").read_text(encoding="utf-8") for folder in sorted((ROOT / "harness/mini/bases").iterdir())
    ]
    rows: dict[str, list[str]] = {}
    for card in cards:
        for measure, seen, grey in re.findall(r"^\| (.+?) \| ([\d.]+) \|(?: ([\d.]*) \|)?$", card, re.MULTILINE):
            rows.setdefault(measure, []).append(f"{seen} ({grey})" if grey else seen)
    heads = "| measure | " + " | ".join(f"base {number}" for number in range(len(cards))) + " |"
    lines = [f"| {measure} | {' | '.join(values)} |" for measure, values in rows.items() if len(values) == len(cards)]
    return "\n".join([heads, "|-" * (len(cards) + 1) + "|", *lines])


def mini(page: str) -> str:
    """docs/mini.md with the table of today's cards."""
    before, mark, rest = page.partition("<!-- from the bases' cards -->\n\n")
    _, end, after = rest.partition("\n\n<!-- end -->")
    assert mark and end, "docs/mini.md has lost its marks"
    return before + mark + bases() + end + after


def pages() -> dict[Path, str]:
    """File -> what it should hold."""
    world = ROOT / "docs" / "mini.md"
    return {
        ROOT / "docs" / "settings.md": settings(),
        ROOT / "docs" / "glossary.md": (ROOT / "reports" / "glossary.md").read_text(encoding="utf-8"),
        world: mini(world.read_text(encoding="utf-8")),
    }


if __name__ == "__main__":
    for file, text in pages().items():
        file.write_text(text, encoding="utf-8")
