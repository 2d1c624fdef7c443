"""The drawn world's benchmark sets, in the official layouts that benchmarks/ read.

All are about the same scenes, so that one image has one digest in all of them. Every set depends on its name, the
split, the seed and the number of scenes only. The paper's nine come first; newer ones are in `choicesets`.
"""

import base64
import csv
import io
import json
import random
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from harness.mini import choicesets, hallusets, opensets
from harness.mini import questions as ask
from harness.mini.language import popularity
from harness.mini.pictures import Pictures, multiple_choice, random_of
from harness.mini.world import CATEGORIES, SIGNS, Scene, home
from harness.system.errors import UsageError

# Images (pairs of questions for MME) per thousand scenes.
PER_THOUSAND = {
    "sqa": 800,
    "gqa": 1000,
    "textvqa": 500,
    "mmvet": 218,
    "mme": 400,
    "mmb": 300,
    "pope": 500,
    "chair": 1000,
    "mmhal": 96,
    "mmstar": 300,
    "llava_bench": 240,
    "realworldqa": 300,
    "cvbench": 300,
    "amber": 100,
    "hallusion": 150,
    "objhal": 300,
}
# The MME subtasks that the drawn world can ask about, each with the kinds of its questions.
MME = {
    "existence": ("existence",),
    "count": ("count",),
    "position": ("position",),
    "color": ("colour",),
    "scene": ("location", "weather"),
    "OCR": ("sign",),
}
GQA_SEMANTIC = {"beside": "rel", "location": "global", "weather": "global"}
GQA_KINDS = ("colour", "count", "position", "size", "action", "location", "weather", "beside")
MMB_KINDS = ("colour", "object", "location", "beside", "sign")
ANNOTATORS = 10


def write_benchmark(name: str, seed: int, scenes: int, folder: Path, split: str = "benchmark") -> None:
    """Write a benchmark's set as its official files, and `scenes.jsonl`, which says what each image shows.

    `split` is a namespace of the world ("benchmark", "tuning-benchmark"). Each set has its share of `scenes`.
    """
    writers: dict[str, Callable[[Pictures, int], None]] = {
        "sqa": _sqa,
        "gqa": _gqa,
        "textvqa": _textvqa,
        "mmvet": _mmvet,
        "mme": _mme,
        "mmb": _mmb,
        "pope": _pope,
        "chair": _chair,
        "mmhal": _mmhal,
        "mmstar": choicesets.mmstar,
        "llava_bench": _llava_bench,
        "realworldqa": choicesets.realworldqa,
        "cvbench": choicesets.cvbench,
        "amber": hallusets.amber,
        "hallusion": hallusets.hallusion,
        "objhal": hallusets.objhal,
    }
    if name not in writers:
        raise UsageError(f"the embedded testbed has no set for {name}; it has {', '.join(writers)}.")
    folder.mkdir(parents=True, exist_ok=True)
    pictures = Pictures(folder, f"{split}/{seed}")
    writers[name](pictures, max(1, round(PER_THOUSAND[name] * scenes / 1000)))
    pictures.write("scenes.jsonl", "".join(pictures.lines))


def negatives(seen: Scene, rng: random.Random, how: str) -> list[str]:
    """Three absent categories, chosen as POPE does: any, the most frequent, or those that go with what is there."""
    missing = ask.absent_objects(seen)
    if how == "popular":
        return [category for category in popularity() if category in missing][:3]
    rng.shuffle(missing)
    if how == "adversarial":
        partners = {CATEGORIES[category].partner for category in seen.categories()}
        missing.sort(key=lambda category: (category not in partners, not home(category, seen.location)))
    return missing[:3]


def _pope(pictures: Pictures, n: int) -> None:
    """Three present and three absent objects per image, in turn; the present ones are the same in all splits."""
    rows: dict[str, list[dict[str, Any]]] = {how: [] for how in ("random", "popular", "adversarial")}
    for name, seen in pictures.scenes(n):
        rng = random_of("pope", seen)
        image = pictures.draw(seen, f"val2014/{name}.png")
        present = rng.sample(seen.categories(), 3)
        for how, split in rows.items():
            for there, not_there in zip(present, negatives(seen, rng, how), strict=True):
                for category in (there, not_there):
                    question = ask.existence(seen, category)
                    row = {"question_id": len(split) + 1, "image": image, "text": question.text}
                    split.append(row | {"label": question.value})
    for how, split in rows.items():
        pictures.write(f"coco_pope_{how}.json", "".join(json.dumps(row) + "\n" for row in split))


def _chair(pictures: Pictures, n: int) -> None:
    gold = {}
    for name, seen in pictures.scenes(n):
        pictures.draw(seen, f"images/{name}.png")
        gold[name] = sorted(seen.categories())
    pictures.json("gt_objects.json", gold)
    pictures.write("synonyms.txt", "".join(f"{name}, {kind.plural}\n" for name, kind in CATEGORIES.items()))


def _mme_pair(seen: Scene, rng: random.Random, kind: str) -> tuple[ask.Question, ask.Question]:
    """A question whose answer is yes and one whose answer is no."""
    if kind == "existence":
        return ask.some_existence(seen, rng, 1.0), ask.some_existence(seen, rng, 0.0)
    thing = None if kind in ask.OF_SCENE else rng.choice(seen.things)
    truth = ask.open_question(seen, thing, kind)
    wrong = rng.choice(ask.alternatives(truth))
    return ask.attribute(seen, thing, kind, truth.value), ask.attribute(seen, thing, kind, wrong)


def _mme(pictures: Pictures, n: int) -> None:
    """Two questions an image; every subtask has scenes of its own, but reading has the first ones with a sign."""
    each = max(1, round(n / len(MME)))
    others = pictures.scenes(each * (len(MME) - 1))
    for subtask, kinds in MME.items():
        for name, seen in pictures.scenes(each, signs=True) if subtask == "OCR" else islice(others, each):
            rng = random_of(f"mme/{subtask}", seen)
            pictures.draw(seen, f"{subtask}/{name}.png")
            pair = _mme_pair(seen, rng, rng.choice(kinds))
            lines = [f"{question.text} Please answer yes or no.\t{question.short}\n" for question in pair]
            pictures.write(f"{subtask}/{name}.txt", "".join(lines))


def _mmb(pictures: Pictures, n: int) -> None:
    """Four options each; the reader makes the circular passes."""
    file = io.StringIO()
    columns = ("index", "question", "hint", *ask.LETTERS, "answer", "category", "image", "source", "l2-category")
    table = csv.writer(file, delimiter="\t", lineterminator="\n")
    table.writerow((*columns, "comment", "split"))
    for number, (name, seen) in enumerate(pictures.scenes(n), 1):
        question, listed, letter = multiple_choice(seen, random_of("mmb", seen), MMB_KINDS, (3,))
        image = base64.b64encode(pictures.data(seen, f"{name}.png")).decode()
        level = "instance" if question.subject or question.kind == "object" else "image"
        row = (number, question.text, "", *listed, letter, question.kind, image, "mini", level, "", "dev")
        table.writerow(row)
    pictures.write("mmbench_dev_20230712.tsv", file.getvalue())


def _sqa(pictures: Pictures, n: int) -> None:
    kinds = (*GQA_KINDS, "object", "sign")
    problems = {}
    for number, (_, seen) in enumerate(pictures.scenes(n), 1):
        question, listed, letter = multiple_choice(seen, random_of("sqa", seen), kinds, (1, 2, 3))
        image = pictures.draw(seen, f"images/test/{number}/image.png")
        problems[str(number)] = {
            "question": question.text,
            "choices": listed,
            "answer": ask.LETTERS.index(letter),
            "hint": "",
            "image": image,
            "task": "closed choice",
            "grade": "",
            "subject": "",
            "topic": question.kind,
            "category": "",
            "skill": "",
            "lecture": "",
            "solution": question.full,
            "split": "test",
        }
    pictures.json("problems.json", problems)
    pictures.json("pid_splits.json", {"test": list(problems)})


def _gqa(pictures: Pictures, n: int) -> None:
    rows = {}
    for number, (name, seen) in enumerate(pictures.scenes(n)):
        question = opensets.asked(seen, random_of("gqa", seen), GQA_KINDS[number % len(GQA_KINDS)])
        pictures.draw(seen, f"images/{name}.png")
        types = {"detailed": question.kind, "structural": "query", "semantic": GQA_SEMANTIC.get(question.kind, "attr")}
        rows[name] = {
            "question": question.text,
            "answer": question.value.lower(),
            "fullAnswer": question.full,
            "imageId": name,
            "isBalanced": True,
            "types": types,
        }
    pictures.json("testdev_balanced_questions.json", rows)


def _textvqa(pictures: Pictures, n: int) -> None:
    """Reading a sign. Nobody read tokens off it, which would give the answer away (mini.yaml: `ocr: false`)."""
    rows = []
    for name, seen in pictures.scenes(n, signs=True):
        rng = random_of("textvqa", seen)
        question = ask.open_question(seen, None, "sign")
        pictures.draw(seen, f"train_images/{name}.png")
        truth = question.value.lower()
        near = [word.lower() for word in SIGNS if word[:2] == question.value[:2] and word != question.value]
        slips = [rng.choice([*near, "unanswerable"]) for _ in range(rng.choice((0, 1, 2)))]
        answers = [*slips, *[truth] * (ANNOTATORS - len(slips))]
        rng.shuffle(answers)
        row = {"question_id": int(name), "question": question.text, "image_id": name, "answers": answers}
        rows.append(row | {"image_classes": [], "set_name": "val"})
    pictures.json("TextVQA_0.5.1_val.json", {"dataset_type": "val", "dataset_version": "0.5.1", "data": rows})
    read = [{"image_id": row["image_id"], "ocr_tokens": [], "ocr_info": []} for row in rows]
    pictures.json("TextVQA_Rosetta_OCR_v0.2_val.json", {"data": read})


def _mmvet(pictures: Pictures, n: int) -> None:
    rows = {}
    for number, (name, seen) in enumerate(pictures.scenes(n)):
        image = pictures.draw(seen, f"images/{name}.png")
        asked = opensets.mmvet(seen, number, random_of("mmvet", seen))
        rows[f"v1_{number}"] = {"imagename": image, "imagesource": "mini", **asked}
    pictures.json("mm-vet.json", rows)


def _mmhal(pictures: Pictures, n: int) -> None:
    rows = []
    for number, (name, seen) in enumerate(pictures.scenes((n + 7) // 8 * 8)):
        pictures.draw(seen, f"images/{name}.png")
        asked = opensets.mmhal(seen, number, random_of("mmhal", seen))
        rows.append({"image_id": name, "image_src": "", **asked, "model_answer": ""})
    pictures.json("response_template.json", rows)


def _llava_bench(pictures: Pictures, n: int) -> None:
    """One question a scene; the captions that its judge reads say what is there."""
    files: dict[str, list[dict[str, Any]]] = {"questions": [], "context": [], "answers_gpt4": []}
    for number, (name, seen) in enumerate(pictures.scenes(n)):
        image = pictures.draw(seen, f"images/{name}.png")
        asked = opensets.llava_bench(seen, number, random_of("llava_bench", seen))
        about = {"question_id": number, "image": image, "text": asked["text"], "category": asked["category"]}
        files["questions"].append(about)
        files["context"].append({"id": name, "image": image, "caption": asked["caption"]})
        files["answers_gpt4"].append({"question_id": number, "prompt": asked["text"], "text": asked["answer"]})
    for file, rows in files.items():
        pictures.lines_of(f"{file}.jsonl", rows)
