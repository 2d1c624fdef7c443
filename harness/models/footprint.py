"""How much memory training and generation take, by formula, from a model's shapes alone: nothing is loaded.

What a layer keeps for its backward pass is what transformers' Llama-like layers and peft's adapters save through
autograd; tests hold it to bytes counted at the true sizes of a 7 B model. Sizes are bytes.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any, NamedTuple

from harness import families
from harness.contracts.family import Family
from harness.contracts.settings import Dtype, Lora, Runtime, Training
from harness.models.targets import targets

BYTES: dict[Dtype, int] = {"bfloat16": 2, "float32": 4, "float64": 8}
CHUNK = 4096  # tokens whose logits exist at once (`harness.models.logps`)
ROOM = 64  # places by which a cache grows (`harness.models.kvcache`)
BUCKET = 200_000_000  # elements that DeepSpeed exchanges at once, allocated whole; small models get a smaller one
LIVE = 1_000_000_000  # elements of sharded weights that are whole at once on a rank, at most (ZeRO-3)
EIGHT_BIT = 2 + 2 * 4 / 256  # bytes of AdamW's state a weight, with the scales of its blocks
FILLS = 4096  # places that keep a device busy: fewer, and its matrices are too small for it


class Decoder(NamedTuple):
    """The shapes of a Llama-like language model. `normed`: its queries and keys are (Qwen3); `name`: its family's."""

    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head: int
    words: int
    normed: bool = False
    name: str = Family.language

    @classmethod
    def of(cls, config: Any) -> "Decoder":
        """Those of a transformers config, whichever its family."""
        text = config.get_text_config()
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return cls(
            text.num_hidden_layers,
            text.hidden_size,
            text.intermediate_size,
            text.num_attention_heads,
            getattr(text, "num_key_value_heads", None) or text.num_attention_heads,
            head,
            text.vocab_size,
            "qwen3" in text.model_type,
            families.of(config).language,
        )

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of a layer's linear parts by name."""
        attended, kept = self.heads * self.head, self.kv_heads * self.head
        return {
            "q_proj": (self.width, attended),
            "k_proj": (self.width, kept),
            "v_proj": (self.width, kept),
            "o_proj": (attended, self.width),
            "gate_proj": (self.width, self.inner),
            "up_proj": (self.width, self.inner),
            "down_proj": (self.inner, self.width),
        }

    def adapted(self, lora: Lora) -> dict[str, int]:
        """In how many layers each linear part takes an adapter."""
        names = {f"{self.name}.layers.{at}.{_inside(part)}": part for at in range(self.layers) for part in self.linear}
        chosen = [names[name] for name in targets(lora, list(names))]
        return {part: chosen.count(part) for part in self.linear if part in chosen}

    def adapters(self, lora: Lora) -> int:
        """Weights of one role's adapter."""
        return lora.r * sum(count * sum(self.linear[part]) for part, count in self.adapted(lora).items())


def _inside(part: str) -> str:
    return f"self_attn.{part}" if part in ("q_proj", "k_proj", "v_proj", "o_proj") else f"mlp.{part}"


class Load(NamedTuple):
    """A micro-batch: rows of `length` places each, `scored` of all their tokens, and how often each is read."""

    rows: int
    length: int
    scored: int
    passes: int = 1

    @property
    def places(self) -> int:
        """Positions of one forward pass."""
        return self.rows * self.length

    @property
    def read(self) -> int:
        """Of these, those whose last states are read."""
        return min(self.places, self.scored + self.rows)


class Memory(NamedTuple):
    """What is on a device at once, at the worst moment of a micro-batch; `step`: what an optimiser step takes beside
    weights and optimizer, when all else of a micro-batch is gone.

    `gradients`: with the bucket that they are exchanged in. `working`: what the backward pass of one layer takes, or
    logits and their gradients, whichever is more. `gathered`: sharded weights that are whole for a while. `host`: what
    is offloaded, in the machine's memory and not in `peak`.
    """

    weights: int
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    working: int = 0
    cache: int = 0
    step: int = 0
    gathered: int = 0
    host: int = 0

    @property
    def peak(self) -> int:
        """Of micro-batch and step the one that takes more."""
        batch = self.gradients + self.gathered + self.activations + self.working + self.cache
        return self.weights + self.optimizer + max(batch, self.step)


def kept_by_layer(of: Decoder, lora: Lora | None, load: Load, size: int, last: bool = False) -> int:
    """What a layer keeps of one forward pass for its backward pass; `size` is the bytes of a value.

    What elementwise operations make is not kept (`harness.training.remade`). The last layer has its MLP, and the norm
    before it, at the places alone whose states are read.
    """
    d, f, attended = of.width, of.inner, of.heads * of.head
    per = dict.fromkeys(of.linear, 1.0)
    if lora is not None:
        per = {part: count / of.layers for part, count in of.adapted(lora).items()}
    norm = size * d  # its input
    seen: float = norm + 4 * size * attended + 4 * of.heads  # queries, keys, values for all heads, outputs, sums
    if of.normed:
        seen += size * of.head * (of.heads + of.kv_heads)

    def inputs(width: int, *parts: str) -> float:
        """What several parts read they keep once."""
        return max(per.get(part, 0.0) for part in parts) * size * width

    seen += inputs(d, "q_proj", "k_proj", "v_proj") + (size * lora.r * sum(per.values()) if lora else 0)
    after = norm + 2 * size * f + inputs(d, "gate_proj", "up_proj")  # what the gate and the upper part give
    if last:  # elsewhere it is what attention has kept
        after += inputs(attended, "o_proj")
    return int(load.places * seen + (load.read if last else load.places) * after)


def saved(of: Decoder, lora: Lora | None, load: Load, size: int, again: int = 0) -> int:
    """What all layers keep, `again` of them their input alone, and the last norm; of all passes, without logits."""
    whole = of.layers - again
    layers = max(0, whole - 1) * kept_by_layer(of, lora, load, size)
    layers += min(1, whole) * kept_by_layer(of, lora, load, size, last=True)
    norm, mask = size * of.width, size * load.rows * load.length**2
    return load.passes * (layers + again * load.places * size * of.width + load.read * norm + mask)


class Shape(NamedTuple):
    """What memory depends on of a model: decoder, parameters, and how many of them (the tower) never learn."""

    decoder: Decoder
    parameters: int
    frozen: int


def training(
    shape: Shape, how: Training, runtime: Runtime, load: Load, again: int = 0, roles: int = 1, fused: bool = True
) -> Memory:
    """One process of a training of `roles` adapters, or in full, with `again` layers computed again.

    `fused`: AdamW needs no room of its own, as on an accelerator.
    """
    size, lora, of = BYTES[how.dtype], how.lora, shape.decoder
    learns = roles * of.adapters(lora) if lora else shape.parameters - shape.frozen
    scored = min(load.scored, CHUNK)
    drawn = 9 if lora and lora.lora_dropout else 0  # words that dropout is drawn by, and what it has dropped
    layer = load.places * of.inner * max(3 * size, 2 * size + drawn)
    working = max(layer if again < of.layers else 0, 12 * scored * of.words)  # log-probs and two gradients in float32
    activations = saved(of, lora, load, size, again)
    if again:  # the upper layers are gone when those below are computed again
        below = load.passes * again * load.places * size * of.width + kept_by_layer(of, lora, load, size) + layer
        working = max(working, below - activations)
    held = shape.parameters + (learns if lora else 0)
    largest = lora.r * max(of.inner, of.width) if lora else of.words * of.width
    standing = divided(held, learns, min(largest, learns), how, runtime, fused)
    return standing._replace(activations=activations, working=working)


def divided(held: int, learns: int, largest: int, how: Training, runtime: Runtime, fused: bool) -> Memory:
    """What DeepSpeed keeps of `held` weights, of which `learns` learn, beside micro-batches; `largest`: in a tensor."""
    size, world, stage = BYTES[how.dtype], runtime.num_processes, runtime.zero_stage
    away, lent = runtime.offload_optimizer == "cpu", runtime.offload_param == "cpu"
    share = learns // world if stage else learns
    masters = 4 if stage or how.dtype == "bfloat16" else 0  # a copy even of float32
    state = int((masters + (EIGHT_BIT if how.optim == "adamw_8bit" else 8)) * share)
    weights = size * held // (world if stage == 3 else 1)
    summed = largest if away and stage >= 2 else share if stage >= 2 else learns  # or on its way to the host
    bucket = size * min(BUCKET, learns) if stage else 0
    # gradients, flattened, in float32; then what AdamW works in, while those of norms, which come last, hold a bucket
    flat = size * (summed + share) + (4 * share if size < 4 else 0)
    adamw = 0 if fused else 12 * share + (0 if how.lora else bucket)
    return Memory(
        weights=0 if lent else weights,
        gradients=size * summed + bucket,
        optimizer=0 if away else state,
        step=0 if away else max(flat, adamw),
        gathered=size * min(LIVE, held) if stage == 3 and (world > 1 or lent) else 0,
        # gradients as they are summed and in float32, weights on their way back, what AdamW works in
        host=(state + (2 * size + (4 if fused else 12)) * share if away else 0) + (weights if lent else 0),
    )


def reading(shape: Shape, dtype: Dtype, load: Load) -> Memory:
    """A forward pass without a gradient: one layer's values, or logits and their log-probs in float32."""
    size, of = BYTES[dtype], shape.decoder
    layer = load.places * size * (3 * of.inner + 4 * of.width)
    logits = min(load.scored, CHUNK) * of.words * 8 + (load.places + load.scored) * size * of.width
    return Memory(weights=size * shape.parameters, working=max(layer, logits))


def generating(shape: Shape, dtype: Dtype, rows: int, prompt: int, new: int) -> Memory:
    """Answering `rows` prompts at once, of `prompt` places and at most `new` tokens."""
    size, of = BYTES[dtype], shape.decoder
    column = 2 * of.kv_heads * of.head * size
    cache = rows * (prompt + new + ROOM) * column * of.layers
    grown = rows * (prompt + new) * column  # one layer's, while its buffer is made longer
    read = rows * prompt * (8 * of.width + 3 * size * of.inner)  # one layer's, while prompts are read
    return Memory(weights=size * shape.parameters, cache=cache, working=max(grown + rows * of.words * 8, read))


def most_rows(shape: Shape, dtype: Dtype, prompt: int, new: int, room: int) -> int:
    """The most prompts, a power of two up to 512, that are answered at once in `room` bytes; 1 where none fits."""
    fitting = (1 << at for at in range(9, 0, -1) if generating(shape, dtype, 1 << at, prompt, new).peak <= room)
    return next(fitting, 1)


class Layout(NamedTuple):
    """How a training is laid on a device: records at once, layers computed again, and what that takes."""

    rows: int
    again: int
    memory: Memory


def laid(
    shape: Shape, how: Training, runtime: Runtime, lengths: Sequence[tuple[int, int]], room: int, roles: int = 1,
    passes: int = 1,
) -> Layout:  # fmt: skip
    """What fits into `room` bytes for the longest micro-batch; the least that there is where nothing does.

    `lengths`: places and scored tokens of each record. What the user has set is taken as it is. Else as many records as
    fill a device, and of their layers as few computed again as fit; half as many records where none need be.
    """
    ordered, switch = sorted(lengths, reverse=True), runtime.gradient_checkpointing
    layers, most = shape.decoder.layers, max(1, how.train_batch_size // runtime.num_processes)
    full = 1 << max(0, ceil(FILLS / ordered[0][0]) - 1).bit_length()
    given = runtime.per_device_train_batch_size
    sizes = [given] if given != "auto" else [rows for at in range(16) if (rows := min(full, most) >> at)]
    counts = range(layers + 1) if switch == "auto" else [min(layers, _count(switch, layers))]

    def made(rows: int, again: int) -> Layout:
        """That layout, for the longest records."""
        several = ordered[:rows]
        load = Load(len(several), several[0][0], sum(scored for _, scored in several), passes)
        return Layout(rows, again, training(shape, how, runtime, load, again, roles))

    first = [(rows, counts[0]) for rows in sizes[:2]]
    for rows, again in [*first, *((rows, again) for rows in sizes for again in counts)]:
        if (found := made(rows, again)).memory.peak <= room:
            return found
    return made(sizes[-1], counts[-1])


def _count(switch: str | int, layers: int) -> int:
    return switch if isinstance(switch, int) else layers if switch == "on" else 0
