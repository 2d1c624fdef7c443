"""What a comparison holds fixed and what it may vary, as pydantic models.

A model whose name says `Runtime` never changes a result and is in no key; every other model is identity: each of
its fields is in the key of the stages that use it.
"""

import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness.contracts.plugins import refuse_truths, stem
from harness.system import boards, endpoints

Dtype = Literal["float32", "bfloat16", "float64"]  # of weights while they are used; float64 is for tests
HUB = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})")  # a repository of the hub at a commit


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
    """Rank."""
    lora_alpha: int = Field(256, gt=0)
    """Scale: adapters are multiplied by lora_alpha / r."""
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of an adapter's inputs that is dropped while it learns."""
    target_modules: Annotated[tuple[str, ...] | str, Field(min_length=1)] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip
    """Names of layers, "all-linear", or a regular expression."""


class Joint(Fixed):
    """Examples of another source that rows learn beside their own records, as token cross-entropy."""

    data: str = Field(min_length=1)
    """A source by its name, where the testbed has its files (or draws them)."""
    examples: int | None = Field(None, gt=0)
    """How many, drawn by the seed; null: all, of a drawn world as many as the testbed's `examples`."""


def _joined(given: Any) -> Any:
    """A source's name alone."""
    return {"data": given} if isinstance(given, str) else given


class Training(Fixed):
    """One optimisation, with Hugging Face's argument names. The vision tower is always frozen (LLaVA-1.5)."""

    learning_rate: float = Field(2e-6, gt=0)
    """The highest rate of the schedule."""
    num_train_epochs: int = Field(1, gt=0)
    """Passes over the records."""
    train_batch_size: int = Field(128, gt=0)
    """Records per optimiser step, over all devices."""
    warmup_ratio: float = Field(0.03, ge=0, le=1)
    """The share of all steps in which the rate rises."""
    lr_scheduler_type: Literal["cosine", "constant_with_warmup"] = "cosine"
    """What the rate does behind the warm-up."""
    optim: Literal["adamw_torch", "adamw_8bit"] = "adamw_torch"
    """AdamW; adamw_8bit keeps its state in 8 bits instead of 32 (bitsandbytes, the extra `8bit`; one process)."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's."""
    adam_beta1: float = 0.9
    """AdamW's decay of the mean gradient."""
    adam_beta2: float = 0.999
    """AdamW's decay of the mean squared gradient."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Norm to which the gradient of a step is clipped."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of weights while they learn, respond and are measured."""
    max_length: int | None = Field(None, gt=0)
    """Cuts each sequence on the right, image places counted (LLaVA: `model_max_length` 2048); null: a record beyond the
    model's positions is dropped."""
    lora: Lora | None = None
    """Adapters; null tunes the language model and the projector in full."""
    joint: Annotated[Joint | None, BeforeValidator(_joined)] = None
    """Data learnt together with the records, for methods whose loss is that of SFT (the paper's Table 2); a name alone
    means all of it."""


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
    """Stages that run side by side."""
    executor: str = "local"
    """Who runs the stages: a file of `harness/executors/` by its name, or the path of one of the user's own."""
    executor_options: dict[str, Any] = {}
    """The options of the executor."""
    num_processes: int = Field(1, gt=0)
    """Processes, one a device, that a training has, over all its machines."""
    nodes: int = Field(1, gt=0)
    """Machines that a training is spread over, with as many processes each (docs/clusters.md)."""
    rdzv_endpoint: Annotated[str, BeforeValidator(endpoints.words)] = ""
    """HOST:PORT at which the other machines find the first; what is left out is its own name, and a free port."""
    per_device_train_batch_size: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"
    """Records in a micro-batch; auto: what fits by formula and was tried, 16 on a CPU. Fewer where memory runs out."""
    generate_batch_size: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"
    """Prompts answered at once; auto: as many as fit by formula, 128 on a CPU. Halved where memory runs out."""
    generate_processes: int = Field(1, gt=0)
    """Processes that answer one stage's prompts side by side, each with a part of them and GPUs of its own."""
    gradient_checkpointing: Annotated[Literal["auto", "on", "off"] | int | bool, BeforeValidator(_switch)] = "auto"
    """Whether decoder layers keep their input alone and are computed again in the backward pass, or how many do."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """What DeepSpeed shards over the processes: 1 optimiser, 2 gradients too, 3 weights too."""
    offload_optimizer: Literal["none", "cpu"] = "none"
    """Where the optimiser's state lies and works; cpu: in the machine's memory, slower (zero_stage 1 and up)."""
    offload_param: Literal["none", "cpu"] = "none"
    """Where sharded weights lie between their uses (zero_stage 3)."""
    checkpoint_every_steps: int = Field(50, gt=0)
    """How often a training can be gone on with."""
    reference: Literal["cached", "adapter_off", "copy"] = "cached"
    """Where a reference's log-probs come from: a file made once, the policy without its adapters, a second model."""
    report_to: Annotated[tuple[boards.Board, ...], BeforeValidator(boards.names)] = ()
    """Boards that show training curves live; names of the HF Trainer. Files of TensorBoard go to `logging_dir`."""
    logging_dir: str = "runs/tensorboard"
    """Where files of TensorBoard go."""
    budget: float | None = Field(None, ge=0, allow_inf_nan=False)
    """USD that judge and writer may have cost this store, all runs together; None: no limit."""
    ask_concurrency: int = Field(8, gt=0)
    """Questions to judge or writer under way at once."""
    ask_attempts: int = Field(6, gt=0)
    """Tries of one question."""
    ask_timeout_s: float = Field(60.0, gt=0, allow_inf_nan=False)
    """Seconds that one try may take."""
    ask_deadline_s: float = Field(600.0, gt=0, allow_inf_nan=False)
    """Seconds that one question may take with all its tries."""
    ask_batch: int = Field(0, ge=0)
    """So many questions or more go as a batch of the service's batch API: at half the price, within a day. 0: none."""

    @model_validator(mode="after")
    def _can_be(self) -> "Runtime":
        if self.num_processes % self.nodes:
            raise ValueError(f"num_processes={self.num_processes} cannot be spread evenly over nodes={self.nodes}")
        for name, least in (("offload_optimizer", 1), ("offload_param", 3)):
            if getattr(self, name) != "none" and self.zero_stage < least:
                raise ValueError(f"{name}={getattr(self, name)} needs zero_stage={least} or more; set it too")
        return self

    @property
    def answered_at_once(self) -> int:
        """Prompts, 0 for as many as there is room for."""
        return 0 if self.generate_batch_size == "auto" else self.generate_batch_size

    @property
    def read_batch_size(self) -> int:
        """Records of a forward pass without a gradient, which keeps little."""
        return 16 if self.per_device_train_batch_size == "auto" else self.per_device_train_batch_size


Price = tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], Annotated[float, Field(ge=0, allow_inf_nan=False)]]
OURS = (
    "model", "messages", "stream", "stream_options", "n", "best_of", "tools", "tool_choice", "functions",
    "function_call", "modalities", "audio", "prediction", "web_search_options", "plugins",
)  # fmt: skip
"""Fields of a request that are not the user's: one reply in words is asked for, and nothing else is paid."""


class Chat(Fixed):
    """How an LLM is asked."""

    temperature: float | None = Field(0.0, ge=0, allow_inf_nan=False)
    """Of its replies; null sends none."""
    images: bool = False
    """Whether it can see: pictures go with the questions."""
    max_tokens: int | None = Field(None, gt=0)
    """Bounds a reply; null: as the benchmark says."""
    seed: int | None = None
    """Sent along where it is given."""
    parameters: dict[str, Any] = {}
    """Go into the request as they are, null takes one out: reasoning models want `temperature: null` and
    `parameters: {max_tokens: null, max_completion_tokens: 4000}`."""
    price: Price | None = None
    """USD per million tokens, input and output; it alone changes no reply and is in no key."""

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
    """How records and pictures are read (docs/protocol.md)."""

    images: Literal["llava", "upright"] = "llava"
    """As LLaVA opens them, or turned as their EXIF orientation says and with the tones of 16-bit grey."""
    texts: Literal["llava", "stripped"] = "llava"
    """As they are written, but for the turn that shows the image, or without blanks around."""
    ignore: tuple[str, ...] = ()
    """Fields of records that are left out; one that is neither read nor left out stops the run (docs/records.md)."""
    links: Literal["inside", "any"] = "inside"
    """Pictures that are links: inside their folder or hub cache, or anywhere."""
    max_dropped: float = Field(0.01, ge=0, lt=1)
    """The share of records that may be unusable before the run stops (of fewer than 100: half). It is in no key."""


class Generation(Fixed):
    """Who makes models respond, for all rows alike: a file of `harness/backends/` or of one's own, and its options."""

    backend: str = "transformers"
    """A file of `harness/backends/` by its name, or the path of one of your own (docs/extend/backend.md)."""
    options: dict[str, Any] = {}
    """The options of the backend."""


class Judging(Chat):
    """How the judge is asked."""

    runs: int = Field(1, gt=0)
    """How often each question is asked; the report gives mean and spread."""


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
    """Everything a comparison holds fixed: base models, data, protocol, writer, judge."""

    name: str
    """What tables and folders call it."""
    synthetic: bool = False
    """Whether its data are made up, which every file then says."""
    models: tuple[str, ...]
    """Folders in Hugging Face's layout, or "owner/name@COMMIT" of the hub's cache; seeds use one after the other."""
    family: str = ""
    """A file of one's own with their class of models, where no known one is theirs (docs/extend/family.md)."""
    data: str
    """"generated" (the embedded world), a folder with `sources/NAME/` and `benchmarks/NAME/` in the official layouts,
    or "./mine.py", a world of one's own (docs/extend/testbed.md), which is synthetic."""
    writer: str = ""
    """Who writes training text: as `judge`."""
    judge: str = ""
    """"openai:MODEL", "script:FILE", "./mine.py" of one's own (docs/extend/judge.md) or a word of the world's
    ("oracle")."""
    clip: str = ""
    """A folder like those of `models`, for methods that ask for CLIP."""
    lens: int = Field(0, ge=0)
    """Examples on which training is looked at (with an LLM writer each costs two calls per row)."""
    crosscheck: bool = True
    """Whether lmms-eval, where it is installed, scores the same responses again."""
    writing: Chat = Chat()
    """How the writer is asked."""
    judging: Judging = Judging()
    """How the judge is asked."""
    answering: Chat = Chat(images=True)
    """How rows of `--rows openai:MODEL` are asked."""
    reading: Reading = Reading()
    """How records and pictures are read."""
    generation: Generation = Generation()
    """Who makes models respond."""
    prices: dict[str, Price] = {}
    """Model -> USD per million tokens, input and output."""
    protocol: Literal["llava"] = "llava"
    """How questions are asked and answers read."""
    examples: int = Field(10_000, gt=0)
    """Training examples that a split draws, without --examples."""
    scenes: int = Field(0, ge=0)
    """Scenes that a drawn world makes for its benchmarks."""
    response_tokens: int = Field(1024, gt=0)
    """Tokens at most of a response that a method asks for."""
    training: Training = Training()
    """The training arguments of every method."""
    methods: dict[str, dict[str, Any]] = {}
    """Method -> the training arguments and options that it has here."""
    benchmarks: dict[str, dict[str, Any]] = {}
    """Benchmark -> the options that it has here."""


def first_error(error: Exception) -> str:
    """The first complaint of a validation as one sentence."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']} (given: {first['input']!r})."
