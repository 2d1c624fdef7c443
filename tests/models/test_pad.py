"""What fills rows up is under a mask: it may be any token, also the end token, and changes no number."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from harness.contracts.backend import Sampling
from harness.contracts.records import Image, Prompt
from harness.models.load import load
from harness.models.reference import figures, trees
from harness.models.roles import Roles
from harness.system.profile import quiet
from tests.responding import respond
from tests.trainings import pairs


def with_pad(folder: Path, to: Path, pad: str | None) -> Path:
    """A copy of a model whose tokenizer fills up with another token, or names none."""
    shutil.copytree(folder, to)
    path = to / "tokenizer_config.json"
    kept = {name: value for name, value in json.loads(path.read_text()).items() if name != "pad_token"}
    path.write_text(json.dumps(kept | ({"pad_token": pad} if pad else {})))
    return to


@pytest.mark.parametrize(("pad", "id"), [(None, 3), ("</s>", 2), ("<unk>", 3), ("<new>", 3)])
def test_any_pad_token_gives_the_same_numbers(
    folder: Path, pictures: list[Image], tmp_path: Path, pad: str | None, id: int
) -> None:
    """Without one, or with one that has no embedding, the unknown token stands in; ends are supervised all the same."""
    other = with_pad(folder, tmp_path / "other", pad)
    usual, changed = load(folder), load(other)
    assert (usual.pad_id, changed.pad_id) == (0, id)
    forests = [trees(pairs(pictures), one) for one in (usual, changed)]
    assert forests[0] == forests[1]
    assert {branch.ids[-1] for tree in forests[1] for branch in tree.branches if branch.supervised[-1]} == {2}
    one, two = (
        figures(Roles(loaded.model, {}, False), loaded, forest, 10, ["policy"], quiet)
        for loaded, forest in zip((usual, changed), forests, strict=True)
    )
    assert all(torch.equal(one[name]["policy"], two[name]["policy"]) for name in one)
    prompts = [Prompt(str(n), pictures[n], "what is there " + "a cat " * n) for n in range(4)]
    said = [respond(where, prompts, Sampling(max_new_tokens=6), 4, quiet) for where in (folder, other)]
    assert said[0] == said[1]
