"""Captions, questions and answers are correct English and true; claims can be read back from them."""

import random
import re

import pytest

from harness.mini import questions as ask
from harness.mini.language import (
    Claim,
    absent,
    claims,
    detail,
    dirty_detail,
    imagine,
    mentions,
    popularity,
    short_caption,
)
from harness.mini.world import CATEGORIES, Scene, Thing, cover, scene

DOG = Thing("dog", "red", "small", 1, "left", "sitting", (0,))
CUPS = Thing("cup", "orange", "large", 2, "center", None, (1, 5))
ROOM = Scene("made up", "office", "rainy", "STOP", 2, (DOG, CUPS))


def test_the_detailed_caption_reads_well():
    assert detail(ROOM) == (
        "The image shows an office on a rainy day. There is a dog sitting on the left, small and red. There are "
        "two cups in the center, large and orange. The dog is to the left of the cups. A sign reads STOP. "
        "There are three objects, and the light is weak."
    )
    assert short_caption(ROOM) == "A red dog in an office with a sign reading STOP."


def test_questions_read_well():
    rng = random.Random(0)
    asked = [
        ask.existence(ROOM, "umbrella"),
        ask.attribute(ROOM, CUPS, "colour", "red"),
        ask.attribute(ROOM, DOG, "position", "left"),
        ask.attribute(ROOM, CUPS, "count", "one"),
        ask.open_question(ROOM, CUPS, "count"),
        ask.open_question(ROOM, DOG, "action"),
        ask.open_question(ROOM, None, "sign"),
        ask.beside(ROOM, CUPS, "left"),
    ]
    assert [(question.text, question.short, question.full) for question in asked if question] == [
        ("Is there an umbrella in the image?", "No", "No, there is no umbrella in the image."),
        ("Are the cups red?", "No", "No, the cups are orange."),
        ("Is the dog on the left?", "Yes", "Yes, the dog is on the left."),
        ("Is there exactly one cup in the image?", "No", "No, there are two cups."),
        ("How many cups are there?", "Two", "There are two cups."),
        ("What is the dog doing?", "Sitting", "The dog is sitting."),
        ("What does the sign read?", "STOP", "The sign reads STOP."),
        ("What is to the left of the cups?", "Dog", "The dog is to the left of the cups."),
    ]
    listed, letter = ask.options(ask.open_question(ROOM, DOG, "colour"), ["blue", "green"], rng)
    assert listed["ABC".index(letter)] == "red"
    assert ask.with_options("Which?", listed).count("\n") == 3


def test_articles_are_right_everywhere():
    rng = random.Random(1)
    for number in range(200):
        seen = scene(f"test/0/{number}")
        texts = [dirty_detail(seen, rng), short_caption(seen)]
        for question in (ask.some_existence(seen, rng), ask.some_attribute(seen, rng), ask.some_open(seen, rng)):
            texts += [question.text, question.full]
        for text in texts:
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text.lower()), text
            assert text[0].isupper() and text[-1] in ".?"


def test_claims_of_the_true_caption_are_the_scene():
    for number in range(200):
        seen = scene(f"test/0/{number}")
        said = claims(detail(seen))
        assert (said.location, said.weather, said.sign) == (seen.location, seen.weather, seen.sign)
        assert said.things == tuple(
            Claim(thing.category, thing.colour, thing.size, thing.count, thing.position, thing.action)
            for thing in seen.things
        )


def test_claims_of_answers():
    assert claims("No, there is no dog in the image.").denied == ("dog",)
    assert claims("The cups are on the left.").things == (Claim("cup", position="left"),)
    assert claims("Yes, there are two red dogs and a cup").things == (
        Claim("dog", "red", count=2),
        Claim("cup", count=1),
    )
    assert claims("The red cup and the dog are small").things == (Claim("cup", "red"), Claim("dog", size="small"))
    assert claims("A dog, large and red, with two blue cups").things[1] == Claim("cup", "blue", count=2)
    assert claims("It is a rainy day; this is a park").weather == "rainy"
    assert claims("").things == ()


def test_mentions_count_singulars_and_plurals():
    assert mentions("Two dogs and a Dog near benches, no catalogue.") == ["dog", "dog", "bench"]


def test_absent_categories_are_absent_and_of_their_kind():
    rng = random.Random(2)
    for number in range(200):
        seen = scene(f"test/0/{number}")
        for how in ("random", "popular", "adversarial"):
            assert seen.thing(absent(seen, rng, how)) is None
        partners = {CATEGORIES[category].partner for category in seen.categories()} - {*seen.categories()}
        assert not partners or absent(seen, rng, "adversarial") in partners
        assert absent(seen, rng, "popular") in popularity()[:9]


def test_imagination_inserts_partners_only():
    rng = random.Random(3)
    for number in range(100):
        seen = scene(f"test/0/{number}")
        partners = {CATEGORIES[category].partner for category in seen.categories()}
        assert {*imagine(seen, rng, 0.1, 0.1, 0.9).categories()} <= partners | {*seen.categories()}
        assert imagine(seen, rng, 0, 0, 0) == seen


@pytest.mark.parametrize("kind", ["title", "author", "genre"])
def test_cover_questions_answer_what_is_drawn(kind):
    book = cover("test/0/0")
    assert ask.cover_question(book, kind).value == getattr(book, kind)
