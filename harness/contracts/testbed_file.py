"""A testbed's YAML file, and what its words mean: paths from where it lies, weights of the hub's cache, plugins."""

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.contracts import judge_kind, plugins
from harness.contracts.behind import behind, words
from harness.contracts.plugins import adopt, parted, unknown
from harness.contracts.settings import HUB, Testbed, first_error
from harness.system.errors import UsageError
from harness.system.yamls import yaml_file

TWINS = {  # in LLaVA's original layout -> the same weights in Hugging Face's
    "liuhaotian/llava-v1.5-7b": "llava-hf/llava-1.5-7b-hf",
    "liuhaotian/llava-v1.5-13b": "llava-hf/llava-1.5-13b-hf",
    "liuhaotian/llava-v1.6-vicuna-7b": "llava-hf/llava-v1.6-vicuna-7b-hf",
    "liuhaotian/llava-v1.6-vicuna-13b": "llava-hf/llava-v1.6-vicuna-13b-hf",
}


def read_testbed(name: str) -> Testbed:
    """A built-in testbed by name, or a user's YAML file; `~` and paths relative to the file are resolved."""
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
    located |= {part: paths_in(getattr(bed, part), home) for part in ("methods", "benchmarks")}
    given = {"backend": words_in(bed.generation.backend, home), "options": paths_in(bed.generation.options, home)}
    located["generation"] = bed.generation.model_copy(update=given)
    located["data"] = bed.data if bed.data in words() else str(locate(bed.data, home))
    located["synthetic"] = bed.synthetic or behind(located["data"]).synthetic
    return bed.model_copy(update=located)


def setting_of(bed: Testbed) -> dict[str, Any]:
    """What of a testbed changes a number, whichever files it reads: by this, not by its name, is it another's."""
    aside = "name synthetic protocol models family data clip lens crosscheck prices examples scenes answering"
    left_out: dict[str, Any] = dict.fromkeys(aside.split(), True)
    left_out |= {"judging": {"price", "runs"}, "writing": {"price"}, "reading": {"max_dropped", "links"}}
    told = bed.model_dump(mode="json", exclude=left_out)
    told["generation"]["backend"] = plugins.called(bed.generation.backend)
    return told | {"judge": judge_kind.called(bed.judge), "writer": judge_kind.called(bed.writer)}


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
    """A judge's, writer's or backend's words; files in them are found from `home`."""
    which, rest = parted(words)
    which = str(locate(which, home)) if which.endswith(".py") else which
    rest = str(locate(rest, home)) if judge_kind.takes_file(f"{which}:{rest}") else rest
    return f"{which}:{rest}" if rest else which if which.endswith(".py") else words


def paths_in(options: Any, home: Path) -> Any:
    """Options whose paths are found from `home`: a text that begins with ./, ../ or ~/ is one, however deep it lies."""
    if isinstance(options, str) and options.startswith(("./", "../", "~/")):
        return str(locate(options, home))
    if isinstance(options, dict):
        return {name: paths_in(value, home) for name, value in options.items()}
    return [paths_in(value, home) for value in options] if isinstance(options, list) else options


def locate(path: str, home: Path) -> Path:
    """An absolute path: `$VARIABLES` and `~` expanded, relative paths taken from `home`."""
    return (home / Path(os.path.expandvars(path)).expanduser()).resolve()
