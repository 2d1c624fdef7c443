"""A base model that is not whole is refused by name, before any work where headers tell it, else as it is loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import harness.mini
import harness.models.weights
from harness.models.clip import Clip
from harness.models.folder import INDEX, inspect
from harness.models.load import load
from harness.system.errors import UsageError

CLIP = Path(harness.mini.__file__).parent / "clip"
WEIGHTS = "model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 14\n"


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Write the folder's weights again after a change."""
    stored = load_file(folder / WEIGHTS)
    change(stored)
    save_file(stored, folder / WEIGHTS, metadata={"format": "pt"})


def config(folder: Path, **fields: Any) -> None:
    """Set fields of config.json; None takes one out."""
    path = folder / "config.json"
    changed = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in changed.items() if value is not None}))


def without(end: str) -> Callable[[Path], None]:
    """Takes the tensors out whose names contain `end`."""

    def spoil(folder: Path) -> None:
        tensors(folder, lambda stored: [stored.pop(name) for name in list(stored) if end in name])

    return spoil


def sharded(folder: Path, again: bool = False, lost: bool = False, stray: bool = False) -> None:
    """The weights in two files with an index: a tensor in both, a file that is not there, a tensor in none."""
    stored = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(stored)
    halves = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    for file, part in halves.items():
        save_file({name: stored[name] for name in part + names[:1] * again}, folder / file)
    places = {name: file for file, part in halves.items() for name in part}
    if stray:
        places.pop(names[-1])
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))
    if lost:
        (folder / "b.safetensors").unlink()


HEADERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no projector": (
        without("multi_modal_projector"),
        r"lacks \*multi_modal_projector.linear_1.weight \(the projector\)",
    ),
    "no vision tower": (without("vision_tower"), r"class_embedding \(the vision tower\)"),
    "no head": (without("lm_head"), "lm_head.weight .*not tied"),
    "one weight of one layer": (without("layers.1.mlp.up_proj"), r"lacks .*layers\.1\.mlp\.up_proj\.weight"),
    "the last layer": (without("language_model.model.layers.1."), r"lacks .*layers\.1\..* and \d+ more"),
    "a tensor twice": (lambda f: sharded(f, again=True), "twice, in a.safetensors and b.safetensors"),
    "a shard missing": (lambda f: sharded(f, lost=True), "names 'b.safetensors', which is not a file of its folder"),
    "a tensor that the index forgot": (
        lambda f: sharded(f, stray=True),
        "which model.safetensors.index.json does not know",
    ),
    "integers": (
        lambda f: tensors(f, lambda s: s.update({k: v.to(torch.int8) for k, v in s.items() if "lm_head" in k})),
        r"no floating-point numbers: .*lm_head.weight \(I8\)",
    ),
    "renamed": (lambda f: (f / WEIGHTS).rename(f / "weights.safetensors"), "no model.safetensors .*was it renamed"),
    "a file too many": (
        lambda f: save_file({"a": torch.zeros(1)}, f / "b.safetensors"),
        "b.safetensors, which is no part",
    ),
    "cut short": (
        lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-50]),
        "is damaged or no safetensors",
    ),
    "no safetensors": (
        lambda f: (f / WEIGHTS).write_bytes(b"PK\x03\x04" + b"0" * 2000),
        "is damaged or no safetensors",
    ),
    "empty": (lambda f: (f / WEIGHTS).write_bytes(b""), "is damaged or no safetensors"),
    "pickles": (lambda f: (f / WEIGHTS).rename(f / "pytorch_model.bin"), "pytorch_model.bin is a pickle"),
    "a pointer": (lambda f: (f / WEIGHTS).write_text(POINTER), "git-lfs pointer.*git lfs pull"),
    "a tokenizer's pointer": (
        lambda f: (f / "tokenizer.json").write_text(POINTER),
        "tokenizer.json is a git-lfs pointer",
    ),
    "original layout": (lambda f: config(f, mm_vision_tower="openai/clip"), "LLaVA's original layout.*llava-hf"),
    "original type": (lambda f: config(f, model_type="llava_llama"), "LLaVA's original layout"),
    "the original of 13B": (
        lambda f: config(f, model_type="llava_llama", hidden_size=5120),
        "hf download llava-hf/llava-1.5-13b-hf",
    ),
    "the original of LLaVA-1.6": (
        lambda f: config(f, mm_vision_tower="openai/clip", image_aspect_ratio="anyres"),
        "hf download llava-hf/llava-v1.6-vicuna-7b-hf",
    ),
    "an unknown model": (lambda f: config(f, model_type="kosmos-2"), "'kosmos-2' model; supported are .*llava_next"),
    "a language model": (lambda f: config(f, model_type="llama"), "'llama' model; supported are idefics3, internvl"),
    "no type": (lambda f: config(f, model_type=None), "None model; supported are idefics3, internvl"),
    "a hybrid": (
        lambda f: config(f, model_type="qwen3_5", text_config={"layer_types": ["linear_attention", "full_attention"]}),
        r"'qwen3_5' model.*carry a state from token to token \(linear_attention\)",
    ),
    "a hybrid by its fields": (
        lambda f: config(f, model_type="nemotron_h_omni", text_config={"mamba_num_heads": 8}),
        r"carry a state from token to token \(mamba_num_heads\)",
    ),
    "short convolutions": (
        lambda f: config(f, model_type="lfm2_vl", text_config={"layer_types": ["conv", "full_attention"]}),
        r"carry a state from token to token \(conv\)",
    ),
    "another hybrid as its makers' defaults have it": (
        lambda f: config(f, model_type="lfm2_vl", text_config={"conv_L_cache": 3, "layer_types": ["full_attention"]}),
        r"carry a state from token to token \(conv_L_cache\)",
    ),
    "LLaVA-NeXT with Mistral": (
        lambda f: config(f, model_type="llava_next", text_config={"model_type": "mistral", "vocab_size": 32064}),
        r"another language model than Vicuna \(mistral, 32,064 words\)",
    ),
    "LLaVA-NeXT with Yi": (
        lambda f: config(f, model_type="llava_next", text_config={"model_type": "llama", "vocab_size": 64064}),
        r"another language model than Vicuna \(llama, 64,064 words\)",
    ),
    "InternVL with InternLM": (
        lambda f: config(f, model_type="internvl", text_config={"model_type": "llama"}),
        "language model is 'llama'; known are those with Qwen",
    ),
    "Idefics3 with Llama 3": (
        lambda f: config(f, model_type="idefics3", text_config={"vocab_size": 128259}),
        r"another language model than SmolLM2 \(128,259 words\)",
    ),
    "Qwen's window of words": (
        lambda f: config(f, model_type="qwen2_5_vl", text_config={"use_sliding_window": True}),
        "see a window of words only",
    ),
    "half a config": (lambda f: config(f, vision_config=None), "has no vision_config"),
    "another tower": (
        lambda f: config(f, vision_config={"model_type": "siglip_vision_model"}),
        "'siglip_vision_model' vision",
    ),
    "attention weights dropped": (
        lambda f: config(f, text_config={"attention_dropout": 0.1}),
        r"attention_dropout 0\.1, which would be drawn anew",
    ),
    "quantised": (lambda f: config(f, quantization_config={"bits": 4}), "is quantised"),
    "no JSON": (lambda f: (f / "config.json").write_text('{"model_type": "lla'), "config.json is not JSON"),
    "an empty config": (lambda f: (f / "config.json").write_text(""), "config.json is not JSON"),
    "no config": (lambda f: (f / "config.json").unlink(), "needs config.json"),
    "an adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "merge it into its base"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
    "no processor": (lambda f: [p.unlink() for p in f.glob("*processor_config.json")], "how it reads pictures"),
}


@pytest.mark.parametrize("what", HEADERS)
def test_headers_tell_that_a_folder_is_not_whole(copy: Path, what: str) -> None:
    spoil, said = HEADERS[what]
    inspect(copy)
    spoil(copy)
    with pytest.raises(UsageError, match=said):
        inspect(copy)


def nan(stored: dict[str, torch.Tensor], name: str, value: float) -> None:
    next(weight for key, weight in stored.items() if name in key).view(-1)[3] = value


LOADED: dict[str, tuple[Callable[[Path], object], str]] = {
    "in no layer": (without("input_layernorm"), r"lacks: .*layers\.0\.input_layernorm\.weight"),
    "no bias": (without("linear_1.bias"), r"lacks: .*multi_modal_projector\.linear_1\.bias"),
    "left over": (
        lambda f: tensors(f, lambda s: s.update({"extra.weight": torch.zeros(2)})),
        "beyond its config: extra.weight",
    ),
    "another shape": (
        lambda f: tensors(f, lambda s: s.update({k: v[:-8] for k, v in s.items() if "lm_head" in k})),
        r"another shape: lm_head\.weight \[",
    ),
    "NaN in the projector": (
        lambda f: tensors(f, lambda s: nan(s, "linear_2.weight", float("nan"))),
        "NaN or infinity in .*linear_2",
    ),
    "infinity in the tower": (
        lambda f: tensors(f, lambda s: nan(s, "patch_embedding", float("-inf"))),
        "NaN or infinity in .*patch_emb",
    ),
    "a broken tokenizer": (
        lambda f: (f / "tokenizer.json").write_text('{"version": 1'),
        "tokenizer of .* cannot be read",
    ),
    "another image token": (lambda f: config(f, image_token_id=7, image_token_index=7), "<image> as 4, its model as 7"),
    "pictures of another size": (
        lambda f: [p.write_text(p.read_text().replace("16", "32")) for p in f.glob("*processor_config.json")],
        "makes pictures of 32 x 32 pixels, its vision tower sees 16 x 16",
    ),
}


@pytest.mark.parametrize("what", LOADED)
def test_what_headers_do_not_tell_is_refused_as_it_is_loaded(copy: Path, what: str) -> None:
    spoil, said = LOADED[what]
    load(copy)
    spoil(copy)
    with pytest.raises(UsageError, match=said):
        load(copy)


def test_a_model_without_a_weight_would_be_drawn_anew(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: without the check two loads of one folder are two models."""
    without("linear_1.bias")(copy)
    with pytest.raises(UsageError, match="lacks"):
        load(copy)
    monkeypatch.setattr("harness.models.load.insist_on_whole", lambda info, folder: None)
    tensors(copy, lambda stored: stored.pop(next(name for name in stored if "linear_1.weight" in name)))
    monkeypatch.setattr("harness.models.load.inspect", lambda folder: {})
    one, two = (load(copy).model.model.multi_modal_projector.linear_1.weight for _ in range(2))
    assert not torch.equal(one, two)


def test_tied_embeddings_and_derived_buffers_are_no_fault(copy: Path) -> None:
    text = json.loads((copy / "config.json").read_text())["text_config"] | {"tie_word_embeddings": True}
    config(copy, tie_word_embeddings=True, text_config=text)
    without("lm_head")(copy)
    tensors(copy, lambda s: s.update({"vision_tower.vision_model.embeddings.position_ids": torch.arange(5.0)}))
    model = load(copy).model
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_files_are_looked_through_for_nan_once_a_process(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(copy)
    model = load(copy).model
    model.lm_head.weight.data[0, 0] = torch.nan
    harness.models.weights.insist_on_finite(model, copy)
    tensors(copy, lambda stored: None)
    with pytest.raises(UsageError, match="lm_head"):
        harness.models.weights.insist_on_finite(model, copy)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without("text_projection"), "lacks .*text_projection"),
        (without("logit_scale"), "lacks: logit_scale"),
        (
            lambda f: tensors(f, lambda s: nan(s, "visual_projection", float("inf"))),
            "NaN or infinity in visual_projection",
        ),
        (lambda f: (f / WEIGHTS).write_text(POINTER), "git-lfs pointer"),
        (lambda f: config(f, model_type="siglip"), "'siglip' model; only 'clip'"),
    ],
)
def test_a_clip_model_is_looked_at_as_well(tmp_path: Path, spoil: Callable[[Path], object], said: str) -> None:
    copied = Path(shutil.copytree(CLIP, tmp_path / "clip"))
    spoil(copied)
    with pytest.raises(UsageError, match=said):
        Clip(copied)
