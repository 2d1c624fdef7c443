"""A stage's key has the code that makes it: whatever its body, its plugin and its judge import, and nothing else."""

import ast
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

from harness.comparison.plan import plan
from harness.contracts import plugins
from harness.contracts.settings import MethodSpec
from harness.contracts.steps import Plan, Request
from harness.contracts.testbed_file import read_testbed
from harness.sources._chosen import source
from harness.store import closure
from harness.store.closure import DATA, NEUTRAL, OURS, SOURCES, Sources
from harness.store.syntax import imports_of
from harness.system.errors import UsageError

ROOT = Path(__file__).parents[2]
KINDS = plugins.installed("harness.stages")
BED = read_testbed("mini")
ROWS = (MethodSpec(name="sft"), MethodSpec(name="sima"), MethodSpec(name="ppo", training={"lora": {"r": 4}}))
REQUEST = Request(ROWS, source("llava150k"), benchmarks=("gqa", "mmhal"))
PYTHON = sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))


def titles_of(planned: Plan) -> dict[str, str]:
    """Title -> digest of the step's own code."""
    return {step.title: step.stage.identity["code"] + str(step.stage.identity.get("writer")) for step in planned.steps}


@pytest.fixture(scope="module")
def planned() -> "Iterator[Changed]":
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closure, "SOURCES", Sources(ROOT))
        yield Changed()


class Changed:
    """Which steps have other code of their own when a file of ours has changed."""

    def __init__(self) -> None:
        self.before = titles_of(plan(REQUEST, BED))

    def by(self, module: str) -> set[str]:
        """Titles of the steps whose own code is another after a change to the module."""
        sources, path = closure.SOURCES, ROOT / f"{module.replace('.', '/')}.py"
        kept = sources._reads[path]
        sources._reads[path] = kept._replace(digest="changed")
        after = titles_of(plan(REQUEST, BED))
        sources._reads[path] = kept
        return {title for title, code in after.items() if code != self.before[title]}


def begin(titles: set[str], *starts: str) -> bool:
    """Whether these are all the beginnings of the titles, each of them there."""
    return all(title.startswith(starts) for title in titles) and all(
        any(title.startswith(start) for title in titles) for start in starts
    )


def test_another_critic_prompt_builds_sima_and_ppo_anew(planned: Changed) -> None:
    moved = planned.by("harness.judging.preference")
    assert begin(moved, "build sima", "train sima", "build ppo", "train ppo")


def test_another_answer_wording_makes_the_items_anew(planned: Changed) -> None:
    moved = planned.by("harness.contracts.wordings")
    assert "items gqa" in moved and not any(title.startswith("items mmhal") for title in moved)


def test_another_advantage_builds_ppo_anew(planned: Changed) -> None:
    moved = planned.by("harness.training.losses")
    assert "build ppo seed 0 round 1" in moved
    assert not any(title.startswith(("items", "generate", "score", "reference", "split")) for title in moved)


def test_who_writes_units_scores_anew(planned: Changed) -> None:
    assert begin(planned.by("harness.stages.score"), "score")


def test_a_method_is_in_its_own_keys_only(planned: Changed) -> None:
    assert begin(planned.by("methods.sima"), "build sima", "train sima")


def test_a_report_file_is_in_the_report_s_key_only(planned: Changed) -> None:
    assert planned.by("reports.tabulate") == {"report"}


def test_the_oracle_is_in_the_keys_of_those_who_ask_it(planned: Changed) -> None:
    judged = plan(REQUEST, BED)
    moved = planned.by("harness.mini.oracles")
    assert moved == {title for title in planned.before if title.startswith(("build ppo", "lens"))}
    scores = {step.title for step in judged.steps if step.stage.identity.get("judge")}
    assert scores and all("mmhal" in title for title in scores)


def test_drawing_another_world_makes_its_data_anew(planned: Changed) -> None:
    assert begin(planned.by("harness.mini.draw"), "data")


def test_every_file_of_ours_is_in_the_keys_of_those_who_import_it_and_in_no_other() -> None:
    """Each of our files is changed in turn. Who imports it is found in another way, by import-linter's graph."""
    sources = Sources(ROOT)
    before = {kind: sources.digest(f"harness.stages.{kind}") for kind in KINDS}
    graph = grimp.build_graph(*OURS, exclude_type_checking_imports=True, cache_dir=None)
    for module in NEUTRAL.keys() - {"harness"}:
        graph.remove_module(module)
    reached = {kind: graph.find_upstream_modules(f"harness.stages.{kind}") for kind in KINDS}
    imported = {kind: {f"harness.stages.{kind}", *reached[kind]} for kind in KINDS}
    for names in imported.values():
        names |= {name.rpartition(".")[0] for name in names}
        names -= {"harness"}
    for path in PYTHON:
        kept = sources._read(path)
        sources._reads[path] = kept._replace(digest="changed")
        moved = {kind for kind in KINDS if sources.digest(f"harness.stages.{kind}") != before[kind]}
        sources._reads[path] = kept
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        assert moved == {kind for kind in KINDS if name in imported[kind]}, path


def test_a_changed_byte_of_a_data_file_is_another_key(tmp_path: Path) -> None:
    book = tmp_path / "harness" / "judging" / "codebook.yaml"
    book.parent.mkdir(parents=True)
    book.with_suffix(".py").write_text("import yaml\n")
    digests = set()
    for text in ("a: 1\n", "a: 2\n"):
        book.write_text(text)
        digests.add(Sources(tmp_path).digest("harness.judging.codebook"))
    assert len(digests) == 2


def test_every_data_file_of_ours_is_in_a_key() -> None:
    """Through a module that reads it, as as a method's source, or as a testbed: models by revision, fields."""
    named = {path for patterns in DATA.values() for pattern in patterns for path in ROOT.glob(pattern)}
    elsewhere = [ROOT / "harness" / place for place in ("mini/bases", "mini/clip", "mini/objects.txt", "testbeds")]
    for package in OURS:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                assert path in named or any(map(path.is_relative_to, elsewhere)), path


def test_whoever_reads_a_file_beside_itself_says_so() -> None:
    """`__file__` and `importlib.resources` in a module that a stage imports: its data files are in the list."""
    staged = {name for kind in KINDS for name in SOURCES.files(f"harness.stages.{kind}")}
    staged |= {name for package in ("methods", "benchmarks") for name in SOURCES.files(*modules(package))}
    for name, path in SOURCES.files(*staged, "reports.report").items():
        if path.suffix == ".py" and ("(__file__)" in path.read_text() or "resources import" in path.read_text()):
            assert name in DATA or name in ("harness.contracts.testbed_file", "benchmarks._lmms"), (
                name
            )  # testbeds; lmms-eval's folder


def modules(package: str) -> list[str]:
    """A package's plugins."""
    return [f"{package}.{name}" for name in plugins.names(package)]


# Who may load a module by name, and why the stage's key has that module's code all the same.
LOADERS = {
    "harness.contracts.plugins": "the loader itself",
    "harness.contracts.borrowed": "our file that makes what another library has, for plugins: it names that file",
    "harness.families": "a model's family: Modelled.loads names its file",
    "harness.backends": "who generates: Generate.loads and Responding.loads name its file",
    "harness.backends._side_by_side": "the same one, in processes of its own",
    "harness.contracts.row": "a row's method: Build.loads and Train.loads name its file",
    "harness.training.engine": "the same method, in the training process",
    "harness.training.deepspeed_engine": "an optimiser of another package: Train.loads names its file",
    "harness.judging.hire": "a judge or writer: Planner.asked has its file's code",
    "harness.contracts.judge_kind": "whether words of a judge name a file; Planner.asked has its file's code",
    "harness.contracts.benchmark": "a benchmark: Items.loads and Score.loads name its file",
    "harness.contracts.source": "a source: Split.loads and, for held-out examples, Items.loads name its file",
    "reports.earned": "benchmarks of a finished run, for how many questions the official ones have",
    "reports.layouts": "labels and benchmarks of a finished run, whose keys are in its manifest",
    "reports.runs": "labels and benchmarks of a finished run, whose keys are in its manifest",
}
BY_NAME = {"import_module", "__import__", "exec", "eval", "run_module", "run_path", "spec_from_file_location"}
THROUGH_LOADER = {"module", "plugin", "make"}


def loads_by_name(path: Path) -> bool:
    """Whether a file imports what its import statements do not name."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Call):
            callee = node.func
            if isinstance(callee, ast.Name) and callee.id in BY_NAME:
                return True
            if isinstance(callee, ast.Attribute):
                of = getattr(callee.value, "id", "")
                if callee.attr in BY_NAME - {"eval"} or (of == "plugins" and callee.attr in THROUGH_LOADER):
                    return True
    return False


def test_no_stage_loads_what_its_key_cannot_see() -> None:
    entries = [f"harness.stages.{kind}" for kind in KINDS] + ["reports.report"]
    loaded = [
        name for package in ("methods", "benchmarks", "harness.sources", "harness.judges") for name in modules(package)
    ]
    staged = SOURCES.files(*entries, *loaded)
    loading = {name for name, path in staged.items() if path.suffix == ".py" and loads_by_name(path)}
    assert loading == set(LOADERS)


@pytest.mark.parametrize("line", ["importlib.import_module('x')", "__import__('x')", "plugins.make('a', 'b')"])
def test_the_lint_finds_what_it_is_for(tmp_path: Path, line: str) -> None:
    file = tmp_path / "sly.py"
    file.write_text(f"import importlib\ndef work():\n    return {line}\n")
    assert loads_by_name(file)


def test_neutral_modules_are_there_and_no_plugin_is_one() -> None:
    for name, why in NEUTRAL.items():
        stem = ROOT.joinpath(*name.split("."))
        assert why and (stem.with_suffix(".py").is_file() or (stem / "__init__.py").is_file()), name
        assert not name.startswith(("methods.", "benchmarks.", "harness.mini", "harness.stages"))
    top = ast.parse((ROOT / "harness" / "__init__.py").read_bytes()).body
    now = [node for node in top if not isinstance(node, ast.FunctionDef)]
    imported = {name for node in now for name in imports_of(ast.Module([node], []), False)}
    assert not {name for name in imported if name.partition(".")[0] in OURS}, "importing harness runs code of ours"


LAZY = "def build():\n    from steps import one\n"


@pytest.mark.parametrize(
    ("text", "followed"),
    [
        ("import steps.one\n", {"steps", "steps.one"}),
        (LAZY, {"steps", "steps.one"}),
        ("import steps\n", {"steps"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import steps.one\n", set()),
        ("try:\n    import steps\nexcept ImportError:\n    pass\n", {"steps"}),
    ],
)
def test_a_user_s_file_is_followed_into_the_files_beside_it(tmp_path: Path, text: str, followed: set[str]) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(text)
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "__init__.py").write_text("")
    (tmp_path / "steps" / "one.py").write_text("from . import two\n")
    (tmp_path / "steps" / "two.py").write_text("")
    followed = followed | ({"steps.two"} if "steps.one" in followed else set())
    assert set(SOURCES.files(mine)) == {"mine.py"} | followed


def test_a_change_beside_a_user_s_method_builds_it_anew(tmp_path: Path) -> None:
    """The file itself, and what it imports from its own folder; `dpo` beside it stays as it was."""
    mine, helper = tmp_path / "mine.py", tmp_path / "helper.py"
    mine.write_text((ROOT / "methods" / "sft.py").read_text() + "\n\nimport helper\n")
    made = []
    for line in ("LIMIT = 1\n", "LIMIT = 20\n"):
        helper.write_text(line)
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(tmp_path))
            request = Request(
                (MethodSpec(name=str(mine)), MethodSpec(name="dpo")), source("llava150k"), benchmarks=("pope",)
            )
            made.append(plan(request, BED))
    keys = [{step.title: step.key for step in each.steps} for each in made]
    assert {title for title in keys[0] if keys[0][title] != keys[1][title]} == {
        "build mine seed 0", "train mine seed 0", "probe mine seed 0", "lens mine seed 0", "generate mine pope seed 0",
        "score mine pope seed 0", "crosscheck mine pope seed 0", "report",
    }  # fmt: skip


def test_a_file_that_is_no_python_is_a_sentence(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("def (")
    with pytest.raises(UsageError, match=r"mine\.py:1: SyntaxError"):
        SOURCES.files(mine)


def test_another_minor_version_is_another_key_and_a_patch_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"transformers": "5.17.0"}
    monkeypatch.setattr(closure.metadata, "version", lambda name: versions.get(name, "1.0.0"))

    def key() -> str:
        closure._version.cache_clear()
        made = Sources(ROOT).code("harness.stages.generate")
        assert {"torch", "transformers", "tokenizers", "pillow"} <= made["packages"].keys()
        return str(made)

    first = key()
    versions["transformers"] = "5.17.3"
    assert key() == first
    versions["transformers"] = "5.18.0"
    assert key() != first
    monkeypatch.undo()
    closure._version.cache_clear()
