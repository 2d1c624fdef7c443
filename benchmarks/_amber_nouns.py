"""The nouns of a caption as AMBER finds them, with nothing to download.

Rule of junyangwang0410/AMBER `inference.py`, `extract_nouns`. Tokens and tags are NLTK's; what NLTK would download is
in amber_data/ and chair_data/, as far as it has an effect here (see README.txt there).
"""

import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import _coco_objects

DATA = Path(__file__).with_name("amber_data")


def nouns(text: str) -> list[str]:
    """The nouns of a caption as `nltk.word_tokenize`, `pos_tag` and `WordNetLemmatizer` find and reduce them, as far as
    the word is one of AMBER's.
    """
    sentences, words = _coco_objects._tokenizers()
    tokens = [token for sentence in sentences(text) for token in words(sentence)]
    return [_lemmas().get(word, word) for word, tag in _tagger().tag(tokens) if tag.startswith("NN")]


@cache
def _tagger() -> Any:
    """NLTK's perceptron with what only words with a capital letter need, which CHAIR's lower-case captions do not."""
    from nltk.tag.perceptron import PerceptronTagger  # slow to import, and only captions need it

    stored = json.loads(lzma.decompress((DATA / "capitals.json.xz").read_bytes()))
    weights = {
        feature: {tag: weight / 1000 for tag, weight in tags.items()} for feature, tags in stored["weights"].items()
    }
    lower, tagger = _coco_objects._tagger(), PerceptronTagger(load=False)
    tagger.tagdict = lower.tagdict | stored["tagdict"]
    tagger.classes = tagger.model.classes = lower.classes
    tagger.model.weights = lower.model.weights | weights
    return tagger


@cache
def _lemmas() -> dict[str, str]:
    """Form -> the word that it is a form of."""
    rows = [line.partition(": ") for line in (DATA / "nouns.txt").read_text(encoding="utf-8").splitlines()]
    return {form: word for word, _, forms in rows for form in forms.split()}
