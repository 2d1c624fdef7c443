"""What a comparison made, written for other tools: the records that a row was trained on, the model that came of it.

Each with a card, `README.md`, that says what it is and where it comes from.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from PIL import Image as Pillow

from harness.comparison.answers import Answers, official, samples
from harness.contracts import plugins
from harness.contracts.backend import Adapted, Model
from harness.contracts.images import FORMATS, Places, resolve
from harness.contracts.method import Role
from harness.contracts.records import Conversation, Image, Pair, Record, Rollout
from harness.contracts.row_names import BASELINE
from harness.contracts.settings import Lora
from harness.models.adapters import write_adapter
from harness.models.load import revision, write_whole
from harness.sources._written import FORMS, written
from harness.stages._model import ON_BASE, OWN, WHOLE, left_by
from harness.store.digest import file_digest
from harness.store.store import MANIFEST, Store
from harness.system.errors import HarnessError, UsageError
from harness.system.jsonl import read_jsonl
from harness.system.machine import explained
from reports.facts import StageFacts
from reports.markdown import md
from reports.report import without
from reports.results import results_rows
from reports.runs import Run

__all__ = ["FORMATS_OF", "Made", "new_folder"]
FORMATS_OF = {"records": FORMS, "checkpoint": ("merged", "adapter"), "responses": ("official", "lmms-eval")}
"""What can be exported, and in which formats; the first unless another is asked for."""
HOW = {
    "official": (
        "in the benchmarks' official answer formats",
        "`harness score BENCHMARK --answers FILE --questions FILE` reads them back.",
    ),
    "lmms-eval": (
        "as `lmms-eval --log_samples` writes them",
        "`doc_id` counts a task's items as this run had them: it joins with another row's export, and with lmms-eval's "
        "own files where their items are the same in the same order.",
    ),
}
LICENSE = {"license": "other", "license_name": "as-base-model-and-data"}


@contextmanager
def new_folder(folder: Path, run: Run) -> Iterator[Path]:
    """A place to fill, which becomes `folder` in the end or goes; UsageError where it cannot be made.

    Nor may it be inside the run's own folder or its store: nobody would know the files for others'.
    """
    for home in (run.folder, run.store):
        if Path(os.path.realpath(folder.expanduser())).is_relative_to(os.path.realpath(home)):
            raise UsageError(f"{folder} is inside {home}; name a folder elsewhere with --out.")
    folder = Path.cwd() / folder.expanduser()
    if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already; name a new folder with --out.")
    new = [home for home in folder.parents if not home.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name[:40]}.", dir=folder.parent))
    except OSError as error:
        raise UsageError(f"{folder} cannot be made ({error.strerror}); name another folder with --out.") from None
    try:
        with explained(folder.parent):
            yield part
        part.chmod(folder.parent.stat().st_mode & 0o777)
        try:
            part.rename(folder)  # an empty one gives way
        except OSError as error:
            raise UsageError(f"{folder} cannot be made ({error.strerror}); name another with --out.") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
        for home in new:
            if not any(home.iterdir()):
                home.rmdir()


@dataclass(frozen=True)
class Made:
    """What one row of a run made with one seed: `stages` are its own, `kind/key`, in the order they were made.

    `base` is where its base model lies now, if not where the run had it.
    """

    run: Run
    row: str
    seed: int
    stages: Sequence[str]
    base: Path | None = None

    @classmethod
    def of(cls, run: Run, row: str, seed: int | None, base: Path | None = None) -> "Made":
        """UsageError where the run trained nothing for that row or seed. Without a seed, the first."""
        trained = {(made.row, made.seed): made.stages for made in run.manifest.trained}
        return replace(cls._chosen(run, row, seed, trained), base=base)

    @classmethod
    def scored(cls, run: Run, row: str, seed: int | None) -> "Made":
        """The same of a row that was scored, trained or not."""
        return cls._chosen(run, row, seed, {(cell.row, cell.seed): [] for cell in run.cells if cell.done})

    @classmethod
    def _chosen(cls, run: Run, row: str, seed: int | None, trained: Mapping[tuple[str, int], Sequence[str]]) -> "Made":
        seeds = sorted(number for name, number in trained if name == row)
        if not seeds:
            rows = ", ".join(dict.fromkeys(name for name, _ in trained)) or "none"
            raise UsageError(f'{run.name} has nothing of a row "{row}"; it has {rows}.')
        if seed is not None and seed not in seeds:
            raise UsageError(f"{run.name} has no seed {seed} of {row}; it has {', '.join(map(str, seeds))}.")
        chosen = seeds[0] if seed is None else seed
        return cls(run, row, chosen, trained[row, chosen])

    @property
    def about(self) -> str:
        """Where it comes from, in a few words; synthetic is said."""
        testbed = self.run.setting.testbed_in_words
        return f"{self.run.rows.get(self.row, self.row)}, {self.run.manifest.data}, seed {self.seed}, testbed {testbed}"

    def of_kind(self, kind: str) -> list[str]:
        """Its stages of a kind."""
        return [stage for stage in self.stages if stage.startswith(f"{kind}/")]

    def sound(self, stage: str) -> Path:
        """The folder of a stage; HarnessError where it was not made, with what the run says of it, or is damaged."""
        if not (self.run.store / stage / MANIFEST).is_file():
            told = [one.why for one in self.run.failed if (one.row, one.seed) == (self.row, self.seed)]
            why = told[0] if told else "it is not in the store; the comparison's command makes it"
            raise HarnessError(f"{self.row}, seed {self.seed}, was not made: {why}")
        return Store(self.run.store).sound(stage)

    def records(self, out: Path, form: str, images: Path | None) -> list[str]:
        """Write its records, a file per round, and their pictures; a line on each. UsageError where there are none."""
        data, builds = self.run.manifest.folder, self.of_kind("build")
        copied, told = Copied(Places(self.run.store, Path(data) if data else None, images), out), []
        files = [f"records-{number}.json" if builds[1:] else "records.json" for number in range(1, len(builds) + 1)]
        for name, stage in zip(files, builds, strict=True):
            made = list(read_jsonl(Record, self.sound(stage) / "records.jsonl"))
            held = [record for record in made if not isinstance(record, Rollout)]
            kept = [record for record in held if all(text.strip() for text in texts_of(record))]
            rows = [row for one in kept for row in written(one, form, copied(one.image), f"harness: {self.about}")]
            if rows:
                (out / name).write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
                told.append(f"{name}: {len(rows):,} rows of {len(kept):,} records")
            for what, lost in (
                ("rollouts left out, whose figures no format holds", len(made) - len(held)),
                ("records left out, for readers refuse an empty text", len(held) - len(kept)),
            ):
                told += [f"{name.removesuffix('.json').replace('records-', 'round ')}: {lost:,} {what}"] if lost else []
        there = [name for name in files if (out / name).is_file()]
        if not there:
            raise UsageError(f"{self.row} has no records that a format holds ({'; '.join(told) or 'no build'}).")
        for name in sorted({StageFacts(self.run.store / one).joint for one in self.of_kind("train")} - {""}):
            told.append(f"not here: the examples of {name}, which were learnt together with them")
        upright = " --set reading.images=upright" if copied.upright else ""
        card = [f"Training records of {md(self.about)}, in the format {form}.", *told]
        card += [f"`harness compare --data {name}{upright}` reads it back; image paths start here." for name in there]
        write_card(out, "Training records", {**LICENSE, "tags": self.tags}, card)
        return told

    def model(self) -> Model:
        """The trained model as it is stored; HarnessError if it is damaged, UsageError where its base is not found."""
        trained = self.of_kind("train")
        if not trained:
            raise UsageError(f"{self.row} trained no model.")
        self.sound(trained[-1])
        begun, adapters = left_by(Store(self.run.store), trained[-1])
        whole = begun or self.based_on()
        return Adapted(whole, adapters) if adapters else whole

    def based_on(self) -> Path:
        """The base model's folder; UsageError where it is not where it was, or is another now."""
        known = str(self.run.manifest.models.get(str(self.seed), "not known"))
        folder = self.base or Path(self.run.manifest.bases.get(str(self.seed), "") or "a folder that is not known")
        if not folder.is_dir() or revision(folder) != known:
            raise UsageError(
                f"{self.row} is stored as adapters on the base model with the digest {known:.12}, and {folder} is not "
                "that model; say with --base where it is."
            )
        return folder

    def rounds(self) -> list[tuple[Path, Lora]]:
        """The policy's adapters, to be added to the base one after the other, and how each was trained.

        HarnessError where the store has none: it was trained in full, or before adapters were kept.
        """
        found = list[tuple[Path, Lora]]()
        for stage in reversed(self.of_kind("train")):
            folder, identity = self.sound(stage), Store(self.run.store).manifest_of(stage)["identity"]
            whole, own = folder / ON_BASE / Role.POLICY, folder / OWN
            if not any(one.is_dir() for one in (folder / WHOLE, whole, own)):  # a round of another role
                continue
            lora = identity["training"].get("lora")
            if lora is None or not (whole.is_dir() or own.is_dir()):
                why = "was trained in full" if lora is None else "was trained by a version that kept no adapters"
                raise HarnessError(f"{self.row}, seed {self.seed}, {why}; --format merged exports the whole model.")
            found.insert(0, (whole if whole.is_dir() else own, Lora.model_validate(lora)))
            if whole.is_dir():  # it has gone on from those before it
                break
        return found

    def checkpoint(self, out: Path, form: str) -> list[str]:
        """Write the trained model, "merged", or its "adapter" as peft has it; a line about it."""
        if form == "adapter":
            rounds = self.rounds()
            rank, library = write_adapter(rounds, out), "peft"
            said = [f"A LoRA adapter of rank {rank}: `PeftModel.from_pretrained(base, folder)`."]
            said += ["Load the base in float32, or in the training's dtype below."]
            said += ["It adds what each round's adapter added to the model of the round before."] * bool(rounds[1:])
            said += ["Scores are those of the merged model, whose weights were rounded to the training's dtype."]
        else:
            model = self.model()
            if isinstance(model, Adapted):
                write_whole(model, out)
            else:
                copied_tree(model, out)
            said, library = ["Adapters, where it had some, are merged."], "transformers"
        trained = self.of_kind("train")
        identity = Store(self.run.store).manifest_of(trained[-1])["identity"]
        base = self.run.manifest.models.get(str(self.seed), "not known")
        card = [
            f"{md(self.about)}.",
            *said,
            f"Base: the model with the digest `{base}`.",
            f"Method: {md(self.row)}, options {told_as_json(identity.get('options', {}))}.",
            f"Training{', of the last round' if trained[1:] else ''}: {told_as_json(identity.get('training', {}))}.",
            f"Rounds: {len(trained)}; stage {trained[-1]} of harness {self.run.manifest.harness}.",
        ]
        write_card(out, "Model", {**LICENSE, "library_name": library, "tags": self.tags}, card, self.scores())
        return [f"the {'adapter' if form == 'adapter' else 'model'} of {self.about}"]

    def responses(self, out: Path, wanted: Sequence[str], form: str) -> list[str]:
        """Write what the row said to benchmarks, in their "official" answer formats or as "lmms-eval" logs samples.

        A line about each benchmark.
        """
        known = without(self.run, self.run.manifest.benchmarks.keys() - {*wanted}).benchmarks()
        cells = [c for c in self.run.cells if (c.row, c.seed) == (self.row, self.seed) and c.benchmark in wanted]
        found = [Answers.of(cell, known[cell.benchmark]) for cell in cells]
        there = [one for one in found if one]
        told = official(out, there) if form == "official" else samples(out, there, self.row, datetime.now(UTC))
        told += [f"{c.benchmark}: no responses are there" for c, one in zip(cells, found, strict=True) if not one]
        how, back = HOW[form]
        card = [f"Responses of {md(self.about)}, {how}.", *told, back]
        write_card(out, "Responses", {**LICENSE, "tags": self.tags}, card)
        return told

    @property
    def tags(self) -> list[str]:
        """For the head of a card."""
        return ["vlm-alignment", self.row, *(["synthetic"] if self.run.setting.synthetic else [])]

    def scores(self) -> list[str]:
        """Each benchmark's first metric with its interval over items, and the baseline's, as a table of markdown."""
        foreign = plugins.foreign("benchmarks", self.run.manifest.benchmarks)
        run = without(self.run, foreign)
        known = run.benchmarks()
        mine = [one for one in run.outcomes() if one.method in (self.row, BASELINE) and one.seed == self.seed]
        asked = {name: known[name] for name in dict.fromkeys(one.benchmark for one in mine)}
        rows = list(results_rows(mine, asked, self.run.setting))
        lines = ["| benchmark | metric | this model | 95 % interval | base | items |", "|-|-|-|-|-|-|"]
        for name, benchmark in asked.items():
            first = benchmark.metrics[0]
            of = {row["method"]: row for row in rows if (row["benchmark"], row["metric"]) == (name, first.id)}
            if self.row in of:
                row, base = of[self.row], of.get(BASELINE, {})
                low, high = row.get("ci_lo"), row.get("ci_hi")
                between = "–" if low is None or high is None else f"{low:.4g} to {high:.4g}"
                cells = [md(benchmark.label), f"`{first.id}`", figure(row), between, figure(base), str(row["n"])]
                lines.append(f"| {' | '.join(cells)} |")
        left = [f"\nNot shown, for their files are not here: {md(', '.join(sorted(foreign)))}."] if foreign else []
        return (lines if lines[2:] else ["Nothing of it was scored."]) + left


def copied_tree(folder: Path, out: Path) -> None:
    """Copy a folder's files; `shutil.copytree` hides that a disk is full."""
    for file in sorted(filter(Path.is_file, folder.rglob("*"))):
        (place := out / file.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, place)


def texts_of(record: Conversation | Pair) -> Iterator[str]:
    """Every text of a record."""
    if isinstance(record, Pair):
        yield from (record.question, record.chosen, record.rejected)
    for turn in record.history if isinstance(record, Pair) else (turn for branch in record.branches for turn in branch):
        yield from (turn.question, turn.answer)


def figure(row: Mapping[str, Any]) -> str:
    """A value as a card has it, or why there is none."""
    return f"{row['value']:.4g}" if "value" in row else md(str(row.get("withheld", "–")))


def told_as_json(value: object) -> str:
    """Settings as code in markdown."""
    return f"`{json.dumps(value, sort_keys=True, ensure_ascii=False).replace('`', '?')}`"


def write_card(out: Path, title: str, head: Mapping[str, Any], said: Sequence[str], below: Sequence[str] = ()) -> None:
    """`README.md`: what the hub reads of it, then what a person does."""
    front = yaml.safe_dump(dict(head), sort_keys=False, allow_unicode=True)
    lines = ["---", f"{front}---", "", f"# {title}", "", *(f"- {line}" for line in said), "", *below, ""]
    (out / "README.md").write_text("\n".join(lines), encoding="utf-8")


class Copied:
    """Copies pictures into a folder, each once, under its digest; `upright` is how the last one is to be read."""

    def __init__(self, places: Places, out: Path) -> None:
        self.places, self.out, self.upright = places, out, False
        self.names = dict[str, str]()

    def __call__(self, image: Image | None) -> str:
        """The copy's path from the folder, "" of no image; HarnessError where the picture is not what it was."""
        if image is None:
            return ""
        if image.sha256 not in self.names:
            self.names[image.sha256] = self._copy(image)
        self.upright = image.upright
        return self.names[image.sha256]

    def _copy(self, image: Image) -> str:
        path = Path(resolve(image, self.places).path)
        if image.path.startswith("@images/") and self.places.images is None:
            raise UsageError("the pictures are in a folder of your own; say with --images where it is.")
        if not path.is_file() or file_digest(path) != image.sha256:
            raise HarnessError(f"{path} is not the picture that was trained on, or is gone; put it back.")
        with Pillow.open(path, formats=FORMATS) as picture:
            kind = (picture.format or "").lower().replace("jpeg", "jpg")
        name = f"images/{image.sha256[:24]}.{kind}"
        (self.out / "images").mkdir(exist_ok=True)
        shutil.copyfile(path, self.out / name)
        return name
