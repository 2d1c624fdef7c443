"""What a row of a comparison is once its options are set: a method, and how it trains in each round."""

from dataclasses import MISSING, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.contracts import plugins
from harness.contracts.method import Baseline, Lesson, Method, Role, realised
from harness.contracts.settings import MethodSpec, Testbed, Training, first_error
from harness.contracts.steps import Request
from harness.store.digest import source_digest
from harness.system.errors import UsageError


@dataclass(frozen=True)
class Row:
    """One method with its options set. Resolved once, where the request is checked, and handed to all who ask.

    `lessons` and `training` have one element per round.
    """

    spec: MethodSpec
    method: Method
    lessons: tuple[Lesson, ...]
    training: tuple[Training, ...]

    @classmethod
    def of(cls, spec: MethodSpec, testbed: Testbed) -> "Row":
        """The row of a request, on its testbed; UsageError for an option or argument that cannot be."""
        method = _method(spec)
        lessons = tuple(method.lesson(number) for number in range(method.rounds))
        return cls(spec, method, lessons, tuple(_training(spec, testbed, lesson, method.joins) for lesson in lessons))

    @property
    def id(self) -> str:
        """Its name in files and tables."""
        return self.spec.id

    @property
    def label(self) -> str:
        """What tables call it: the method's title, or its own name where it is told apart by options."""
        return self.method.title if self.spec.id == self.spec.stem else self.spec.id

    @property
    def file(self) -> Path:
        """The method's file."""
        return plugins.source("methods", self.spec.name)

    @property
    def joint(self) -> str:
        """The source that it learns together with its records; "" for none."""
        return next((one.joint.data for one in self.training if one.joint), "")

    @cached_property
    def files(self) -> str:
        """Digest of the files that the method reads beside the examples."""
        return source_digest(*self.method.sources)

    @cached_property
    def options(self) -> dict[str, Any]:
        """Its options without those that name a file its method reads: the file's content counts, not its place."""
        paths = {str(path) for path in self.method.sources}
        return {name: value for name, value in self.spec.options.items() if value not in paths}

    @cached_property
    def builder(self) -> Method:
        """The method as it builds records: options that only training reads have their defaults.

        UsageError where one of them is no option, or has no default.
        """
        usual = {field.name: field.default for field in fields(self.method) if field.default is not MISSING}
        if wrong := [name for name in self.method.training_only if name not in usual]:
            raise UsageError(f"{self.spec.name}.training_only names {wrong[0]}, which is no option with a default.")
        return replace(self.method, **{name: usual[name] for name in self.method.training_only})

    @cached_property
    def build_options(self) -> dict[str, Any]:
        """The options that its records depend on."""
        return {name: value for name, value in self.options.items() if name not in self.method.training_only}

    def trained(self, number: int) -> Training | None:
        """How that was trained which round `number` goes on from, the policy if it was; None for the base model."""
        for role in (Role.POLICY, Role.CRITIC, Role.REWARD):
            for before in reversed(range(number)):
                if role in self.lessons[before].trains:
                    return self.training[before]
        return None


def resolved(request: Request, testbed: Testbed) -> tuple[Row, ...]:
    """The rows of a request, in its order."""
    return tuple(Row.of(spec, testbed) for spec in request.methods)


def _method(spec: MethodSpec) -> Method:
    if spec.name == "baseline":
        return Baseline()
    made: Method = plugins.make("methods", spec.name, Method, spec.options)
    for source in made.sources:
        if not source.is_absolute():  # another process may have another folder
            raise UsageError(f"{spec.id} reads {source}; write ./{source}, from the testbed's file or this folder.")
    return made


def _training(spec: MethodSpec, testbed: Testbed, lesson: Lesson, joins: bool) -> Training:
    """The testbed's training arguments, the row's, what the method sets for this round; later ones win."""
    try:
        made = Training.model_validate(testbed.training.model_dump() | spec.training | dict(lesson.training))
    except ValidationError as error:
        raise UsageError(f"{spec.id}.{first_error(error)}") from None
    reads_base = lesson.continues and realised(lesson, "cached", adapters=False)
    if made.lora is None and (reads_base or {Role.REWARD, Role.CRITIC} & {*lesson.trains}):
        raise UsageError(f'{spec.id} keeps its roles as adapters; set them, e.g. --set {spec.id}.lora="{{r: 16}}".')
    if made.joint and not joins:
        raise UsageError(
            f"{spec.id} does not learn by token cross-entropy: beside its own records, conversations of "
            f"{made.joint.data} would be a second objective, of a weight that nobody has published. Leave them out of "
            f"this row, --set {spec.id}.joint=null; the paper too joins its SFT rows alone."
        )
    return made
