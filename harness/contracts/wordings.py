"""Texts that data, benchmarks, methods and the embedded testbed must spell alike, and how they compare words."""

import re

IMAGE = "<image>"  # where a record of LLaVA's data has its picture; no model's token
SHORT_ANSWER = "\nAnswer the question using a single word or phrase."
OPTION_LETTER = "\nAnswer with the option's letter from the given choices directly."


def plain(text: str) -> str:
    """Lower case words without punctuation and articles."""
    words = re.findall(r"[^\W_]+", text.casefold())
    return " ".join(word for word in words if word not in ("a", "an", "the"))
