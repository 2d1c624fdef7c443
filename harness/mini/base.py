"""The recipe of the mini base models: small stock LLaVA models trained from random weights on the drawn world."""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from harness.mini import chat, vision
from harness.mini.card import card, write_sums
from harness.mini.draw import SIDE
from harness.mini.measure import measure
from harness.mini.tokenizer import make_tokenizer
from harness.mini.world import CATEGORIES, Cover, Scene, cover, scene, seed_of
from harness.template import encode, segments
from harness.types import Turn

Progress = Callable[[str], None]
Batch = tuple[list[int], list[list[int]], list[list[int]]]  # images, token ids, labels
WIDTH = 128
PATCH = 16
BEFORE_IMAGE = 3  # <s>, the system text and " USER: " come before the image tokens
NONE = -100


@dataclass(frozen=True)
class Recipe:
    """How much of everything; counts, never times, so that a seed always gives the same model."""

    scenes: int = 6000
    covers: int = 2000
    talked_covers: int = 600  # the share of covers that the chats need; the tower needs all
    vision_steps: int = 1200
    warm_steps: int = 400
    mixed_steps: int = 950
    warm_batch: int = 48
    mixed_batch: int = 32
    rate: float = 1e-3
    choosing_steps: int = 200
    choosing_batch: int = 16
    last_steps: int = 200
    last_rate: float = 8e-4


def build_model(tokenizer: Any) -> Any:
    """A stock LLaVA with random weights."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    shape = {"hidden_size": WIDTH, "intermediate_size": 3 * WIDTH, "num_attention_heads": 4}
    tower = CLIPVisionConfig(**shape, num_hidden_layers=2, image_size=SIDE, patch_size=PATCH, projection_dim=WIDTH)
    decoder = LlamaConfig(
        **shape,
        num_hidden_layers=3,
        vocab_size=len(tokenizer),
        max_position_embeddings=1024,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    config = LlavaConfig(
        vision_config=tower,
        text_config=decoder,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=(SIDE // PATCH) ** 2,
        tie_word_embeddings=False,
    )
    model = LlavaForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.vision_tower.embeddings.patch_embedding.weight, std=0.02)
    return model


def _orthogonal() -> torch.Tensor:
    return torch.nn.init.orthogonal_(torch.empty(WIDTH, WIDTH))


def _share_meaning(model: Any, tokenizer: Any) -> None:
    """Plurals and capitalized words start near the plain word that the tower was aligned to."""
    rows = model.lm_head.weight
    vocabulary = tokenizer.get_vocab()
    pairs = [(name, category.plural) for name, category in CATEGORIES.items()]
    listed = [word for group, (words, _) in vision.GROUPS.items() if group != "name" for word in words]
    pairs += [(word, word.capitalize()) for word in (*listed, *CATEGORIES)]
    for plain, form in pairs:
        source, target = vocabulary.get(f"\u0120{plain}"), vocabulary.get(f"\u0120{form}")
        if source is not None and target is not None:
            rows[target] = rows[source] + 0.5 * rows[target]


@torch.no_grad()
def look_first(model: Any, tokenizer: Any) -> None:
    """Initial weights with which a word attends to the image cells that show it: the stand-in for a pretrained LLM.

    Finding by itself that a noun in the question should be matched with image features takes a small decoder
    hours; pretrained ones know how. The input embeddings are the output embeddings (to which the tower is
    aligned) turned by a random rotation R; the first layer's queries undo R and its keys do not, so that a word
    matches cells showing it but not itself. Values are copied. Later layers start with uniform attention.
    """
    _share_meaning(model, tokenizer)
    turned = _orthogonal()
    model.get_input_embeddings().weight.copy_(model.lm_head.weight @ turned)
    first, *later = [layer.self_attn for layer in model.model.language_model.layers]
    match, copy = _orthogonal(), _orthogonal()
    first.k_proj.weight.copy_(1.5 * match)
    first.q_proj.weight.copy_(1.5 * match @ turned)
    first.v_proj.weight.copy_(copy)
    first.o_proj.weight.copy_(copy.T)
    for attention in later:
        torch.nn.init.normal_(attention.q_proj.weight, std=0.02)
        torch.nn.init.normal_(attention.k_proj.weight, std=0.02)
        copy = _orthogonal()
        attention.v_proj.weight.copy_(0.5 * copy)
        attention.o_proj.weight.copy_(0.5 * copy.T)


def _batches(tokenizer: Any, drawn: list[Scene | Cover], talk: Any, size: int, rng: random.Random) -> Iterator[Batch]:
    """Endless batches of conversations of similar length."""
    while True:
        pool: list[tuple[int, list[int], list[int]]] = []
        for _ in range(size * 8):
            image = rng.randrange(len(drawn))
            turns: list[Turn] = talk(drawn[image], rng)
            tokens = encode(tokenizer, segments(turns, True, tokenizer.eos_token), (SIDE // PATCH) ** 2)
            marked = zip(tokens.ids, tokens.supervised, strict=True)
            pool.append((image, list(tokens.ids), [token if mark else NONE for token, mark in marked]))
        pool.sort(key=lambda entry: len(entry[1]))
        starts = list(range(0, len(pool), size))
        rng.shuffle(starts)
        for start in starts:
            images, ids, labels = zip(*pool[start : start + size], strict=True)
            yield list(images), list(ids), list(labels)


def _padded(rows: list[list[int]], filler: int) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows])


def _chat_loss(model: Any, features: torch.Tensor, batch: Batch) -> Any:
    """Cross-entropy of the answers. Padding is on the right, so causal attention needs no mask."""
    images, ids, labels = batch
    words = model.get_input_embeddings()(_padded(ids, 0))
    seen = model.model.multi_modal_projector(features[images])
    after = BEFORE_IMAGE + seen.shape[1]
    whole = torch.cat([words[:, :BEFORE_IMAGE], seen, words[:, after:]], 1)
    hidden = model.model.language_model(inputs_embeds=whole, use_cache=False).last_hidden_state[:, :-1]
    target = _padded(labels, NONE)[:, 1:]
    wanted = target != NONE
    return functional.cross_entropy(model.lm_head(hidden[wanted]), target[wanted])


def _cosine(done: float) -> float:
    return 0.03 + 0.97 * (1 + math.cos(math.pi * done)) / 2


def _tune(
    model: Any, features: torch.Tensor, stages: list[tuple[Iterator[Batch], int]], rate: float, progress: Progress
) -> None:
    """Train everything but the tower, so many steps in each stage, under one learning rate schedule."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1.0, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    plan = [stream for stream, steps in stages for _ in range(steps)]
    recent: list[float] = []
    for step, stream in enumerate(plan):
        loss = _chat_loss(model, features, next(stream))
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 100) * _cosine(step / len(plan))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        recent = [*recent[-49:], loss.item()]
        if step % 50 == 49:
            progress(f"chat step {step + 1} of {len(plan)}, loss {sum(recent) / len(recent):.3f}")


def _instruct(
    model: Any,
    tokenizer: Any,
    drawn: list[Scene | Cover],
    features: torch.Tensor,
    recipe: Recipe,
    seed: int,
    progress: Progress,
) -> None:
    """Instruction tuning: single questions, then the mix; then options alone, and the mix again to refresh it."""
    model.model.vision_tower.requires_grad_(False)
    first, second = (random.Random(seed_of(f"recipe/{seed}{part}")) for part in ("", "/choosing"))
    warm = _batches(tokenizer, drawn, chat.warm_up, recipe.warm_batch, first)
    mixed = _batches(tokenizer, drawn, chat.mixed, recipe.mixed_batch, first)
    _tune(model, features, [(warm, recipe.warm_steps), (mixed, recipe.mixed_steps)], recipe.rate, progress)
    choosing = _batches(tokenizer, drawn[: recipe.scenes], chat.choosing, recipe.choosing_batch, second)
    last = _batches(tokenizer, drawn, chat.last, recipe.mixed_batch, second)
    stages = [(choosing, recipe.choosing_steps), (last, recipe.last_steps)]
    _tune(model, features, stages, recipe.last_rate, progress)


def train_model(seed: int, recipe: Recipe, progress: Progress) -> tuple[Any, Any]:
    """The trained model and its tokenizer."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    model = build_model(tokenizer).train()
    drawn: list[Scene | Cover] = [scene(f"base/{seed}/{number}") for number in range(recipe.scenes)]
    drawn += [cover(f"base/{seed}/cover/{number}") for number in range(recipe.covers)]
    images = vision.normalized(vision.render(drawn))
    vision.align(model, tokenizer, drawn, images, recipe.vision_steps, _cosine, progress)
    torch.manual_seed(seed)  # so that the second phase does not depend on how often the first drew
    look_first(model, tokenizer)
    with torch.no_grad():
        features = torch.cat([vision.tower_features(model, part) for part in torch.split(images, 256)])
    talked_about = drawn[: recipe.scenes + recipe.talked_covers]
    _instruct(model, tokenizer, talked_about, features, recipe, seed, progress)
    return model.eval(), tokenizer


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a complete model folder, the weights as float16."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder.mkdir(parents=True, exist_ok=True)
    side = {"height": SIDE, "width": SIDE}
    processor = CLIPImageProcessorPil(
        size=side, crop_size=side, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.25] * 3
    )
    processor.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model.to(torch.float16).save_pretrained(folder)
    model.to(torch.float32)


def train_base(seed: int, folder: Path, progress: Progress = lambda line: None) -> None:
    """Train the base of that seed and write it with its card and checksums: ten minutes of one core.

    The same seed gives the same model on the same processor and torch version. `progress` gets a line now and then.
    """
    from transformers import AutoTokenizer, LlavaForConditionalGeneration

    threads, recipe = torch.get_num_threads(), Recipe()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            save(*train_model(seed, recipe, progress), folder)
        model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        measured = measure(model, AutoTokenizer.from_pretrained(folder), 400)
    finally:
        torch.set_num_threads(threads)
    progress(f"base {seed}: " + ", ".join(f"{name} {value:.1f}" for name, value in measured.items()))
    (folder / "README.md").write_text(card(seed, asdict(recipe), measured), encoding="utf-8")
    write_sums(folder)
