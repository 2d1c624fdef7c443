"""The recipe of the drawn world's CLIP: a small stock CLIPModel that scores how well a sentence fits an image.

What CLIP-L is to a real testbed's CSR, this is to the embedded one. As CLIP is trained by contrast with other images'
captions, so is this; sentences of the same scene with one thing wrong are added, since no batch of 64 is crowded enough
to tell a red dog from a blue one. The image tower starts from one that was taught what each cell holds (`vision`), the
stand-in for 400 million photographs.
"""

import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from harness.mini import vision
from harness.mini.base import WIDTH, build_model, image_processor
from harness.mini.card import clip_card, write_sums
from harness.mini.contrasts import KINDS, contrast, some_contrast
from harness.mini.draw import SIDE
from harness.mini.language import short_caption
from harness.mini.tokenizer import make_tokenizer
from harness.mini.tuning import PATCH, Progress, cosine
from harness.mini.world import Scene, scene, seed_of

LONGEST = 77  # tokens of a text, as CLIP has it; sentences have about 15
END = "<|endoftext|>"
CAPTIONS = 0.1  # share of images whose true text is a short caption


@dataclass(frozen=True)
class ClipRecipe:
    """How much of everything; counts, never times."""

    scenes: int = 6000
    vision_steps: int = 600
    steps: int = 1200
    batch: int = 64
    false: int = 3  # false sentences per image
    rate: float = 1e-3


def clip_tokenizer() -> Any:
    """The bases' tokenizer and one token more: the end of a text, at which CLIP pools it.

    The bases' own end token would not do: transformers takes the id 2, which that has, for a mistake in old CLIP
    configs, and pools at the token with the largest id instead. A blank goes before each text, as the words have one.
    """
    from tokenizers import pre_tokenizers, processors

    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"eos_token": END})
    ends = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<s>", END)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"<s> $A {END}", pair=f"<s> $A {END} $B {END}", special_tokens=ends
    )
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.init_kwargs["add_prefix_space"] = True
    tokenizer.padding_side = "right"
    tokenizer.model_max_length = LONGEST
    return tokenizer


def build_clip(tokenizer: Any) -> Any:
    """A stock CLIPModel with random weights; its image tower has one layer more than the bases'."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    shape: dict[str, Any] = {"hidden_size": WIDTH, "num_attention_heads": 4}
    text = CLIPTextConfig(
        **shape,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        vocab_size=len(tokenizer),
        max_position_embeddings=LONGEST,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    seen = CLIPVisionConfig(
        **shape, intermediate_size=3 * WIDTH, num_hidden_layers=3, image_size=SIDE, patch_size=PATCH
    )
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=seen.to_dict(), projection_dim=WIDTH))


def _gather(layer: Any) -> None:
    """A layer that starts as a mean over all positions, copied."""
    attention = layer.self_attn
    torch.nn.init.zeros_(layer.mlp.fc2.weight)
    torch.nn.init.normal_(attention.q_proj.weight, std=0.02)
    torch.nn.init.normal_(attention.k_proj.weight, std=0.02)
    copy = torch.nn.init.orthogonal_(torch.empty(WIDTH, WIDTH))
    attention.v_proj.weight.copy_(copy)
    attention.out_proj.weight.copy_(copy.T)


@torch.no_grad()
def _start(model: Any, teacher: Any) -> None:
    """Initial weights: an image is the mean of what its cells show, a text the mean of its words, in one space."""
    seen, said = model.vision_model, model.text_model
    seen.load_state_dict(teacher.model.vision_tower.state_dict(), strict=False)
    said.embeddings.token_embedding.weight.copy_(teacher.lm_head.weight)
    _gather(seen.encoder.layers[-1])
    for layer in said.encoder.layers:
        _gather(layer)
    torch.nn.init.eye_(model.visual_projection.weight)
    torch.nn.init.eye_(model.text_projection.weight)


def encode_texts(tokenizer: Any, texts: list[str]) -> Any:
    """Token ids and mask, padded."""
    return tokenizer(texts, padding=True, truncation=True, return_tensors="pt")


def _said(seen: Scene, rng: random.Random, false: int) -> tuple[str, list[str]]:
    """A true text and false sentences, the first of which differs from it in one thing."""
    pairs = [some_contrast(seen, rng) for _ in range(false)]
    true = pairs[0][0]
    if rng.random() < CAPTIONS:
        true = short_caption(seen)
    return true, [wrong for _, wrong in pairs]


def _loss(model: Any, tokenizer: Any, images: torch.Tensor, said: list[tuple[str, list[str]]]) -> Any:
    """CLIP's two cross-entropies; to an image, all false sentences of the batch are further wrong texts."""
    true = [text for text, _ in said]
    texts = [*true, *(text for _, wrong in said for text in wrong)]
    scores = model(pixel_values=images, **encode_texts(tokenizer, texts)).logits_per_image
    same = torch.tensor([[one == other for other in texts] for one in true])
    same.fill_diagonal_(False)  # what another image says in the same words is not wrong here
    scores = scores.masked_fill(same, -1e4)
    right = torch.arange(len(true))
    return functional.cross_entropy(scores, right) + functional.cross_entropy(scores[:, : len(true)].T, right)


def train_model(seed: int, recipe: ClipRecipe, progress: Progress) -> tuple[Any, Any]:
    """The trained CLIPModel and its tokenizer."""
    torch.manual_seed(seed)
    tokenizer, rng = clip_tokenizer(), random.Random(seed_of(f"clip/{seed}"))
    teacher, model = build_model(tokenizer).train(), build_clip(tokenizer).train()
    drawn = [scene(f"clip/{seed}/{number}") for number in range(recipe.scenes)]
    images = vision.normalized(vision.render([*drawn]))
    teacher.model.multi_modal_projector = torch.nn.Identity()  # so that cells themselves point at their words
    vision.align(teacher, tokenizer, [*drawn], images, recipe.vision_steps, cosine, progress)
    _start(model, teacher)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    recent: list[float] = []
    for step in range(recipe.steps):
        chosen = [rng.randrange(len(drawn)) for _ in range(recipe.batch)]
        noisy = images[chosen] + 0.1 * torch.randn(recipe.batch, *images.shape[1:])
        loss = _loss(model, tokenizer, noisy, [_said(drawn[number], rng, recipe.false) for number in chosen])
        optimizer.param_groups[0]["lr"] = recipe.rate * min(1.0, (step + 1) / 50) * cosine(step / recipe.steps)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent = [*recent[-49:], loss.item()]
        if step % 50 == 49:
            progress(f"contrast step {step + 1} of {recipe.steps}, loss {sum(recent) / len(recent):.3f}")
    return model.eval(), tokenizer


@torch.no_grad()
def similarity(model: Any, tokenizer: Any, images: torch.Tensor, texts: list[list[str]]) -> list[list[float]]:
    """Cosine similarity of each image (normalized pixels) with each of its own texts."""
    found = []
    for at in range(0, len(texts), 128):
        part = texts[at : at + 128]
        flat = [text for row in part for text in row]
        output = model(pixel_values=images[at : at + 128], **encode_texts(tokenizer, flat))
        rows = (output.image_embeds @ output.text_embeds.T).tolist()
        start = 0
        for row, own in zip(rows, part, strict=True):
            found.append(row[start : start + len(own)])
            start += len(own)
    return found


def measure_clip(model: Any, tokenizer: Any, n: int, space: str = "benchmark/0") -> dict[str, float]:
    """Percent of contrasts in which the true sentence is the more similar, by what is wrong with the false one.

    "any two": a true sentence against a false one about something else in the same scene, which is what a reward
    has to compare.
    """
    scenes = [scene(f"{space}/{number}") for number in range(n)]
    images = vision.normalized(vision.render([*scenes]))
    right: dict[str, list[bool]] = {kind: [] for kind in (*KINDS, "any two")}
    asked: list[list[tuple[str, str, str]]] = []
    for seen in scenes:
        rng = random.Random(seed_of(f"contrast/{seen.name}"))
        pairs = [(kind, contrast(seen, kind, rng)) for kind in KINDS]
        mixed = (some_contrast(seen, rng)[0], some_contrast(seen, rng)[1])
        asked.append([(kind, *pair) for kind, pair in [*pairs, ("any two", mixed)] if pair])
    flat = [[text for _, *pair in row for text in pair] for row in asked]
    for row, scores in zip(asked, similarity(model, tokenizer, images, flat), strict=True):
        for number, (kind, *_) in enumerate(row):
            right[kind].append(scores[2 * number] > scores[2 * number + 1])
    return {kind: 100 * sum(marks) / len(marks) for kind, marks in right.items() if marks}


def train_clip(folder: Path, progress: Progress = lambda line: None) -> None:
    """Train the CLIP (seed 0) and write it with its card and checksums: a few minutes of one core."""
    from transformers import CLIPModel

    threads, recipe = torch.get_num_threads(), ClipRecipe()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            model, tokenizer = train_model(0, recipe, progress)
        folder.mkdir(parents=True, exist_ok=True)
        image_processor().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        model.to(torch.float16).save_pretrained(folder)
        measured = measure_clip(CLIPModel.from_pretrained(folder, dtype=torch.float32).eval(), tokenizer, 400)
    finally:
        torch.set_num_threads(threads)
    progress("clip: " + ", ".join(f"{kind} {value:.1f}" for kind, value in measured.items()))
    (folder / "README.md").write_text(clip_card(model.num_parameters(), asdict(recipe), measured), encoding="utf-8")
    write_sums(folder)
