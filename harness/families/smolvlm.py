"""SmolVLM2 (Marafioti et al. 2025): a SigLIP tower and SmolLM2, a Llama.

Words: the chat template of its checkpoints. A picture is resized to tiles of the tower's size, each behind the token of
its row and column, rows ended by a newline, and behind them a small one of all of it. Frozen is the tower; what it sees
is put together without weights, and the projector learns, as in this harness's LLaVA.

transformers' processor of it needs num2words, for videos alone; here it is written, and never made.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.contracts.encoding import Pieces, Tokens, encode
from harness.contracts.family import Eyes, Layout, Stored
from harness.contracts.images import opened, size_of
from harness.contracts.records import Image, Turn
from harness.families._parted import Parted
from harness.families._shared import (
    architecture,
    decoder_flops,
    merged,
    refuse_parts,
    small_decoder,
    square_flops,
    worded,
)
from harness.system.errors import UsageError
from harness.system.profile import Flops

if TYPE_CHECKING:
    from torch import Tensor, nn

START, STOP, AROUND, WHOLE = "<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<global-img>"
SIDE = 6  # tiles: there is a token for so many rows and columns
WORDS = 50_000  # SmolLM2 has 49,152 and some control tokens; Llama 3, in Idefics3, 128,000
TEMPLATE = r"""{{- START -}}
{%- for message in messages -%}
    {%- set content = message['content'] -%}
    {%- set parts = [{'type': 'text', 'text': content}] if content is string else content -%}
    {{- message['role'] | capitalize + (':' if parts[0]['type'] == 'image' else ': ') -}}
    {%- for part in parts -%}
        {{- IMAGE if part['type'] == 'image' else part['text'] -}}
    {%- endfor -%}
    {{- (END if message['role'] == 'assistant' else STOP) + '\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'Assistant:' }}{%- endif -%}
"""


class SmolVLM(Parted):
    """`SmolVLMForConditionalGeneration`."""

    title, example, processor = "SmolVLM2", "HuggingFaceTB/SmolVLM2-2.2B-Instruct", "SmolVLMProcessor"
    classes = "SmolVLMConfig", "SmolVLMForConditionalGeneration"
    images, videos, image_token, lead = "SmolVLMImageProcessorPil", "SmolVLMVideoProcessor", "<image>", " "
    kept = (*Parted.kept, "size", "max_image_size", "video_sampling")
    language, projector = "text_model", "connector.modality_projection.proj.weight"
    control: ClassVar[tuple[str, ...]] = (
        *(START, STOP, AROUND, WHOLE),
        *(f"<row_{row}_col_{column}>" for row in range(1, SIDE + 1) for column in range(1, SIDE + 1)),
    )
    parts: ClassVar[Mapping[str, str]] = {
        "embed_tokens.weight": "language model",
        "text_model.norm.weight": "language model",
        "connector.modality_projection.proj.weight": "projector",
        "embeddings.patch_embedding.weight": "vision tower",
        "embeddings.position_embedding.weight": "vision tower",
    }
    prefixes: ClassVar[dict[str, str]] = {name: name for name in ("model.", "lm_head.")}

    def refuse(self, config: Mapping[str, Any], folder: Path, again: str) -> None:
        """Other words than SmolLM2's."""
        words = refuse_parts(config, folder, again).get("vocab_size", 0)
        if words > WORDS:
            raise UsageError(
                f"{folder} has another language model than SmolLM2 ({words:,} words), which was trained with another "
                f"conversation template, not known here; {again}."
            )

    def places(
        self, config: Mapping[str, Any], tensors: Mapping[str, Stored], pictures: Mapping[str, Any]
    ) -> tuple[int, int]:
        """A line of tiles, and a square of them, each with the small one; the small one where that is all."""
        vision, most = config["vision_config"], 1
        tile = (vision["image_size"] // vision["patch_size"] // config.get("scale_factor", 2)) ** 2
        if pictures.get("do_image_splitting", True):
            most = pictures["size"]["longest_edge"] // pictures["max_image_size"]["longest_edge"]
        return (tile, tile) if most == 1 else (tile * (most + 1), tile * (most**2 + 1))

    def segments(self, turns: Sequence[Turn], has_image: bool, end: str) -> Pieces:
        """A blank follows a role, but not before a picture; a line between turns belongs to the next one."""
        pieces: Pieces = []
        for number, turn in enumerate(turns):
            before, shown = "\n" if number else START, self.image_token if has_image and not number else " "
            pieces.append((f"{before}User:{shown}{turn.question}{STOP}\nAssistant:", False))
            pieces.append((f"{self.lead}{turn.answer}{end}", True))
        return pieces

    def encode(self, tokenizer: Any, pieces: Pieces, layout: Layout | None) -> Tokens:
        """Tiles between tokens that say where they lie."""
        return encode(tokenizer, pieces, self.image_token, self.shown(tokenizer, layout) if layout else [])

    def shown(self, tokenizer: Any, layout: Layout) -> list[int]:
        """Ids of a picture: as transformers' processors spell it, `get_image_prompt_string`."""
        (rows, columns), ids = layout.grid, tokenizer.convert_tokens_to_ids
        line, gap = (tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids for text in ("\n", "\n\n"))
        tile = [ids(self.image_token)] * (layout.places // (rows * columns + 1))
        found: list[int] = []
        for row in range(1, rows + 1):
            for column in range(1, columns + 1):
                found += [ids(AROUND), ids(f"<row_{row}_col_{column}>"), *tile]
            found += line if row < rows else gap
        return [*found, ids(AROUND), ids(WHOLE), *tile, ids(AROUND)]

    def eyes(self, processor_of: Any, config: Any) -> Eyes:
        """Tiles of the tower's size."""
        import transformers

        processor, wanted = processor_of(getattr(transformers, self.images)), config.vision_config.image_size
        tile, longest = processor.max_image_size["longest_edge"], processor.size["longest_edge"]
        if tile != wanted:
            raise ValueError(f"makes tiles of {tile} pixels, its vision tower sees {wanted}")
        if processor.do_image_splitting and not (processor.do_resize and longest in range(tile, SIDE * tile + 1, tile)):
            raise ValueError(f"resizes pictures to {longest} pixels, which are not 1 to {SIDE} tiles of {tile}")
        return Tiles(processor, config)

    def told(self, config: Any) -> dict[str, Any]:
        """Places of a tile."""
        return {"image_seq_len": tile_places(config)}

    def chat_template(self, end: str) -> str:
        """In Jinja."""
        return worded({"START": START, "STOP": STOP, "IMAGE": self.image_token, "END": end}, TEMPLATE)

    def tower(self, model: Any) -> "nn.Module":
        """SigLIP's."""
        tower: nn.Module = model.model.vision_model
        return tower

    def features(self, model: Any, pixels: "Tensor", layout: Layout) -> "Tensor":
        """(tiles, 3, side, side) to (places, scale_factor**2 width), as transformers' connector puts them together."""
        import torch

        tower = self.tower(model).eval()
        weight = next(tower.parameters())
        with torch.inference_mode(False), torch.no_grad():
            seen = tower(pixels.to(weight.device, weight.dtype)).last_hidden_state
            put: Tensor = model.model.connector.pixel_shuffle(seen, model.config.scale_factor)
        return put.flatten(0, 1).cpu()

    def inputs(self, model: Any, ids: "Tensor", features: "Tensor | None", layouts: Sequence[Layout]) -> dict[str, Any]:
        """Words, and at the places of pictures what the projector makes of them."""
        words: Tensor = model.get_input_embeddings()(ids)
        projector = model.model.connector.modality_projection
        if features is None:
            return {"inputs_embeds": words + projector(words.new_zeros(1, projector.proj.in_features)).sum() * 0}
        seen = projector(features.to(words.device, words.dtype))
        return {"inputs_embeds": merged(words, ids == model.config.image_token_id, seen)}

    def flops(self, config: Any) -> Flops:
        """Each tile costs the same."""
        wide, tile = config.vision_config.hidden_size * config.scale_factor**2, square_flops(config, token=0)
        return Flops(
            **decoder_flops(config.text_config),
            image=lambda layout: layout.places * 2 * wide * config.text_config.hidden_size,
            tower=lambda layout: layout.places // tile_places(config) * tile,
        )

    def architecture(self, config: Mapping[str, Any], tensors: Mapping[str, Stored]) -> dict[str, int]:
        """Widths and depths by their names."""
        return architecture(tensors)

    def small(self, tokenizer: Any) -> tuple[Any, Any]:
        """Two layers each, up to four tiles of 32 x 32 pixels and a small one, 4 places each."""
        import transformers

        tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = self.config_class()(
            vision_config=tower | {"image_size": 32, "patch_size": 8},
            text_config=small_decoder(tokenizer) | {"model_type": "llama"},
            image_token_id=tokenizer.convert_tokens_to_ids(self.image_token),
            tie_word_embeddings=False,
        )
        sizes = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
        return config, getattr(transformers, self.images)(**sizes)


class Tiles(Eyes):
    """(tiles, 3, side, side) pixels; a layout's grid is rows and columns of tiles, (0, 0) where there is but one."""

    def __init__(self, processor: Any, config: Any) -> None:
        self.processor, self._config = processor, config
        sizes = [processor.size["longest_edge"], processor.max_image_size["longest_edge"]]
        self.more = {"sizes": sizes, "tiles": processor.do_image_splitting}

    def layout(self, image: Image) -> Layout:
        """By the processor's own count."""
        _, rows, columns = self.processor.get_number_of_image_patches(*size_of(image))
        return Layout(tile_places(self._config) * (rows * columns + 1), (rows, columns))

    def pixels(self, image: Image) -> "Tensor":
        """Tiles by rows, then the small one."""
        made: Tensor = self.processor(images=opened(image), return_tensors="pt")["pixel_values"][0]
        return made.float()

    def blank(self, layout: Layout) -> "Tensor":
        """As many tiles of the mean colour."""
        import torch

        side = self._config.vision_config.image_size
        return torch.zeros(layout.places // tile_places(self._config), 3, side, side)


def tile_places(config: Any) -> int:
    """Places of a tile, by a config."""
    vision = config.vision_config
    return int((vision.image_size // vision.patch_size // config.scale_factor) ** 2)
