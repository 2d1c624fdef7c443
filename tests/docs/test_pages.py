"""Pages lead where they say: links, commands, settings, and sentences of the product."""

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from harness.cli import app
from harness.comparison.request import settings
from harness.contracts import plugins
from harness.contracts.settings import Testbed

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
PARTS = ["training", "judging", "writing", "reading", "generation", "runtime"]
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    """What a link may name behind a #, as GitHub and MkDocs make it of headings."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@every_page
def test_links_lead_to_what_is_there(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", FENCED.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every command in a page's blocks, without what a shell would do with them."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^    (.+)$", FENCED.sub("", text), re.MULTILINE)
    for line in [*indented, *(line for block in fenced for line in block.split("\n"))]:
        line = re.sub(r"^\s*(- )?(run: )?", "", line)
        if line.startswith("harness "):
            yield shlex.split(line, comments=True)


@every_page
def test_commands_have_the_options_that_they_are_given(page: Path) -> None:
    for _, name, *words in commands(page):
        assert name in COMMANDS or name.startswith("--"), name
        command = COMMANDS.get(name)
        inner = getattr(command, "commands", {})
        parameters = [parameter for one in (command, *inner.values()) if one for parameter in one.params]
        parameters += COMMANDS["compare"].params if name == "plan" else []
        known = {option for parameter in parameters for option in parameter.opts}
        if command:
            assert {word.partition("=")[0] for word in words if word.startswith("-")} <= {*known, "--help"}, words


@every_page
def test_settings_of_commands_are_fields_that_there_are(page: Path) -> None:
    """Of methods and benchmarks only the name is looked at; the options of ours are tried."""
    for line in commands(page):
        given = [value for word, value in pairwise(line) if word == "--set"]
        for name, fields in settings(given, [*PARTS, *map(plugins.stem, names())]).items():
            model = Testbed.model_fields[name].annotation if name in PARTS[:-1] else None
            assert not model or fields.keys() <= model.model_fields.keys(), (name, fields)


def names() -> list[str]:
    outside = [
        str(file) for folder in ("method", "benchmark") for file in (ROOT / "tests/outside" / folder).glob("*.py")
    ]
    return [*plugins.names("methods"), *plugins.names("benchmarks"), *outside]


def test_every_page_has_a_place_in_the_site() -> None:
    nav = yaml.safe_load((ROOT / ".github" / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    under = [next(iter(entry.values())) if isinstance(entry, dict) else entry for entry in nav]
    named = [page for pages in under for page in ([pages] if isinstance(pages, str) else pages)]
    assert sorted(named) == sorted(str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md"))
