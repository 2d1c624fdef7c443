"""transformers, in batches of a fixed composition, so that rows of a comparison are answered alike.

Which prompts begin in a batch depends on the prompts alone, never on the model or on how it answers; a row leaves it
with its last token (`_decoding`). Sampling draws from a stream of its own per prompt id, so a response does not depend
on which other prompts were asked.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from harness.backends import _prompts
from harness.backends._decoding import Draw, decoded
from harness.backends._prompts import asked, row_of, seed, stop_of, text, unanswered
from harness.backends._rows import Row
from harness.contracts.backend import Backend, Generated, Model, Running, Sampling, Search
from harness.contracts.records import Prompt, Response
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
            id: ("" if greedy else id, row.ids, row.prompt.image and row.prompt.image.key) for id, row in rows.items()
        }
        once: dict[object, Row] = {}
        for id, key in same.items():
            once.setdefault(key, rows[id])
        answers: dict[object, list[int]] = {}
        eyes, end = _prompts.eyes(loaded, sampling, blank), loaded.tokenizer.eos_token_id

        def generated(keys: Sequence[object]) -> list[list[int]]:
            """New tokens of each key's prompt, in order; equal prompts have one key."""
            part = [once[key] for key in keys]
            draw = None if greedy else _draw([row.prompt.id for row in part], sampling)
            return decoded(loaded, part, eyes, sampling.max_new_tokens, (end,), draw)

        for keys in _batches(once, running.batch_size or _fitting(loaded, once, sampling)):
            for some, made in halved(keys, generated):
                answers |= zip(some, made, strict=True)
                running.tick(len(answers), len(once))
        said = {key: text(loaded, new) for key, new in answers.items()}

        def response(id: str) -> Response:
            """The response to a prompt, or why there is none: it is longer than the model's positions."""
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
            """The candidates of each key's prompt, all of one prompt behind each other."""
            part = [rows[key] for key in keys for _ in range(search.count)]
            draw = _Diverse(search, len(part))
            made = decoded(loaded, part, eyes, search.max_new_tokens, (stop, end), draw)
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
    """Keys in batches: prompts on one image together, images by their longest prompt, text by itself.

    An image is read once for each batch that asks about it: its prompts share one where they are no more than `size`.
    """
    images = {key: row.prompt.image.key if row.prompt.image else "" for key, row in asked.items()}
    longest: dict[str, int] = {}
    for key, row in asked.items():
        longest[images[key]] = max(longest.get(images[key], 0), len(row.ids))
    ordered = sorted(asked, key=lambda k: (longest[images[k]], images[k], len(asked[k].ids), asked[k].prompt.id))
    for pictured in (False, True):
        group = [key for key in ordered if (asked[key].layout is not None) is pictured]
        batch: list[object] = []
        for _, each in groupby(group, images.__getitem__ if pictured else lambda key: key):
            alike = [*each]
            if batch and len(batch) + len(alike) > size:
                yield batch
                batch = []
            *whole, batch = ([*batch, *alike][at : at + size] for at in range(0, len(batch) + len(alike), size))
            yield from whole
        if batch:
            yield batch


def _draw(ids: Sequence[str], sampling: Sampling) -> Draw:
    """Tokens drawn with a number of each prompt's own stream, per new token."""
    import torch

    uniform = torch.stack([_stream(sampling, name) for name in ids])  # (B, max_new_tokens) float64 in [0, 1)

    def draw(step: int, live: "Tensor", scores: "Tensor") -> "Tensor":
        """(B',) int64 tokens of the rows `live` (B',), by their (B', words) logits; the same on every device."""
        odds, order = (scores.double() / sampling.temperature).softmax(-1).sort(dim=-1, descending=True, stable=True)
        below = odds.cumsum(-1) - odds
        kept = odds * (below < sampling.top_p)
        at = uniform[live.to(uniform.device), step, None].to(scores.device) * kept.sum(-1, keepdim=True)
        place = ((kept.cumsum(-1) <= at) & (kept > 0)).sum(-1, keepdim=True).clamp(max=scores.shape[-1] - 1)
        return order.gather(-1, place)[:, 0]

    return draw


def _stream(sampling: Sampling, name: str) -> "Tensor":
    import torch

    generator = torch.Generator().manual_seed(seed(f"{sampling.seed}\0{name}"))
    return torch.rand(sampling.max_new_tokens, generator=generator, dtype=torch.float64)


class _Diverse:
    """Tokens as `Search` has them, of so many rows. `logps`: per new token, the log-prob in each row that goes on."""

    def __init__(self, search: Search, rows: int) -> None:
        self.search, self.rows = search, rows
        self.logps: list[list[float]] = []

    def __call__(self, step: int, live: "Tensor", scores: "Tensor") -> "Tensor":
        import torch

        count, words = self.search.count, scores.shape[-1]
        logs = scores.new_zeros(self.rows, words)
        logs[live] = scores.float().log_softmax(-1)
        goes = torch.zeros_like(logs[:, 0]).index_fill_(0, live, 1.0).view(-1, count)
        taken, chosen = logs.new_zeros(len(goes), words), []
        for group in range(count):
            choice = (logs.view(-1, count, words)[:, group] - self.search.penalty * taken).argmax(-1, keepdim=True)
            taken.scatter_add_(1, choice, goes[:, group, None])
            chosen.append(choice)
        choices = torch.stack(chosen, 1).view(-1)
        self.logps.append(logs.gather(-1, choices[:, None])[:, 0].tolist())
        return choices[live]
