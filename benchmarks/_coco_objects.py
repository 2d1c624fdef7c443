"""The COCO objects that a caption mentions, by CHAIR's official rule, with nothing to download.

Rule of LisaAnne/Hallucination `utils/chair.py` in its two WordNet forms: "lemma" tags parts of speech and reduces each
word by its own (shikiw/OPERA, lmms-eval), "noun" takes every word for a noun (umd-huang-lab/SIMA, which the paper
uses). Tokens, sentence ends and tags are NLTK's; what NLTK would download is in chair_data/, as far as it has an effect
here (see README.txt there).
"""

import json
import lzma
from collections import defaultdict
from collections.abc import Collection, Iterable
from functools import cache, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmarks._files import parsed
from harness.system.errors import UsageError

Reduction = Literal["lemma", "noun"]
DATA = Path(__file__).with_name("chair_data")
ANIMALS = "bird cat dog horse sheep cow elephant bear zebra giraffe animal cub".split()
# Two words that stand for one thing, and what they are read as. "train track" and "home plate" are no object then.
DOUBLE = {
    name: name
    for name in (
        "motor bike", "motor cycle", "air plane", "traffic light", "street light", "traffic signal", "stop light",
        "fire hydrant", "stop sign", "parking meter", "suit case", "sports ball", "baseball bat", "baseball glove",
        "tennis racket", "wine glass", "hot dog", "cell phone", "mobile phone", "teddy bear", "hair drier",
        "potted plant", "laptop computer", "home plate", "train track",
    )
} | {
    "bow tie": "tie", "toilet seat": "toilet", "wine glas": "wine glass", "passenger jet": "jet",
    "passenger train": "train", **{f"{age} {animal}": animal for age in ("baby", "adult") for animal in ANIMALS},
}  # fmt: skip
PARTS = {"J": "adjective", "V": "verb", "R": "adverb"}  # by the first letter of a Penn tag; everything else is a noun
SPLITS = ("val", "train")


class Mentions(NamedTuple):
    """The objects a caption mentions, in order and with repetition, and its length in words, double ones once."""

    objects: list[str]
    length: int


def mentions(caption: str, reduction: Reduction) -> Mentions:
    """What the official script finds in a caption."""
    words = merged(reduced(tokens(caption), reduction))
    known = [word for word in words if word in objects()]
    if "toilet" in words and "seat" in words:  # "the seat of the toilet" is no chair
        known = [word for word in known if word != "seat"]
    return Mentions([objects()[word] for word in known], len(words))


def tokens(text: str) -> list[str]:
    """`nltk.word_tokenize` of the text in lower case."""
    sentences, words = _tokenizers()
    return [token for sentence in sentences(text.lower()) for token in words(sentence)]


def reduced(words: list[str], reduction: Reduction) -> list[str]:
    """Each word as `WordNetLemmatizer` reduces it, where that can make or unmake an object."""
    if reduction == "noun":
        return [lemma(word, "noun") for word in words]
    return [lemma(word, PARTS.get(tag[0], "noun")) for word, tag in tagged(words)]


def lemma(word: str, part: str) -> str:
    """A word reduced as a noun, verb, adjective or adverb, where that can make or unmake an object."""
    return _lemmas()[part].get(word, word)


def tagged(words: list[str]) -> list[tuple[str, str]]:
    """`nltk.pos_tag` of the words."""
    found: list[tuple[str, str]] = _tagger().tag(words)
    return found


def merged(words: list[str]) -> list[str]:
    """Double words joined, from left to right."""
    found: list[str] = []
    at = 0
    while at < len(words):
        double = DOUBLE.get(" ".join(words[at : at + 2]))
        found.append(double or words[at])
        at += 2 if double else 1
    return found


@cache
def objects() -> dict[str, str]:
    """Word (or double word) -> COCO object."""
    rows = [line.partition(": ") for line in (DATA / "objects.txt").read_text(encoding="utf-8").splitlines()]
    return {form: name for name, _, forms in rows for form in (name, *forms.split(", ")) if form}


@cache
def _lemmas() -> dict[str, dict[str, str]]:
    """Part of speech -> form -> lemma, for the forms whose lemma is another word."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for line in (DATA / "lemmas.txt").read_text(encoding="utf-8").splitlines():
        head, _, forms = line.partition(": ")
        part, lemma = head.split()
        found[part] |= dict.fromkeys(forms.split(), lemma)
    return found


@cache
def _tokenizers() -> tuple[Any, Any]:
    """What NLTK makes of a text: sentences; and of a sentence: words, remembered, since captions repeat themselves."""
    from nltk.tokenize import NLTKWordTokenizer  # slow to import, and only CHAIR needs it
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    known = PunktParameters()
    known.abbrev_types = set((DATA / "abbreviations.txt").read_text(encoding="utf-8").split())
    return PunktSentenceTokenizer(known).tokenize, lru_cache(maxsize=1 << 14)(NLTKWordTokenizer().tokenize)


@cache
def _tagger() -> Any:
    """NLTK's averaged perceptron with the weights it was published with."""
    from nltk.tag.perceptron import PerceptronTagger

    stored = json.loads(lzma.decompress((DATA / "tagger.json.xz").read_bytes()))
    tagger = PerceptronTagger(load=False)
    tagger.tagdict = stored["tagdict"]
    tagger.classes = tagger.model.classes = set(stored["classes"])
    tagger.model.weights = {
        feature: {tag: weight / 1000 for tag, weight in weights.items()}
        for feature, weights in stored["weights"].items()
    }
    predict = tagger.model.predict
    known = lru_cache(maxsize=1 << 16)(lambda features: predict(dict(features)))  # likewise
    tagger.model.predict = lambda features, _: known(tuple(features.items()))
    return tagger


def annotated(folder: Path, ids: Collection[str], reduction: Reduction) -> dict[str, list[str]]:
    """Image id -> objects there, from COCO's 2014 annotations: what is segmented, and what the five captions mention.

    Reads the validation files first and the training files only for ids that are not in those. Ids without any
    annotation are left out.
    """
    there: dict[str, set[str]] = {}
    for split in SPLITS:
        if there.keys() >= set(ids):
            break
        instances, captions = (_annotations(folder, f"{kind}_{split}2014.json") for kind in ("instances", "captions"))
        names = {category["id"]: objects()[category["name"]] for category in instances["categories"]}
        seen = ((row["image_id"], [names[row["category_id"]]]) for row in _of(instances, ids))
        said = ((row["image_id"], mentions(row["caption"], reduction).objects) for row in _of(captions, ids))
        for image, found in chain(seen, said):
            there.setdefault(str(image), set()).update(found)
    return {id: sorted(there[id]) for id in ids if id in there}


def _annotations(folder: Path, name: str) -> dict[str, Any]:
    if not (folder / name).is_file():
        raise UsageError(f"there is no {folder / name}; it is in annotations_trainval2014.zip at cocodataset.org.")
    content: dict[str, Any] = parsed(folder / name)
    return content


def _of(annotations: dict[str, Any], ids: Collection[str]) -> Iterable[dict[str, Any]]:
    """The annotations of some images."""
    wanted = set(ids)
    return (row for row in annotations["annotations"] if str(row["image_id"]) in wanted)
