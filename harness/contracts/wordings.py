"""Texts that data, benchmarks, methods and the embedded testbed must spell alike."""

IMAGE = "<image>"  # where a record of LLaVA's data has its picture; no model's token
SHORT_ANSWER = "\nAnswer the question using a single word or phrase."
OPTION_LETTER = "\nAnswer with the option's letter from the given choices directly."
