"""Small sets in the official layouts, made up here, and what a perfect model and judge would say to them."""

import base64
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from benchmarks.mme import COGNITION, PERCEPTION
from benchmarks.mmstar import CATEGORIES
from harness.contracts.judge import Ask
from harness.contracts.records import Image, Item, Unscored
from harness.system.errors import UsageError


class Files:
    """Images with the identity of their bytes, without a store."""

    def at(self, path: Path) -> Image:
        if not path.is_file():
            raise UsageError(f"there is no picture {path}")
        return Image(str(path), hashlib.sha256(path.read_bytes()).hexdigest())

    def of(self, data: bytes) -> Image:
        return Image("", hashlib.sha256(data).hexdigest())


class Fixed:
    """A judge that always gives the best grade, or always the reply it is given."""

    name = "fixed"

    def __init__(self, reply: str | Unscored | None = None) -> None:
        self.said = reply

    def reply(self, ask: Ask) -> str | Unscored:
        if self.said is not None:
            return self.said
        if ask.purpose == "shr":
            return judgement(ask.facts["sentences"], ask.facts["facts"])
        if ask.purpose == "objhal":
            return json.dumps(re.findall(r"a (\w+)", ask.facts["response"]))
        good = ask.facts["response"] == ask.facts["reference"]
        worst_and_best = {
            "mmvet": ("0.0", "1.0"), "mmhal": ("Rating: 0", "Fine.\nRating: 6"), "indomain": ("0 0", "10 10\nFine."),
            "llava_bench": ("10 1", "1 10\nFine."),
            "hallusion": ("incorrect", "correct"),
        }  # fmt: skip
        return worst_and_best[ask.purpose][good]


def judgement(sentences: str, facts: str) -> str:
    """SHR's reply: correct is what stands among the facts."""
    labels = []
    for line in sentences.splitlines():
        number, _, sentence = line.partition(". ")
        label = "correct" if json.loads(sentence) in facts else "hallucination"
        labels.append(f"{number}. {label}: because")
    return "\n".join(["Judgement:", *labels])


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Pillow.new("RGB", (8, 8), (shade % 256, shade // 256, 90)).save(file, "PNG")
    return file.getvalue()


def picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(shade))


def as_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def answers(path: Path, texts: Mapping[Any, str]) -> str:
    return jsonl(path, [{"question_id": id, "text": text} for id, text in texts.items()])


def pope(folder: Path) -> None:
    for shade in range(4):
        picture(folder / "val2014" / f"COCO_val2014_{shade:012d}.jpg", shade)
    for split in ("random", "popular", "adversarial"):
        rows = []
        for number in range(8):
            image, label = f"COCO_val2014_{number // 2:012d}.jpg", ("yes", "no")[number % 2]
            text = f"Is there a {('dog', 'cat')[number % 2]} in the image?"
            rows.append({"question_id": number + 1, "image": image, "text": text, "label": label})
        text = "\n".join(map(json.dumps, rows)) + "\n"
        (folder / f"coco_pope_{split}.json").write_text(text, encoding="utf-8")


def mme(folder: Path) -> None:
    """Half of the subtasks in either of the release's two arrangements."""
    for place, subtask in enumerate(PERCEPTION + COGNITION):
        pictures, texts = (("images", "questions_answers_YN"), (".", "."))[place % 2]
        for shade in range(3):
            picture(folder / subtask / pictures / f"{shade}.{('jpg', 'png')[place % 2]}", 10 * place + shade)
            (folder / subtask / texts).mkdir(parents=True, exist_ok=True)
            lines = "Is it a dog? Please answer yes or no.\tYes\nIs it a cat? Please answer yes or no.\tNo"
            (folder / subtask / texts / f"{shade}.txt").write_text(lines + "\n" * (shade == 0))


def mmb(folder: Path, name: str = "mmbench_dev_20230712.tsv") -> None:
    """Three base questions with 4, 3 and 2 options, not expanded."""
    lines = ["index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\timage\tl2-category\tsplit"]
    for index, (options, answer, hint) in enumerate(
        (
            (("red", "green", "blue", "pink"), "C", "Look closely."),
            (("one", "two", "six"), "A", ""),
            (("up", "down"), "B", "nan"),
        )
    ):
        cells = "\t".join([*options, "", ""][:4])
        image = base64.b64encode(png(index)).decode()
        kind = ("attribute", "count", "count")[index]
        lines.append(f"{index}\tWhat is it?\t{hint}\t{cells}\t{answer}\t{kind}\t{image}\tfine\tdev")
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def mmb_cn(folder: Path) -> None:
    mmb(folder, "mmbench_dev_cn_20231003.tsv")


def seed(folder: Path) -> None:
    """Three image questions of two types, one with a .jpg, and a video question."""
    (folder / "SEED-Bench-image").mkdir()
    rows = []
    for number, answer in enumerate("BDA"):
        picture(folder / "SEED-Bench-image" / (f"{number}" if number else "0.jpg"), number)
        row = {"question_id": str(100 + number), "question": "Which?", "question_type_id": 1 + number % 2}
        rows.append(row | {"answer": answer, "data_type": "image", "data_id": str(number)})
        rows[-1] |= {f"choice_{letter}": f"thing {letter}" for letter in "abcd"}
    rows.append(rows[0] | {"question_id": "v7", "data_type": "video", "question_type_id": 10})
    types = {"Scene Understanding": 1, "Instance Identity": 2, "Action Recognition": 10}
    as_json(folder / "SEED-Bench.json", {"questions": rows, "question_type": types})


def sqa(folder: Path) -> None:
    problems = {
        "3": {
            "question": "Which is it? ",
            "choices": ["dog", "cat"],
            "answer": 1,
            "hint": " It purrs. ",
            "image": "image.png",
        },
        "5": {"question": "Which?", "choices": ["a", "b", "c", "d", "e"], "answer": 4, "hint": "", "image": None},
        "9": {"question": "What?", "choices": ["x", "y", "z"], "answer": 0, "hint": "", "image": "image.png"},
    }
    for id in ("3", "9"):
        picture(folder / "images" / "test" / id / "image.png", int(id))
        problems[id] |= {"subject": "natural science", "grade": f"grade{id}"}
    as_json(folder / "problems.json", problems)
    as_json(folder / "pid_splits.json", {"train": [], "test": ["9", "3", "5"]})


def gqa(folder: Path) -> None:
    rows = {}
    for number, (answer, structural) in enumerate((("red", "query"), ("yes", "verify"), ("left", "query"))):
        picture(folder / "images" / f"n{number}.jpg", number)
        types = {"structural": structural, "semantic": "attr", "detailed": "x"}
        row = {"question": "What is it?", "answer": answer, "imageId": f"n{number}", "types": types}
        rows[f"20{number}"] = row | {"isBalanced": True}
    rows["209"] = {**rows["200"], "isBalanced": False}
    as_json(folder / "testdev_balanced_questions.json", rows)


def textvqa(folder: Path) -> None:
    rows, read = [], []
    for number, answer in enumerate(("stop", "exit", "open late")):
        picture(folder / "train_images" / f"f{number}.jpg", number)
        rows.append({"question_id": 34600 + number, "question": "what does it say?", "image_id": f"f{number}"})
        rows[-1]["answers"] = [answer] * 10
        read.append({"image_id": f"f{number}", "ocr_tokens": ["STOP", "4"] if number else []})
    as_json(folder / "TextVQA_0.5.1_val.json", {"data": rows})
    as_json(folder / "TextVQA_Rosetta_OCR_v0.2_val.json", {"data": read})


def mmvet(folder: Path) -> None:
    rows = {}
    for number, needed in enumerate((["rec"], ["math", "ocr"], ["rec", "spat"])):
        picture(folder / "images" / f"v1_{number}.png", number)
        row = {"imagename": f"v1_{number}.png", "question": "What is x?", "answer": "4<AND>5", "capability": needed}
        rows[f"v1_{number}"] = row
    as_json(folder / "mm-vet.json", rows)


def mmhal(folder: Path) -> None:
    rows = []
    for number in range(16):
        picture(folder / "images" / (f"{number}.jpg" if number else "7_o.jpg"), number)
        row = {
            "image_id": str(number),
            "image_src": f"https://example.org/{number}_{number}/7_o.jpg" if not number else "",
        }
        rows.append(row | {"image_content": ["Dog", "Tree"], "question": "Who?", "gt_answer": "A dog."})
    as_json(folder / "response_template.json", rows)


def chair(folder: Path) -> None:
    for id in ("17", "23"):
        picture(folder / "images" / f"COCO_val2014_{int(id):012d}.jpg", int(id))
    as_json(folder / "gt_objects.json", {"17": ["dog", "hot dog"], "23": ["cat"]})


def shr(folder: Path) -> None:
    """Two images: one in each of Visual Genome's folders, one without a note, a region without a phrase."""
    url, rows, regions = "https://cs.stanford.edu/people/rak248/", [], []
    for id, part in ((7, "VG_100K"), (8, "VG_100K_2")):
        picture(folder / part / f"{id}.jpg", id)
        rows.append({"image_id": id, "width": 200, "height": 300, "url": f"{url}{part}/{id}.jpg"})
        box = {"image_id": id, "x": 20, "y": 30, "width": 40, "height": 100}
        regions.append({"regions": [{**box, "phrase": "a dog"}, {**box, "phrase": ""}]})
    as_json(folder / "image_data.json", rows)
    as_json(folder / "region_descriptions.json", [*regions, {"regions": []}])
    as_json(folder / "val_images_final.json", [{"image_id": 8}, {"image_id": 7}])
    (folder / "shr_factual_part1.jsonl").write_text('{"7": ["A red dog.", "It sits."]}\n', encoding="utf-8")
    (folder / "shr_factual_part2.jsonl").write_text('{"8": ["A cat"]}\n', encoding="utf-8")


def amber(folder: Path) -> None:
    """A caption and nine questions about two pictures: of every kind one that is true and one that is not."""
    kinds = ("hallucination", "attribute-state", "attribute-number", "attribute-action")
    types = ["generative", *(f"discriminative-{kind}" for kind in kinds for _ in range(2)), "relation", "relation"]
    notes, queries = [], []
    for number, kind in enumerate(types, 1):
        truth: object = ["dog", "sky"] if number == 1 else ("yes", "no")[number % 2]
        notes.append({"id": number, "type": kind, "truth": truth} | ({"hallu": ["cat"]} if number == 1 else {}))
        queries.append({"id": number, "image": f"AMBER_{1 + number % 2}.jpg", "query": f"Is it {number}?"})
    for number in (1, 2):
        picture(folder / "image" / f"AMBER_{number}.jpg", number)
    (folder / "query").mkdir()
    as_json(folder / "annotations.json", notes)
    as_json(folder / "query" / "query_all.json", queries)


def hallusion(folder: Path) -> None:
    """A set about a picture and its twin, one without a picture and with one; two questions each."""
    rows = []
    for category, place in (("VD", 0), ("VD", 1), ("VS", 0), ("VS", 1)):
        file = f"{category}/chart/0_{place}.png"
        bare = category == "VS" and not place
        if not bare:
            picture(folder / file, 2 * place + (category == "VS"))
        for number in range(2):
            row = {"category": category, "subcategory": "chart", "visual_input": str(0 if bare else 1 + place)}
            row |= {"set_id": "0", "figure_id": str(place), "sample_note": "x", "question_id": str(number)}
            row |= {"question": f"Is it {number}?", "gt_answer": str((place + number) % 2)}
            rows.append(
                {**row, "gt_answer_details": f"It is {place}, {number}.", "filename": None if bare else f"./{file}"}
            )
    as_json(folder / "HallusionBench.json", rows)


def objhal(folder: Path) -> None:
    rows = [
        {"image_id": id, "question": "Describe it.", "image": base64.b64encode(png(id)).decode()} for id in (17, 23)
    ]
    jsonl(folder / "obj_halbench_300_with_image.jsonl", rows)
    as_json(folder / "gt_objects.json", {"17": ["dog", "car"], "23": ["cat", "bus"]})


def indomain(folder: Path) -> None:
    rows = []
    for number in range(12):
        picture(folder / "images" / f"{number}.jpg", number)
        asked = {"from": "human", "value": "<image>\nDescribe it."}, {"from": "gpt", "value": f"Dog {number}."}
        rows.append({"id": f"x{number}", "image": f"{number}.jpg", "conversations": asked})
    as_json(folder / "llava150k.json", rows)


def in_base64(shade: int) -> str:
    return base64.b64encode(png(shade)).decode()


def mmstar(folder: Path) -> None:
    """A question of each capability, with four options, three and two."""
    told = ("Options: A: red, B: green, C: blue, D: pink", "Options: A: one, B: two, C: six", "Options: A: up, B: down")
    lines = ["index\tquestion\timage\tanswer\tcategory\tl2_category\tbench"]
    for number, category in enumerate(CATEGORIES):
        question, answer = f"Which is it? {told[number % 3]}", "CABBCA"[number]
        lines.append(f"{number}\t{question}\t{in_base64(number)}\t{answer}\t{category}\taxis {number}\tMMBench")
    (folder / "MMStar.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def llava_bench(folder: Path) -> None:
    """Two questions about one image and one about another, whose context is several sentences."""
    rows = []
    for number, category in enumerate(("conv", "detail", "complex")):
        rows.append({"question_id": number, "image": f"00{min(number, 1)}.jpg", "text": "Who?", "category": category})
        picture(folder / "images" / rows[-1]["image"], min(number, 1))
    jsonl(folder / "questions.jsonl", rows)
    jsonl(folder / "context.jsonl", [{"id": n, "image": f"00{n}.jpg", "caption": ["A dog.", "Sun."]} for n in range(2)])
    jsonl(folder / "answers_gpt4.jsonl", [{"question_id": n, "text": f"It is dog {n}."} for n in range(3)])


def realworldqa(folder: Path) -> None:
    """With options in the question as xAI has it, in columns as VLMEvalKit has it, and without."""
    ask = "Please answer directly with only the letter of the correct option and nothing else."
    word = "Please answer directly with a single word or number."
    rows = [
        (f'"Where to?\n\nA. Left\nB. Straight\nC. Right\n{ask}"', "", "", "B"),
        ("Which is nearer?", "The car", "The bus", "A"),
        (f'"How many?\n{word}"', "", "", "3"),
        (f'"Is it wet?\n{word}"', "", "", "No"),
    ]
    lines = [f"{n}\t{text}\t{a}\t{b}\t{right}\t{in_base64(n)}" for n, (text, a, b, right) in enumerate(rows)]
    text = "\n".join(["index\tquestion\tA\tB\tanswer\timage", *lines]) + "\n"
    (folder / "RealWorldQA.tsv").write_text(text, encoding="utf-8")


def cvbench(folder: Path) -> None:
    """A question of each task, two of one source."""
    files: dict[str, list[dict[str, Any]]] = {"2d": [], "3d": []}
    tasks = (("Count", "ADE20K"), ("Relation", "COCO"), ("Count", "COCO"), ("Depth", "Omni3D"), ("Distance", "Omni3D"))
    for number, (task, source) in enumerate(tasks):
        kind = "3d" if source == "Omni3D" else "2d"
        options = ["3", "2", "1", "0"] if task == "Count" else ["left one", "right one"]
        picture(folder / "img" / kind / f"{number}.png", number)
        row = {"idx": number, "type": kind.upper(), "task": task, "source": source, "question": "Which?"}
        row |= {"choices": options, "answer": f"({'ABCBA'[number]})", "filename": f"img/{kind}/{number}.png"}
        listed = "".join(f"\n({letter}) {words}" for letter, words in zip("ABCD", options, strict=False))
        files[kind].append(row | {"prompt": f"Which? Select from the following choices.{listed}"})
    for kind, rows in files.items():
        jsonl(folder / f"test_{kind}.jsonl", rows)


OPTIONS = {"indomain": {"source": "llava150k"}}  # of benchmarks that cannot do without
LAYOUTS: dict[str, Callable[[Path], None]] = {
    "pope": pope, "mme": mme, "mmb": mmb, "sqa": sqa, "gqa": gqa, "textvqa": textvqa, "mmvet": mmvet, "mmhal": mmhal,
    "chair": chair, "mmb_cn": mmb_cn, "seed": seed, "shr": shr, "indomain": indomain,
    "mmstar": mmstar, "llava_bench": llava_bench, "realworldqa": realworldqa, "cvbench": cvbench,
    "amber": amber, "hallusion": hallusion, "objhal": objhal,
}  # fmt: skip


def laid_out(name: str, folder: Path) -> None:
    """A small set of a benchmark in the folder: the one here, or what lies beside an outside file."""
    if name.endswith(".py"):
        shutil.copytree(Path(name).with_suffix(""), folder, dirs_exist_ok=True)
    else:
        LAYOUTS[name](folder)


def perfect(name: str, item: Item) -> str:
    """The response that deserves the full score; of an outside file the answer among its facts."""
    facts = item.facts
    if name == "pope":
        return {"yes": "Yes", "no": "No"}[facts["label"]]
    if name == "sqa":
        return "ABCDE"[facts["answer"]]
    if name == "textvqa":
        return max(facts["answers"], key=facts["answers"].count)
    if name in ("chair", "objhal"):
        return "There is a " + " and a ".join(facts["objects"]) + "."
    if name == "shr":
        return str(facts["facts"])
    return str(facts["answer"])
