"""Our checkpoints under lmms-eval: `python -m lmms_eval --model harness --model_args checkpoint=DIR --tasks ...`.

lmms-eval finds the model by the entry point "harness" in the group `lmms_eval.models` (pyproject.toml). It answers
through our transformers backend, so with the model family's template, whatever task asks.
"""

import hashlib
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._lmms import Model, model_manifest
from benchmarks._lmms_guard import until
from harness.backends.transformers import Transformers
from harness.contracts.backend import Running, Sampling
from harness.contracts.records import Image, Prompt
from harness.contracts.settings import Dtype
from harness.system.errors import UsageError
from harness.system.profile import quiet


def manifest() -> Any:
    """What the entry point gives to lmms-eval's registry."""
    return model_manifest("harness", f"{__name__}.{HarnessModel.__name__}")


class HarnessModel(Model):  # type: ignore[misc]
    """A checkpoint in Hugging Face's layout, e.g. what `harness export` wrote, that answers lmms-eval's requests.

    Its device is the backend's choice: an accelerator where there is one. `batch_size` is of prompts, `dtype` float32
    or bfloat16.
    """

    is_simple = True

    def __init__(self, checkpoint: str = "", batch_size: int | str = 1, dtype: Dtype = "float32", **_: Any) -> None:
        super().__init__()
        if not checkpoint:
            raise UsageError("--model harness needs --model_args checkpoint=DIR, a folder in Hugging Face's layout.")
        self.checkpoint = checkpoint
        self.dtype = dtype
        self.batch_size = 128 if batch_size == "auto" else int(batch_size)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The responses, each up to the first of its stop strings; greedy unless a task says do_sample."""
        said: dict[int, str] = {}
        groups: dict[Sampling, list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(_sampling(request.args[1], self.dtype), []).append(number)
        with tempfile.TemporaryDirectory() as folder:
            for sampling, numbers in groups.items():
                prompts = [self._prompt(requests[number], Path(folder)) for number in numbers]
                made = Transformers().respond(Path(self.checkpoint), prompts, sampling, Running(self.batch_size, quiet))
                texts = (response.text for response in made.responses)
                said |= {n: until(text, requests[n].args[1]) for n, text in zip(numbers, texts, strict=True)}
        return [said[number] for number in range(len(requests))]

    def _prompt(self, request: Any, folder: Path) -> Prompt:
        """A request as the backend takes it; the picture becomes a file, without loss."""
        context, _, doc_to_visual, doc_id, task, split = request.args
        pictures = doc_to_visual(self.task_dict[task][split][doc_id])
        if len(pictures) > 1:
            raise UsageError(f"{task} shows {len(pictures)} pictures at once; one is taken.")
        return Prompt(f"{task}/{split}/{doc_id}", _saved(pictures[0], folder) if pictures else None, context)

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not offered: published figures are of generated responses."""
        raise NotImplementedError("--model harness generates responses; it ranks no options by likelihood.")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not offered."""
        raise NotImplementedError("--model harness answers one question at a time.")


def _sampling(asked: dict[str, Any], dtype: Dtype) -> Sampling:
    """A task's generation_kwargs; beams are refused rather than ignored."""
    if asked.get("num_beams", 1) not in (None, 1):
        raise UsageError(f"the task asks for {asked['num_beams']} beams; --model harness is greedy or samples.")
    temperature = float(asked.get("temperature") or 0) if asked.get("do_sample") else 0.0
    top_p = float(asked.get("top_p") or 1) if temperature else 1.0
    most = int(asked.get("max_new_tokens", 1024))
    return Sampling(max_new_tokens=most, temperature=temperature, top_p=top_p, dtype=dtype)


def _saved(picture: Any, folder: Path) -> Image:
    file = io.BytesIO()
    picture.save(file, "PNG")
    name = hashlib.sha256(file.getvalue()).hexdigest()
    path = folder / f"{name}.png"
    path.write_bytes(file.getvalue())
    return Image(str(path), name)
