"""A made-up family: LLaVA's parts, but a wide picture is cut into squares, so that its places depend on its shape.

# mine.yaml: a testbed whose models have `"model_type": "toy"` in their config.json
family: ./toy.py
"""

from functools import cache
from typing import Any, ClassVar

from harness.contracts.family import Eyes, Layout, Pieces
from harness.contracts.images import opened, size_of
from harness.contracts.records import Image, Turn
from harness.families.llava import Llava, image_places
from harness.system.profile import Flops

SIDE, MOST = 32, 4  # pixels of a tile, and tiles of a picture


class Toy(Llava):
    """Everything that is not said here is LLaVA's."""

    title, example, lead = "Toy", "nobody/toy", ""
    forbidden: ClassVar[dict[str, str]] = {}
    prefixes: ClassVar[dict[str, str]] = {"": ""}

    def places(self, config: Any, tensors: Any, pictures: Any) -> tuple[int, int]:
        fewest, most = super().places(config, tensors, pictures)
        return fewest, MOST * most

    def segments(self, turns: Any, has_image: bool, end: str) -> Pieces:
        pieces: Pieces = []
        for number, turn in enumerate(turns):
            shown = self.image_token if has_image and number == 0 else ""
            pieces += [(f"{shown}Q: {turn.question} A:", False), (f"{turn.answer}{end}", True)]
        return pieces

    def config_class(self) -> Any:
        return _classes()[0]

    def model_class(self) -> Any:
        return _classes()[1]

    def eyes(self, processor_of: Any, config: Any) -> "Tiles":
        return Tiles(processor_of(_classes()[2]), image_places(config))

    def write_processor(self, config: Any, tokenizer: Any, eyes: Eyes, folder: Any) -> None:
        tokenizer.save_pretrained(folder)
        eyes.processor.save_pretrained(folder)
        pieces = self.segments([Turn("{{ m.content[-1].text }}", "")], False, "")
        (folder / "chat_template.jinja").write_text(
            "{%- for m in messages -%}{%- if m.role == 'user' -%}{%- if m.content[0].type == 'image' -%}"
            f"{self.image_token}{{%- endif -%}}{pieces[0][0]}{{%- else -%}}{{{{ m.content[0].text }}}}"
            f"{tokenizer.eos_token}{{%- endif -%}}{{%- endfor -%}}"
        )

    def features(self, model: Any, pixels: Any, layout: Layout) -> Any:
        import torch

        return torch.cat([super(Toy, self).features(model, tile, layout) for tile in pixels])

    def inputs(self, model: Any, ids: Any, features: Any, layouts: Any) -> Any:
        tile = image_places(model.config)
        return super().inputs(model, ids, features, [Layout(tile)] * sum(each.places // tile for each in layouts))

    def flops(self, config: Any) -> Flops:
        one, tile = super().flops(config), image_places(config)
        costs = (lambda layout, cost=cost: layout.places // tile * cost(layout) for cost in (one.image, one.tower))
        return Flops(one.token, one.pair, one.scored, *costs, one.last)

    def small(self, tokenizer: Any) -> tuple[Any, Any]:
        config, processor = super().small(tokenizer)
        return self.config_class()(**config.to_dict() | {"model_type": "toy"}), _classes()[2](**processor.to_dict())


class Tiles(Eyes):
    """(tiles, 3, SIDE, SIDE) pixels."""

    def __init__(self, processor: Any, places: int) -> None:
        self.processor, self.places = processor, places

    def layout(self, image: Image) -> Layout:
        return Layout(tiles(*size_of(image)) * self.places)

    def pixels(self, image: Image) -> Any:
        return self.processor(images=opened(image), return_tensors="pt")["pixel_values"].float()

    def blank(self, layout: Layout) -> Any:
        import torch

        return torch.zeros(layout.places // self.places, 3, SIDE, SIDE)


def tiles(height: int, width: int) -> int:
    """How many squares lie side by side in a picture."""
    return min(MOST, max(1, round(width / height)))


@cache
def _classes() -> tuple[Any, Any, Any]:
    """Config, model and image processor; made when they are asked for, since transformers is slow to import."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaImageProcessorPil

    class ToyConfig(LlavaConfig):
        model_type = "toy"

    class ToyModel(LlavaForConditionalGeneration):
        config_class = ToyConfig

    class ToyImages(LlavaImageProcessorPil):
        def __call__(self, images: Any, **how: Any) -> Any:
            count = tiles(images.height, images.width)
            wide = images.resize((count * SIDE, SIDE))
            return super().__call__([wide.crop((n * SIDE, 0, (n + 1) * SIDE, SIDE)) for n in range(count)], **how)

    return ToyConfig, ToyModel, ToyImages
