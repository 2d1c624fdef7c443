"""vLLM's side of `harness.backends.vllm`: a program of the environment that has vLLM; it imports nothing of ours.

    python -P _vllm_worker.py FD

The descriptor is one end of a socket. It brings the engine's arguments first, then questions, and takes replies: JSON
each. What the language model reads of pictures comes beside a question, as a file of safetensors.
"""

import importlib
import json
import os
import select
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any

import torch

ORPHANED = 137


def mend_torchvision() -> bool:
    """Make a torchvision importable whose compiled part wants CUDA: it stops at two operators, which nobody calls.

    Whether that was needed.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
        return True
    except ImportError:
        pass  # vLLM says what it lacks
    return False


MENDED = mend_torchvision()  # here, since vLLM's own processes begin by importing this file again

from safetensors.torch import load_file  # noqa: E402
from vllm import LLM, SamplingParams  # noqa: E402
from vllm.lora.request import LoRARequest  # noqa: E402
from vllm.model_executor.models import registry  # noqa: E402
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor  # noqa: E402

if MENDED:  # a class of models is looked at in a new process, which would not be mended
    registry._run_in_subprocess = lambda look: look()


class Fined(AdapterLogitsProcessor):  # type: ignore[misc]
    """Takes nats off the scores of tokens at single steps: `extra_args["fines"]` has [token, nats] pairs by step."""

    def is_argmax_invariant(self) -> bool:
        """It may make another token the likeliest."""
        return False

    def new_req_logits_processor(self, params: Any) -> Any:
        """For a request with fines, how its scores change after the tokens so far."""
        fines = (params.extra_args or {}).get("fines")
        if not fines:
            return None

        def fined(said: list[int], scores: torch.Tensor) -> torch.Tensor:
            """(words,) scores with what this step's tokens are fined, in place."""
            for token, nats in fines[len(said)] if len(said) < len(fines) else ():
                scores[token] -= nats
            return scores

        return fined


def answer(engine: Any, question: dict[str, Any]) -> list[dict[str, Any]]:
    """What the engine says to each prompt of a question: the tokens that it read, those it added, and log-probs."""
    seen = load_file(question["seen"]) if question["seen"] else {}
    prompts, params = [], []
    for one in question["prompts"]:
        prompt: dict[str, Any] = {"prompt_token_ids": one["ids"]}
        if one["picture"]:
            prompt["multi_modal_data"] = {"image": picture(seen[one["picture"]], one["grid"])}
        prompts.append(prompt)
        params.append(SamplingParams(**question["common"], **one["own"], detokenize=False, ignore_eos=True))
    adapter = LoRARequest(**question["adapter"]) if question["adapter"] else None
    return [told(made) for made in engine.generate(prompts, params, use_tqdm=False, lora_request=adapter)]


def picture(seen: torch.Tensor, grid: list[int] | None) -> Any:
    """A picture as vLLM takes what a tower has made of it; `grid` is of patches, where positions need it."""
    return {"image_embeds": seen, "image_grid_thw": torch.tensor([grid])} if grid else [seen]


def told(made: Any) -> dict[str, Any]:
    """One finished request as plain data."""
    [said] = made.outputs
    ids = list(said.token_ids)
    reply: dict[str, Any] = {"read": list(made.prompt_token_ids), "ids": ids}
    if said.logprobs is not None:
        reply["logps"] = [step[id].logprob for step, id in zip(said.logprobs, ids, strict=True)]
    if made.prompt_logprobs is not None:  # nothing is before the first token
        read = zip(made.prompt_logprobs, made.prompt_token_ids, strict=True)
        reply["read_logps"] = [step[id].logprob if step else None for step, id in read]
    return reply


def end_with(line: Connection) -> None:
    """End this process when whoever holds the other end has ended, also in the middle of work."""
    poll = select.poll()
    poll.register(line.fileno(), 0)  # hanging up is told unasked
    poll.poll()
    os._exit(ORPHANED)


def main() -> None:
    """Answer questions until nobody asks any more."""
    line = Connection(int(sys.argv[1]))
    threading.Thread(target=end_with, args=(line,), daemon=True).start()
    arguments = json.loads(line.recv_bytes())
    try:
        engine = LLM(**arguments, logits_processors=[Fined])
        line.send_bytes(b"{}")
        while True:
            replies = answer(engine, json.loads(line.recv_bytes()))
            line.send_bytes(json.dumps({"replies": replies}).encode())
    except EOFError:
        return
    except Exception as error:
        traceback.print_exc()  # before anybody hears of it, who would end this process
        line.send_bytes(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())


if __name__ == "__main__":
    main()
