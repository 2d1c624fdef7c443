"""That the benchmark refuses sides which did other work, and that its counts see what makes ours cheaper go."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaProcessor

from harness.contracts import plugins
from harness.contracts.method import Loss, Method
from harness.contracts.records import Conversation, Image, Turn
from harness.contracts.settings import Lora
from harness.families.llava import Llava
from harness.models.load import load
from harness.models.tree import Branch, Tree
from harness.system.jsonl import write_jsonl
from harness.training.job import Job
from methods.sft import Sft
from tests.perf import bench, shapes
from tests.perf.costs import Turns, side
from tests.perf.fair import Unfair, fair
from tests.perf.row import Row
from tests.perf.work import Case
from tests.tiny import folder, job, local_rank, pictures
from tests.trl_side import Course, ours, trl_trainer, trls

__all__ = ["folder", "job", "local_rank", "pictures"]
STEPS = 5


@pytest.fixture
def square(job, pictures: list[Image]) -> Job:  # type: ignore[no-untyped-def]
    """Conversations on square pictures, because TRL's processor crops what ours pads; five steps."""
    made: Job = job(learning_rate=2e-3, num_train_epochs=5, warmup_ratio=0.4, per_device_train_batch_size=2)
    told = [Conversation(f"c{n}", pictures[3 * (n % 2)], ((Turn("what is there", "a red cat " * (n + 1)),),))
            for n in range(4)]  # fmt: skip
    write_jsonl(Path(made.records), told)
    return made


def processor(job: Job, side: int = 16) -> Any:
    """The official one; with another `side`, pictures come out larger and are cropped."""
    kept = load(job.model).eyes.processor
    changed = type(kept)(**{**kept.to_dict(), "size": {"shortest_edge": side}})
    return LlavaProcessor.from_pretrained(job.model, image_processor=changed)


def test_two_sides_that_do_the_same_are_let_through(square: Job) -> None:
    fair(ours(square), trls(square, processor(square)), STEPS)


def shifted(job: Job) -> Course:
    """TRL learns one token further right."""
    collate = trl_trainer(job, processor(job)).data_collator

    def collated(examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = collate(examples)
        batch["labels"] = batch["input_ids"].masked_fill(batch["labels"].roll(1, 1) == -100, -100)
        return batch

    return trls(job, processor(job), collator=collated)


def scaled(job: Job) -> Course:
    """Our loss times 1.01, as TRL's."""
    loss = Sft.loss
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sft, "loss", lambda self, logps: Loss(loss(self, logps).values * 1.01, {}))
        return ours(job.model_copy(update={"work": f"{job.work}-scaled"}))  # else it is already done


DOCTORED: dict[str, tuple[Callable[[Job], Course], str]] = {
    "a shifted mask": (shifted, "step 1: the sides have other supervised places"),
    "another image size": (lambda job: trls(job, processor(job, side=20)), "step 1: the sides have other pixels"),
    "a scaled loss": (scaled, "step 1: loss is 0.0"),
}


@pytest.mark.parametrize(
    "doctored", [pytest.param(one, marks=() if one == "a scaled loss" else pytest.mark.heavy) for one in DOCTORED]
)
def test_a_doctored_side_is_refused(square: Job, doctored: str) -> None:
    side, sentence = DOCTORED[doctored]
    with pytest.raises(Unfair, match=sentence):
        fair(ours(square), side(square), STEPS)


def test_a_side_with_fewer_steps_is_refused(square: Job) -> None:
    made = ours(square)
    with pytest.raises(Unfair, match="TRL took 4 steps where 5"):
        fair(made, Course(made.rows[:4], made.log[:4]), STEPS)


def test_a_loss_that_stays_is_refused(square: Job) -> None:
    """Equal losses of models that learn nothing would be equal whatever the gradients are."""
    made = ours(square)
    still = Course(made.rows, [line | {"loss": 1.0} for line in made.log])
    with pytest.raises(Unfair, match=r"the loss stayed at 1\.00000"):
        fair(still, still, STEPS)


def a_thin_7b() -> LlavaConfig:
    """Two of LLaVA-1.5-7B's 32 layers, and of its tower's 24, and no words to speak of."""
    tower = CLIPVisionConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=2, num_attention_heads=16,
                             image_size=336, patch_size=14, projection_dim=64)  # fmt: skip
    return LlavaConfig(text_config=LlamaConfig(vocab_size=512, num_hidden_layers=2), vision_config=tower)


def apart(trees: list[Tree]) -> list[Tree]:
    """Every answer behind a prefix of its own."""
    return [replace(tree, branches=(branch,)) for tree in trees for branch in tree.branches]


@pytest.fixture
def trainer(job, pictures: list[Image], monkeypatch: pytest.MonkeyPatch) -> Any:  # type: ignore[no-untyped-def]
    """TRL's DPOTrainer for adapters."""
    monkeypatch.delenv("LOCAL_RANK")  # set for DeepSpeed; TRL would think itself one of many
    made = job(method="dpo", lora=Lora(r=2))
    return trl_trainer(made, processor(made))


@pytest.mark.heavy
def test_the_counted_ratios_see_prefixes_that_are_not_shared(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without sharing, the kept reference, the tower once and what is made again are all that is left of the lead."""
    case, pack = Case("dpo", 10, True), shapes.pack

    def ratios() -> list[float]:
        return [row.figure for row in bench.at_shapes(a_thin_7b(), case, trainer) if row.goal]

    narrow = ratios()
    monkeypatch.setattr(Llava, "placewise", lambda self, model: [])
    cold, kept, saved = ratios()
    assert cold > 1.9 and kept > 2.9 and saved < 0.55
    assert narrow[0] > 1.3 * cold and narrow[1] > 1.3 * kept and narrow[2] < 0.8 * saved  # half of two layers
    monkeypatch.setattr(shapes, "pack", lambda trees, loaded: unshared(pack, trees, loaded))
    cold, kept, saved = ratios()
    assert cold < 1.1 and kept < 1.7 and saved > 0.6  # as of single answers


def unshared(pack: Callable[..., Any], trees: list[Tree], loaded: Any) -> Any:
    """A batch in which each answer is a row, and two rows are a record."""
    batch = pack(apart(trees), loaded)
    return replace(batch, branch_tree=batch.branch_tree // 2)


def test_ours_and_trl_cost_the_same_where_nothing_is_spared(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One answer to a picture, nothing kept, all of the last layer: the same products on both sides, so the counter
    counts both alike.
    """
    monkeypatch.setattr(Llava, "placewise", lambda self, model: [])
    config, (tree,) = a_thin_7b(), shapes.forest(a_thin_7b(), "sft", (True,) * 10)
    own = shapes.ours(config, None, plugins.make("methods", "sft", Method, {}), [tree])
    two = replace(tree, branches=(tree.branches[0], Branch((8,) * 10, (True,) * 10)))
    other = shapes.theirs(config, None, trainer, [two], cached=True)
    assert other.flops == pytest.approx(2 * own.cold, rel=0.01)


GOAL_OF_2 = [(2.0, False, "reached"), (1.96, False, "not reached"), (2.0, True, "reached"), (2.04, True, "not reached")]


@pytest.mark.parametrize(("figure", "less", "verdict"), GOAL_OF_2)
def test_a_goal_is_judged_by_what_is_printed(figure: float, less: bool, verdict: str) -> None:
    row = Row("FLOPs", "counted", figure, 2.0, less=less)
    assert row.verdict == verdict and row.cells[3] == f"{figure:.2f}" and "counted" in row.cells


def test_small_shares_and_counts_are_judged_as_closely_as_they_have_to_be() -> None:
    assert Row("padding", "mini", 0.034, 0.03, "share", less=True).cells[2:] == (
        "share", "0.034", "≤ 0.030", "not reached")  # fmt: skip
    assert Row("again", "mini", 2, 0, "stages", less=True).cells[3:] == ("2", "≤ 0", "not reached")


def test_the_page_keeps_its_words_and_changes_its_table(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# How\n{bench.BEGIN}old\n{bench.END}after\n")
    bench.written([Row("FLOPs", "counted", 2.04, 2.0)], page)
    text = page.read_text()
    assert "old" not in text and text.startswith("# How\n") and text.endswith("after\n")
    assert "| FLOPs | counted | TRL ÷ ours | 2.04 | ≥ 2.00 | reached |" in text


def test_sides_take_turns_until_one_has_ended() -> None:
    turns, steps = Turns(), list[int]()

    def training(number: int, many: int) -> None:
        for _ in range(many):
            steps.append(number)
            turns.stepped(number)

    threads = [threading.Thread(target=side, args=(number, turns, lambda n=number, m=many: training(n, m)))
               for number, many in enumerate((3, 5))]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert steps == [0, 1, 0, 1, 0, 1, 1, 1]
    assert [len(spent) for spent in turns.spent] == [2, 4]


def test_time_is_the_ratio_of_medians_without_the_first_two_steps() -> None:
    turns = Turns()
    turns.spent = ([9.0, 9.0, 1.0, 2.0, 8.0], [0.0, 0.0, 3.0, 3.0, 3.0])
    assert turns.ratio == 1.5


def test_a_run_prints_goals_first_and_writes_what_it_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages: list[list[Row]] = []
    monkeypatch.setattr(bench.work, "folder", lambda root: root)
    one, two = Row("one", "here", 1.0), Row("two", "there", 2.0, 1.5)
    for name, rows in {"tiny": [one], "true": [two], "machine": [], "alone.rows": []}.items():
        monkeypatch.setattr(f"tests.perf.bench.{name}", lambda *told, rows=rows: rows)
    monkeypatch.setattr(bench, "written", pages.append)
    monkeypatch.setattr(bench, "set_verbosity_error", lambda: None)  # it would outlast the test
    bench.main()
    said = capsys.readouterr().out
    assert said.index("two") < said.index("one") and "reached" in said
    assert [row.what for row in pages[0]] == ["two", "one"]


def test_the_page_has_a_place_for_the_table() -> None:
    text = bench.PAGE.read_text(encoding="utf-8")
    assert text.count(bench.BEGIN) == text.count(bench.END) == 1
