"""A byte-level tokenizer of a few hundred words: every text round-trips, and any family's control tokens are in it."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
WORDS = "a red blue green dog cat ball cup table is there what yes no the and two near on".split()


def tokenizer(*control: str, known: str = "", **named: str) -> PreTrainedTokenizerFast:
    """Whole words where it knows them, also those of the text `known`, and bytes where it does not; `control` are
    tokens 4 and on, some `named`.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["Ġ" + word for word in WORDS] + ["USER", "ASSISTANT", "ĠUSER", "ĠASSISTANT"]
    words += [piece for piece, _ in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(known)]
    pieces = dict.fromkeys([*SPECIAL, *control, *letters, *words])
    vocab = {piece: number for number, piece in enumerate(pieces)}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[], ignore_merges=True))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=list(control),
        **({"model_specific_special_tokens": named} if named else {}),
    )
