"""The recipe of the mini base models: small stock LLaVA models trained from random weights on the drawn world."""

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from harness.contracts.records import Turn
from harness.mini import chat, pairs, vision
from harness.mini.card import card, write_sums
from harness.mini.draw import SIDE
from harness.mini.measure import measure, measure_critic
from harness.mini.tokenizer import make_tokenizer
from harness.mini.tuning import (
    IMAGE_TOKENS,
    PATCH,
    Drawn,
    Progress,
    Row,
    Stage,
    Stream,
    batches,
    cosine,
    judged_row,
    row,
    tune,
)
from harness.mini.world import CATEGORIES, cover, scene, seed_of

WIDTH = 128
MEASURED = 400  # scenes that a card's numbers are of


@dataclass(frozen=True)
class Recipe:
    """How much of everything; counts, never times, so that a seed always gives the same model."""

    scenes: int = 6000
    covers: int = 2000
    talked_covers: int = 600  # the share of covers that the chats need; the tower needs all
    vision_steps: int = 1200
    warm_steps: int = 400
    mixed_steps: int = 500
    warm_batch: int = 48
    mixed_batch: int = 32
    rate: float = 1e-3
    simple_steps: int = 200
    critic_steps: int = 600
    critic_batch: int = 24
    choosing_steps: int = 200
    choosing_batch: int = 16
    last_steps: int = 250
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
        image_seq_length=IMAGE_TOKENS,
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


def _instruct(
    model: Any,
    tokenizer: Any,
    drawn: list[Drawn],
    features: torch.Tensor,
    recipe: Recipe,
    seed: int,
    progress: Progress,
) -> None:
    """Instruction tuning: single questions, then the mix; then the critic's task, options, and the mix to refresh it.

    Options are learned undisturbed only. The critic's task, which has hints, bears company, and is unlearned when it
    is left alone: so it takes turns with the mix, before the options and after them.
    """
    model.model.vision_tower.requires_grad_(False)
    rngs = {part: random.Random(seed_of(f"recipe/{seed}{part}")) for part in ("", "/choosing", "/critic")}

    def talk(said: Callable[[Drawn, random.Random], list[Turn]], size: int, number: int, part: str) -> Stream:
        """Batches of `size` conversations about the first `number` pictures, drawn with the generator of `part`."""

        def make() -> Row:
            image = rngs[part].randrange(number)
            return row(tokenizer, image, said(drawn[image], rngs[part]))

        return batches(make, size, rngs[part])

    def compare(said: Callable[[Drawn, random.Random], pairs.Judged]) -> Stream:
        """Batches of the critic's task: which of two answers about a picture is better."""

        def make() -> Row:
            image = rngs["/critic"].randrange(len(drawn))
            return judged_row(tokenizer, image, drawn[image], said(drawn[image], rngs["/critic"]))

        return batches(make, recipe.critic_batch, rngs["/critic"])

    warm = talk(chat.warm_up, recipe.warm_batch, len(drawn), "")
    mixed = talk(chat.mixed, recipe.mixed_batch, len(drawn), "")
    tune(model, features, [((warm,), recipe.warm_steps), ((mixed,), recipe.mixed_steps)], recipe.rate, progress)
    simple, judged = compare(pairs.simple), compare(pairs.judged)
    choosing = talk(chat.choosing, recipe.choosing_batch, recipe.scenes, "/choosing")
    last = talk(chat.last, recipe.mixed_batch, len(drawn), "/choosing")
    stages: list[Stage] = [((simple, mixed), 2 * recipe.simple_steps), ((judged, mixed), 2 * recipe.critic_steps)]
    tune(model, features, stages, recipe.rate, progress)
    stages = [((choosing,), recipe.choosing_steps), ((judged, last), 2 * recipe.last_steps)]
    tune(model, features, stages, recipe.last_rate, progress)


def train_model(seed: int, recipe: Recipe, progress: Progress) -> tuple[Any, Any]:
    """The trained model and its tokenizer."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    model = build_model(tokenizer).train()
    drawn: list[Drawn] = [scene(f"base/{seed}/{number}") for number in range(recipe.scenes)]
    drawn += [cover(f"base/{seed}/cover/{number}") for number in range(recipe.covers)]
    images = vision.normalized(vision.render(drawn))
    vision.align(model, tokenizer, drawn, images, recipe.vision_steps, cosine, progress)
    torch.manual_seed(seed)  # so that the second phase does not depend on how often the first drew
    look_first(model, tokenizer)
    with torch.no_grad():
        features = torch.cat([vision.tower_features(model, part) for part in torch.split(images, 256)])
    talked_about = drawn[: recipe.scenes + recipe.talked_covers]
    _instruct(model, tokenizer, talked_about, features, recipe, seed, progress)
    return model.eval(), tokenizer


def image_processor() -> Any:
    """The image processor saved beside every model of this testbed: it only normalizes."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    side = {"height": SIDE, "width": SIDE}
    return CLIPImageProcessorPil(
        size=side, crop_size=side, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.25] * 3
    )


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a complete model folder, the weights as float16."""
    folder.mkdir(parents=True, exist_ok=True)
    image_processor().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model.to(torch.float16).save_pretrained(folder)
    model.to(torch.float32)


def train_base(seed: int, folder: Path, progress: Progress = lambda line: None) -> None:
    """Train the base of that seed and write it with its card and checksums: a quarter of an hour of one core.

    The same seed gives the same model on the same processor and torch version. `progress` gets a line now and then.
    """
    from transformers import AutoTokenizer, LlavaForConditionalGeneration

    threads, recipe = torch.get_num_threads(), Recipe()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            save(*train_model(seed, recipe, progress), folder)
        model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        measured = measure(model, tokenizer, MEASURED) | measure_critic(model, tokenizer, MEASURED)
    finally:
        torch.set_num_threads(threads)
    progress(f"base {seed}: " + ", ".join(f"{name} {value:.1f}" for name, value in measured.items()))
    (folder / "README.md").write_text(card(seed, asdict(recipe), measured, MEASURED), encoding="utf-8")
    write_sums(folder)
