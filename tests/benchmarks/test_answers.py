"""Responses written in the official answer formats are read back by `published`, and score the same."""

from pathlib import Path

import pytest
from layouts import LAYOUTS, OPTIONS, Files, Fixed, perfect

from harness.contracts import plugins
from harness.contracts.benchmark import Benchmark, totals
from harness.contracts.benchmark import Files as Given
from harness.contracts.records import Item, Score

QUESTIONS = {
    "sqa": "problems.json", "gqa": "testdev_balanced_questions.json", "textvqa": "TextVQA_0.5.1_val.json",
    "mmvet": "mm-vet.json", "mmb": "mmbench_dev_20230712.tsv", "mmb_cn": "mmbench_dev_cn_20231003.tsv",
    "seed": "SEED-Bench.json", "chair": "gt_objects.json", "mmhal": "response_template.json",
    "mmstar": "MMStar.tsv", "llava_bench": "questions.jsonl", "realworldqa": "RealWorldQA.tsv",
    "amber": "annotations.json", "hallusion": "HallusionBench.json", "objhal": "obj_halbench_300_with_image.jsonl",
}  # fmt: skip
UNREAD = {"shr", "indomain"}  # their official files are a judge's verdicts


def asked(name: str, folder: Path) -> tuple[Benchmark, list[Item], dict[str, str]]:
    """The benchmark, its items, and a response to each: in turn a perfect one and one with marks of all kinds."""
    LAYOUTS[name](folder)
    benchmark: Benchmark = plugins.make("benchmarks", name, Benchmark, OPTIONS.get(name, {}))
    items = list(benchmark.items(folder, Files()))
    odd = 'No, a "dog"\tand\nan é – ok?'
    return benchmark, items, {item.id: odd if n % 3 == 2 else perfect(name, item) for n, item in enumerate(items)}


def files_of(name: str, folder: Path, written: dict[str, str]) -> Given:
    """The written files as a user gives them, with the official questions."""
    for file, content in written.items():
        (folder / file).write_text(content, encoding="utf-8")
    if name == "mme":
        return Given({}, {"": folder}, {})
    if name == "pope":
        splits = [Path(file).stem for file in written]
        return Given(
            {split: folder / f"coco_pope_{split}.json" for split in splits},
            {split: folder / f"{split}.jsonl" for split in splits},
            {},
        )
    if name == "cvbench":
        return Given({}, {Path(file).stem: folder / file for file in written}, {})
    [file] = written
    extras = {"sqa": {"split": folder / "pid_splits.json"}, "objhal": {"objects": folder / "gt_objects.json"}}
    return Given({"": folder / QUESTIONS[name]}, {"": folder / file}, extras.get(name, {}))


def scores(benchmark: Benchmark, items: list[Item], said: dict[str, str]) -> dict[str, float]:
    from harness.contracts.records import Response

    judge = Fixed('0.5\nRating: 3\ncorrect\n["dog", "cat"]') if benchmark.judged else None
    got = [(item, benchmark.score(item, Response(item.id, said[item.id], 0), judge)) for item in items]
    units = benchmark.units([(item, score) for item, score in got if isinstance(score, Score)])
    return benchmark.compute(totals(units)) if units else {}


@pytest.mark.parametrize("name", sorted(LAYOUTS.keys() - UNREAD))
def test_what_is_written_is_read_back_and_scores_the_same(name: str, tmp_path: Path) -> None:
    benchmark, items, said = asked(name, tmp_path)
    published = benchmark.published(files_of(name, tmp_path, benchmark.answers(items, said)))
    read = {response.id: response.text for response in published.responses}
    assert len(read) == len(items)
    again = [item for item in published.items if item.id in read]
    assert scores(benchmark, again, read) == pytest.approx(scores(benchmark, items, said), nan_ok=True)


@pytest.mark.parametrize("name", sorted(UNREAD))
def test_others_have_llavas_answers(name: str, tmp_path: Path) -> None:
    benchmark, items, said = asked(name, tmp_path)
    [(file, content)] = benchmark.answers(items, said).items()
    assert file == "answers.jsonl" and content.count("\n") == len(items)


def test_with_the_responses_in_another_order_the_scores_would_differ(tmp_path: Path) -> None:
    """The mutant: ids that do not go with their responses."""
    benchmark, items, said = asked("gqa", tmp_path)
    turned = dict(zip(said, [*list(said.values())[1:], next(iter(said.values()))], strict=True))
    published = benchmark.published(files_of("gqa", tmp_path, benchmark.answers(items, turned)))
    read = {response.id: response.text for response in published.responses}
    assert scores(benchmark, list(published.items), read) != scores(benchmark, items, said)
