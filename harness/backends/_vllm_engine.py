"""One model in vLLM's hands: what looks at its pictures here, and a process of another environment with the rest."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.backends._rows import Row, image_id
from harness.backends._vllm_adapters import write_one
from harness.contracts.backend import Adapted, Model
from harness.contracts.records import Image
from harness.contracts.settings import Dtype
from harness.models import load
from harness.models.load import Loaded, revision
from harness.system import lifeline
from harness.system.errors import HarnessError
from harness.system.scratch import Scratch
from harness.system.secret import KEY

if TYPE_CHECKING:
    from torch import Tensor

WORKER = Path(__file__).with_name("_vllm_worker.py")
AROUND = ("start_image_token", "end_image_token")  # names that a processor has for what it puts around a picture
VERSIONS = """
from importlib.metadata import packages_distributions, version
found = packages_distributions()
print(*(version(found[name][0]) if name in found else "-" for name in ("vllm", "torch", "transformers")))
"""


@lru_cache
def versions(python: str) -> Mapping[str, str]:
    """Of an environment's vLLM, torch and transformers, without what follows a plus; empty where it lacks one."""
    command = [python, "-P", "-c", VERSIONS]
    try:
        told = subprocess.run(command, env=_environment(python), capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    found = [version.partition("+")[0] for version in told.stdout.split()]
    return {} if len(found) != 3 or "-" in found else dict(zip(("vllm", "torch", "transformers"), found, strict=True))


def _environment(python: str) -> dict[str, str]:
    """The variables of a process of that environment: it sees no key, and none of our modules."""
    left_out = {KEY, *(() if python == sys.executable else ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"))}
    usual = {"VLLM_CPU_KVCACHE_SPACE": "1"}  # GiB
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return usual | kept | {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",  # on the CPU a sum's order, and so a close call, depends on the number of threads
    }  # fmt: skip


def _looking(model: Path, dtype: Dtype) -> tuple[Loaded, list[str]]:
    """A model without the layers of its language model: what makes of pictures what those read. And the last parts of
    the names of what is linear in them.
    """
    import torch

    torch.set_num_threads(1)
    loaded = load.load(model, dtype)
    decoder = loaded.family.decoder(loaded.model)
    linear = (name for name, part in decoder.layers.named_modules() if isinstance(part, torch.nn.Linear))
    names = sorted({name.rpartition(".")[2] for name in linear})
    decoder.layers = torch.nn.ModuleList()
    loaded.model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    return loaded, names


_kept: dict[str, "Engine"] = {}


def engine(model: Model, dtype: Dtype, python: str, arguments: Mapping[str, Any]) -> "Engine":
    """The engine with this model, in the environment of this interpreter; kept until one with another base is loaded.

    `arguments` are vLLM's; HarnessError where it cannot start, or does not take the model's adapters.
    """
    base, adapters = load.parts(model)
    name = f"{revision(base)} {dtype} {python} {sorted(arguments.items())}"
    if name not in _kept or _kept[name].ended:
        loaded, linear = _looking(base, dtype)
        # where the head may have one too, vLLM gives no log-probs of a prompt
        given = {"dtype": dtype, **arguments} | ({"lora_target_modules": linear} if "enable_lora" in arguments else {})
        places = int(arguments.get("max_model_len", loaded.positions))
        load.beside(_let_go)
        _kept[name] = Engine(loaded._replace(positions=min(places, loaded.positions)))  # kept before it starts, so that
        _kept[name].start(base, python, given)  # whatever comes between, it is ended
    _kept[name].adapt(Adapted(base, adapters), int(arguments.get("max_lora_rank", 0)))
    return _kept[name]


def _let_go() -> None:
    for each in _kept.values():
        each.end()
    _kept.clear()


@dataclass
class Engine:
    """A model: what looks at pictures here (`loaded`), and the process that has the rest, once it is started.

    `adapter` is what responds beside the base, as vLLM's LoRARequest has it, and `last` the last that did.
    """

    loaded: Loaded
    process: "subprocess.Popen[bytes] | None" = None
    line: Any = None
    ended: bool = False
    adapter: Mapping[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    scratch: Scratch = field(default_factory=lambda: Scratch("harness-vllm"))

    @property
    def home(self) -> Path:
        """Its files, while it lives."""
        return self.scratch.path

    def start(self, model: Path, python: str, arguments: Mapping[str, Any]) -> None:
        """Start the process, and wait until it has loaded the model."""
        vision = self.loaded.model.config.vision_config
        whole = {
            **arguments,
            "model": str(self._folder(model)),
            "max_model_len": self.loaded.positions,
            "generation_config": "vllm",  # no temperature, penalty or further end of the folder's own
            "enable_mm_embeds": True,
            # no picture but as the language model reads it, so no tower; without one vLLM's Qwen3-VL reads none of
            # what its first layers are to add (its `use_deepstack`)
            "limit_mm_per_prompt": {"image": int(hasattr(vision, "deepstack_visual_indexes")), "video": 0},
            "skip_mm_profiling": True,  # the tower runs here
            "seed": 0,
        }
        here = {"TORCH_COMPILE_DISABLE": "1"} if arguments.get("enforce_eager") else {}
        if arguments.get("tensor_parallel_size", 1) == 1:
            here["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        self.line, its = Pipe()
        with (self.home / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [python, "-P", str(WORKER), str(its.fileno())],
                env=_environment(python) | here,
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours to handle
            )
        its.close()
        self._said(whole)

    def adapt(self, model: Adapted, most: int) -> None:
        """Have this model respond, whose base is loaded; of adapters, up to this rank, the last model's are at hand."""
        self.adapter = {}
        if model.adapters:
            if (name := revision(model)) != self.last.get("lora_name"):
                folder = self.home / f"adapter-{name}"
                shutil.rmtree(self.last.get("lora_path", folder), ignore_errors=True)
                write_one(model, self.loaded.family, most, folder)
                number = self.last.get("lora_int_id", 0) + 1  # by which vLLM knows what it has read
                self.last = {"lora_name": name, "lora_int_id": number, "lora_path": str(folder)}
            self.adapter = self.last

    def _folder(self, model: Path) -> Path:
        """The model's folder with whatever processor vLLM looks for and does not find there."""
        folder = self.home / "model"
        folder.mkdir()
        if not (model / "processor_config.json").is_file():
            loaded = self.loaded
            loaded.family.write_processor(loaded.model.config, loaded.tokenizer, loaded.eyes, folder)
        for file in model.absolute().iterdir():
            if not (folder / file.name).exists():
                (folder / file.name).symlink_to(file)
        return folder

    def ask(
        self,
        rows: Sequence[Row],
        eyes: "Callable[[Image], Tensor]",
        common: Mapping[str, Any],
        own: Sequence[Mapping[str, Any]],
        behind: Sequence[tuple[int, ...]] = (),
    ) -> list[dict[str, Any]]:
        """vLLM's replies to prompts and what stands behind each; `common` and `own` are its sampling parameters.

        HarnessError where it has read other tokens than these.
        """
        from safetensors.torch import save_file

        rest, named = behind or [()] * len(rows), self.loaded.family.named
        around = {self.loaded.tokenizer.convert_tokens_to_ids(named[name]) for name in AROUND if name in named}
        seen = {row.prompt.image.key: self._seen(row, eyes) for row in rows if row.prompt.image}
        file = str(self.home / "seen.safetensors") if seen else ""
        if seen:
            save_file(seen, file)
        prompts = [
            {
                "ids": [*_folded(row.ids, image_id(self.loaded), around), *ids],
                "picture": row.prompt.image.key if row.prompt.image else "",
                "grid": self._grid(row),
                "own": told,
            }
            for row, ids, told in zip(rows, rest, own, strict=True)
        ]
        question = {"seen": file, "prompts": prompts, "common": common, "adapter": self.adapter}
        replies: list[dict[str, Any]] = self._said(question)["replies"]
        for row, ids, reply in zip(rows, rest, replies, strict=True):
            if reply["read"] != [*row.ids, *ids]:
                raise HarnessError(
                    f"vLLM reads prompt {row.prompt.id} as {len(reply['read']):,} tokens and the harness as "
                    f"{len(row.ids) + len(ids):,}: it treats pictures of {self.loaded.family.title} otherwise; use "
                    "--set generation.backend=transformers."
                )
        return replies

    def _seen(self, row: Row, eyes: "Callable[[Image], Tensor]") -> "Tensor":
        """(places, width) of what the language model reads of a row's picture; for its layers one behind the other."""
        import torch

        loaded, layout = self.loaded, row.layout
        assert layout is not None and row.prompt.image is not None
        ids = torch.full((1, layout.places), image_id(loaded), device=loaded.model.device)
        with torch.inference_mode():
            told = loaded.family.inputs(loaded.model, ids, eyes(row.prompt.image), [layout])
        deep = [each.to(ids.device) for each in told.get("deepstack_visual_embeds", [])]
        return torch.cat([told["inputs_embeds"][0], *deep], -1).cpu().contiguous()

    def _grid(self, row: Row) -> list[int] | None:
        """A picture's frames, rows and columns of patches, where positions go by them."""
        if row.layout is None or self.loaded.family.axes == 1:
            return None
        merged = self.loaded.model.config.vision_config.spatial_merge_size
        return [1, *(side * merged for side in row.layout.grid)]

    def _said(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The process's reply; whatever goes wrong, it is at an end."""
        try:
            self.line.send_bytes(json.dumps(message).encode())
            reply: dict[str, Any] = json.loads(self.line.recv_bytes())
        except (EOFError, OSError):
            reply = {"error": "its process died"}
        except BaseException:
            self.end()
            raise
        if why := reply.get("error"):
            log = shutil.copy(self.home / "log", f"{self.home}.log")
            self.end()
            raise HarnessError(f"vLLM failed: {' '.join(why.split())[:300]}; all that it said is in {log}.")
        return reply

    def end(self) -> None:
        """End the process; called again, it does nothing."""
        self.ended = True
        if self.process is not None and self.process.poll() is None:
            self.line.close()
            lifeline.end(self.process)
        self.scratch.clear()


def _folded(ids: Sequence[int], image: int, around: Set[int] = frozenset()) -> list[int]:
    """Tokens with one in place of each run of a picture's, which vLLM unfolds, and without those `around` it, which
    vLLM writes with it.
    """
    runs = (id for at, id in enumerate(ids) if id != image or at == 0 or ids[at - 1] != image)
    return [id for id in runs if id not in around]
