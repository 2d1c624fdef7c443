"""A checkpoint in the layout of llava-hf's folders on the hub, so that other programs read it: names, template, pixels.

transformers 5 writes other names than those that vLLM and transformers 4 read, and reads both.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.folder import INDEX
from harness.template import ANSWER, IMAGE, SYSTEM
from harness.types import HarnessError

if TYPE_CHECKING:
    from torch import Tensor

SHARD = "5GB"  # as transformers cuts
PREFIXES = {  # as the model's modules are called -> as the hub's files call them; the first that fits
    "model.language_model.": "language_model.model.",
    "lm_head.": "language_model.lm_head.",
    "model.vision_tower.vision_model.": "vision_tower.vision_model.",
    "model.vision_tower.": "vision_tower.vision_model.",
    "model.multi_modal_projector.": "multi_modal_projector.",
}
TEMPLATE = """\
{%- set first = 1 if messages[0]['role'] == 'system' else 0 -%}
{%- if first == 0 -%}{{ SYSTEM }}{%- endif -%}
{%- for message in messages -%}
    {%- set content = message['content'] -%}
    {%- set parts = [{'type': 'text', 'text': content}] if content is string else content -%}
    {%- set text = parts | selectattr('type', 'equalto', 'text') | map(attribute='text') | join('') -%}
    {%- if message['role'] == 'user' -%}
        {{- ' USER: ' if loop.index0 == first else 'USER: ' -}}
        {%- for image in parts | selectattr('type', 'equalto', 'image') -%}{{ IMAGE + NEWLINE }}{%- endfor -%}
        {{- text -}}
    {%- elif message['role'] == 'assistant' -%}
        {{- ANSWER + ' ' + text + END -}}
    {%- else -%}
        {{- text -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ ANSWER }}{%- endif -%}
"""


def hub_name(name: str) -> str:
    """What llava-hf's files call a weight; HarnessError for one that no LLaVA model has."""
    for module, file in PREFIXES.items():
        if name.startswith(module):
            return file + name.removeprefix(module)
    raise HarnessError(f"the weight {name} is no part of a LLaVA model; it cannot be saved as one.")


def chat_template(end: str) -> str:
    """`harness.template` in Jinja, for `AutoProcessor.apply_chat_template`; `end` is the end token."""
    words = {"SYSTEM": SYSTEM, "IMAGE": IMAGE, "NEWLINE": "\n", "ANSWER": ANSWER, "END": end}
    return "".join(f"{{%- set {name} = {json.dumps(text)} -%}}\n" for name, text in words.items()) + TEMPLATE


def write_weights(model: Any, folder: Path) -> None:
    """Weights, config and generation config of a plain LLaVA model; tied embeddings are written once."""
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    stored: dict[str, Tensor] = model.state_dict()
    if model.lm_head.weight is model.get_input_embeddings().weight:
        stored = {name: weight for name, weight in stored.items() if name != "lm_head.weight"}
    named = {hub_name(name): weight for name, weight in stored.items()}
    folder.mkdir(parents=True, exist_ok=True)
    shards = split_torch_state_dict_into_shards(
        {name: weight.to("meta") for name, weight in named.items()}, max_shard_size=SHARD
    )
    for file, names in shards.filename_to_tensors.items():  # copies, since DeepSpeed's weights share one storage
        part = {name: named[name].detach().to("cpu", copy=True).contiguous() for name in names}
        save_file(part, folder / file, metadata={"format": "pt"})
    if shards.is_sharded:
        index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")
    model.config.architectures = ["LlavaForConditionalGeneration"]
    model.config.dtype = model.dtype
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)


def write_processor(config: Any, tokenizer: Any, image_processor: Any, folder: Path) -> None:
    """Tokenizer, chat template and a processor that pads pictures to squares as LLaVA-1.5 does (`expand2square`).

    Beside `processor_config.json` lies the image processor's own file, which transformers 4 reads. With torchvision,
    `AutoProcessor` takes another resizing; `backend="pil"` is exact.
    """
    from transformers import LlavaImageProcessorPil, LlavaProcessor

    fields = {name: value for name, value in image_processor.to_dict().items() if name not in ("image_processor_type",)}
    padding = LlavaImageProcessorPil(**{**fields, "do_pad": True})
    LlavaProcessor(
        image_processor=padding,
        tokenizer=tokenizer,
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        image_token=IMAGE,
        num_additional_image_tokens=1,
        chat_template=chat_template(tokenizer.eos_token),
    ).save_pretrained(folder)
    padding.save_pretrained(folder)
    for file in (folder / "processor_config.json", folder / "preprocessor_config.json"):
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace("LlavaImageProcessorPil", "LlavaImageProcessor"), encoding="utf-8")
