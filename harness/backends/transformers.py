"""transformers, token by token: batches of fixed composition, so that rows of a comparison are answered alike.

Which prompts share a batch depends on the prompts alone, never on the model or on how it answers. Sampling draws from a
stream of its own per prompt id, so a response does not depend on which other prompts were asked. The loop is our own,
since a family says where its tokens stand (`Family.positions`), which transformers' `generate` cannot be told.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.backends import _prompts
from harness.backends._prompts import asked, row_of, seed, stop_of, text, unanswered
from harness.backends._rows import Row, padded, prefix
from harness.contracts.backend import Backend, Generated, Model, Running, Sampling, Search
from harness.contracts.records import Image, Prompt, Response
from harness.contracts.settings import Dtype
from harness.models.footprint import Decoder, Shape, most_rows
from harness.models.load import Loaded, kept
from harness.models.tree import Branch, Tree
from harness.system.machine import halved

if TYPE_CHECKING:
    from torch import Tensor

READ = 16  # records that are measured at once, where nobody says


@dataclass(frozen=True)
class Transformers(Backend):
    """In this process, on an accelerator where there is one; on the CPU with one thread."""

    merges = True

    def identity(self) -> dict[str, Any]:
        """Nothing beside its code and the packages that it imports."""
        return {}

    def respond(
        self, model: Model, prompts: Sequence[Prompt], sampling: Sampling, running: Running, blank: bool = False
    ) -> Generated:
        """Equal prompts (image and text) are answered once at temperature 0."""
        loaded = _loaded(model, sampling.dtype, running)
        greedy, seen = sampling.temperature == 0, loaded.features.flops
        told = asked(prompts, loaded)
        rows, over = told.fitting, told.over
        same = {
            id: ("" if greedy else id, row.ids, row.prompt.image and row.prompt.image.sha256)
            for id, row in rows.items()
        }
        once: dict[object, Row] = {}
        for id, key in same.items():
            once.setdefault(key, rows[id])
        answers: dict[object, list[int]] = {}
        eyes, end = _prompts.eyes(loaded, sampling, blank), loaded.tokenizer.eos_token_id

        def generated(keys: Sequence[object]) -> list[list[int]]:
            part = [once[key] for key in keys]
            draw = None if greedy else _draw([row.prompt.id for row in part], sampling)
            return _generate(loaded, part, eyes, sampling.max_new_tokens, (end,), draw)

        for keys in _batches(once, running.batch_size or _fitting(loaded, once, sampling)):
            for some, made in halved(keys, generated):
                answers |= zip(some, made, strict=True)
                running.tick(len(answers), len(once))
        said = {key: text(loaded, new) for key, new in answers.items()}

        def response(id: str) -> Response:
            if id in over:
                return unanswered(id, over[id])
            new = answers[same[id]]
            ended = new[-1:] == [end]
            return Response(id, said[same[id]], len(new) - ended, len(rows[id].ids), tuple(new), ended)

        responses = [response(prompt.id) for prompt in prompts]
        return Generated(responses, loaded.features.flops - seen + _prompts.flops(loaded, rows, responses, blank))

    def candidates(
        self, model: Model, prompts: Sequence[Prompt], search: Search, running: Running
    ) -> list[list[Response]]:
        """The candidates of a prompt share a batch; a batch has as many prompts as there is room for all of theirs."""
        loaded = _loaded(model, search.dtype, running)
        stop, end = stop_of(loaded, search.stop), loaded.tokenizer.eos_token_id
        told = asked(prompts, loaded)
        rows: dict[object, Row] = dict(told.fitting.items())
        over, eyes = told.over, _prompts.eyes(loaded, None, False)
        found = {id: [unanswered(id, why)] * search.count for id, why in over.items()}

        def searched(keys: Sequence[object]) -> list[Response]:
            part = [rows[key] for key in keys for _ in range(search.count)]
            draw = _Diverse(search, (stop, end))
            made = _generate(loaded, part, eyes, search.max_new_tokens, (stop, end), draw)
            return [_candidate(loaded, row, new, draw.logps, at, end)
                    for at, (row, new) in enumerate(zip(part, made, strict=True))]  # fmt: skip

        for keys in _batches(rows, max(1, (running.batch_size or _fitting(loaded, rows, search)) // search.count)):
            for _, made in halved(keys, searched):
                for said in made:
                    found.setdefault(said.id, []).append(said)
                running.tick(len(found) - len(over), len(rows))
        return [found[prompt.id] for prompt in prompts]

    def logps(
        self, model: Model, prompts: Sequence[Prompt], tokens: Sequence[tuple[int, ...]], dtype: Dtype, running: Running
    ) -> list[tuple[float, ...]]:
        """By the forward pass that trainings use: a tree of one branch each."""
        from harness.models.reference import figures
        from harness.models.roles import Roles

        loaded = _loaded(model, dtype, running)
        forest = [
            Tree(row.prompt.id, row.prompt.image, row.ids, (Branch(ids, (True,) * len(ids)),), layout=row.layout)
            for row, ids in zip((row_of(prompt, loaded) for prompt in prompts), tokens, strict=True)
        ]
        roles = Roles(loaded.model, {}, shared_trunk=False)
        found = figures(roles, loaded, forest, running.batch_size or READ, ["policy"], running.tick)
        return [tuple(found[tree.id]["policy"].tolist()) for tree in forest]


def _candidate(
    loaded: Loaded, row: Row, new: list[int], logps: Sequence[Sequence[float]], at: int, end: int
) -> Response:
    """Row `at` of a batch, of whose tokens `logps` has the log-probs by step."""
    ended = new[-1:] == [end]
    logp = math.fsum(step[at] for step in logps[: len(new)])
    return Response(row.prompt.id, text(loaded, new), len(new) - ended, len(row.ids), (), ended, logp)


def _fitting(loaded: Loaded, asked: Mapping[object, Row], sampling: Sampling | Search) -> int:
    """As many prompts as an accelerator has room for, by the longest of them; 128 on a CPU."""
    import torch

    if not torch.cuda.is_available() or not asked:
        return 128
    shape = Shape(Decoder.of(loaded.model.config), sum(weight.numel() for weight in loaded.model.parameters()), 0)
    longest, whole = max(len(row.ids) for row in asked.values()), torch.cuda.mem_get_info()[1]
    return most_rows(shape, sampling.dtype, longest, sampling.max_new_tokens, int(0.9 * whole))


def _loaded(model: Model, dtype: Dtype, running: Running) -> Loaded:
    import torch

    torch.set_num_threads(1)  # on the CPU a sum's order, and so a close call, depends on the number of threads
    loaded = kept(model, dtype)
    loaded.features.folder = running.shelf
    return loaded


def _batches(asked: Mapping[object, Row], size: int) -> Iterator[list[object]]:
    """Keys in batches: prompts on one image together, images by their longest prompt, text by itself."""
    images = {key: row.prompt.image.sha256 if row.prompt.image else "" for key, row in asked.items()}
    longest: dict[str, int] = {}
    for key, row in asked.items():
        longest[images[key]] = max(longest.get(images[key], 0), len(row.ids))
    ordered = sorted(asked, key=lambda k: (longest[images[k]], images[k], len(asked[k].ids), asked[k].prompt.id))
    for pictured in (False, True):
        group = [key for key in ordered if (asked[key].layout is not None) is pictured]
        yield from (group[at : at + size] for at in range(0, len(group), size))


def _generate(
    loaded: Loaded,
    rows: Sequence[Row],
    eyes: Callable[[Image], "Tensor"],
    max_new_tokens: int,
    ends: Sequence[int],
    draw: Callable[["Tensor", "Tensor"], "Tensor"] | None,
) -> list[list[int]]:
    """New tokens of each row up to and with the first of `ends`; greedy unless `draw` chooses one at each step.

    Rows start with what they share with others on their image, which is computed once, padded in front to the longest
    such; then come padding and the rest, so that all rows end together. `draw` takes the (B, n) tokens so far and (B,
    words) float32 scores to (B,) tokens.
    """
    import torch

    model, device = loaded.model, loaded.model.device
    last = torch.tensor(ends, device=device)
    with torch.inference_mode():
        cuts, before, cache = prefix(loaded, rows, eyes)
        ids, after, positions = padded(loaded, [row.line.behind(cut) for row, cut in zip(rows, cuts, strict=True)])
        mask = torch.cat([before, after], -1)
        new = ids.new_empty(len(rows), 0)
        over = torch.zeros(len(rows), dtype=torch.bool, device=device)
        while True:
            states = loaded.family.decoder(model)(
                inputs_embeds=model.get_input_embeddings()(ids),
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
            scores = loaded.family.head(model)(states[:, -1:])[:, -1].float()
            chosen = draw(new, scores) if draw else scores.argmax(-1)
            chosen = chosen.where(~over, loaded.pad_id)
            over = over | torch.isin(chosen, last)
            new, ids = torch.cat([new, chosen[:, None]], -1), chosen[:, None]
            if new.shape[1] == max_new_tokens or bool(over.all()):
                break
            mask, positions = torch.cat([mask, mask.new_ones(len(rows), 1)], -1), positions[..., -1:] + 1
    said: list[list[int]] = new.tolist()
    stops = (next((at + 1 for at, token in enumerate(row) if token in ends), len(row)) for row in said)
    left = (loaded.positions - len(row.ids) for row in rows)  # beyond them a row is not the model's to say
    return [row[: min(stop, most)] for row, stop, most in zip(said, stops, left, strict=True)]


def _draw(ids: Sequence[str], sampling: Sampling) -> Callable[["Tensor", "Tensor"], "Tensor"]:
    """Tokens drawn with a number of each prompt's own stream, per new token (`_generate`'s `draw`)."""
    import torch

    uniform = torch.stack([_stream(sampling, name) for name in ids])  # (B, max_new_tokens) float64 in [0, 1)

    def draw(new: "Tensor", scores: "Tensor") -> "Tensor":
        odds, order = (scores.double() / sampling.temperature).softmax(-1).sort(dim=-1, descending=True, stable=True)
        below = odds.cumsum(-1) - odds
        kept = odds * (below < sampling.top_p)
        at = uniform[:, new.shape[1], None].to(scores.device) * kept.sum(-1, keepdim=True)
        place = ((kept.cumsum(-1) <= at) & (kept > 0)).sum(-1, keepdim=True).clamp(max=scores.shape[-1] - 1)
        return order.gather(-1, place)[:, 0]

    return draw


def _stream(sampling: Sampling, name: str) -> "Tensor":
    import torch

    generator = torch.Generator().manual_seed(seed(f"{sampling.seed}\0{name}"))
    return torch.rand(sampling.max_new_tokens, generator=generator, dtype=torch.float64)


class _Diverse:
    """Tokens as `Search` has them. `logps`: per new token, the log-prob in each row."""

    def __init__(self, search: Search, ends: Sequence[int]) -> None:
        self.search, self.ends = search, ends
        self.logps: list[list[float]] = []

    def __call__(self, new: "Tensor", scores: "Tensor") -> "Tensor":
        import torch

        count = self.search.count
        logs = scores.float().log_softmax(-1).view(-1, count, scores.shape[-1])
        over = torch.isin(new, torch.tensor(self.ends, device=new.device)).any(-1).view(-1, count)
        taken, chosen = torch.zeros_like(logs[:, 0]), []
        for group in range(count):
            choice = (logs[:, group] - self.search.penalty * taken).argmax(-1, keepdim=True)
            taken.scatter_add_(1, choice, (~over[:, group, None]).to(taken.dtype))
            chosen.append(choice)
        choices = torch.stack(chosen, 1).view(-1)
        self.logps.append(logs.view(-1, logs.shape[-1]).gather(-1, choices[:, None])[:, 0].tolist())
        return choices
