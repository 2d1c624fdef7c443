"""Token ids and supervised tokens are those of LLaVA's own training code, whatever a tokenizer's file says."""

import random
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from harness.contracts import encoding
from harness.contracts.encoding import encode
from harness.contracts.family import Layout
from harness.contracts.records import Turn
from harness.families.llava import IMAGE, SYSTEM, Llava
from tests import words

LLAVA = Llava()

SPECIAL = ["<unk>", "<s>", "</s>", IMAGE]
WORDS = "what is the main thing in a picture it one red cat and two dogs so far as sees no yes".split()
BLANKS = ["", " ", "\n", "  ", "\t", "\n\n "]
IMAGE_INDEX, IGNORE_INDEX = -200, -100


def styled(tokenizer: Tokenizer, style: str) -> Tokenizer:
    """The tokenizer with blanks set behind every control token, at the begin alone, or nowhere."""
    made = Tokenizer.from_str(tokenizer.to_str())
    made.normalizer = made.pre_tokenizer = None
    if style == "prepend":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif style == "none":
        made.normalizer = normalizers.Replace(" ", "▁")
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=style, split=False)
    return made


@pytest.fixture(scope="module")
def sentencepiece() -> Tokenizer:
    """Pieces as in Vicuna's vocabulary: "USER" is one behind a control token, and not one behind a blank."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="never")
    alphabet = list("▁\n\té") + [chr(code) for code in range(33, 127)]
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(["USER", "USER: so ASSISTANT: no", f"a {' '.join(WORDS)}"] * 30 + [SYSTEM], trainer)
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    assert made.encode("USER", add_special_tokens=False).tokens == ["USER"]
    return made


def loaded(tokenizer: Tokenizer, legacy: bool | None) -> Any:
    """As it comes out of a model's folder."""
    said = {} if legacy is None else {"legacy": legacy}
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named, **said)


class Official:
    """`train.py` and `mm_utils.py` of haotian-liu/LLaVA, written anew: what a conversation's ids and labels are."""

    def __init__(self, sentencepiece: Tokenizer, legacy: bool) -> None:
        self.legacy = legacy
        self.backend = styled(sentencepiece, "always" if legacy else "first")

    def ids(self, text: str) -> list[int]:
        """`tokenizer_image_token`: chunks between images are tokenized apart and lose their begin token."""
        chunks = [self.backend.encode(chunk).ids for chunk in text.split(IMAGE)]
        joined = chunks[0]
        for chunk in chunks[1:]:
            joined = [*joined, IMAGE_INDEX, *chunk[1:]]
        return joined

    def __call__(self, values: list[str]) -> tuple[list[int], list[int]]:
        """`preprocess_multimodal`, then `preprocess_v1`."""
        values = [f"{IMAGE}\n{v.replace(IMAGE, '').strip()}".strip() if IMAGE in v else v for v in values]
        text = f"{SYSTEM} "
        for number, value in enumerate(values):
            text += f"{('USER', 'ASSISTANT')[number % 2]}: {value}{(' ', '</s>')[number % 2]}"
        ids = self.ids(text)
        labels, at = [IGNORE_INDEX] * len(ids), 1
        for number, said in enumerate(text.split("</s>")[:-1]):
            asked, _ = said.split(" ASSISTANT: ")
            length, instruction = len(self.ids(said)), len(self.ids(f"{asked} ASSISTANT: ")) - 2
            if number and not self.legacy:
                length, instruction = length - 1, instruction - 1
            labels[at + instruction : at + length] = ids[at + instruction : at + length]
            at += length
        assert at == len(ids), "tokenization mismatch"
        return ids, labels


def conversations() -> list[list[str]]:
    """Fifty of one to four turns; texts have blanks and line ends around them as people leave them."""
    rng, made = random.Random(0), list[list[str]]()
    for number in range(50):
        values = [
            f"{rng.choice(BLANKS)}{' '.join(rng.choices(WORDS, k=4))}é{rng.choice(BLANKS)}"
            for _ in range(2 * rng.randint(1, 4))
        ]
        shown = number % 5 > 0
        values[0] = (f"{IMAGE}\n{values[0]}" if number % 2 else f"{values[0]}\n{IMAGE}") if shown else values[0]
        made.append(values)
    return made


def read(values: list[str]) -> tuple[Turn, ...]:
    """As `harness.sources` reads them."""
    first = values[0].replace(IMAGE, "").strip() if IMAGE in values[0] else values[0]
    texts = [first, *values[1:]]
    return tuple(Turn(*pair) for pair in zip(texts[::2], texts[1::2], strict=True))


def ours(tokenizer: Any, values: list[str]) -> tuple[list[int], list[int]]:
    made = LLAVA.encode(tokenizer, LLAVA.segments(read(values), IMAGE in values[0], "</s>"), Layout(1))
    ids = [IMAGE_INDEX if id == SPECIAL.index(IMAGE) else id for id in made.ids]
    return ids, [id if wanted else IGNORE_INDEX for id, wanted in zip(ids, made.supervised, strict=True)]


@pytest.mark.parametrize("style", ["prepend", "first", "always", "none"])
@pytest.mark.parametrize("legacy", [True, False])
def test_ids_and_labels_are_llava_s(sentencepiece: Tokenizer, legacy: bool, style: str) -> None:
    official, tokenizer = Official(sentencepiece, legacy), loaded(styled(sentencepiece, style), legacy)
    assert [ours(tokenizer, values) for values in conversations()] == [official(values) for values in conversations()]


def test_mutant_a_tokenizer_taken_at_its_word(sentencepiece: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the setting, a later question begins with a blank that LLaVA's training never had."""
    official, tokenizer = Official(sentencepiece, False), loaded(styled(sentencepiece, "prepend"), False)
    monkeypatch.setattr(encoding, "_backend", lambda tokenizer: (tokenizer.backend_tokenizer, ""))
    same = [ours(tokenizer, values) == official(values) for values in conversations()]
    assert same == [len(values) == 2 for values in conversations()]


def test_a_prompt_is_what_training_had_before_the_answer(sentencepiece: Tokenizer) -> None:
    tokenizer = loaded(styled(sentencepiece, "prepend"), False)
    turns = (Turn("what is it", "one cat"), Turn("so", "yes"))
    whole = LLAVA.encode(tokenizer, LLAVA.segments(turns, True, "</s>"), Layout(3))
    asked = LLAVA.encode(tokenizer, LLAVA.prompt("so", turns[:1], True, "</s>"), Layout(3))
    assert whole.ids[: len(asked.ids)] == asked.ids
    assert not any(asked.supervised)
    assert tokenizer.decode([id for id, w in zip(whole.ids, whole.supervised, strict=True) if w][-2:]).endswith("</s>")


def test_a_tokenizer_without_the_setting_is_as_its_file_says(sentencepiece: Tokenizer) -> None:
    for style in ("prepend", "first", "none"):
        tokenizer = loaded(styled(sentencepiece, style), None)
        text = "so</s>USER: what"
        assert encode(tokenizer, [(text, False)], IMAGE, []).ids == tuple(tokenizer(text).input_ids)


def test_a_padding_tokenizer_adds_nothing(sentencepiece: Tokenizer) -> None:
    padding = styled(sentencepiece, "prepend")
    padding.enable_padding(length=64, pad_token="<unk>")
    padding.enable_truncation(4)
    plain, said = loaded(styled(sentencepiece, "prepend"), False), [("what is it", True)]
    assert encode(loaded(padding, False), said, IMAGE, []) == encode(plain, said, IMAGE, [])


def test_records_share_the_numbers_of_their_tokens() -> None:
    """Of 300 words each of 150,000 records would hold 8 kB of them."""
    first, other = (encode(words.tokenizer(), [("a red dog", True)], "<image>", []).ids for _ in range(2))
    assert max(first) > 256 and all(mine is its for mine, its in zip(first, other, strict=True))
