"""`harness data inspect`: what it counts, what it shows, what it takes."""

import json
import re
import tracemalloc
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from typer.testing import CliRunner

from harness import cli
from harness.checking import inspecting
from harness.checking.drawn import files_of
from harness.checking.inspecting import contents, spread
from harness.contracts import plugins
from harness.contracts.testbed_file import read_testbed
from harness.sources import _records
from harness.sources._chosen import source
from harness.store.contents import CONTENTS
from harness.training.split import split

BED = read_testbed("mini")
HOSTILE = "<script>alert(1)</script>\x1b]0;x\x07\u202e"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_adopted", {})


def row(number: int, answer: str, image: str | None = None) -> dict[str, Any]:
    asked = "<image>\nWhat?" if image else "What?"
    said = [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
    return {"id": f"r{number}", "conversations": said, **({"image": image} if image else {})}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Nine records: two pictures, one record without, one twice, one under another id, two that cannot be used."""
    for name, size in (("wide", (40, 10)), ("high", (10, 20))):
        Pillow.new("RGB", size, (90, len(name), size[0])).save(tmp_path / f"{name}.png")
    rows = [
        row(0, "red", "wide.png"),
        row(1, "a red one", "wide.png"),
        row(2, HOSTILE, "high.png"),
        row(3, "none"),
        row(4, "same", "high.png"),
        row(4, "same", "high.png"),
        row(5, "same", "high.png"),
        row(6, "x", "gone.png"),
        row(7, "", "high.png"),
    ]
    (tmp_path / "my.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return tmp_path / "my.jsonl"


def ran(*words: str) -> str:
    done = CliRunner().invoke(cli.app, ["data", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_every_record_is_counted_once(mine: Path) -> None:
    told = json.loads(ran("inspect", str(mine), "--json"))
    assert (told["records"], told["usable"], told["without_picture"], told["pictures"]) == (9, 6, 1, 2)
    assert told["same_record_twice"] == 1 and told["same_content_under_another_id"] == 1
    assert sum(told["dropped"].values()) == 3 and any("no such file" in reason for reason in told["dropped"])
    assert told["lengths"]["width"] == {"n": 2, "least": 10, "median": 10, "p95": 40, "mean": 25, "most": 40}
    assert told["lengths"]["longer side"]["least"] == 20
    assert told["lengths"]["answer, characters"]["n"] == 6


def test_the_ten_are_the_first_that_a_split_of_the_seed_takes(mine: Path) -> None:
    for seed in (0, 1, 2):
        shown = [one["id"] for one in json.loads(ran("inspect", str(mine), "--json", "--seed", str(seed)))["examples"]]
        assert shown == [example.id for example in split(source(str(mine)).load, None, seed, 0.9).examples]


def test_the_table_says_what_the_json_says(mine: Path) -> None:
    shown = ran("inspect", str(mine))
    assert re.search(r"without picture +1 \(16\.7 %\)", shown) and re.search(r"dropped +3 \(33\.3 %\)", shown)
    assert re.search(r"longer side +2 +20 +20 +30\.0 +40 +40", shown)


def test_the_page_escapes_what_records_say_and_loads_nothing(mine: Path, tmp_path: Path) -> None:
    ran("inspect", str(mine), "--page", str(tmp_path / "my.html"))
    page = (tmp_path / "my.html").read_text()
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page
    assert "\x1b" not in page and "&lt;U+001B&gt;" in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 5 and all(one.startswith("data:image/") for one in sources)
    assert "default-src &#39;none&#39;" in page and "synthetic" not in page


def test_a_drawn_source_is_drawn_for_it_and_says_so(tmp_path: Path) -> None:
    words = ["ocrvqa+textcaps", "--examples", "6", "--page", str(tmp_path / "x.html")]
    told = json.loads(ran("inspect", *words, "--json"))
    assert told["by_source"] == {"ocrvqa": 3, "textcaps": 3}
    assert "synthetic" in (tmp_path / "x.html").read_text()


def test_tokens_are_those_of_the_model_s_tokenizer() -> None:
    words = ["inspect", "ocrvqa", "--examples", "5", "--json", "--model", BED.models[0]]
    told = json.loads(ran(*words))["lengths"]
    assert told["answer, tokens"]["n"] == told["answer, characters"]["n"] > 5
    assert 1 <= told["answer, tokens"]["least"] <= told["answer, tokens"]["mean"] < told["answer, characters"]["mean"]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60))
def test_a_spread_is_that_of_the_sorted_values(values: list[int]) -> None:
    counts = {value: values.count(value) for value in values}
    ranked, found = sorted(values), spread(counts)
    assert (found["n"], found["least"], found["most"]) == (len(values), ranked[0], ranked[-1])
    assert found["median"] == ranked[(len(values) + 1) // 2 - 1]
    assert found["p95"] == ranked[-(-95 * len(values) // 100) - 1]
    assert found["mean"] == pytest.approx(sum(values) / len(values))


def generated(folder: Path, n: int) -> Path:
    """So many different records of the length of LLaVA-150k's, without pictures: those take time, and no memory."""
    file = folder / f"{n}.jsonl"
    with file.open("w") as out:
        for number in range(n):
            out.write(json.dumps(row(number, f"{number} " + "word " * 150)) + "\n")
    return file


@pytest.mark.heavy
def test_150_000_records_take_linear_time_and_less_than_3_gb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spent = {}
    for n in (5_000, 20_000):
        with files_of(source(str(generated(tmp_path, n))), BED, None, 0) as files:
            start = process_time()
            assert contents(files, 0).usable == n
            spent[n] = process_time() - start
    assert spent[20_000] < 8 * spent[5_000], spent  # quadratic: 16
    with files_of(source(str(generated(tmp_path, 2_000))), BED, None, 0) as files:
        tracemalloc.start()
        contents(files, 0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak / 2_000 * 150_000 < 3e9 / 2, f"{peak / 2_000:,.0f} bytes a record"
    assert inspecting.SHOWN == 10


@pytest.mark.parametrize("command", ["inspect", "leaks"])
def test_what_was_prepared_is_not_read_again(
    mine: Path, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CONTENTS, "root", None)
    store = ["--store", str(tmp_path / "store")]
    words = [command, str(mine), "--json", *(["--benchmarks", "pope", "--limit", "2"] * (command == "leaks"))]
    before = json.loads(ran(*words, *store).splitlines()[-1])
    ran("prepare", str(mine), *store)
    read = list[Path]()
    parsed = _records.parsed
    monkeypatch.setattr(_records, "parsed", lambda file, *how: (read.append(file), parsed(file, *how))[1])
    assert json.loads(ran(*words, *store).splitlines()[-1]) == before and not read
    monkeypatch.setattr(CONTENTS, "root", None)
    assert json.loads(ran(*words, "--store", str(tmp_path / "other")).splitlines()[-1]) == before and read
