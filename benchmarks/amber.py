"""AMBER: yes/no questions and captions without a judge. Rules of junyangwang0410/AMBER `inference.py`.

Traps: the official parse takes "Yes" and "No" and nothing else, not even "No."; precision, recall and F1 are those of
"No". Others call the mean of three accuracies AMBER (VLMEvalKit, questions alone). A caption's noun counts as there, or
as made up, also by the similarity of word vectors (spaCy's en_core_web_lg, over 0.8); with other vectors, as lmms-eval
takes where it finds no such model, CHAIR and Cog are other figures. Captions that say less make less up: read CHAIR
beside Cover.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from benchmarks._amber_nouns import nouns
from benchmarks._files import name_of, parsed, picture, read_json, records, required, said, text_of
from benchmarks._parses import yes_or_no
from harness.contracts.benchmark import Benchmark, Files, Group, Images, Metric, Published, Totals, ratio
from harness.contracts.judge import Judge
from harness.contracts.records import Image, Item, Response, Score, Unscored
from harness.contracts.wordings import SHORT_ANSWER
from harness.system.errors import UsageError

CAPTION = "Describe this image."
KINDS = {
    "generative": "caption",
    "discriminative-hallucination": "existence",
    "discriminative-attribute-state": "state",
    "discriminative-attribute-number": "number",
    "discriminative-attribute-action": "action",
    "discriminative-relation": "relation",
    "relation": "relation",
}
GROUPS = {  # what the script prints figures of, and the kinds of its questions
    "": ("existence", "state", "number", "action", "relation"),
    "existence": ("existence",),
    "attribute": ("state", "number", "action"),
    "state": ("state",),
    "number": ("number",),
    "action": ("action",),
    "relation": ("relation",),
}
ASKED = {"discriminative": 14216, "generative": 1004, "all": 15220}
WAYS = ("", "@robust")
START = 0.001  # of every denominator in the official metrics.txt
QUESTIONS = (
    Metric("amber/f1", "AMBER F1", (0.0, 100.0)),
    Metric("amber/f1@robust", "AMBER F1 (any clear yes or no)", (0.0, 100.0)),
    Metric("amber/accuracy", "AMBER accuracy", (0.0, 100.0), chance=50.0),
    Metric("amber/valid", "AMBER valid", (0.0, 100.0)),
)
CAPTIONS = (
    Metric("amber/chair", "AMBER CHAIR", (100.0, 0.0)),
    Metric("amber/cover", "AMBER Cover", (0.0, 100.0)),
    Metric("amber/hal", "AMBER Hal", (100.0, 0.0)),
    Metric("amber/cog", "AMBER Cog", (100.0, 0.0)),
)
BOTH = (
    Metric("amber/score", "AMBER", (0.0, 100.0)),
    Metric("amber/score@robust", "AMBER (any clear yes or no)", (0.0, 100.0)),
)


class Words(NamedTuple):
    """What the official script knows of words: who is associated with whom, which are safe, and who is alike."""

    related: Mapping[str, Sequence[str]]
    safe: Collection[str]
    alike: Mapping[str, Collection[str]]

    @property
    def listed(self) -> list[str]:
        """Every word of relation.json: of a caption's nouns these alone count."""
        return sorted({*self.related, *(word for words in self.related.values() for word in words)})


def fate(noun: str, truth: Sequence[tuple[str, int]], lures: Sequence[tuple[str, int]], alike: Collection[str]) -> Any:
    """Which object of the truth a noun covers (None: none, so it is made up), and which lures it falls for.

    Of several objects that a word would do for, the first one counts, associated words before the objects.
    """
    exact = next((place for word, place in truth if word == noun), None)
    if exact is not None:
        return exact, []
    same = [place for word, place in lures if word == noun][:1]
    near = [place for word, place in lures if word in alike][:1]
    return next((place for word, place in truth if word in alike), None), sorted({*same, *near})


@dataclass(frozen=True)
class Amber(Benchmark):
    """F1 of "No" over the questions; of captions CHAIR, Cover, Hal and Cog; with `part=all` the mean of F1 and
    100 - CHAIR, which is the paper's AMBER score.

    Captions need `similar.json`, which one spaCy command makes of relation.json (docs/data.md): without it every noun
    that the caption makes up would be undecided, so that captions are not asked for. `short` adds LLaVA's line that
    asks for a word or phrase to the questions, whose parse wants one; `short=false` asks them as they are in the file.
    Beyond `metrics`, `compute` gives "amber/<kind>/<f1|accuracy|precision|recall>" for existence, attribute, state,
    number, action and relation, the same with "@robust", and "amber/words", the mean length of a caption.
    """

    part: Literal["discriminative", "generative", "all"] = "discriminative"
    short: bool = True

    label: ClassVar[str] = "AMBER"
    group: ClassVar[Group] = "hallucination"
    max_new_tokens: ClassVar[int] = 512
    layout: ClassVar[str] = (
        "what lies in data/ of github.com/junyangwang0410/AMBER (annotations.json, query/query_all.json and, for "
        "captions, relation.json and safe_words.txt), image/ with AMBER_<number>.jpg, which that page links to, and, "
        "for captions, similar.json (docs/data.md)."
    )
    fetch: ClassVar[str] = (
        "git clone -q https://github.com/junyangwang0410/AMBER {home}/repository && mv {home}/repository/data/* {home}"
    )
    protocol: ClassVar[str] = "short answer"
    metrics: ClassVar[tuple[Metric, ...]] = QUESTIONS
    official_n: ClassVar[int] = ASKED["discriminative"]

    def __post_init__(self) -> None:
        metrics = {"discriminative": QUESTIONS, "generative": CAPTIONS, "all": BOTH + QUESTIONS + CAPTIONS}
        own = {"metrics": metrics[self.part], "official_n": ASKED[self.part]}
        for name, value in own.items():  # of the object, not the class
            object.__setattr__(self, name, value)

    def items(self, folder: Path, images: Images) -> Iterator[Item]:
        """Captions and questions in the order of annotations.json."""
        rows = self._rows(required(folder, "annotations.json", self.told(folder)))
        asked = required(folder, "query/query_all.json", self.told(folder))
        listed = enumerate(records(asked, ["id", "image", "query"]), 1)
        queries = {name_of(asked, number, row["id"]): row for number, row in listed}
        pictures, words = required(folder, "image", self.told(folder)), self._words(folder)
        for id, row in rows.items():
            if id not in queries:
                raise UsageError(f"{asked} has no question {id}, which annotations.json has.")
            path = pictures / str(queries[id]["image"])
            image = images.at(path if path.is_file() else picture(pictures, path.stem))
            yield self._item(id, row, str(queries[id]["query"]), image, words)

    def _rows(self, path: Path) -> dict[str, dict[str, Any]]:
        """The annotations of the part that is asked for, by id."""
        found: dict[str, dict[str, Any]] = {}
        for number, row in enumerate(records(path, ["id", "type", "truth"]), 1):
            id, kind = name_of(path, number, row["id"]), KINDS.get(str(row["type"]))
            wrong = f"is of the type {row['type']!r}; known: {', '.join(KINDS)}" if kind is None else ""
            if kind == "caption" and not all(map(_is_list, (row["truth"], row.get("hallu")))):
                wrong = "is of a caption, and its truth and hallu should be lists of objects"
            if kind not in (None, "caption") and row["truth"] not in ("yes", "no"):
                wrong = f"has the truth {row['truth']!r}; it should be yes or no"
            if wrong or id in found:
                raise UsageError(f"annotation {id} of {path} {wrong or 'stands there twice'}.")
            found[id] = row
        captions, alone = (
            {id for id, row in found.items() if KINDS[row["type"]] == "caption"},
            self.part == "generative",
        )
        return {id: row for id, row in found.items() if self.part == "all" or (id in captions) == alone}

    def _words(self, folder: Path) -> Words | None:
        """What captions are scored with; None where none are asked for."""
        if self.part == "discriminative":
            return None
        related, alike = read_json(folder, "relation.json", self.told(folder)), folder / "similar.json"
        safe = text_of(required(folder, "safe_words.txt", self.told(folder))).split("\n")
        if not alike.is_file():
            raise UsageError(
                f"there is no {alike}, without which nobody can tell what a caption makes up: make it as docs/data.md "
                "says, or ask the questions alone (part=discriminative)."
            )
        words = Words(_lists(folder / "relation.json", related), {*filter(None, safe)}, _lists(alike, parsed(alike)))
        if lacking := [word for word in words.listed if word not in words.alike]:
            raise UsageError(f"{alike} has no list for {lacking[0]!r}; make it anew from relation.json.")
        return words

    def _item(self, id: str, row: Mapping[str, Any], query: str, image: Image | None, words: Words | None) -> Item:
        """A question with its answer, or a caption with the fate of every noun that counts."""
        kind = KINDS[row["type"]]
        if kind != "caption":
            facts = {"kind": kind, "answer": row["truth"].capitalize()}
            return Item(id, image, query + SHORT_ANSWER if self.short else query, id, facts)
        assert words is not None, "captions are asked for with their words alone"
        truth, lures = (_places(row[name], words.related) for name in ("truth", "hallu"))
        safe = [noun for noun in words.listed if noun in words.safe]
        fates = {noun: fate(noun, truth, lures, words.alike[noun]) for noun in words.listed if noun not in safe}
        facts = {
            "kind": kind,
            "answer": " ".join(f"There is a {name}." for name in row["truth"]),
            "there": len(row["truth"]),
            "lures": len(row["hallu"]),
            "safe": " ".join(safe),
            "made_up": " ".join(noun for noun, (covers, _) in fates.items() if covers is None),
            "covers": {noun: covers for noun, (covers, _) in fates.items() if covers is not None},
            "caught": {noun: caught for noun, (_, caught) in fates.items() if caught},
        }
        return Item(id, image, query, id, facts)

    def stratum(self, item: Item) -> str:
        """The kind of question."""
        return str(item.facts["kind"])

    def score(self, item: Item, response: Response, judge: Judge | None) -> Score | Unscored:
        """What a response says, by the official parse and by the robust one; or a caption's nouns, counted."""
        if item.facts["kind"] == "caption":
            return Score(item.id, {name: float(count) for name, count in _counted(item.facts, response.text).items()})
        kind, no = item.facts["kind"], item.facts["answer"] == "No"
        official = response.text.lower() if response.text in ("Yes", "No") else None
        parts = {f"{kind}/n": 1.0, f"{kind}/no": float(no)}
        for way, answer in zip(WAYS, (official, yes_or_no(response.text, official)), strict=True):
            parts[f"{kind}/right{way}"] = float(answer == ("no" if no else "yes"))
            parts[f"{kind}/said_no{way}"] = float(answer == "no")
            parts[f"{kind}/hits{way}"] = float(answer == "no" and no)
            parts[f"{kind}/valid{way}"] = float(answer is not None)
        return Score(item.id, parts)

    def compute(self, totals: Totals) -> dict[str, Any]:
        """Figures in percent; of kinds without a question none, and no AMBER score without both halves."""
        values: dict[str, Any] = {}
        for group in GROUPS:
            for way in WAYS if _of(totals, group, "n") is not None else ():
                n, no, right, said, hits = (
                    _of(totals, group, part) for part in ("n", "no", f"right{way}", f"said_no{way}", f"hits{way}")
                )
                name = f"amber/{group}/" if group else "amber/"
                values[f"{name}f1{way}"] = ratio(2 * hits, said + no)
                values[f"{name}accuracy{way}"] = ratio(right, n)
                values[f"{name}precision{way}"] = ratio(hits, said)
                values[f"{name}recall{way}"] = ratio(hits, no)
        if values:
            values["amber/valid"] = ratio(_of(totals, "", "valid@robust"), _of(totals, "", "n"))
        if "captions" in totals:
            shares = {"chair": ("made_up", "nouns"), "cover": ("covered", "there"), "cog": ("caught", "lures")}
            shares |= {"hal": ("captions_with_made_up", "captions")}
            values |= {f"amber/{name}": ratio(totals[part], totals[of]) for name, (part, of) in shares.items()}
            values["amber/words"] = ratio(totals["words"], totals["captions"], 1.0)
        if self.part == "all":
            nan = 0.0 * next(iter(totals.values())) + float("nan")  # an array where the totals are arrays
            for way in WAYS:
                chair, f1 = values.get("amber/chair", nan), values.get(f"amber/f1{way}", nan)
                values[f"amber/score{way}"] = (100 - chair + f1) / 2
        return values

    def published(self, files: Files) -> Published:
        """annotations.json, for captions with its neighbours, and a list of {id, response}."""
        questions, path = files.one("questions"), files.one("answers")
        rows = self._rows(questions)
        words = self._words(questions.parent)
        items = [self._item(id, row, "", None, words) for id, row in rows.items()]
        answers = enumerate(records(path, ["id", "response"]), 1)
        texts = [(name_of(path, n, row["id"]), said(path, n, row, ("response",))) for n, row in answers]
        return Published(items, [Response(id, text, 0) for id, text in texts])

    def answers(self, items: Sequence[Item], texts: Mapping[str, str]) -> dict[str, str]:
        """A list of {id, response}."""
        rows = [{"id": int(item.id) if item.id.isdigit() else item.id, "response": texts[item.id]} for item in items]
        return {"answers.json": json.dumps(rows, indent=1, ensure_ascii=False)}

    def official(self, totals: Mapping[str, float]) -> dict[str, float]:
        """What the script prints, to its one decimal: rounded before F1, every denominator a thousandth too large."""
        values: dict[str, float] = {}
        for group, kinds in GROUPS.items():
            if _of(totals, group, "n") is None:
                continue
            n, no, right, said_no, hits = (_of(totals, group, part) for part in ("n", "no", "right", "said_no", "hits"))
            start, name = START * (len(kinds) if group else 1), f"{group.capitalize()} " if group else ""
            accuracy, precision, recall = (
                round(part / (whole + start) * 100, 1) for part, whole in ((right, n), (hits, said_no), (hits, no))
            )
            over = (precision / 100) + (recall / 100) + (0.001 if group == "existence" else 0.0001)
            values |= {f"{name}Accuracy": accuracy, f"{name}Precision": precision, f"{name}Recall": recall}
            values[f"{name}F1"] = round(2 * (precision / 100) * (recall / 100) / over * 100, 1)
        if "captions" in totals:
            shares = {"CHAIR": ("made_up", "nouns"), "Cover": ("covered", "there"), "Cog": ("caught", "lures")}
            values |= {name: round(totals[a] / (totals[b] + START) * 100, 1) for name, (a, b) in shares.items()}
            clean = totals["captions"] - totals["captions_with_made_up"]
            values["Hal"] = round(100 - clean / (totals["captions"] + START) * 100, 1)
        return values


def _of(totals: Mapping[str, Any], group: str, part: str) -> Any:
    """A part summed over the kinds of a group; None where no question is of these kinds."""
    found = [totals[f"{kind}/{part}"] for kind in GROUPS[group] if f"{kind}/{part}" in totals]
    return sum(found) if found else None


def _lists(path: Path, words: Any) -> dict[str, list[str]]:
    """The lists of words by word that a file holds."""
    if not isinstance(words, dict) or not all(map(_is_list, words.values())):
        raise UsageError(f"{path} should map words to lists of words.")
    return words


def _is_list(words: Any) -> bool:
    return isinstance(words, list) and all(isinstance(word, str) for word in words)


def _places(names: Sequence[str], related: Mapping[str, Sequence[str]]) -> list[tuple[str, int]]:
    """The words that stand for objects, and for which one: associated words first."""
    beside = [(word, place) for place, name in enumerate(names) for word in related.get(name, ())]
    return beside + [(name, place) for place, name in enumerate(names)]


def _counted(facts: Mapping[str, Any], text: str) -> dict[str, int]:
    """The parts of a caption's figures."""
    safe, invented, covers, caught = facts["safe"].split(), facts["made_up"].split(), facts["covers"], facts["caught"]
    listed = {*safe, *invented, *covers}
    found = [noun for noun in nouns(text) if noun in listed]
    made_up = sum(noun in invented for noun in found)
    return {
        "nouns": len(found),
        "made_up": made_up,
        "captions": 1,
        "captions_with_made_up": int(made_up > 0),
        "there": facts["there"],
        "covered": len({covers[noun] for noun in found if noun in covers}),
        "lures": facts["lures"],
        "caught": len({place for noun in found for place in caught.get(noun, ())}),
        "words": len(text.split()),
    }
