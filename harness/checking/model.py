"""The parts of `harness check` that need a model: a backend on a tiny one, a family on one that is named."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness import backends, families
from harness.checking.fake_round import examples
from harness.checking.method import BASE, one_step
from harness.checking.promises import asked, want
from harness.contracts import plugins
from harness.contracts.backend import Running, Sampling
from harness.contracts.method import Lesson, Method
from harness.contracts.records import Conversation, Prompt
from harness.contracts.settings import Generation
from harness.models.folder import inspect
from harness.models.load import words
from harness.system.errors import UsageError
from harness.system.profile import quiet

SAMPLING = Sampling(max_new_tokens=8)


def check_backend(name: str, options: Mapping[str, Any], data: Path | None) -> Iterator[str]:
    """A backend: its identity, and greedy responses of a tiny model, alone and in a batch."""
    here = plugins.stem(name)
    made = backends.chosen(Generation(backend=name, options=dict(options)))
    told = asked(here, "identity", lambda: plugins.plain(made.identity(), here))
    yield f"{here}: says what identifies it ({', '.join(told) or 'its name and options alone'})"
    if why := asked(here, "problem", made.problem):
        yield f"{here}: no model was asked, for it cannot run here: {why}"
        return
    with TemporaryDirectory(prefix="harness-check-") as scratch:
        prompts = [Prompt(e.id, e.image, e.turns[0].question) for e in examples(Path(scratch))]

        def said(some: list[Prompt], size: int, blank: bool = False) -> list[str]:
            running = Running(size, quiet, None)
            given = asked(here, "respond", lambda: made.respond(BASE, some, SAMPLING, running, blank))
            backends.insist(getattr(given, "responses", given), some)
            return [response.text for response in given.responses]

        together = said(prompts, 2)
        alone = [said([prompt], 1)[0] for prompt in prompts]
        if together != alone:
            raise UsageError(f"{here}.respond says {together} to two prompts at once, and {alone} to one by one.")
        said(prompts, 2, blank=True)
    yield f"{here}: a tiny model responds to two pictures and to blank ones, the same one by one"
    yield f"{here}: not tried: sampling, candidates, log-probs, and whether it runs the model that it is given"


def check_family(name: str, options: Mapping[str, Any], data: Path | None) -> Iterator[str]:
    """A family: what it declares, and with a folder of a model of it one training step on two made-up examples."""
    here = plugins.stem(name)
    plugins.adopt(families.PACKAGE, name)
    made = asked(here, "an instance", lambda: families.named(here))
    for what in ("title", "example", "image_token"):
        want(isinstance(getattr(made, what, None), str), here, what, "a text", made)
    for what in ("parts", "prefixes"):
        want(isinstance(getattr(made, what, None), Mapping), here, what, "a mapping of texts to texts", made)
    yield f"{here}: is {made.title}"
    if data is None:
        yield f"{here}: no model was tried; name a folder of one: harness check {name} --data FOLDER"
        return
    model = inspect(data)
    if type(model.family) is not type(made):
        raise UsageError(f"{data} is no model of {here}; name a folder whose config.json has this model_type.")
    asked(here, "a tokenizer", lambda: words(data))
    yield f"{here}: {data.name} is whole; a picture takes {model.places[0]} to {model.places[1]} places"
    with TemporaryDirectory(prefix="harness-check-") as scratch:
        given = [Conversation(e.id, e.image, (e.turns,)) for e in examples(Path(scratch))]
        sft: Method = plugins.make("methods", "sft", Method, {})
        units = one_step(here, sft, Lesson(), given, Path(scratch) / "features", data)
    yield f"{here}: one step of sft on two examples, {units} tokens, loss and gradient finite"
    yield f"{here}: not tried: that its log-probs are those of plain transformers (tests/seams/test_family.py)"
