"""What a class of vision-language models is to everything else. One file in `harness/families/` per class.

The file's name is the `model_type` of the model's config.json, so that a folder says itself which family it is of. An
instance holds nothing; importing a family imports no torch, since plans ask it about folders. Where a method takes a
model, it is the plain transformers model, without peft's wrapping.

A picture becomes, one after the other: a `Layout` (how many places, by its size alone), pixels, features of the frozen
tower (computed once per picture and kept), and what the decoder reads (computed each time, since what makes it learns).
Where pictures differ in their layouts, those of a batch do too: `inputs` gets all of them, in row order.

    class Mine(Family):        # harness/families/mine.py, or a file of your own: `family: ./mine.py` in a testbed
        title, example, image_token = "Mine-7B", "owner/mine-7b-hf", "<|image|>"
        ...
    harness compare --testbed mine.yaml        # whose models have `"model_type": "mine"` in their config.json
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from harness.contracts.encoding import Pieces, Tokens, encode
from harness.contracts.records import Image, Turn
from harness.system.errors import HarnessError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.models.tree import Batch
    from harness.system.profile import Flops


LAYER = re.compile(r"(?P<stack>.*\.(?:layers?|blocks))\.(?P<number>\d+)\.(?P<rest>.*)")  # of a tensor's name

GATED = "gate_proj", "up_proj", "down_proj", "act_fn"  # parts of such an MLP


def _renamed(name: str, prefixes: Mapping[str, str]) -> str | None:
    """A name with the first prefix that fits replaced; None where none does."""
    return next((new + name.removeprefix(old) for old, new in prefixes.items() if name.startswith(old)), None)


class Layout(NamedTuple):
    """How one picture lies in a sequence, by its size alone.

    `places`: at how many `image_token`s its features stand. `grid`: what positions and features need beside, as the
    family counts it (rows and columns of patches, of tiles), nothing where all pictures are alike.
    """

    places: int
    grid: tuple[int, ...] = ()


class Stored(NamedTuple):
    """A tensor as a file's header has it; `dtype` is safetensors' name."""

    file: str
    shape: tuple[int, ...]
    dtype: str


class Eyes(ABC):
    """How one model's image processor reads pictures. `processor` is transformers' own, one without torchvision.

    What is kept of a picture is known by its tower and by `settings`, as JSON has them: the policy that training saves
    must have those of its base. `more` are settings beside resizing and normalising, of processor or config.
    """

    processor: Any
    more: Mapping[str, Any] = {}

    def settings(self) -> dict[str, Any]:
        """By what features of a picture are others, with the same tower."""
        told = {name: getattr(self.processor, name, None) for name in ("image_mean", "image_std", "resample")}
        return {name: list(each) if isinstance(each, tuple) else each for name, each in {**told, **self.more}.items()}

    @abstractmethod
    def layout(self, image: Image) -> Layout:
        """A picture's layout; reads no more of the file than its size. ValueError for a shape the model cannot see."""

    @abstractmethod
    def pixels(self, image: Image) -> "Tensor":
        """What the tower reads: float32, normalised, of the family's own shape; HarnessError for an unreadable file.

        A pixel that the tower sees as several equal frames is there once, so that noise on it is one noise; `features`
        repeats it.
        """

    @abstractmethod
    def blank(self, layout: Layout) -> "Tensor":
        """The same of a picture of nothing, in the processor's mean colour: what a blind model would see."""


class Family(ABC):
    """A class of models; see above. The defaults are those of a causal decoder with one axis of positions."""

    title: ClassVar[str]
    """What people call it."""
    example: ClassVar[str]
    """A repository of the hub that is one."""
    classes: ClassVar[tuple[str, str]]
    """transformers' classes of config.json and of a model with a head that generates, by name."""
    image_token: ClassVar[str]
    """The token that stands at each of a picture's places, as the tokenizer spells it."""
    control: ClassVar[tuple[str, ...]] = ()
    """Further control tokens of its template, beside begin, end and padding."""
    lead: ClassVar[str] = ""
    """What stands before an answer in its piece of a conversation."""
    forbidden: ClassVar[Mapping[str, str]] = {}
    """Texts that no question or answer may hold, beside control tokens, and why."""
    parts: ClassVar[Mapping[str, str]]
    """Ends of tensors' names that every model of the family has in its files -> the part of the model that it is."""
    prefixes: ClassVar[dict[str, str]] = {"": ""}
    """How the model's modules are called -> how the hub's files do: of a name's beginnings the first that fits."""
    named: ClassVar[Mapping[str, str]] = {}
    """Control tokens by the names under which the official processor asks its tokenizer for them."""
    language: ClassVar[str] = "language_model"
    """What the model calls its decoder, whose linear layers take adapters."""
    projector: ClassVar[str] = "projector.linear_1.weight"
    """End of the name of the weight that reads `features`."""
    axes: ClassVar[int] = 1
    """Axes of positions: 1, or 3 for M-RoPE (time, height, width)."""

    # Its folder, before anything is loaded.

    @abstractmethod
    def refuse(self, config: Mapping[str, Any], folder: Path, again: str) -> None:
        """UsageError for a model of the family that cannot be trained here; `again` says how to fetch one that can."""

    @abstractmethod
    def places(
        self, config: Mapping[str, Any], tensors: Mapping[str, Stored], pictures: Mapping[str, Any]
    ) -> tuple[int, int]:
        """The fewest and the most places that a picture takes in a sequence.

        By config.json, the headers of the weights, and `pictures`: the image processor's settings.
        """

    def hub_name(self, name: str) -> str:
        """What the hub's files call a weight of the model; HarnessError for one that the family does not have."""
        found = _renamed(name, self.prefixes)
        if found is None:
            raise HarnessError(f"the weight {name} is no part of a {self.title} model; it cannot be saved as one.")
        return found

    def module_name(self, name: str) -> str:
        """The inverse: what the model calls a tensor of the hub's files, which may be called so there already."""
        if _renamed(name, self.prefixes) is not None:
            return name
        return _renamed(name, {file: module for module, file in reversed(self.prefixes.items())}) or name

    def adapts(self, name: str) -> bool:
        """Whether a linear layer of this name is the language model's, where adapters go; never the head."""
        return f"{self.language}." in name

    def width(self, tensors: Mapping[str, Stored]) -> int:
        """Values of a row of `features`, by the headers of the weights."""
        return next(one.shape[1] for name, one in tensors.items() if name.endswith(self.projector))

    # Words.

    @abstractmethod
    def segments(self, turns: Sequence[Turn], has_image: bool, end: str) -> Pieces:
        """A conversation as its makers' training code spells it; `end` is the tokenizer's end token.

        The picture is one `image_token`, in the first question. Of each turn the last piece is the answer: `lead`, the
        answer, and what ends it, supervised.
        """

    def prompt(self, question: str, history: Sequence[Turn], has_image: bool, end: str, begun: str = "") -> Pieces:
        """What a model continues: all before the answer to `question`, and the answer as far as `begun`."""
        asked = [(text, False) for text, _ in self.segments([*history, Turn(question, "")], has_image, end)[:-1]]
        return [*asked, (self.lead + begun, False)] if begun else asked

    def encode(self, tokenizer: Any, pieces: Pieces, layout: Layout | None) -> Tokens:
        """Token ids of a conversation about a picture of this layout, and which are supervised."""
        image_id = tokenizer.convert_tokens_to_ids(self.image_token)
        return encode(tokenizer, pieces, self.image_token, self.image_ids(image_id, layout) if layout else [])

    def image_ids(self, image_id: int, layout: Layout) -> list[int]:
        """What an `image_token` becomes: by default as many of it as the picture has places."""
        return [image_id] * layout.places

    # Loading and saving.

    def config_class(self) -> Any:
        """transformers' class of config.json."""
        import transformers

        return getattr(transformers, self.classes[0])

    def model_class(self) -> Any:
        """transformers' class with a head that generates."""
        import transformers

        return getattr(transformers, self.classes[1])

    @abstractmethod
    def eyes(self, processor_of: Any, config: Any) -> Eyes:
        """The eyes of a model; `processor_of(cls)` gives its folder's image processor as an object of that class.

        ValueError, with the rest of a sentence about the processor, where it and the tower do not belong together.
        """

    @abstractmethod
    def write_processor(self, config: Any, tokenizer: Any, eyes: Eyes, folder: Path) -> None:
        """Write tokenizer, chat template and image processor so that `AutoProcessor` and others read the same."""

    # Tensors.

    @abstractmethod
    def tower(self, model: Any) -> "nn.Module":
        """The vision tower, which is frozen. What it makes is kept, and known by its weights."""

    def rows(self, layout: Layout) -> int:
        """How many rows `features` has of a picture of this layout: by default one for each of its places."""
        return layout.places

    @abstractmethod
    def features(self, model: Any, pixels: "Tensor", layout: Layout) -> "Tensor":
        """What the tower makes of one picture: (rows, width) in the tower's dtype, on the CPU, without a gradient.

        All that is frozen belongs here; nothing that learns may.
        """

    @abstractmethod
    def inputs(self, model: Any, ids: "Tensor", features: "Tensor | None", layouts: Sequence[Layout]) -> dict[str, Any]:
        """What the decoder reads instead of (B, L) ids: `inputs_embeds` (B, L, width) and what else pictures give it.

        The rest is named as the decoder's arguments are. It is given where the pictures' places are read and not when
        words follow them from a cache: it may act on those places alone (deepstack does).

        `features` are those of all pictures in row order, one behind the other: (rows, width). Without one, what learns
        behind the tower must stay in the graph with a weight of zero: ranks exchange gradients in the order in which
        the backward pass yields them, so that order may not depend on data. HarnessError where places and features are
        not equal in number.
        """

    def positions(self, ids: Sequence[int], layout: Layout | None, image_id: int) -> list[list[int]]:
        """(axes, places) positions of a prefix's tokens; what follows goes on from the largest, on all axes.

        `image_id` is the token at the picture's places.
        """
        return [list(range(len(ids))) for _ in range(self.axes)]

    def masks(self, batch: "Batch") -> "Tensor | dict[str, Tensor] | None":
        """What the decoder reads as attention mask of trees: (B, 1, L, L) bool for scaled-dot-product attention, True
        where a query sees a key, or one by kind of layer where its layers do not see alike. None where causal
        attention sees the same: in rows of one branch, padded on the right.
        """
        return None if batch.causal else batch.attention_mask

    def decoder(self, model: Any) -> Any:
        """The language model without its head: (B, L, width) `last_hidden_state` of inputs, positions, mask, cache."""
        return getattr(model.model, self.language)

    def placewise(self, model: Any) -> "Sequence[nn.Module]":
        """Parts of the last layer, and behind it, that act on each place by itself, so that what they give at one place
        reaches no other's state: they are run where states are read and nowhere else (`harness.models.narrow`).
        """
        decoder = self.decoder(model)
        named, parts = dict(decoder.layers[-1].named_modules()), ("self_attn.q_proj", "self_attn.o_proj",
                                                                  "post_attention_layernorm", "mlp")  # fmt: skip
        return [*(named[part] for part in parts if part in named), decoder.norm]

    def gated(self, model: Any) -> "Sequence[nn.Module]":
        """The decoder's MLPs that are `down_proj(act_fn(gate_proj(x)) * up_proj(x))` to the bit: their product is made
        again in the backward pass instead of kept (`harness.training.remade`). One that has parts of these names and
        computes otherwise must be left out.
        """
        return [part for part in self.decoder(model).modules() if all(hasattr(part, name) for name in GATED)]

    def head(self, model: Any) -> Any:
        """States (n, width) to logits (n, words)."""
        return model.lm_head

    # What it costs, and what it is tried on.

    @abstractmethod
    def flops(self, config: Any) -> "Flops":
        """Forward FLOPs by formula, of the decoder per token and of towers and projectors per layout."""

    @abstractmethod
    def small(self, tokenizer: Any) -> tuple[Any, Any]:
        """Config and image processor of a model of the family that trains in a second, for tests; a picture of 32 x 32
        pixels takes at most 64 places. `tokenizer` has `image_token` and `control`.
        """

    @abstractmethod
    def architecture(self, config: Mapping[str, Any], tensors: Mapping[str, Stored]) -> dict[str, int]:
        """What a report says of a base model, by the headers of its weights: `hidden_size`, `vocab_size`, `layers`,
        `vision_hidden_size`, `vision_layers`, `parameters`, and `patches` where the tower sees squares of one size.
        """
