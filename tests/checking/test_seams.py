"""`harness check` of every seam: what is there passes, who breaks a promise is told, and what is not tried is said."""

from pathlib import Path

import pytest

from harness.checking.plugin import SEAMS, check_plugin, seam_of
from harness.contracts import plugins
from harness.models.folder import family_of
from harness.system.errors import UsageError
from tests.seams.found import outside, package

BASE = Path(plugins.__file__).parents[1] / "mini" / "bases" / "0"
NAMES = ("source", "judge", "testbed", "backend", "family", "executor")


@pytest.fixture(autouse=True)
def nothing_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_adopted", {})
    plugins.leave()


@pytest.mark.parametrize("seam", [*NAMES, "method", "benchmark"])
def test_it_says_what_a_file_is(seam: str) -> None:
    for file in outside(seam):
        assert seam_of(file).package == package(seam)
    assert seam_of(plugins.installed(package(seam))[0]).package == package(seam)


WELL = {
    "source": "squares: 24 of 24 records made examples, 0 dropped",
    "judge": "overlap: 1 of 1 responses to mmvet have a verdict, the same when asked again",
    "testbed": "the same twice, and it has questions",
    "backend": "naive: a tiny model responds to two pictures and to blank ones, the same one by one",
    "family": "toy: no model was tried; name a folder of one: harness check ",
    "executor": "in_order: 4 steps in order, each once",
}


@pytest.mark.parametrize("seam", NAMES)
def test_an_outside_file_that_keeps_its_contract_passes_and_is_told_what_was_not_tried(seam: str) -> None:
    (file,) = outside(seam)
    told = list(check_plugin(file, {}))
    assert any(WELL[seam] in line for line in told), told
    assert "not tried: " in told[-1] or "no model was tried" in told[-1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("llava150k", "4 of 4 records made examples"),
        ("openai", "not asked, for it cannot answer here"),
        ("folder", "draws nothing"),
        ("mini", "draws mme, the same twice, and it has questions"),
        ("local", "4 steps in order, each once"),
        ("transformers", "a tiny model responds to two pictures"),
    ],
)
def test_one_of_ours_by_its_name_passes(name: str, said: str) -> None:
    assert any(said in line for line in check_plugin(name, {}))


def test_a_family_is_tried_on_a_model_of_it() -> None:
    family = plugins.stem(family_of(BASE).__module__.rpartition(".")[2])
    told = list(check_plugin(family, {}, BASE))
    assert any("one step of sft on two examples" in line for line in told), told
    with pytest.raises(UsageError, match="is no model of qwen2_vl"):
        list(check_plugin("qwen2_vl", {}, BASE))


def test_an_mlp_that_is_not_what_gated_says_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.llama.modeling_llama import LlamaMLP

    plain = LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: plain(self, x).clamp(max=0.01))
    family = plugins.stem(family_of(BASE).__module__.rpartition(".")[2])
    with pytest.raises(UsageError, match="an MLP that the family's `gated` names is another than it says"):
        list(check_plugin(family, {}, BASE))


TIMES = {"COLOURS = {": "TIMES = []\nCOLOURS = {", "class Grader": "TIMES = []\n\n\nclass Grader"}
COUNTED = "file = io.BytesIO(); TIMES.append(0); side += len(TIMES)"
CHANGING = 'f"0.{TIMES.append(1) or len(TIMES)}"'
TWO_MORE = "[]\n        sampling = sampling.model_copy(update={'max_new_tokens': 2 + len(prompts)})"
BROKEN = [
    ("source", 'f"{colour}-{side}"', 'f"{colour}"', "records gives 20 ids twice; an id is made of its record"),
    ("source", "file = io.BytesIO()", COUNTED, "in another order"),
    (
        "judge",
        'f"{float(share == 1) if self.strict else share:.1f}"',
        'f"0.{TIMES.append(1) or len(TIMES)}"',
        "differently",
    ),
    ("testbed", "random.Random(name)", "random.Random()", "draws llava150k differently the second time"),
    ("testbed", "range(n)", "range(n - 1)", "draw_source gives 3 examples of llava150k; 4 were asked for"),
    ("testbed", "range(scenes)", "range(0)", "there is no .*gqa/images"),
    ("backend", '{"engine": "naive"}', '{"engine": object()}', "naive.identity gives"),
    ("backend", "[]\n        if len({", TWO_MORE + "\n        if len({", "to two prompts at once, and"),
    ("executor", "while step := course.next():", "if step := course.next():", "run stopped before"),
    ("family", 'title, example, lead = "Toy"', "title, example, lead = 7", "toy.title is 7"),
]


@pytest.mark.parametrize(("seam", "old", "new", "said"), BROKEN, ids=[f"{seam}: {said}" for seam, _, _, said in BROKEN])
def test_who_breaks_a_promise_is_told(seam: str, old: str, new: str, said: str, tmp_path: Path) -> None:
    (file,) = map(Path, outside(seam))
    text = file.read_text()
    assert old in text
    changed = text.replace(old, new)
    for before, after in TIMES.items() if "TIMES" in new else ():
        changed = changed.replace(before, after)
    (tmp_path / file.name).write_text(changed)
    with pytest.raises(UsageError, match=said):
        list(check_plugin(str(tmp_path / file.name), {}))


def test_one_name_for_all_and_a_file_of_none(tmp_path: Path) -> None:
    assert len({seam.package for seam in SEAMS}) == len(SEAMS)
    with pytest.raises(UsageError, match=r'no plugin "nfst"; did you mean "nsft"\?'):
        seam_of("nfst")
    (tmp_path / "mine.py").write_text("X = 1\n")
    with pytest.raises(UsageError, match=r"has no class of Method, Benchmark, .*; a plugin defines one"):
        seam_of(str(tmp_path / "mine.py"))
