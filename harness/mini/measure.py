"""A quick look at a base model: the numbers its card reports, with and without the image."""

import random
from collections import defaultdict
from typing import Any

import torch

from harness.contracts.family import Layout
from harness.contracts.wordings import OPTION_LETTER, SHORT_ANSWER
from harness.families.llava import Llava
from harness.judging import preference
from harness.mini import questions as ask
from harness.mini import vision
from harness.mini.language import DETAIL, SHORT, absent, detail, mentions, short_caption
from harness.mini.pairs import Judged, better
from harness.mini.world import CATEGORIES, Cover, Scene, cover, home, scene, seed_of

Asked = tuple[str, int, str, str]  # what is measured, image number, question, true answer
POPE = ("random", "popular", "adversarial")


@torch.no_grad()
def generate(
    model: Any, tokenizer: Any, images: torch.Tensor, asked: list[tuple[int, str]], limit: int, **sampling: float
) -> list[str]:
    """Responses to (image number, question), in batches of similar length; greedy unless `sampling` says otherwise."""
    llava, layout = Llava(), Layout(vision.CELLS)
    pieces = [llava.prompt(question, (), True, tokenizer.eos_token) for _, question in asked]
    rows = [list(llava.encode(tokenizer, piece, layout).ids) for piece in pieces]
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    said = [""] * len(rows)
    for start in range(0, len(order), 128):
        part = order[start : start + 128]
        width = max(len(rows[number]) for number in part)
        ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(rows[n])) + rows[n] for n in part])
        out = model.generate(
            input_ids=ids,
            attention_mask=(ids != tokenizer.pad_token_id).long(),
            pixel_values=images[[asked[number][0] for number in part]],
            max_new_tokens=limit,
            do_sample=bool(sampling),
            **sampling,
        )
        for number, text in zip(part, tokenizer.batch_decode(out[:, width:], skip_special_tokens=True), strict=True):
            said[number] = text.strip()
    return said


def _questions(scenes: list[Scene], books: list[Cover]) -> list[Asked]:
    asked: list[Asked] = []
    for number, seen in enumerate(scenes):
        rng = random.Random(seed_of(f"measure/{seen.name}"))
        for how in POPE:
            pair = (rng.choice(seen.categories()), absent(seen, rng, how))
            for question in (ask.existence(seen, category) for category in pair):
                asked.append((f"pope {how}", number, question.text + SHORT_ANSWER, question.short))
        for _ in range(2):
            yes_no, open_one = ask.some_attribute(seen, rng), ask.some_open(seen, rng)
            asked.append(("attribute", number, yes_no.text + SHORT_ANSWER, yes_no.short))
            asked.append(("open", number, open_one.text + SHORT_ANSWER, open_one.short))
            question = ask.some_open(seen, rng, rng.choice(("colour", "location")))
            wrong = list(ask.alternatives(question))
            if rng.random() < 0.5:
                question, wrong = ask.which_object(seen, rng.choice(seen.categories())), ask.absent_objects(seen)
            listed, letter = ask.options(question, rng.sample(wrong, 3), rng)
            text = ask.with_options(question.text, listed) + OPTION_LETTER
            asked.append((f"options {question.kind}", number, text, letter))
        if seen.sign:
            question = ask.open_question(seen, None, "sign")
            asked.append(("sign", number, question.text + SHORT_ANSWER, question.short))
    for number, book in enumerate(books, len(scenes)):
        for kind in ("title", "author", "genre"):
            question = ask.cover_question(book, kind)
            asked.append((f"cover {kind}", number, question.text + SHORT_ANSWER, question.short))
    return asked


def fits(seen: Scene) -> list[str]:
    """The absent categories that go with the scene: partners of what is there, and what is at home there."""
    partners = [CATEGORIES[category].partner for category in seen.categories()]
    missing = ask.absent_objects(seen)
    return [category for category in missing if category in partners or home(category, seen.location)]


def _captions(scenes: list[Scene], captions: list[str], tokenizer: Any) -> dict[str, float]:
    named = invented = plausible = present = found = wrong = 0
    lengths = []
    for seen, caption in zip(scenes, captions, strict=True):
        said = mentions(caption)
        made_up = [category for category in said if seen.thing(category) is None]
        named, invented = named + len(said), invented + len(made_up)
        wrong += bool(made_up)
        plausible += sum(category in fits(seen) for category in made_up)
        found, present = found + len({*said} & {*seen.categories()}), present + len(seen.things)
        lengths.append(len(tokenizer(caption, add_special_tokens=False).input_ids))
    missing = sum(len(ask.absent_objects(seen)) for seen in scenes)
    return {
        "chair i": 100 * invented / max(1, named),
        "chair s": 100 * wrong / len(scenes),
        "recall": 100 * found / present,
        "plausible": 100 * plausible / max(1, invented),
        "plausible chance": 100 * sum(len(fits(seen)) for seen in scenes) / missing,
        "length": sum(lengths) / len(lengths),
    }


def _shares(asked: list[Asked], said: list[str]) -> dict[str, float]:
    right: dict[str, list[bool]] = defaultdict(list)
    for (measured, _, _, truth), answer in zip(asked, said, strict=True):
        right[measured].append(answer.rstrip(".") == truth)
        if measured.startswith("options"):
            right["options"].append(answer.rstrip(".") == truth)
    shares = {name: 100 * sum(marks) / len(marks) for name, marks in right.items()}
    pope = [answer for (measured, *_), answer in zip(asked, said, strict=True) if measured.startswith("pope")]
    shares["pope"] = sum(shares[f"pope {how}"] for how in POPE) / 3
    shares["yes"] = 100 * sum(answer.startswith("Yes") for answer in pope) / len(pope)
    return shares


def measure(model: Any, tokenizer: Any, n: int, space: str = "benchmark/0", captions: bool = True) -> dict[str, float]:
    """Percentages on `n` scenes and n/4 covers; names with "blank " before them are of grey images instead."""
    scenes = [scene(f"{space}/{number}") for number in range(n)]
    books = [cover(f"{space}/cover/{number}") for number in range(n // 4)]
    images = vision.normalized(vision.render([*scenes, *books]))
    asked = _questions(scenes, books)
    prompts = [(number, text) for _, number, text, _ in asked]
    result = _shares(asked, generate(model, tokenizer, images, prompts, 4))
    if captions:
        wanted = [(number, DETAIL) for number in range(n)]
        result |= _captions(scenes, generate(model, tokenizer, images, wanted, 130), tokenizer)
        blind = _shares(asked, generate(model, tokenizer, torch.zeros_like(images), prompts, 4))
        result |= {f"blank {name}": share for name, share in blind.items()}
    return result


def own_pairs(model: Any, tokenizer: Any, n: int, space: str) -> tuple[torch.Tensor, list[tuple[int, Judged]]]:
    """Images of `n` scenes, and (image number, pair) of the model's own responses as SIMA draws them.

    Sampled (temperature .8, top-p .9) is the first and greedy the second; equal ones, and those that are as true as
    each other, are left out.
    """
    scenes = [scene(f"{space}/{number}") for number in range(n)]
    images = vision.normalized(vision.render([*scenes]))
    found: list[tuple[int, Judged]] = []
    for question, say in ((DETAIL, detail), (SHORT, short_caption)):
        asked = [(number, question) for number in range(n)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(f"{space}/{question}") % 2**31)
            sampled = generate(model, tokenizer, images, asked, 130, temperature=0.8, top_p=0.9)
        greedy = generate(model, tokenizer, images, asked, 130)
        for number, (first, second) in enumerate(zip(sampled, greedy, strict=True)):
            truth = say(scenes[number])
            verdict = better(scenes[number], truth, first, second) if first != second else None
            if verdict:
                found.append((number, Judged(question, truth, first, second, verdict)))
    return images, found


def measure_critic(model: Any, tokenizer: Any, n: int, space: str = "benchmark/0") -> dict[str, float]:
    """Percentages of verdicts on own pairs, each pair asked in both orders.

    "critic": verdicts that agree with the scene graph; the same of detailed and of short captions alone, and of pairs
    that get the same verdict in both orders, whose share is "critic stable". "critic first": verdicts for the response
    that is named first (half are right).
    """
    images, pairs = own_pairs(model, tokenizer, n, space)
    asked: list[tuple[int, str]] = []
    for number, j in pairs:
        orders = ((j.first, j.second), (j.second, j.first))
        asked += [(number, preference.prompt(j.question, j.reference, *order)) for order in orders]
    said = [preference.verdict(reply) for reply in generate(model, tokenizer, images, asked, 8)]
    right: dict[str, list[bool]] = defaultdict(list)
    for (_, pair), one, other in zip(pairs, said[::2], said[1::2], strict=True):
        marks = [one == pair.better, other == 3 - pair.better]
        kind = "critic detailed" if pair.question == DETAIL else "critic short"
        stable = one is not None and other is not None and one + other == 3
        for name in ("critic", kind, *["critic of stable"] * stable):
            right[name] += marks
        right["critic stable"].append(stable)
        right["critic first"] += [one == 1, other == 1]
        right["critic unparsable"] += [one is None, other is None]
    return {"critic pairs": len(pairs)} | {name: 100 * sum(marks) / len(marks) for name, marks in right.items()}
