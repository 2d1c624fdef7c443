"""The folder that is shared: whole, small scripts of data, pictures once, and nothing of a stranger's alive in it."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from harness.contracts import plugins
from harness.system.console import visible_lines
from harness.system.errors import UsageError
from harness.viewing.folder import LARGE, SMALL, _copied
from harness.viewing.items import Viewed
from harness.viewing.shell import shell
from tests import scored
from tests.commands.conftest import said
from tests.fake_run import LABELS, FakeRun, drawn

HOSTILE = [
    "<script>alert(1)</script>", "</script><script>alert(1)//", "<!--<script>", '");alert(1);//', "\\",
    "\\u0022);alert(1)//", "javascript:alert(1)",
    "\u2028\u2029", "\u202eevil\u2066", "\x1b]0;x\x07\0", "'\"><img src=x onerror=alert(1)>",
    "__proto__", "${alert(1)}", "{{ 7*7 }}", "]]>", "../../../etc/passwd", "漢字", "<svg onload=alert(1)>", "\r\n",
]  # fmt: skip
SCRIPT = re.compile(r'part\("([0-9a-z-]+)", ("(?:[^"\\<>&\x00-\x1f\x7f-\uffff]|\\["\\/bfnrt]|\\u[0-9a-f]{4})*")\);\n')


def data(folder: Path) -> dict[str, Any]:
    """What the scripts of a folder hand over, by name; each is one call with one JSON text and nothing else."""
    found = {}
    for file in (folder / "data").iterdir():
        told = SCRIPT.fullmatch(file.read_text("ascii"))
        assert told and told[1] == file.stem
        found[told[1]] = json.loads(json.loads(told[2]))
    return found


def written(folder: Path, run: FakeRun, *options: object) -> Path:
    """The run's folder to share."""
    said("view", run.write(folder), "--static", folder / "shared", *options)
    return folder / "shared"


def strings(value: Any) -> list[str]:
    """Every string in nested data, names too."""
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in strings(part)]
    if isinstance(value, list):
        return [text for part in value for text in strings(part)]
    return [value] if isinstance(value, str) else []


class Page(HTMLParser):
    """The elements and attributes of a page, and what is in its script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.lasttag in ("script", "style"):
            self.inside.setdefault(self.lasttag, data)


def test_the_folder_has_every_item_and_each_picture_once(tmp_path: Path) -> None:
    shared = written(tmp_path, FakeRun(seeds=(0, 1)))
    found = data(shared)
    assert [one["items"] for one in found["index"]["sets"]] == [4] * 4
    items = [item for number in range(4) for item in found[f"{number}-0"]]
    assert [item["id"] for item in items] == [f"item{number}" for number in range(4)] * 4
    named = {item["picture"]["small"] for item in items}
    assert len(named) == 4 and {f"pictures/{file.name}" for file in (shared / "pictures").iterdir()} == named
    with Pillow.open(shared / items[2]["picture"]["small"]) as picture:
        assert picture.getpixel((3, 3)) == (2, 90, 120)


def test_parts_of_many_items_are_small_files(tmp_path: Path) -> None:
    found = data(written(tmp_path, drawn({"baseline": 0.5, "nsft": 0.7}, benchmarks=("sqa",))))
    assert found.keys() == {"index", "0-list", "0-0", "0-1", "0-2"}
    assert [len(found[f"0-{number}"]) for number in range(3)] == [100, 100, 40]


@pytest.mark.parametrize("spoil", ["gone", "another", "no picture"])
def test_a_picture_that_is_not_the_one_that_was_asked_about_is_left_out(tmp_path: Path, spoil: str) -> None:
    run = FakeRun(benchmarks=("gqa",)).write(tmp_path)
    [file] = tmp_path.glob("store/items/*/0.png")
    if spoil == "gone":
        file.unlink()
    else:
        file.write_bytes((file.parent / "1.png").read_bytes() if spoil == "another" else b"<svg onload=alert(1)>")
    said("view", run, "--static", tmp_path / "shared")
    first, second, *_ = data(tmp_path / "shared")["0-0"]
    assert first["picture"] == {"gone": "yes"} and second["picture"]["small"]
    assert len(list((tmp_path / "shared" / "pictures").iterdir())) == 3


@pytest.mark.parametrize(("side", "large"), [(300, False), (800, True), (1600, False)])
def test_a_picture_is_kept_as_large_as_it_is_where_that_is_little(
    side: int, large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.viewing.folder.decoded", lambda *given: Pillow.new("RGB", (side, side // 2)))
    (tmp_path / "pictures").mkdir()
    found = _copied(None, None, tmp_path, "0" * 24)  # type: ignore[arg-type]
    assert ("large" in found) is large
    for name, longest in (("small", SMALL), ("large", LARGE)):
        if name in found:
            with Pillow.open(tmp_path / found[name]) as picture:
                assert max(picture.size) == min(side, longest)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_text_in_the_page_and_in_every_script(text: str, tmp_path: Path) -> None:
    ids = {f"{text[:20]}{number}": text for number in range(4)}
    run = FakeRun(
        labels={**LABELS, "dpo": text}, said=dict.fromkeys(("baseline", "nsft", "dpo"), text), item_id=text[:20],
        questions=ids, heard=text, spoilt={"data": text, "testbed": text},
    )  # fmt: skip
    shared = written(tmp_path, run)
    page = Page((shared / "index.html").read_text())
    plain = Page(shell("plain", "script")[0])
    assert (page.found, page.inside) == (plain.found, plain.inside)
    found = data(shared)
    assert found["0-0"][0]["said"][1]["text"] == visible_lines(text)
    assert found["1-0"][0]["said"][1]["heard"][0]["reply"] == visible_lines(text)
    for shown in strings(found):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", shown)
    for file in shared.rglob("*"):
        assert re.fullmatch(r"data|pictures|index\.html|[0-9a-z-]+\.js|[0-9a-f]{24}\.png", file.name)


def test_the_policy_lets_our_script_and_style_in_and_no_others(tmp_path: Path) -> None:
    for parts in ("script", "server"):
        made, policy = shell("</title><script>alert(1)</script>", parts)  # type: ignore[arg-type]
        page = Page(made)
        assert [tag for tag, _ in page.found].count("script") == 1
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        for kind, rule in (("script", "script-src"), ("style", "style-src")):
            digest = base64.b64encode(hashlib.sha256(page.inside[kind].encode()).digest()).decode()
            assert rules[rule].split()[0] == f"'sha256-{digest}'"
        assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
        assert not re.search(r"unsafe|http|\*|data:|blob:", policy)
        assert ("connect-src" in rules) is (parts == "server")
        assert ("strict-dynamic" in policy) is (parts == "script")
        assert next(a["content"] for _, a in page.found if a.get("http-equiv")) == policy


def test_the_script_never_makes_markup_or_code_of_text() -> None:
    script = Page(shell("plain", "server")[0]).inside["script"]
    risky = r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(|srcdoc|setAttribute|setTimeout"
    assert len(script) > 5000 and not re.search(risky, script)
    assert set(re.findall(r"\.(?:src|href) = (.*);", script)) == {"small", "large", "`data/${name}.js`"}


MINE = '''
from dataclasses import dataclass
from harness.contracts.benchmark import Benchmark, Metric, ratio
from harness.contracts.records import Score

@dataclass(frozen=True)
class Mine(Benchmark):
    """Exact match."""

    label = "MINE"
    group = "vqa"
    metrics = (Metric("mine/all", "MINE", (0.0, 100.0)),)
    max_new_tokens, layout, official_n, protocol = 8, "", 0, ""

    def score(self, item, response, judge):
        return Score(item.id, {"right": float(response.text == "A dog."), "n": 1.0})

    def compute(self, totals):
        return {"mine/all": ratio(totals["right"], totals["n"])}
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with GQA and a benchmark in a file of the user's, which is no longer known."""
    monkeypatch.setattr(plugins, "_adopted", {})
    monkeypatch.setitem(scored.FACTS, "mine", {"answer": "yes"})
    (tmp_path / "mine.py").write_text(MINE)
    plugins.adopt("benchmarks", str(tmp_path / "mine.py"))
    digest = hashlib.sha256(MINE.encode()).hexdigest()
    run = FakeRun(benchmarks=("gqa", "mine"), spoilt={"own": {"mine": digest}}).write(tmp_path)
    plugins._adopted.clear()
    return run


def test_a_benchmark_of_ones_own_is_viewed_where_its_file_is_named(mine: Path, tmp_path: Path) -> None:
    said("view", mine, "--static", tmp_path / "with", "--benchmarks", tmp_path / "mine.py")
    assert [one["label"] for one in data(tmp_path / "with")["index"]["sets"]] == ["GQA", "MINE"]
    assert data(tmp_path / "with")["1-0"][0]["said"][0]["score"] == "MINE 100.0"


def test_a_benchmark_whose_file_is_not_named_is_left_out_with_a_note(mine: Path, tmp_path: Path) -> None:
    said("view", mine, "--static", tmp_path / "without")
    index = data(tmp_path / "without")["index"]
    assert [one["name"] for one in index["sets"]] == ["gqa"] and "--benchmarks mine.py" in index["notes"][0]


def test_the_command_refuses_what_it_cannot_show_and_leaves_nothing(tmp_path: Path) -> None:
    run = FakeRun().write(tmp_path)
    for words, reason in (
        ((run, "--static", run / "in"), "is inside"),
        ((run, "--static", tmp_path), "is there already"),
        ((tmp_path / "nothing", "--static", tmp_path / "x"), "neither a run"),
        ((run / "manifest.json", "--static", tmp_path / "x"), "bundle holds figures alone"),
    ):
        with pytest.raises(UsageError, match=reason):
            said("view", *words)
    for file in tmp_path.glob("store/generate/*/responses.jsonl"):
        file.write_text("{}")
    with pytest.raises(Exception, match="not what was stored"):
        said("view", run, "--static", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_folder_is_not_left_half_done_where_a_stage_breaks_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object) -> None:
        raise UsageError("broken")

    monkeypatch.setattr(Viewed, "index", broken)
    with pytest.raises(UsageError, match="broken"):
        said("view", FakeRun().write(tmp_path), "--static", tmp_path / "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "store"]
