"""The embedded testbed's judge and writer: they read the scene graph instead of the image. Synthetic.

An oracle is better informed than any LLM, so what a method gains with it is no forecast of what it gains with one.
It answers in the form that the prompt asks of an LLM, and goes through the same parser.
"""

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.contracts.judge import Ask
from harness.contracts.judge_kind import Hired
from harness.contracts.records import Unscored
from harness.mini import questions as ask_about
from harness.mini.language import NUMBERS, Claim, absent, claims, mentions
from harness.mini.marking import mark, seen_in
from harness.mini.world import POSITIONS, Cover, Scene, from_json, seed_of

ATTRIBUTES = ("colour", "size", "count", "position", "action")
LONG = 2  # an answer this many times as long as the reference does more than was asked
BARE = 8  # an answer of so many words may leave out what it is about
RELATION = re.compile(r"the (\w+) (?:is|are) to the (left|right) of the (\w+)")


class Fact(NamedTuple):
    """A statement: an attribute ("there" is a bool) of a category, or of the scene where that is ""."""

    category: str
    attribute: str
    value: str | int | bool


class Error(NamedTuple):
    """An error of a response: its type in nSFT's codebook, what is wrong, and what shows it."""

    type: str
    fact: Fact
    evidence: str


def read_scenes(path: Path) -> dict[str, Scene | Cover]:
    """What each image shows, by the digest of its file, from a `scenes.jsonl`."""
    records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {record["sha256"]: from_json(record["scene"]) for record in records}


def facts(text: str) -> list[Fact]:
    """The statements that a text makes."""
    text = re.sub(r"\d+", lambda number: _number(number[0]), text)
    said, counted = claims(text), "one" in re.findall("[a-z]+", text.lower())
    found: list[Fact] = []
    for claim in said.things:
        found += [Fact(claim.category, "there", True), *_attributes(claim, counted)]
    found += [Fact(category, "there", False) for category in said.denied]
    about = (("location", said.location), ("weather", said.weather), ("sign", said.sign))
    return found + [Fact("", name, value) for name, value in about if value is not None]


def _number(digits: str) -> str:
    return NUMBERS[int(digits)] if len(digits) < 3 and int(digits) < len(NUMBERS) else digits


def _attributes(claim: Claim, counted: bool) -> list[Fact]:
    """ "There is a dog" says that there is one, not how many; "a red dog" and "one dog" do."""
    values = {name: getattr(claim, name) for name in ATTRIBUTES if getattr(claim, name) is not None}
    if values == {"count": 1} and not counted:
        return []
    return [Fact(claim.category, name, value) for name, value in values.items()]


def answer_facts(text: str, question: str) -> list[Fact]:
    """The statements of an answer; a bare one ("Red.", "They are red.") is about what the question names."""
    found = facts(text)
    words = re.findall(r"\w+", text)
    if found or not words or len(words) > BARE:
        return found
    asked = mentions(question)
    if asked:
        meant = facts(f"{text.strip().rstrip('.')} {asked[-1]}")
        return [] if all(fact.attribute == "there" and fact.value for fact in meant) else meant
    return [Fact("", "sign", words[-1].upper())] if "sign" in question else []


def true(seen: Scene, fact: Fact) -> bool:
    """Whether the scene bears the statement out."""
    if not fact.category:
        return bool(getattr(seen, fact.attribute) == fact.value)
    thing = seen.thing(fact.category)
    if fact.attribute == "there":
        return (thing is not None) == fact.value
    return thing is not None and bool(getattr(thing, fact.attribute) == fact.value)


def wrong(seen: Scene, said: Sequence[Fact]) -> list[Fact]:
    """The statements that do not hold; of a thing that is not there only that it is there."""
    return [
        fact
        for fact in said
        if not true(seen, fact) and (fact.attribute == "there" or not fact.category or seen.thing(fact.category))
    ]


class Oracle(Hired):
    """Judge and writer by scene graph; deterministic, and `Unscored` for an image it does not know."""

    name = "oracle:mini-v1"

    def __init__(self, scenes: dict[str, Scene | Cover]) -> None:
        self.scenes = scenes

    def reply(self, ask: Ask) -> str | Unscored:
        """The reply's text in the form that the purpose's prompt asks for."""
        seen = self.scenes.get(ask.image.sha256) if ask.image else None
        if seen and ask.purpose == "indomain":
            return two_grades(seen, ask.facts["question"], ask.facts["reference"], ask.facts["response"])
        if seen and ask.purpose == "errors":
            return json.dumps({"errors": listed(known_errors(seen, ask), ask)})
        if seen and ask.purpose == "preference":
            return prefer(seen, ask)
        if ask.purpose == "hallusion":  # also asked without a picture, and the reference says all
            return mark(ask.facts["reference"], ask.facts["response"])
        if not isinstance(seen, Scene):
            return Unscored(ask.id, "no scene graph for this image")
        if ask.purpose == "objhal":
            return json.dumps(seen_in(ask.facts["response"]))
        if rubric := {"mmvet": grade, "mmhal": rate, "llava_bench": rate_both}.get(ask.purpose):
            return rubric(seen, ask.facts["question"], ask.facts["reference"], ask.facts["response"])
        if ask.purpose == "nsft":
            return write(seen, ask)
        if ask.purpose == "nsft_control":
            return write_at_random(seen, ask)
        return Unscored(ask.id, f"the oracle has no rubric {ask.purpose!r}")


def grade(seen: Scene, question: str, reference: str, response: str) -> str:
    """MM-Vet's grade: the share of the reference that the response has, times the share of it that is true."""
    said = answer_facts(response, question)
    asked = mentions(question)
    shares = []
    for element in reference.split("<AND>"):
        best = 0.0
        for alternative in element.split("<OR>"):
            expected = answer_facts(alternative, question)
            expected = [fact for fact in expected if fact.attribute != "there" or fact.category not in asked]
            if expected:
                best = max(best, sum(fact in said for fact in expected) / len(expected))
        shares.append(best)
    held = 1 - len(wrong(seen, said)) / len(said) if said else 0.0
    return f"{sum(shares) / len(shares) * held:.1f}"


def rate(seen: Scene, question: str, reference: str, response: str) -> str:
    """MMHal-Bench's rating: 0 to 2 with hallucination and 3 to 6 without, each by how much it informs."""
    said, expected = answer_facts(response, question), answer_facts(reference, question)
    asked = mentions(question)
    expected = [fact for fact in expected if fact.attribute != "there" or fact.category not in asked or not fact.value]
    false = [*wrong(seen, said), *_wrong_relations(seen, response)]
    share = sum(fact in said for fact in expected) / len(expected) if expected else 0.0
    # A question about a relation asks for one thing: another one that is there is still wrong.
    if question.startswith("What is to the") and said and not share:
        false += [fact for fact in said if fact.attribute == "there" and fact.category not in asked]
    level = 2 if share >= 0.8 else 1 if share > 0 else 0
    rating = level if false else 3 + level
    more = len([fact for fact in said if fact not in expected and fact.category not in asked])
    rating += rating == 5 and share == 1 and (more > 1 or len(expected) > 8)
    found = ", ".join(map(_told, false)) or "nothing"
    return f"The response has {share:.0%} of the human's answer. Not borne out: {found}.\nRating: {rating}"


def rate_both(seen: Scene, question: str, reference: str, response: str) -> str:
    """LLaVA-Bench's scores from 1 to 10 of the reference and of the response: their ratings, stretched."""
    ratings = [int(rate(seen, question, reference, said)[-1]) for said in (reference, response)]
    scores = " ".join(f"{1 + 1.5 * rating:g}" for rating in ratings)
    return f"{scores}\nAs for hallucinations they rate {ratings[0]} and {ratings[1]} of 6."


def two_grades(seen: Scene | Cover, question: str, reference: str, response: str) -> str:
    """In-domain grades: does it speak of what the reference speaks of, about as long? And is what it says true?"""
    if isinstance(seen, Cover):
        following, accuracy = _cover_shares(reference, response)
    else:
        said, expected = answer_facts(response, question), answer_facts(reference, question)
        false = len(wrong(seen, said)) + len(_wrong_relations(seen, response))
        accuracy = max(0.0, 1 - false / len(said)) if said else 0.0
        asked = {(fact.category, fact.attribute) for fact in expected}
        following = len(asked & {(fact.category, fact.attribute) for fact in said}) / max(1, len(asked))
    following *= min(1.0, LONG * len(reference.split()) / max(1, len(response.split())))
    return f"{round(10 * following)} {round(10 * accuracy)}\nTrue: {accuracy:.0%} of what the response says."


def _cover_shares(reference: str, response: str) -> tuple[float, float]:
    """Of an answer about a book: is it of the kind asked for (a title, an author, ...), and is it the right one?"""
    truth, said = (text.lower().strip(" .\n") for text in (reference, response))
    kinds = [[value.lower() for value in ask_about.values(kind)] for kind in ("title", "author", "genre")]
    pool = next((kind for kind in kinds if truth in kind), ["yes", "no"])
    words = re.findall(r"\w+", said)
    named = said in pool or (len(pool) == 2 and words[:1] in (["yes"], ["no"])) or any(v in said for v in pool[2:])
    right = set(re.findall(r"\w+", truth))
    return float(named), len(right & set(words)) / len(right | set(words))


def _told(fact: Fact) -> str:
    """The statement in a few words."""
    if fact.attribute == "there":
        return f"{'' if fact.value else 'no '}{fact.category}"
    return f"{fact.category or 'image'} {fact.attribute} {fact.value}"


def _wrong_relations(seen: Scene, text: str) -> list[Fact]:
    """Left and right swapped between two things that are there."""
    found = []
    for first, side, second in RELATION.findall(text.lower()):
        things = [seen.thing(category) for category in (*mentions(first), *mentions(second))]
        if len(things) == 2 and things[0] and things[1]:
            a, b = (POSITIONS.index(thing.position) for thing in things if thing)
            if not (a < b if side == "left" else a > b):
                found.append(Fact(things[0].category, "relation", f"to the {side} of the {things[1].category}"))
    return found


def errors(seen: Scene | Cover, ground_truth: str, response: str) -> list[Error]:
    """What a description gets wrong, and what it leaves out of the ground truth; of a cover whether it is misread."""
    if isinstance(seen, Cover):
        misread = _cover_shares(ground_truth, response)[1] < 1
        return [Error("text", Fact("", "text", response), f"reads {response.strip()}")] if misread else []
    types = {"there": "existence", "weather": "event", "sign": "text"}
    said = facts(response)
    found = []
    for fact in (*wrong(seen, said), *_wrong_relations(seen, response)):
        found.append(Error(types.get(fact.attribute, fact.attribute), fact, f"says {_told(fact)}"))
    named = {*mentions(response)}
    for category in dict.fromkeys(mentions(ground_truth)):
        if category not in named and seen.thing(category):
            found.append(Error("omission", Fact(category, "there", False), f"does not say {category}"))
    return found


def write(seen: Scene, ask: Ask) -> str:
    """nSFT's corrective turns as JSON: for every error that the codebook knows, yes and no in equal number."""
    limit = int(ask.facts.get("turns", 5))
    rng = random.Random(seed_of(f"oracle/{ask.id}"))
    found = known_errors(seen, ask)
    turns: dict[str, str] = {}
    for error in rng.sample(found, len(found)):
        _add(turns, correction(seen, error.fact, rng), limit)
    # Corrections alone would ask about what goes wrong only; the rest is random ground truth, balanced too.
    if not found:
        _add(turns, [_present(seen, rng), _missing(seen, rng)], limit)
    thing = rng.choice(seen.things)
    truth = ask_about.open_question(seen, thing, rng.choice(ask_about.kinds(seen, thing)))
    _add(turns, _pair(seen, truth, rng.choice(ask_about.alternatives(truth)), rng), limit)
    _add(turns, [ask_about.some_open(seen, rng)], limit)
    asked: list[dict[str, Any]] = [{"question": question, "answer": answer} for question, answer in turns.items()]
    return json.dumps({"errors": listed(found, ask), "turns": asked})


def known_errors(seen: Scene | Cover, ask: Ask) -> list[Error]:
    """The errors of a response that the asker's codebook has a type for; all of them where there is no codebook."""
    levels = read_codebook(ask.facts.get("codebook", ""))
    found = errors(seen, ask.facts["ground_truth"], ask.facts["response"])
    return [error for error in found if error.type in levels or not ask.facts.get("codebook")]


def listed(found: Sequence[Error], ask: Ask) -> list[dict[str, str]]:
    """Errors with their levels in the asker's codebook, in the form asked for."""
    levels = read_codebook(ask.facts.get("codebook", ""))
    return [{"level": levels.get(e.type, "instance"), "type": e.type, "evidence": e.evidence} for e in found]


def prefer(seen: Scene | Cover, ask: Ask) -> str:
    """Which of two responses has fewer errors, false statements and omissions alike; neither where they are level."""
    one, other = (len(errors(seen, ask.facts["ground_truth"], ask.facts[name])) for name in ("first", "second"))
    verdict = "Neither is better." if one == other else f"Better response: [[{1 if one < other else 2}]]"
    return f"Errors: {one} in response 1, {other} in response 2. {verdict}"


def write_at_random(seen: Scene, ask: Ask) -> str:
    """As many turns as asked for, about anything that is true, yes and no in equal number: the control."""
    rng, limit = random.Random(seed_of(f"control/{ask.id}")), int(ask.facts["turns"])
    turns: dict[str, str] = {}
    for _ in range(50 * limit):
        draw = rng.random()
        thing = rng.choice(seen.things)
        truth = ask_about.open_question(seen, thing, rng.choice(ask_about.kinds(seen, thing)))
        pair = _pair(seen, truth, rng.choice(ask_about.alternatives(truth)), rng)
        made = [_present(seen, rng), _missing(seen, rng)] if draw < 0.35 else pair if draw < 0.7 else [truth]
        _add(turns, made, limit)
    asked: list[dict[str, Any]] = [{"question": question, "answer": answer} for question, answer in turns.items()]
    return json.dumps({"errors": [], "turns": asked})


def read_codebook(text: str) -> dict[str, str]:
    """Error type -> level, from JSON: {level: {type: definition}}, or a list of types of the level "instance"."""
    book = json.loads(text) if text else {}
    if isinstance(book, list):
        return dict.fromkeys(book, "instance")
    return {name: level for level, types in book.items() for name in types}


def _add(turns: dict[str, str], questions: Sequence[ask_about.Question], limit: int) -> None:
    """Put questions in together or not at all: where they fit and none of them has been asked."""
    if len(turns) + len(questions) <= limit and not any(question.text in turns for question in questions):
        turns.update({question.text: question.full for question in questions})


def _present(seen: Scene, rng: random.Random) -> ask_about.Question:
    return ask_about.existence(seen, rng.choice(seen.categories()))


def _missing(seen: Scene, rng: random.Random) -> ask_about.Question:
    return ask_about.existence(seen, absent(seen, rng, "adversarial"))


def correction(seen: Scene, fact: Fact, rng: random.Random) -> list[ask_about.Question]:
    """Questions that correct a false statement: one answered no and one answered yes, or an open one.

    One-sided corrections would teach the answer instead of the image, so a denial comes with a confirmation.
    """
    thing = seen.thing(fact.category) if fact.category else None
    if fact.attribute == "there":
        asked = ask_about.existence(seen, fact.category)
        pair = [asked, _present(seen, rng) if asked.value == "no" else _missing(seen, rng)]
    elif fact.attribute == "action" and thing and not thing.action:  # a thing that does nothing: no words for that
        pair = [ask_about.existence(seen, fact.category), _missing(seen, rng)]
    elif fact.attribute == "relation":
        return [ask_about.open_question(seen, thing, "position")]
    elif fact.attribute == "sign" and not seen.sign:
        text = f"Does the sign read {fact.value}?"
        no_sign = ask_about.Question("sign", text, "No", "No, there is no sign in the image.", "", "no")
        pair = [no_sign, _present(seen, rng)]
    else:
        truth = ask_about.open_question(seen, thing, fact.attribute)
        if rng.random() < 0.25:
            return [truth]
        return _pair(seen, truth, NUMBERS[int(fact.value)] if fact.attribute == "count" else str(fact.value), rng)
    rng.shuffle(pair)
    return pair


def _pair(seen: Scene, truth: ask_about.Question, claimed: str, rng: random.Random) -> list[ask_about.Question]:
    """Is the attribute what was claimed, and is it what it is? In random order."""
    thing = seen.thing(truth.subject) if truth.subject else None
    pair = [ask_about.attribute(seen, thing, truth.kind, value) for value in (claimed, truth.value)]
    rng.shuffle(pair)
    return pair
