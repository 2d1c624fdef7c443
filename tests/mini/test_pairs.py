"""Pairs to criticize: the verdict follows the scene graph, and the hints fall on the words that decide it."""

import random
from collections import Counter
from dataclasses import replace

from harness.judging import preference as critic
from harness.mini import pairs
from harness.mini.language import detail, short_caption
from harness.mini.tokenizer import make_tokenizer
from harness.mini.tuning import NONE, judged_row
from harness.mini.world import cover, scene

SEEN = scene("test/0/0")
TRUE = detail(SEEN)
THING = SEEN.things[0]
MISCOUNTED = detail(replace(SEEN, things=(replace(THING, count=THING.count % 3 + 1), *SEEN.things[1:])))
SHORTER = detail(replace(SEEN, things=SEEN.things[1:]))


def test_fewer_false_statements_are_better_and_ties_go_to_the_fuller_response() -> None:
    assert pairs.better(SEEN, TRUE, MISCOUNTED, TRUE) == 2
    assert pairs.better(SEEN, TRUE, SHORTER, MISCOUNTED) == 1
    assert pairs.better(SEEN, TRUE, TRUE, SHORTER) == 1
    assert pairs.better(SEEN, TRUE, TRUE, TRUE) is None


def test_an_error_said_twice_counts_once() -> None:
    assert len(pairs.false_statements(SEEN, TRUE, f"{MISCOUNTED} {MISCOUNTED}")) == 1


def test_a_short_answer_is_as_good_as_it_equals_the_reference() -> None:
    book = cover("test/0/0")
    assert pairs.better(book, book.author, "Nobody", book.author) == 2
    assert pairs.better(book, book.author, f"{book.author}.", "Nobody") == 1


def test_pairs_are_balanced_and_their_verdicts_hold() -> None:
    rng = random.Random(0)
    made = [(scene(f"test/0/{number}"), pairs.judged(scene(f"test/0/{number}"), rng)) for number in range(300)]
    verdicts = Counter(pair.better for _, pair in made)
    assert 120 < verdicts[1] < 180
    for seen, pair in made:
        assert pair.first != pair.second
        if pair.reference in (detail(seen), short_caption(seen)):
            assert pairs.better(seen, pair.reference, pair.first, pair.second) == pair.better
            assert pairs.better(seen, pair.reference, pair.second, pair.first) == 3 - pair.better


def test_hints_fall_on_the_false_words_and_speak_for_the_other_response() -> None:
    tokenizer = make_tokenizer()
    made = judged_row(tokenizer, 0, SEEN, pairs.Judged("What?", TRUE, MISCOUNTED, TRUE, 2))
    said = {
        (tokenizer.decode(token), tokenizer.decode(hint))
        for token, hint in zip(made.ids, made.evidence, strict=True)
        if hint != NONE and tokenizer.decode(hint) != " Yes"
    }
    assert {word.strip().rstrip("s") for word, _ in said} == {THING.category}
    assert {hint for _, hint in said} == {" [[2]]"}
    running = {tokenizer.decode(hint) for hint in made.verdicts if hint != NONE}
    assert running == {" [[2]]"}
    assert tokenizer.decode([label for label in made.labels if label != NONE]) == " [[2]]</s>"


def test_a_pair_of_detailed_captions_fits_the_model() -> None:
    tokenizer, rng = make_tokenizer(), random.Random(0)
    asked = [pairs.judged(scene(f"test/0/{number}"), rng, details=1.0) for number in range(50)]
    texts = [critic.prompt(pair.question, pair.reference, pair.first, pair.second) for pair in asked]
    assert max(len(tokenizer(text).input_ids) for text in texts) < 500
