"""The datasets of lmms-eval's stock tasks, made from a folder in the official layout: same content, the hub's schema.

Columns and file names are those of the hub repositories, as their dataset cards list them.
"""

import base64
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import yaml

from benchmarks._mmbench import PASS, Mmbench
from benchmarks.mmb import Mmb
from benchmarks.mmb_cn import MmbCn
from benchmarks.mme import COGNITION, PERCEPTION

Rows = list[dict[str, Any]]


def embedded(path: Path) -> dict[str, Any]:
    """A picture as `datasets` embeds it."""
    return {"bytes": path.read_bytes(), "path": path.name}


def found(folder: Path, stem: str) -> Path:
    return next(path for path in sorted(folder.glob(f"{stem}*")) if path.stem == stem)


def pope(folder: Path) -> dict[str, Rows]:
    """All rows in the hub's order, which is not the official one."""
    rows: Rows = []
    for split in ("adversarial", "popular", "random"):
        text = next(folder.glob(f"coco_pope_{split}.json*")).read_text()
        for row in map(json.loads, text.splitlines()):
            picture = folder / "val2014" / row["image"]
            known = {"question_id": str(row["question_id"]), "question": row["text"], "answer": row["label"]}
            rows.append(
                {"id": str(len(rows)), **known, "image_source": picture.stem, "image": embedded(picture)}
                | {"category": split}
            )
    full = {f"Full/{split}": [row for row in rows if row["category"] == split] for split in ("random", "popular")}
    return {"data/test": rows, **full, "Full/adversarial": [row for row in rows if row["category"] == "adversarial"]}


def mme(folder: Path) -> dict[str, Rows]:
    rows: Rows = []
    for subtask in reversed(PERCEPTION + COGNITION):
        for file in sorted((folder / subtask).rglob("*.txt"), reverse=True):
            home = folder / subtask / "images" if (folder / subtask / "images").is_dir() else folder / subtask
            picture = found(home, file.stem)
            for line in file.read_text().splitlines():
                question, _, answer = line.rpartition("\t")
                row = {"question_id": f"{subtask}/{picture.name}", "image": embedded(picture), "question": question}
                rows.append(row | {"answer": answer, "category": subtask})
    return {"data/test": rows}


def gqa(folder: Path) -> dict[str, Rows]:
    questions = json.loads((folder / "testdev_balanced_questions.json").read_text())
    rows = [{"id": id, **row} for id, row in questions.items()]
    names = sorted({row["imageId"] for row in rows})
    pictures = [{"id": name, "image": embedded(found(folder / "images", name))} for name in names]
    return {"testdev_balanced_instructions/testdev": rows, "testdev_balanced_images/testdev": pictures}


def textvqa(folder: Path) -> dict[str, Rows]:
    read = json.loads((folder / "TextVQA_Rosetta_OCR_v0.2_val.json").read_text())["data"]
    tokens = {row["image_id"]: row["ocr_tokens"] for row in read}
    rows = json.loads((folder / "TextVQA_0.5.1_val.json").read_text())["data"]
    return {
        "data/validation": [
            {
                **{name: row[name] for name in ("image_id", "question_id", "question", "answers")},
                "image": embedded(found(folder / "train_images", row["image_id"])),
                "ocr_tokens": tokens[row["image_id"]],
            }
            for row in rows
        ]
    }


def sqa(folder: Path) -> dict[str, Rows]:
    problems = json.loads((folder / "problems.json").read_text())
    rows: Rows = []
    for id in json.loads((folder / "pid_splits.json").read_text())["test"]:
        problem = problems[id]
        picture = embedded(folder / "images" / "test" / id / "image.png") if problem["image"] else None
        names = ("question", "choices", "answer", "hint", "subject", "grade")
        rows.append({"image": picture, **{name: problem.get(name) for name in names}})
    return {"ScienceQA-IMG/test": [row for row in rows if row["image"]], "ScienceQA-FULL/test": rows}


def mmb(folder: Path, benchmark: Mmbench | None = None) -> dict[str, Rows]:
    """One row per circular pass, empty cells spelt "nan"."""
    benchmark = benchmark or Mmb()
    csv.field_size_limit(10**8)
    with (folder / benchmark.file).open(encoding="utf-8") as file:
        table = list(csv.DictReader(file, delimiter="\t"))
    rows: Rows = []
    for row in table:
        choices = [row[letter] for letter in "ABCD" if row[letter]]
        for step in range(len(choices)):
            turned = [*choices[len(choices) - step :], *choices[: len(choices) - step], "nan", "nan"]
            shown = {"bytes": base64.b64decode(row["image"]), "path": None}
            rows.append(
                {
                    "index": int(row["index"]) + step * PASS,
                    **{name: row.get(name) or "nan" for name in ("question", "hint", "category", "source", "split")},
                    **dict(zip("ABCD", turned, strict=False)),
                    "answer": "ABCD"[("ABCD".index(row["answer"]) + step) % len(choices)],
                    "image": shown,
                    "L2-category": row["l2-category"],
                }
            )
    return {f"{benchmark.config}/dev": rows}


def seed(folder: Path) -> dict[str, Rows]:
    """Image and video questions, a list of pictures each; without the questions' types."""
    rows: Rows = []
    for row in json.loads((folder / "SEED-Bench.json").read_text())["questions"]:
        stills = folder / "SEED-Bench-image"
        shown = [embedded(found(stills, row["data_id"]))] if row["data_type"] == "image" else []
        rows.append({**row, "question_id": str(row["question_id"]), "image": shown})
    return {"data/test": rows}


def mmvet(folder: Path) -> dict[str, Rows]:
    rows = json.loads((folder / "mm-vet.json").read_text())
    return {
        "data/test": [
            {
                "question_id": id,
                "image": embedded(folder / "images" / row["imagename"]),
                "question": row["question"],
                "answer": row["answer"],
                "capability": ",".join(row["capability"]),
            }
            for id, row in rows.items()
        ]
    }


def chair(folder: Path) -> dict[str, Rows]:
    gold = json.loads((folder / "gt_objects.json").read_text())
    names = {id: f"COCO_val2014_{id:0>12}" for id in gold}
    pictures = folder / "images"
    paths = {id: found(pictures, name if any(pictures.glob(f"{name}.*")) else id) for id, name in names.items()}
    return {
        "data/test": [
            {"image": embedded(paths[id]), "question_id": id, "gt_object": objects} for id, objects in gold.items()
        ]
    }


def mmstar(folder: Path) -> dict[str, Rows]:
    with (folder / "MMStar.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    pictures = [{"bytes": base64.b64decode(row["image"]), "path": None} for row in rows]
    return {
        "val/val": [
            {name: row[name] for name in ("question", "answer", "category", "l2_category")}
            | {"index": int(row["index"]), "image": image, "meta_info": {"source": row["bench"], "split": "val"}}
            for row, image in zip(rows, pictures, strict=True)
        ]
    }


def cvbench(folder: Path) -> dict[str, Rows]:
    rows = [
        json.loads(line) for part in ("2d", "3d") for line in (folder / f"test_{part}.jsonl").read_text().splitlines()
    ]
    return {"data/test": [row | {"image": embedded(folder / row["filename"])} for row in rows]}


HUB: dict[str, Callable[[Path], dict[str, Rows]]] = {
    "pope": pope, "mme": mme, "gqa": gqa, "textvqa": textvqa, "sqa": sqa, "mmb": mmb, "mmvet": mmvet, "chair": chair,
    "mmb_cn": lambda folder: mmb(folder, MmbCn()), "seed": seed,
    "mmstar": mmstar, "cvbench": cvbench,
}  # fmt: skip


def write(name: str, official: Path, out: Path) -> None:
    """The benchmark's dataset as a clone of its hub repository would lie in `out`."""
    configs: dict[str, Rows] = {}
    for split, rows in HUB[name](official).items():
        file = out / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        table = datasets.Dataset.from_list(rows)
        if "image" in table.column_names:
            shown = datasets.List(datasets.Image()) if isinstance(rows[0]["image"], list) else datasets.Image()
            table = table.cast_column("image", shown)
        table.to_parquet(file)
        config, part = split.split("/")
        configs.setdefault(config.replace("data", "default"), []).append({"split": part, "path": f"{split}-*"})
    card = {"configs": [{"config_name": config, "data_files": files} for config, files in configs.items()]}
    (out / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\n")
