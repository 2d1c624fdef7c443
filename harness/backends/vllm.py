"""vLLM, in an environment and a process of its own: many prompts at once, on one accelerator or several.

The language model is vLLM's. Pictures it gets as the language model reads them: what the vision tower and whatever
learns behind it make of them is computed here, as trainings do it, and towers' features are kept for every row alike.
vLLM's own image processors see other pixels (torchvision's resizing, no padding to squares), and know no noise.

`_vllm_worker.py` is vLLM's side. It runs in the environment that is named, whose transformers may be another than ours,
and ends when this process does.
"""

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from harness.backends import _prompts
from harness.backends._prompts import asked, row_of, seed, stop_of, text, unanswered
from harness.backends._rows import Row
from harness.backends._vllm_engine import Engine, engine, versions
from harness.contracts.backend import Backend, Generated, Model, Running, Sampling, Search
from harness.contracts.records import Prompt, Response
from harness.contracts.settings import Dtype
from harness.models.load import Loaded
from harness.system.errors import HarnessError

AT_ONCE = 256  # prompts of a question, whose pictures lie in one file


@dataclass(frozen=True)
class Vllm(Backend):
    """vLLM in the environment in the folder `environment`; by default in this one.

    `tensor_parallel`: over how many accelerators a model is spread; further ones serve other stages at the same time.
    `prefix_caching`: whether prompts that begin alike share that computation, so that a response may depend in its last
    bits on what was asked before. `eager`: without compiling the model first. `memory`: the share of an accelerator's
    memory that it takes. `max_model_len`: the tokens of a sequence, where there is no memory for as many as the model
    has places. `max_lora_rank`: adapters up to this rank stay beside their base, which then serves all policies; with 0
    each policy is merged, as transformers answers by it, and written as a whole.
    """

    environment: str = ""
    tensor_parallel: int = 1
    prefix_caching: bool = False
    eager: bool = True
    memory: float = 0.8
    max_model_len: int = 0
    max_lora_rank: Literal[0, 1, 8, 16, 32, 64, 128, 256, 320, 512] = 0

    unkeyed: ClassVar[tuple[str, ...]] = ("environment", "memory")

    @property
    def merges(self) -> bool:
        """Where adapters stay beside their base."""
        return self.max_lora_rank > 0

    @property
    def gpus(self) -> int:
        """As many as a model is spread over."""
        return self.tensor_parallel

    @property
    def python(self) -> str:
        """The interpreter of the environment."""
        return str(Path(self.environment).absolute() / "bin" / "python") if self.environment else sys.executable

    def problem(self) -> str:
        """That the environment has no vLLM."""
        if versions(self.python).get("vllm"):
            return ""
        what = f"{self.environment} is no environment that has vLLM" if self.environment else "vLLM is not installed"
        return (
            f"{what}: make one (`make vllm-env`, or `python -m venv VENV` and `VENV/bin/pip install vllm`), and name "
            'its folder: --set "generation.options={environment: ./VENV}".'
        )

    def identity(self) -> dict[str, Any]:
        """Versions of the environment, and how the model is run there."""
        spread = {"tensor_parallel": self.tensor_parallel, "prefix_caching": self.prefix_caching, "eager": self.eager}
        spread |= {"max_lora_rank": self.max_lora_rank} if self.merges else {}
        return {**versions(self.python), **spread}

    def respond(
        self, model: Model, prompts: Sequence[Prompt], sampling: Sampling, running: Running, blank: bool = False
    ) -> Generated:
        """Each prompt draws with vLLM's generator of its own request, seeded by the prompt's id and the seed."""
        held = self._held(model, sampling.dtype, running)
        loaded, greedy = held.loaded, sampling.temperature == 0
        told, seen, end = asked(prompts, loaded), loaded.features.flops, loaded.tokenizer.eos_token_id
        common = {"temperature": sampling.temperature, "stop_token_ids": [end]}
        common |= {} if greedy else {"top_p": sampling.top_p}
        responses = {id: unanswered(id, why) for id, why in told.over.items()}
        for rows in _waves(told.fitting.values(), running):
            own = [
                {"max_tokens": min(sampling.max_new_tokens, loaded.positions - len(row.ids))}
                | ({} if greedy else {"seed": seed(f"{sampling.seed}\0{row.prompt.id}")})
                for row in rows
            ]
            replies = held.ask(rows, _prompts.eyes(loaded, sampling, blank), common, own)
            responses |= {row.prompt.id: _response(loaded, row, said) for row, said in zip(rows, replies, strict=True)}
            running.tick(len(responses) - len(told.over), len(told.fitting))
        given = [responses[prompt.id] for prompt in prompts]
        spent = _prompts.flops(loaded, told.fitting, given, blank)
        return Generated(given, loaded.features.flops - seen + spent)

    def candidates(
        self, model: Model, prompts: Sequence[Prompt], search: Search, running: Running
    ) -> list[list[Response]]:
        """One after the other, since each pays for what earlier ones said at the same step, and nothing else."""
        held = self._held(model, search.dtype, running)
        loaded, told = held.loaded, asked(prompts, held.loaded)
        ends = [stop_of(loaded, search.stop), loaded.tokenizer.eos_token_id]
        common = {"temperature": 0.0, "stop_token_ids": ends, "logprobs": 0}
        found = {id: [unanswered(id, why)] * search.count for id, why in told.over.items()}
        for rows in _waves(told.fitting.values(), running):
            said: list[list[Response]] = [[] for _ in rows]
            for _ in range(search.count):
                own = [
                    {"max_tokens": min(search.max_new_tokens, loaded.positions - len(row.ids))}
                    | {"extra_args": {"fines": _fines(earlier, search)}}
                    for row, earlier in zip(rows, said, strict=True)
                ]
                replies = held.ask(rows, _prompts.eyes(loaded, None, False), common, own)
                for row, earlier, reply in zip(rows, said, replies, strict=True):
                    earlier.append(_response(loaded, row, reply))
            found |= {row.prompt.id: each for row, each in zip(rows, said, strict=True)}
            running.tick(len(found) - len(told.over), len(told.fitting))
        return [found[prompt.id] for prompt in prompts]

    def logps(
        self, model: Model, prompts: Sequence[Prompt], tokens: Sequence[tuple[int, ...]], dtype: Dtype, running: Running
    ) -> list[tuple[float, ...]]:
        """vLLM's log-probs of the tokens of a prompt, where the given tokens are its end."""
        held = self._held(model, dtype, running)
        rows = [row_of(prompt, held.loaded) for prompt in prompts]
        given, found = dict(zip(map(id, rows), tokens, strict=True)), dict[int, tuple[float, ...]]()
        for part in _waves(rows, running):
            behind = [tuple(given[id(row)]) for row in part]
            for row, ids in zip(part, behind, strict=True):
                if len(row.ids) + len(ids) >= held.loaded.positions:
                    raise HarnessError(f"prompt {row.prompt.id} and the tokens to measure have no room in the model.")
            common = {"temperature": 0.0, "max_tokens": 1, "prompt_logprobs": 0}
            replies = held.ask(part, held.loaded.features, common, [{}] * len(part), behind)
            for row, reply in zip(part, replies, strict=True):
                found[id(row)] = tuple(reply["read_logps"][len(row.ids) :])
            running.tick(len(found), len(rows))
        return [found[id(row)] for row in rows]

    def _held(self, model: Model, dtype: Dtype, running: Running) -> Engine:
        if dtype == "float64":
            raise HarnessError("vLLM computes in float32 or bfloat16; float64 is for the backend transformers.")
        arguments = {
            "tensor_parallel_size": self.tensor_parallel,
            "enable_prefix_caching": self.prefix_caching,
            "enforce_eager": self.eager,
            "gpu_memory_utilization": self.memory,
            **({"max_model_len": self.max_model_len} if self.max_model_len else {}),
            **({"enable_lora": True, "max_lora_rank": self.max_lora_rank} if self.merges else {}),
        }
        held = engine(model, dtype, self.python, arguments)
        held.loaded.features.folder = running.shelf
        return held


def _waves(rows: Iterable[Row], running: Running) -> Iterator[list[Row]]:
    """Rows in questions: vLLM's LLaVA-NeXT takes no pictures of several sizes at once."""
    size, groups = running.batch_size or AT_ONCE, dict[int, list[Row]]()
    for row in rows:
        groups.setdefault(row.layout.places if row.layout else 0, []).append(row)
    for _, group in sorted(groups.items()):
        yield from (group[at : at + size] for at in range(0, len(group), size))


def _response(loaded: Loaded, row: Row, reply: Mapping[str, Any]) -> Response:
    new = tuple(reply["ids"])
    ended = new[-1:] == (loaded.tokenizer.eos_token_id,)
    logp = math.fsum(reply["logps"]) if "logps" in reply else None
    return Response(row.prompt.id, text(loaded, new), len(new) - ended, len(row.ids), new, ended, logp)


def _fines(earlier: Sequence[Response], search: Search) -> list[list[tuple[int, float]]]:
    """By step, what tokens cost that earlier candidates have there."""
    steps: list[dict[int, float]] = [{} for _ in range(max((len(one.ids) for one in earlier), default=0))]
    for one in earlier:
        for step, id in zip(steps, one.ids, strict=False):
            step[id] = step.get(id, 0.0) + search.penalty
    return [list(step.items()) for step in steps]
