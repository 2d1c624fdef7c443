"""The nouns of a comparison, frozen: what passes between data, methods, benchmarks and reports."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Image:
    """A picture on disk. `sha256` of the file's bytes is its identity; `path` is only where it lies today.

    `upright`: whether it is turned as its EXIF orientation says and keeps the tones of 16-bit grey
    (`harness.contracts.images.decode`); LLaVA does neither.
    """

    path: str
    sha256: str
    upright: bool = False

    @property
    def key(self) -> str:
        """What tells apart what can be made of pictures: the file, and how it is read."""
        return f"{self.sha256}.upright" if self.upright else self.sha256


Box = tuple[float, float, float, float]  # left, top, right and bottom, as shares of a picture's sides


@dataclass(frozen=True, slots=True)
class Cropped(Image):
    """A part of a picture, which is seen as if it were all of it."""

    box: Box = (0.0, 0.0, 1.0, 1.0)

    @property
    def key(self) -> str:
        """The picture's, and which part."""
        whole = Image(self.path, self.sha256, self.upright).key
        return f"{whole}.{'-'.join(f'{side:.6f}' for side in self.box)}"


@dataclass(frozen=True, slots=True)
class Noised(Image):
    """A picture after so many steps of diffusion, its noise drawn by `seed` (`harness.models.noise.diffuse`)."""

    step: int = 0
    seed: int = 0

    @property
    def key(self) -> str:
        """The picture's, and which noise."""
        return f"{Image(self.path, self.sha256, self.upright).key}.noise-{self.step}-{self.seed}"


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange: what the user asks (without the image token) and what the assistant answers."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Example:
    """One training datum before a method touches it; `turns` hold the ground truth.

    `rejected` is the worse answer to the last question, where the data have preferences.
    """

    id: str
    source: str
    image: Image | None
    turns: tuple[Turn, ...]
    rejected: str | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked: an image, the turns that went before, a question; `id` tells responses apart.

    `begun` is the start of the answer, which the response continues.
    """

    id: str
    image: Image | None
    question: str
    history: tuple[Turn, ...] = ()
    begun: str = ""


@dataclass(frozen=True, slots=True)
class VisionError:
    """What a response gets wrong about its image: level and type by a codebook, and the words that show it."""

    level: str
    type: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A record for supervised losses: every answer of every branch is supervised.

    `branches` share the image; a plain conversation has one. A branch is a sequence of turns. `errors` are those the
    record was made to correct, for whoever reads it; nothing is trained on them.
    """

    id: str
    image: Image | None
    branches: tuple[tuple[Turn, ...], ...]
    errors: tuple[VisionError, ...] = ()
    kind: Literal["conversation"] = "conversation"


@dataclass(frozen=True, slots=True)
class Beside:
    """One more answer to a pair's prompt that a loss reads, under the picture, a part of it, or noise (step, seed)."""

    answer: str
    crop: Box | None = None
    noise: tuple[int, int] | None = None

    def seen(self, image: Image | None) -> Image | None:
        """The pair's picture as this answer has it; ValueError for a part of none, or for both at once."""
        if self.crop is None and self.noise is None:
            return image
        if image is None or (self.crop and self.noise):
            raise ValueError("the record has a crop and no picture" if image is None else "a crop under noise is none")
        own = image.path, image.sha256, image.upright
        return Cropped(*own, self.crop) if self.crop else Noised(*own, *(self.noise or ()))


@dataclass(frozen=True, slots=True)
class Pair:
    """A record for preference losses: two answers to one prompt.

    `beside` are more answers, for losses that compare more; in log-probs they follow the two in their order, those
    under the whole picture first.
    """

    id: str
    image: Image | None
    question: str
    chosen: str
    rejected: str
    history: tuple[Turn, ...] = ()
    beside: tuple[Beside, ...] = ()
    kind: Literal["pair"] = "pair"


@dataclass(frozen=True, slots=True)
class Rollout:
    """A record for policy-gradient losses: responses to one prompt as they were sampled, and figures of their tokens.

    `tokens` are the generated token ids of the first, the end token included where the model set one; `more` are those
    of the others. `columns` has one float per token of all of them, in their order, under each name; a loss finds them
    in `LogProbs.columns`.
    """

    id: str
    image: Image | None
    question: str
    tokens: tuple[int, ...]
    columns: dict[str, tuple[float, ...]]
    history: tuple[Turn, ...] = ()
    more: tuple[tuple[int, ...], ...] = ()
    kind: Literal["rollout"] = "rollout"

    @property
    def responses(self) -> tuple[tuple[int, ...], ...]:
        """The token ids of each response."""
        return (self.tokens, *self.more)


@dataclass(frozen=True, slots=True)
class Dropped:
    """An example that gave no record, and why. Counted in the report, never silent."""

    id: str
    reason: str
    kind: Literal["dropped"] = "dropped"


Record = Conversation | Pair | Rollout


@dataclass(frozen=True, slots=True)
class Item:
    """One benchmark question. `prompt` is the text the model sees; `facts` is what scoring needs.

    `id` is unique in its benchmark and stable; `unit` joins items that are scored together (MME's two
    questions of an image, MMBench's circular passes) and equals `id` where nothing is joined.
    """

    id: str
    image: Image | None
    prompt: str
    unit: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Response:
    """What a model said to a prompt, e.g. the model under test to an item.

    `tokens` counts generated tokens without the end token, `prompt_tokens` those it read, the image's included.
    `ids` are the generated tokens and `ended` whether the model set the end token; kept where a method builds on them.
    `logp` is the natural log-probability of a candidate (`Round.candidates`), its closing token included. `unanswered`
    says why there is no response at all, such as a prompt longer than the model; never scored.
    """

    id: str
    text: str
    tokens: int
    prompt_tokens: int = 0
    ids: tuple[int, ...] = ()
    ended: bool = True
    logp: float | None = None
    unanswered: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """Additive parts of a metric for one item, e.g. {"correct": 1.0, "n": 1.0}. Sums of parts make metrics."""

    id: str
    parts: dict[str, float]
    kind: Literal["score"] = "score"

    @classmethod
    def mean(cls, scores: "Sequence[Score]") -> "Score":
        """One score of several of one item, by a judge that was asked several times: the means of its parts."""
        names = dict.fromkeys(name for score in scores for name in score.parts)
        parts = {name: statistics.fmean(score.parts.get(name, 0.0) for score in scores) for name in names}
        return Score(scores[0].id, parts)


@dataclass(frozen=True, slots=True)
class Unscored:
    """No valid verdict, and why. Never a number, never in a mean, always counted."""

    id: str
    reason: str
    kind: Literal["unscored"] = "unscored"
