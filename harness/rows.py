"""What a row of a comparison is once its options are set: a method, and how it trains."""

from typing import Any

from pydantic import ValidationError

from harness import plugins
from harness.config import MethodSpec, Testbed, Training, first_error
from harness.method import Baseline, Lesson, Method, Role
from harness.steps import Request, Step
from harness.types import UsageError


def resolve(spec: MethodSpec) -> Method:
    """The method with its options set."""
    if spec.name == "baseline":
        return Baseline()
    made: Method = plugins.make("methods", spec.name, Method, spec.options)
    return made


def training(spec: MethodSpec, testbed: Testbed, lesson: Lesson) -> Training:
    """The testbed's training arguments, the row's, what the method sets for this round; later ones win."""
    try:
        made = Training.model_validate(testbed.training.model_dump() | spec.training | dict(lesson.training))
    except ValidationError as error:
        raise UsageError(f"{spec.id}.{first_error(error)}") from None
    if made.lora is None and (lesson.continues or {Role.REWARD, Role.CRITIC} & {*lesson.trains}):
        raise UsageError(f'{spec.id} keeps its roles as adapters; set them, e.g. --set {spec.id}.lora="{{r: 16}}".')
    return made


def pathless(spec: MethodSpec) -> dict[str, Any]:
    """A row's options without those that name a file its method reads: the file's content counts, not its place."""
    files = {str(path) for path in resolve(spec).sources}
    return {name: value for name, value in spec.options.items() if value not in files}


def spec_of(step: Step, request: Request) -> MethodSpec:
    """The row whose method a build or train step is made by; the stage itself knows no paths."""
    name, options = step.stage.identity["method"], step.stage.identity["options"]
    return next(spec for spec in request.methods if spec.stem == name and pathless(spec) == options)
