"""The mini models' tokenizer: the words of the drawn world, and bytes for everything else.

The long constant strings of LLaVA's template are tokens of their own. The text stays exactly the official one;
a model of a million weights is only spared thirty positions of it.
"""

import random
import re
from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from harness.contracts.wordings import OPTION_LETTER, SHORT_ANSWER
from harness.families.llava import SYSTEM
from harness.judging import preference
from harness.mini import questions as ask
from harness.mini.language import DETAIL, NUMBERS, SHORT, detail, imagine, short_caption
from harness.mini.world import AUTHORS, FIRST, GENRES, SECOND, SIGNS, Scene, cover, scene, seed_of

SPECIAL = {
    "unk_token": "<unk>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "image_token": "<image>",
}
CONSTANT = (
    SYSTEM,
    " USER: ",
    "USER: ",
    " ASSISTANT:",
    SHORT_ANSWER,
    OPTION_LETTER,
    DETAIL,
    SHORT,
    *(f"\n{letter}." for letter in ask.LETTERS),
    preference.INSTRUCTION,
    preference.QUESTION,
    preference.REFERENCE,
    preference.FIRST,
    preference.SECOND,
    preference.JUDGEMENT,
    *(f" {verdict}" for verdict in preference.VERDICTS.values()),
)


def _spoken(seen: Scene, rng: random.Random) -> list[str]:
    questions = [ask.existence(seen, category) for category in ask.values("object")]
    for thing in (None, *seen.things):
        for kind in ask.kinds(seen, thing):
            question = ask.open_question(seen, thing, kind)
            questions.append(question)
            other = rng.choice(ask.alternatives(question))
            questions += [ask.attribute(seen, thing, kind, value) for value in (question.value, other)]
        if thing:
            sides = [ask.beside(seen, thing, side) for side in ("left", "right")]
            questions += [question for question in sides if question]
    questions.append(ask.which_object(seen, seen.things[0].category))
    said = [text for question in questions for text in (question.text, question.short, question.full)]
    imagined = imagine(seen, rng, 0.1, 0.5, 0.5)
    return [*said, detail(imagined), short_caption(seen)]


@cache
def words() -> tuple[str, ...]:
    """Every word that the drawn world's language uses, sorted; with a blank before it where it may have one.

    Only questions begin without a blank: the template puts one before answers.
    """
    texts = [*SIGNS, *AUTHORS, *FIRST, *SECOND, *NUMBERS, *GENRES]
    for number in range(300):
        seen, rng = scene(f"words/0/{number}"), random.Random(seed_of(f"words/0/{number}"))
        texts += _spoken(seen, rng)
        book = cover(f"words/0/{number}")
        asked = [ask.cover_question(book, kind) for kind in ("title", "author", "genre")]
        asked += [ask.is_genre(book, genre) for genre in GENRES]
        texts += [text for question in asked for text in (question.text, question.short, question.full)]
    inside = {f" {word}" for text in texts for word in re.findall(r"[A-Za-z]+", text)}
    first = {text.split()[0] for text in texts if text.endswith("?")}
    return tuple(sorted(inside | first))


def make_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer: special tokens, template strings, 256 bytes, words."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    listed = [*SPECIAL.values(), *letters, *(word.replace(" ", "\u0120") for word in words())]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(listed))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True, unk_token=SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL.values()])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in CONSTANT])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **SPECIAL,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
