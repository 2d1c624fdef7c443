"""SIMA's in-context critic: the text with which a model is asked which of its own two responses is better.

The structure is the official one (image, question, ground truth, two responses, three visual metrics, two worked
examples, verdict in double brackets); the wording is ours. A verdict of one model on another's responses is out of
scope: the model that answered is the one that judges.
"""

INSTRUCTION = """Two responses to a question about the image are to be compared. Their ground truth is given.
Prefer the response that agrees better with the image and with the ground truth on three visual metrics:
1. Objects: are the objects that it describes there, and described as what they are?
2. Relations: are they where it says, and do they stand to each other as it says?
3. Attributes: are their colors, sizes, numbers and actions as it says?
The length, the style and the order of the responses do not count.
Give a short reason first. End with "Better response: [[1]]" or "Better response: [[2]]".

### Question: What is on the desk?
### Ground truth: A closed laptop is on the desk, and a white mug stands to the right of it.
### Response 1: There is a closed laptop with a white mug to the right of it.
### Response 2: There is an open laptop with a phone to the left of it.
### Judgement: Response 2 calls the laptop open and names a phone that is not there. Response 1 has no error. \
Better response: [[1]]

### Question: Describe the photo.
### Ground truth: Two brown horses graze behind a wooden fence. A child in a yellow coat watches them.
### Response 1: Three black horses graze behind a fence while a child watches them.
### Response 2: Two brown horses are behind a fence.
### Judgement: Response 1 has the number and the color of the horses wrong. Response 2 says less, but all of it is \
true. Better response: [[2]]

Now judge these."""
QUESTION = "\n### Question: "
REFERENCE = "\n### Ground truth:"
FIRST = "\n### Response 1:"
SECOND = "\n### Response 2:"
JUDGEMENT = "\n### Judgement:"
VERDICTS = {1: "[[1]]", 2: "[[2]]"}


def prompt(question: str, reference: str, first: str, second: str) -> str:
    """What the critic is asked, to be put to the model together with the image; `reference` is the ground truth."""
    parts = ((QUESTION, question), (REFERENCE + " ", reference), (FIRST + " ", first), (SECOND + " ", second))
    return INSTRUCTION + "".join(head + text.strip() for head, text in parts) + JUDGEMENT


def verdict(text: str) -> int | None:
    """1 or 2, whichever the last double bracket of the critic's reply says; None where that is anything else.

    None is an unparsable reply, to be dropped and counted, not a tie.
    """
    said = text.rpartition("]]")[0].rpartition("[[")[2].strip() if "[[" in text else ""
    return int(said) if said in ("1", "2") else None
