"""What a comparison holds fixed and what it may vary, as pydantic models.

A model whose name says `Runtime` never changes a result and is in no key; every other model is identity: each of
its fields is in the key of the stages that use it.
"""

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness.contracts.plugins import adopt, called, parted, refuse_truths, stem, unknown
from harness.system import boards
from harness.system.errors import UsageError
from harness.system.yamls import yaml_file

Dtype = Literal["float32", "bfloat16", "float64"]  # of weights while they are used; float64 is for tests
HUB = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})")  # a repository of the hub at a commit


TWINS = {  # in LLaVA's original layout -> the same weights in Hugging Face's
    "liuhaotian/llava-v1.5-7b": "llava-hf/llava-1.5-7b-hf",
    "liuhaotian/llava-v1.5-13b": "llava-hf/llava-1.5-13b-hf",
    "liuhaotian/llava-v1.6-vicuna-7b": "llava-hf/llava-v1.6-vicuna-7b-hf",
    "liuhaotian/llava-v1.6-vicuna-13b": "llava-hf/llava-v1.6-vicuna-13b-hf",
}


class Fixed(BaseModel):
    """A frozen model that refuses unknown fields, and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, given: Any) -> Any:
        refuse_truths(given, {name: field.annotation for name, field in cls.model_fields.items()})
        return given


class Lora(Fixed):
    """Low-rank adapters on the language model's linear layers, head excluded (peft's names; `models.targets`)."""

    r: int = Field(128, gt=0)
    lora_alpha: int = Field(256, gt=0)
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: Annotated[tuple[str, ...] | str, Field(min_length=1)] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip


class Training(Fixed):
    """One optimisation, with Hugging Face's argument names. The vision tower is always frozen (LLaVA-1.5).

    `max_length` cuts each sequence on the right, image places counted (LLaVA: `model_max_length` 2048); None: a record
    beyond the model's positions is dropped. `train_batch_size` counts records per optimiser step over all devices;
    `lora=None` tunes the language model and the projector in full.
    """

    learning_rate: float = Field(2e-6, gt=0)
    num_train_epochs: int = Field(1, gt=0)
    train_batch_size: int = Field(128, gt=0)
    warmup_ratio: float = Field(0.03, ge=0, le=1)
    lr_scheduler_type: Literal["cosine", "constant_with_warmup"] = "cosine"
    weight_decay: float = Field(0.0, ge=0)
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    max_grad_norm: float = Field(1.0, gt=0)
    dtype: Literal["float32", "bfloat16"] = "float32"
    max_length: int | None = Field(None, gt=0)
    lora: Lora | None = None


def _switch(given: Any) -> Any:
    """ "on" and "off", which YAML reads as true and false."""
    if given is True or given is False:
        return "on" if given else "off"
    if isinstance(given, int) and given < 0:
        raise ValueError("give auto, on, off, or a number of layers")
    return given


class Runtime(Fixed):
    """How the work is laid on the machine. Changes speed and memory, never a key.

    Batches and processes change the order in which a training's sums are taken, so its last bits (2e-5 of a weight in
    float32 are tested), and nothing else: not what a step has learnt from, nor what dropout has dropped.
    """

    workers: int = Field(2, gt=0)
    executor: str = "local"
    """Who runs the stages: a file of `harness/executors/` by its name, or the path of one of the user's own."""
    executor_options: dict[str, Any] = {}
    num_processes: int = Field(1, gt=0)
    per_device_train_batch_size: int = Field(16, gt=0)
    generate_batch_size: int = Field(128, gt=0)
    gradient_checkpointing: Annotated[Literal["auto", "on", "off"] | int | bool, BeforeValidator(_switch)] = "auto"
    """Whether decoder layers keep their input alone and are computed again in the backward pass, or how many do."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    checkpoint_every_steps: int = Field(50, gt=0)
    reference: Literal["cached", "adapter_off", "copy"] = "cached"
    report_to: Annotated[tuple[boards.Board, ...], BeforeValidator(boards.names)] = ()
    """Boards that show training curves live; names of the HF Trainer. Files of TensorBoard go to `logging_dir`."""
    logging_dir: str = "runs/tensorboard"
    budget: float | None = Field(None, ge=0, allow_inf_nan=False)
    """USD that judge and writer may have cost this store, all runs together; None: no limit."""
    ask_concurrency: int = Field(8, gt=0)
    ask_attempts: int = Field(6, gt=0)
    ask_timeout_s: float = Field(60.0, gt=0, allow_inf_nan=False)
    ask_deadline_s: float = Field(600.0, gt=0, allow_inf_nan=False)


Price = tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], Annotated[float, Field(ge=0, allow_inf_nan=False)]]
OURS = (
    "model", "messages", "stream", "stream_options", "n", "best_of", "tools", "tool_choice", "functions",
    "function_call", "modalities", "audio", "prediction", "web_search_options", "plugins",
)  # fmt: skip
"""Fields of a request that are not the user's: one reply in words is asked for, and nothing else is paid."""


class Chat(Fixed):
    """How an LLM is asked. `images`: it can see; `max_tokens` bounds a reply, by default as the benchmark says.

    `parameters` go into the request as they are, null takes one out: reasoning models want `temperature: null` and
    `parameters: {max_tokens: null, max_completion_tokens: 4000}`. `price` is in USD per million tokens, input and
    output; it alone changes no reply and is in no key.
    """

    temperature: float | None = Field(0.0, ge=0, allow_inf_nan=False)
    images: bool = False
    max_tokens: int | None = Field(None, gt=0)
    seed: int | None = None
    parameters: dict[str, Any] = {}
    price: Price | None = None

    @field_validator("parameters")
    @classmethod
    def _sendable(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name, value in given.items():
            if name in OURS:
                raise ValueError(f"{name} cannot be set: a request asks for one reply in words")
            number = isinstance(value, int) and not isinstance(value, bool) and value > 0
            if name in ("max_tokens", "max_completion_tokens") and value is not None and not number:
                raise ValueError(f"{name} must be a whole number from 1 up, or null")
        try:
            json.dumps(given, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"they cannot be sent as JSON ({error})") from None
        return given


class Reading(Fixed):
    """How records and pictures are read (docs/protocol.md).

    `images`: "llava" as LLaVA opens them, "upright" turned as their EXIF orientation says and with the tones of 16-bit
    grey. `texts`: "llava" as they are written, but for the turn that shows the image, "stripped" without blanks around.
    `ignore`: fields of records that are left out; one that is neither read nor left out stops the run
    (docs/records.md). `links`: pictures that are links, "inside" their folder or hub cache, or "any".
    `max_dropped`: the share of records that may be unusable before the run stops (of fewer than 100: half); the only
    one that is in no key.
    """

    images: Literal["llava", "upright"] = "llava"
    texts: Literal["llava", "stripped"] = "llava"
    ignore: tuple[str, ...] = ()
    links: Literal["inside", "any"] = "inside"
    max_dropped: float = Field(0.01, ge=0, lt=1)


class Generation(Fixed):
    """Who makes models respond, for all rows alike: a file of `harness/backends/` or of one's own, and its options."""

    backend: str = "transformers"
    options: dict[str, Any] = {}


class Judging(Chat):
    """How the judge is asked: each question in `runs` repeats, of which the report gives mean and spread."""

    runs: int = Field(1, gt=0)


class MethodSpec(Fixed):
    """One row of a comparison: a method, its options, and the training arguments it declares for itself.

    `label` tells two rows of one method apart ("dpo:beta=0.5"); by default it is the method's name.
    """

    name: str
    options: dict[str, Any] = {}
    training: dict[str, Any] = {}
    row: str = ""

    @property
    def stem(self) -> str:
        """The method's name: a file's name without folder and ending."""
        return stem(self.name)

    @property
    def id(self) -> str:
        """The row's name in files and tables."""
        return self.row or self.stem


class Testbed(Fixed):
    """Everything a comparison holds fixed: base models, data, protocol, writer, judge.

    `models` are folders in Hugging Face's layout, or "owner/name@COMMIT" of the hub's cache; seed i uses number i
    modulo their count. `family` is a file of one's own with their class of models, where they are of none that is
    known (docs/extend/family.md). `data` is "generated" (the embedded world), a folder with `sources/NAME/` and
    `benchmarks/NAME/` in the official layouts, or "./mine.py", a world of one's own (docs/extend/testbed.md), which
    is `synthetic`. `methods` holds the training arguments and options that a method has here. `clip` is a folder
    like those of `models`; `lens` the number of examples on which training is looked at (with an LLM writer each
    costs two calls per row); `crosscheck` whether lmms-eval, where it is installed, scores the same responses
    again. `writer` and `judge` are "openai:MODEL", "script:FILE", "./mine.py" of one's own (docs/extend/judge.md)
    or a word of the world's ("oracle"); `prices` are USD per million tokens of a model, input and output.
    """

    name: str
    synthetic: bool = False
    models: tuple[str, ...]
    family: str = ""
    data: str
    writer: str = ""
    judge: str = ""
    clip: str = ""
    lens: int = Field(0, ge=0)
    crosscheck: bool = True
    writing: Chat = Chat()
    judging: Judging = Judging()
    reading: Reading = Reading()
    generation: Generation = Generation()
    prices: dict[str, Price] = {}
    protocol: Literal["llava"] = "llava"
    examples: int = Field(10_000, gt=0)
    scenes: int = Field(0, ge=0)
    response_tokens: int = Field(1024, gt=0)
    training: Training = Training()
    methods: dict[str, dict[str, Any]] = {}
    benchmarks: dict[str, dict[str, Any]] = {}

    def setting(self) -> dict[str, Any]:
        """What of it changes a number, whichever files it reads: by this, not by its name, is a testbed another's."""
        left_out: dict[str, Any] = dict.fromkeys(
            (
                "name",
                "synthetic",
                "protocol",
                "models",
                "family",
                "data",
                "clip",
                "lens",
                "crosscheck",
                "prices",
                "examples",
                "scenes",
            ),
            True,
        )
        left_out |= {"judging": {"price", "runs"}, "writing": {"price"}, "reading": {"max_dropped", "links"}}
        told = self.model_dump(mode="json", exclude=left_out)
        told["generation"]["backend"] = called(self.generation.backend)
        return told | {"judge": called(self.judge), "writer": called(self.writer)}


def read_testbed(name: str) -> Testbed:
    """A built-in testbed by name, or a user's YAML file; `~` and paths relative to the file are resolved."""
    from harness.contracts.behind import behind, words  # which reads these settings

    folder = Path(__file__).parents[1] / "testbeds"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    path = Path(name).expanduser() if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not name.endswith((".yaml", ".yml")) and name not in known:
        raise unknown("testbed", name, known)
    try:
        bed = Testbed.model_validate(yaml_file(path, "testbed"))
    except ValidationError as error:
        raise UsageError(f"testbed {path} is not valid: {first_error(error)}") from None
    home = path.parent
    located: dict[str, Any] = {"models": tuple(weights(model, home) for model in bed.models)}
    if bed.family:
        located["family"] = str(locate(bed.family, home))
        adopt("harness.families", located["family"])
    if bed.clip:
        located["clip"] = str(locate(bed.clip, home))
    located |= {"judge": words_in(bed.judge, home), "writer": words_in(bed.writer, home)}
    backend = words_in(bed.generation.backend, home)
    located["generation"] = bed.generation.model_copy(update={"backend": backend})
    located["data"] = bed.data if bed.data in words() else str(locate(bed.data, home))
    located["synthetic"] = bed.synthetic or behind(located["data"]).synthetic
    return bed.model_copy(update=located)


def weights(model: str, home: Path) -> str:
    """A model's folder: a path, or where the hub's cache has "owner/name@COMMIT"; these words where it has it not.

    Nothing is fetched. UsageError for a checkpoint in LLaVA's original layout, which names the same one in the hub's.
    """
    if twin := TWINS.get(model.partition("@")[0]):
        raise UsageError(f"{model} is in LLaVA's original layout; the same model in Hugging Face's is {twin}.")
    if not (hub := HUB.fullmatch(model)):
        return str(locate(model, home))
    from huggingface_hub import snapshot_download  # slow to import
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return str(snapshot_download(hub["id"], revision=hub["revision"], local_files_only=True))
    except LocalEntryNotFoundError:
        return model


def words_in(words: str, home: Path) -> str:
    """A judge's or writer's words; a file of one's own is found from `home`."""
    which, rest = parted(words)
    return f"{locate(which, home)}{':' * bool(rest)}{rest}" if which.endswith(".py") else words


def locate(path: str, home: Path) -> Path:
    """An absolute path: `$VARIABLES` and `~` expanded, relative paths taken from `home`."""
    return (home / Path(os.path.expandvars(path)).expanduser()).resolve()


def first_error(error: Exception) -> str:
    """The first complaint of a validation as one sentence."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']} (given: {first['input']!r})."
