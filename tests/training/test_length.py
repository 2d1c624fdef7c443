"""Sequences are cut as LLaVA cuts them, and what does not fit the model is named and left out, never cut in silence."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from harness.contracts.backend import Sampling, Search
from harness.contracts.family import Layout
from harness.contracts.records import Conversation, Dropped, Image, Pair, Prompt, Record, Rollout, Turn
from harness.contracts.settings import Runtime
from harness.families.llava import Llava
from harness.models.load import Loaded
from harness.models.reference import Reference, reference_logps, trees
from harness.models.tree import TooLong, tree
from harness.system.errors import HarnessError
from harness.system.jsonl import write_jsonl
from harness.system.profile import quiet
from harness.training.engine import train
from harness.training.rounds import refuse_malformed, trainable
from tests.responding import candidates, respond
from tests.trainings import conversations, lines

LLAVA = Llava()

TALK = (Turn("what is there", "a red cat"), Turn("is there a dog", "no"), Turn("two near", "the red ball on a table"))


@pytest.fixture
def talk(pictures: list[Image]) -> Conversation:
    return Conversation("talk", pictures[0], (TALK,))


@pytest.mark.parametrize("fewer", [1, 4, 30, 500])
def test_the_right_end_is_cut_with_the_image_s_places_counted(loaded: Loaded, talk: Conversation, fewer: int) -> None:
    """`llava_arch.py` cuts embeddings and labels alike, once the image is in them."""
    whole = LLAVA.encode(loaded.tokenizer, LLAVA.segments(TALK, True, "</s>"), Layout(4))
    most = len(whole.ids) - fewer
    if not any(whole.supervised[: max(most, 0)]):
        with pytest.raises(TooLong, match=f"an answer lies wholly beyond max_length {max(most, 1)}"):
            tree(talk, loaded, max(most, 1))
        return
    made = tree(talk, loaded, most)
    [branch] = made.branches
    assert made.prefix + branch.ids == whole.ids[:most]
    assert branch.supervised == whole.supervised[len(made.prefix) : most]
    assert made.cut == fewer


def test_each_answer_of_a_pair_is_cut_by_itself(loaded: Loaded, pictures: list[Image]) -> None:
    pair = Pair("p", pictures[0], "what is there", "a dog", "no cat" + " red" * 20)
    whole = tree(pair, loaded)
    most = len(whole.prefix) + 8
    cut = tree(pair, loaded, most)
    assert cut.branches[0] == whole.branches[0]
    assert cut.branches[1].ids == whole.branches[1].ids[:8]
    assert cut.cut == len(whole.branches[1].ids) - 8
    same = replace(pair, chosen="no cat" + " red" * 10)
    with pytest.raises(TooLong, match="chosen and rejected are the same up to max_length"):
        tree(same, loaded, most)


def test_a_rollout_is_never_cut(loaded: Loaded, pictures: list[Image]) -> None:
    rollout = Rollout("r", pictures[0], "what is there", (7, 8, 9, 2), {})
    made = tree(rollout, loaded)
    assert tree(rollout, loaded, made.tokens) == made
    with pytest.raises(TooLong, match="too long"):
        tree(rollout, loaded, made.tokens - 1)


def test_what_the_model_has_no_positions_for_is_dropped_by_name_in_little_memory(loaded: Loaded) -> None:
    """72,000 characters would ask for 14 GB of mask and attention."""
    long = Conversation("long", None, ((Turn("what is there", "a red cat " * 7200),),))
    tracemalloc.start()
    dropped = trainable(long, loaded)
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()
    assert isinstance(dropped, Dropped) and dropped.id == "long"
    assert "too long: 21," in dropped.reason and "1,024 places" in dropped.reason
    assert trainable(long, loaded, 1024) == long


def test_long_records_do_not_count_as_malformed_data(loaded: Loaded) -> None:
    built: list[Record | Dropped] = [
        Conversation(str(n), None, ((Turn("what", "a cat " * (1 if n % 4 else 1000)),),)) for n in range(100)
    ]
    made = [trainable(record, loaded) for record in built]
    assert sum(isinstance(one, Dropped) for one in made) == 25
    refuse_malformed(built, made)


def test_training_and_reference_cut_alike_and_the_summary_counts(  # type: ignore[no-untyped-def]
    job, loaded: Loaded, pictures: list[Image], tmp_path: Path
) -> None:
    records = [*conversations(pictures), Conversation("talk", pictures[0], (TALK,))]
    most = len(LLAVA.encode(loaded.tokenizer, LLAVA.segments(TALK, True, "</s>"), Layout(4)).ids) - 5
    made = job(max_length=most)
    write_jsonl(Path(made.records), records)
    result = train(made)
    assert (result.cut_records, result.cut_tokens) == (1, 5)
    assert all(line["loss"] > 0 for line in lines(made))
    assert json.loads((Path(made.out) / "summary.json").read_text())["cut_tokens"] == 5
    reference_logps(made.model, records, Runtime(), tmp_path / "logps", max_length=most)
    reference = Reference(tmp_path / "logps")
    assert reference(trees(records, loaded, most))["policy"].isfinite().all()
    with pytest.raises(HarnessError, match="not of these records"):
        reference(trees(records, loaded))


def prompts(loaded: Loaded) -> list[Prompt]:
    """One that fits, one that fills every place but three, one that is too long."""
    begun = LLAVA.encode(loaded.tokenizer, LLAVA.segments((Turn("", ""),), False, ""), None)
    filling = loaded.positions - 3 - len(begun.ids)
    return [Prompt("short", None, "what"), Prompt("full", None, " a" * filling), Prompt("long", None, " a" * 2000)]


def test_a_prompt_beyond_the_model_is_named_and_the_others_are_answered(folder: Path, loaded: Loaded) -> None:
    alone = respond(folder, prompts(loaded)[:1], Sampling(max_new_tokens=16), 4, quiet)
    short, full, long = respond(folder, prompts(loaded), Sampling(max_new_tokens=16), 4, quiet)
    assert short == alone[0]
    assert full.prompt_tokens + full.tokens <= loaded.positions and full.unanswered == ""
    assert (long.text, long.tokens, long.ended) == ("", 0, False)
    assert "the model 1,024 places" in long.unanswered
    search = Search(count=2, penalty=1.0, stop="Ġcat", max_new_tokens=4)
    found = candidates(folder, prompts(loaded), search, 4, quiet)
    assert [[bool(one.unanswered) for one in each] for each in found] == [[False] * 2, [False] * 2, [True] * 2]


def test_what_was_not_answered_is_unscored_not_wrong() -> None:
    from benchmarks.pope import Pope
    from harness.contracts.records import Item, Response, Unscored
    from harness.scoring.verdicts import score_runs

    item = Item("q", None, "Is there a cat?", "q", {"label": "no", "split": "random"})
    response = Response("q", "", 0, ended=False, unanswered="the prompt has 9,999 tokens")
    assert score_runs(Pope("pope"), [item], {"q": response}, None) == [[Unscored("q", "the prompt has 9,999 tokens")]]
