"""What every model family keeps, tried on a small random model of it: plain transformers is the other side.

A family is tested by being there, in `harness/families/` or as one file in `tests/outside/family/`.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from importlib import resources
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoProcessor, ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.models.smolvlm import processing_smolvlm
from transformers.processing_utils import MODALITY_TO_AUTOPROCESSOR_MAPPING

from harness import families
from harness.backends._decoding import decoded
from harness.backends._prompts import row_of
from harness.backends._rows import Row
from harness.backends.transformers import Transformers
from harness.contracts import plugins
from harness.contracts.backend import Adapted, Running, Sampling
from harness.contracts.family import Family, Layout
from harness.contracts.images import opened
from harness.contracts.method import Role
from harness.contracts.records import Beside, Conversation, Image, Pair, Prompt, Record, Turn
from harness.contracts.settings import Lora
from harness.models.folder import inspect
from harness.models.load import Loaded, adapt, load
from harness.models.logps import Policy
from harness.models.noise import diffuse
from harness.models.reference import figures
from harness.models.roles import Roles
from harness.models.tree import Branch, Tree, pack, tree
from harness.system.profile import quiet
from harness.training import recompute
from tests.small_models import FAMILIES, made, noise

TALK = (Turn("what is there", "a red cat on the table"), Turn("is there a dog", "no"))
MAKERS = {  # templates in TRL, and the end token that each spells
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl"), ("qwen2_5_vl", "<|im_end|>")),
    "qwen3_vl": ("qwen3_vl", "<|im_end|>"),
    **dict.fromkeys(("smolvlm", "idefics3"), ("smolvlm", "<end_of_utterance>")),
}


# Families whose code is another's but for numbers and names; `make test-all` tries them too.
NEAR = ("qwen2_vl", "idefics3")


@pytest.fixture(
    scope="module", params=[pytest.param(one, marks=pytest.mark.heavy if one in NEAR else ()) for one in FAMILIES]
)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return made(families.named(request.param), tmp_path_factory.mktemp(request.param) / "small")


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Loaded:
    return load(folder)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Image]:
    return noise(tmp_path_factory.mktemp("pictures"))


def records(pictures: Sequence[Image]) -> list[Record]:
    """Conversations and pairs about pictures of every shape, and one about none."""
    talks = [Conversation(f"c{n}", picture, (TALK[:1], TALK)) for n, picture in enumerate(pictures)]
    pairs = [Pair(f"p{n}", picture, "what is it", "a cat", "two dogs") for n, picture in enumerate(pictures)]
    cropped = Pair("m", pictures[0], "what is it", "a cat", "two dogs", beside=(Beside("a cat", (0.2, 0.3, 0.6, 0.7)),))
    return [*talks, *pairs, Pair("p", None, "what is it", "a cat", "two dogs"), cropped]


def given(loaded: Loaded, ids: Sequence[int], image: Image | None) -> dict[str, Any]:
    """What plain transformers' model is given: the ids, and what the official image processor makes of the picture."""
    told: dict[str, Any] = {"input_ids": torch.tensor([list(ids)])}
    if image is not None:
        told |= loaded.eyes.processor(images=opened(image), return_tensors="pt")
        if "image_grid_thw" in told:
            told["mm_token_type_ids"] = (told["input_ids"] == loaded.model.config.image_token_id).int()
    return {name: value for name, value in told.items() if name != "num_patches"}


def alone(loaded: Loaded, one: Tree, branch: Branch) -> Tensor:
    """A branch's log-probs by plain transformers: a sequence of its own, the picture through the whole model."""
    ids = (*one.prefix, *branch.ids)
    logits = loaded.model(**given(loaded, ids, one.image)).logits[0, :-1].float()
    logps = logits.log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
    return logps[len(one.prefix) - 1 :][torch.tensor(branch.supervised)]


def apart(loaded: Loaded, forest: Sequence[Tree]) -> dict[str, Tensor]:
    return {one.id: torch.cat([alone(loaded, row, branch) for row in one.rows for branch in row.branches])
            for one in forest}  # fmt: skip


def together(loaded: Loaded, forest: Sequence[Tree]) -> dict[str, Tensor]:
    by_id = figures(Roles(loaded.model, {}, shared_trunk=False), loaded, forest, 4, ["policy"], quiet)
    return {id: columns["policy"] for id, columns in by_id.items()}


def furthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[id] - other[id]).abs().max()) for id in one)


@pytest.fixture(scope="module")
def forest(loaded: Loaded, pictures: list[Image]) -> list[Tree]:
    return [tree(record, loaded) for record in records(pictures)]


def test_importing_and_asking_about_a_folder_needs_no_torch(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from harness.contracts import plugins\n"
        "from harness.models.folder import inspect\n"
        f"plugins.adopt_all({plugins.adopted()!r})\n".replace("PosixPath", "Path")
        + f"one = inspect(Path({str(folder)!r})); one.places, one.architecture, one.linear_layers\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


class NoVideos(dict[str, Any]):
    """Stands for transformers' video processors; a dict, since a processor writes its parts as JSON."""

    model_input_names: tuple[str, ...] = ()

    @classmethod
    def from_pretrained(cls, *_: Any, **__: Any) -> "NoVideos":
        return cls()


def processor_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The official processor of a folder: the whole of it, or all but its videos, which torchvision alone can read."""
    told = json.loads((folder / "config.json").read_text())["model_type"]
    if told not in PROCESSOR_MAPPING_NAMES:
        pytest.skip("transformers knows no processor of this family")
    monkeypatch.setattr(ProcessorMixin, "check_argument_for_proper_class", lambda *_: object)
    monkeypatch.setitem(MODALITY_TO_AUTOPROCESSOR_MAPPING._MAPPING_NAMES, "video_processor", (__name__, "NoVideos"))
    monkeypatch.setattr(processing_smolvlm, "num2words", str)  # by which it says how many frames a video has
    return AutoProcessor.from_pretrained(folder, backend="pil")


def test_ids_and_pixels_are_the_official_processor_s(
    folder: Path, loaded: Loaded, pictures: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = processor_of(folder, monkeypatch)
    family, end = loaded.family, loaded.tokenizer.eos_token
    for picture in pictures:
        pieces = family.segments(TALK, True, end)
        official = processor(text="".join(text for text, _ in pieces), images=opened(picture), return_tensors="pt")
        layout = loaded.eyes.layout(picture)
        assert tuple(official["input_ids"][0].tolist()) == family.encode(loaded.tokenizer, pieces, layout).ids
        assert same_but_frames(official["pixel_values"].float(), loaded.eyes.pixels(picture))


def same_but_frames(official: Tensor, ours: Tensor) -> bool:
    """Whether pixels are the same; where the official ones are more, as equal frames next to each other."""
    frames, shape = official.numel() // ours.numel(), ours.shape
    shapes = ([*shape[:axis], frames, *shape[axis:]] for axis in range(ours.ndim))
    repeated = ((ours.unsqueeze(axis).expand(shape), shape) for axis, shape in enumerate(shapes))
    return any(torch.equal(official.reshape(shape), one) for one, shape in repeated)


def messages() -> list[dict[str, Any]]:
    """The talk as others give it."""
    told: list[dict[str, Any]] = []
    for number, turn in enumerate(TALK):
        shown = [{"type": "image"}] if number == 0 else []
        told.append({"role": "user", "content": [*shown, {"type": "text", "text": turn.question}]})
        told.append({"role": "assistant", "content": [{"type": "text", "text": turn.answer}]})
    return told


def test_words_are_those_of_the_makers_template(loaded: Loaded) -> None:
    """TRL carries chat templates as the makers ship them with their checkpoints."""
    if loaded.model.config.model_type not in MAKERS:
        pytest.skip("TRL has no template of this family")
    name, end = MAKERS[loaded.model.config.model_type]
    shipped = resources.files("trl") / "chat_templates" / f"{name}.jinja"
    said = loaded.tokenizer.apply_chat_template(messages(), chat_template=shipped.read_text(), tokenize=False)
    pieces = loaded.family.segments(TALK, True, end)
    assert said.strip() == "".join(text for text, _ in pieces).strip()


def test_the_chat_template_is_ours(folder: Path, loaded: Loaded) -> None:
    """As others ask the saved policy: with its picture, in two turns, and up to an answer."""
    told = messages()
    template, family, end = (folder / "chat_template.jinja").read_text(), loaded.family, loaded.tokenizer.eos_token
    said = loaded.tokenizer.apply_chat_template(told, chat_template=template, tokenize=False)
    assert said.rstrip("\n") == "".join(text for text, _ in family.segments(TALK, True, end)).rstrip("\n")
    asked = loaded.tokenizer.apply_chat_template(
        told[:-1], chat_template=template, tokenize=False, add_generation_prompt=True
    )
    assert asked == "".join(text for text, _ in family.prompt(TALK[1].question, TALK[:1], True, end))


def test_an_answer_and_its_end_are_supervised_and_nothing_else(loaded: Loaded) -> None:
    family, words = loaded.family, loaded.tokenizer
    tokens = family.encode(words, family.segments(TALK, False, words.eos_token), None)
    marked = words.decode([id for id, mark in zip(tokens.ids, tokens.supervised, strict=True) if mark])
    assert marked == "".join(f"{family.lead}{turn.answer}{words.eos_token}" for turn in TALK)


def test_every_place_of_a_picture_is_one_token(loaded: Loaded, pictures: list[Image], forest: list[Tree]) -> None:
    for one in forest:
        wanted = loaded.eyes.layout(one.image).places if one.image else 0
        assert one.prefix.count(loaded.model.config.image_token_id) == wanted
        assert not any(loaded.model.config.image_token_id in branch.ids for branch in one.branches)
    assert len({loaded.eyes.layout(picture) for picture in pictures}) >= 1


def test_trees_give_what_plain_transformers_gives_of_each_branch(loaded: Loaded, forest: list[Tree]) -> None:
    with torch.no_grad():
        assert furthest(together(loaded, forest), apart(loaded, forest)) < 1e-5


@pytest.fixture
def exact(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """The model in float64 throughout: norms and rotary embeddings of transformers ask for float32 by these names."""
    wide = load(folder, "float64")
    monkeypatch.setattr(torch, "float32", torch.float64)
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    return wide


def test_trees_are_exact_where_numbers_are(exact: Loaded, pictures: list[Image]) -> None:
    """What is left in float32 is rounding: in float64 log-probs and all gradients agree to its last digits."""
    few = [tree(record, exact) for record in records(pictures)][1::3]
    ours, theirs = together(exact, few), apart(exact, few)
    assert furthest(ours, theirs) < 1e-12
    grown = gradients(exact, Policy(exact.model)(pack(few, exact)).sum())
    for name, slope in gradients(exact, sum(logps.sum() for logps in theirs.values())).items():
        assert float((grown[name] - slope).abs().max()) < 1e-11 * max(1.0, float(slope.abs().max())), name


def test_all_gradients_are_those_of_separate_sequences(loaded: Loaded, forest: list[Tree]) -> None:
    few = [forest[1], forest[-2], forest[-1]]
    batch = pack(few, loaded)
    ours = gradients(loaded, Policy(loaded.model)(batch).sum())
    theirs = gradients(loaded, sum(logps.sum() for logps in apart(loaded, few).values()))
    assert ours.keys() == theirs.keys() and len(ours) > 10
    for name, slope in theirs.items():
        scale = max(1.0, float(slope.abs().max()))
        assert float((ours[name] - slope).abs().max()) < 2e-4 * scale, name


def gradients(loaded: Loaded, loss: Any) -> dict[str, Tensor]:
    loaded.model.zero_grad()
    loss.backward()
    return {name: w.grad.clone() for name, w in loaded.model.named_parameters() if w.grad is not None and w.grad.any()}


def test_a_branch_does_not_see_another(loaded: Loaded, forest: list[Tree]) -> None:
    for one in (forest[1], forest[-1]):
        first, second = one.branches
        other = replace(one, branches=(replace(first, ids=tuple(5 + n % 9 for n in range(len(first.ids)))), second))
        before, after = (together(loaded, [each])[one.id][sum(first.supervised) :] for each in (one, other))
        assert torch.equal(before, after)


class Mutant:
    """Something of a family done wrong."""

    @staticmethod
    def rows_turned(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A picture's features in the opposite order."""
        inputs = type(family).inputs

        def turned(self: Family, model: Any, ids: Tensor, features: Tensor | None, layouts: Sequence[Layout]) -> Any:
            return inputs(self, model, ids, None if features is None else features.flip(0), layouts)

        monkeypatch.setattr(type(family), "inputs", turned)

    @staticmethod
    def branches_later(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every position behind the first one place too far: branches begin where a token is missing."""
        places = type(family).positions

        def later(self: Family, *given: Any) -> list[list[int]]:
            return [[*axis[:1], *(at + 1 for at in axis[1:])] for axis in places(self, *given)]

        monkeypatch.setattr(type(family), "positions", later)

    @staticmethod
    def extras_lost(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """What pictures give the decoder beside its embeddings."""
        inputs = type(family).inputs
        monkeypatch.setattr(type(family), "inputs", lambda *given: {"inputs_embeds": inputs(*given)["inputs_embeds"]})

    @staticmethod
    def places_counted(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Positions by counting tokens, on every axis."""
        monkeypatch.setattr(
            type(family), "positions", lambda self, ids, *_: [list(range(len(ids))) for _ in range(self.axes)]
        )


@pytest.mark.parametrize("mutant", ["rows_turned", "branches_later", "extras_lost", "places_counted"])
def test_a_mutant_gives_other_log_probs(
    loaded: Loaded, forest: list[Tree], monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    """One that changes nothing of this family is no mutant of it: a family without extras, or that counts places."""
    shown = [one for one in forest if one.image][:3]
    with torch.no_grad():
        right = apart(loaded, shown)
        before = pack(shown, loaded), loaded.family.inputs(loaded.model, *_of(shown, loaded)).keys()
        getattr(Mutant, mutant)(loaded.family, monkeypatch)
        after = pack(shown, loaded), loaded.family.inputs(loaded.model, *_of(shown, loaded)).keys()
        same = torch.equal(before[0].position_ids, after[0].position_ids) and before[1] == after[1]
        if mutant in ("extras_lost", "places_counted") and same:
            assert furthest(together(loaded, shown), right) < 2e-5
        else:
            assert furthest(together(loaded, shown), right) > 1e-3


def _of(trees: Sequence[Tree], loaded: Loaded) -> tuple[Any, ...]:
    batch = pack(trees, loaded)
    return batch.input_ids, batch.features, batch.layouts


def test_what_is_kept_of_a_picture_is_what_the_tower_makes(
    loaded: Loaded, pictures: list[Image], tmp_path: Path, folder: Path
) -> None:
    fresh = [
        loaded.family.features(loaded.model, loaded.eyes.pixels(picture), loaded.eyes.layout(picture))
        for picture in pictures
    ]
    for count in (len(pictures), 0):
        again = load(folder)
        again.features.folder = tmp_path
        assert all(torch.equal(again.features(p), one) for p, one in zip(pictures, fresh, strict=True))
        assert again.features.made == count and (again.features.flops > 0) == (count > 0)
    assert all(one.ndim == 2 and not one.requires_grad for one in fresh)
    assert not any(weight.requires_grad for weight in loaded.family.tower(loaded.model).parameters())


def test_what_is_kept_is_known_by_the_processor_s_settings(folder: Path, loaded: Loaded, tmp_path: Path) -> None:
    """Two models may have one tower, and see a picture otherwise."""
    copytree(folder, tmp_path / "other")
    for file in (tmp_path / "other").glob("*processor_config.json"):
        told = json.loads(file.read_text())
        for part in (told, told.get("image_processor", {})):
            part |= {"image_mean": [0.1, 0.2, 0.3]} if "image_mean" in part else {}
        file.write_text(json.dumps(told))
    assert load(tmp_path / "other").features.kind != loaded.features.kind


def test_noise_and_blankness_leave_a_picture_its_places(loaded: Loaded, pictures: list[Image]) -> None:
    for picture in pictures:
        layout, pixels = loaded.eyes.layout(picture), loaded.eyes.pixels(picture)
        seen = loaded.family.features(loaded.model, pixels, layout)
        for other in (loaded.eyes.blank(layout), diffuse(pixels, 500, 0)):
            assert other.shape == pixels.shape and other.dtype == pixels.dtype == torch.float32
            changed = loaded.family.features(loaded.model, other, layout)
            assert changed.shape == seen.shape and not torch.equal(changed, seen)


def asked(pictures: Sequence[Image]) -> list[Prompt]:
    """Several questions on each picture, of several lengths, with and without turns before, and one without picture."""
    texts = ["what is there", "is there a cat near the ball", "a"]
    shown = [Prompt(f"q{n}-{at}", p, text) for n, p in enumerate(pictures) for at, text in enumerate(texts)]
    return [*shown, Prompt("h", pictures[0], "and", TALK[:1]), Prompt("n", None, "what is there")]


@pytest.mark.parametrize("most", [12, pytest.param(64, marks=pytest.mark.heavy)])
def test_responses_are_those_of_generate_batched_and_alone(
    folder: Path, loaded: Loaded, pictures: list[Image], most: int
) -> None:
    """Pictures of several sizes share a batch."""
    prompts, sampling = asked(pictures), Sampling(max_new_tokens=most)
    by_us = Transformers().respond(folder, prompts, sampling, Running(8, quiet)).responses
    plain = loaded.family.model_class().from_pretrained(folder).eval()
    for prompt, response in zip(prompts, by_us, strict=True):
        [single] = Transformers().respond(folder, [prompt], sampling, Running(1, quiet)).responses
        assert single.ids == response.ids
        layout = loaded.eyes.layout(prompt.image) if prompt.image else None
        pieces = loaded.family.prompt(prompt.question, prompt.history, bool(prompt.image), loaded.tokenizer.eos_token)
        ids = loaded.family.encode(loaded.tokenizer, pieces, layout).ids
        with torch.no_grad():
            told = plain.generate(
                **given(loaded, ids, prompt.image), max_new_tokens=most, do_sample=False, pad_token_id=loaded.pad_id
            )
        assert tuple(told[0, len(ids) :].tolist()) == response.ids, prompt.id


def test_rows_that_leave_a_batch_change_no_other(loaded: Loaded, pictures: list[Image]) -> None:
    """Each ends after so many tokens as its place in the batch says, the longest in between."""
    rows, end = [row_of(prompt, loaded) for prompt in asked(pictures) if prompt.image], loaded.tokenizer.eos_token_id
    lengths = [1 + (7 * at) % 11 for at in range(len(rows))]

    def said(some: Sequence[Row], last: Sequence[int]) -> list[list[int]]:
        ends = torch.tensor(last)
        return decoded(loaded, some, loaded.features, 11, (end,), lambda step, live, scores: scores.argmax(-1).where(
            ends[live] != step + 1, end))  # fmt: skip

    assert said(rows, lengths) == [said([row], [length])[0] for row, length in zip(rows, lengths, strict=True)]


def test_log_probs_of_given_responses_are_the_model_s(folder: Path, loaded: Loaded, pictures: list[Image]) -> None:
    prompts, sampling = asked(pictures), Sampling(max_new_tokens=6)
    said = Transformers().respond(folder, prompts, sampling, Running(8, quiet)).responses
    logps = Transformers().logps(folder, prompts, [one.ids for one in said], "float32", Running(8, quiet))
    for prompt, response, ours in zip(prompts, said, logps, strict=True):
        pieces = loaded.family.prompt(prompt.question, prompt.history, bool(prompt.image), loaded.tokenizer.eos_token)
        layout = loaded.eyes.layout(prompt.image) if prompt.image else None
        one = Tree("t", prompt.image, loaded.family.encode(loaded.tokenizer, pieces, layout).ids, ())
        with torch.no_grad():
            theirs = alone(loaded, one, Branch(response.ids, (True,) * len(response.ids)))
        assert ours == pytest.approx(theirs.tolist(), abs=2e-5)


def test_what_is_made_again_changes_no_bit(loaded: Loaded, forest: list[Tree]) -> None:
    """Of every MLP that the family says is gated, and of its norms: gradients as transformers writes them."""
    roles, batch = Roles(load(Path(loaded.model.name_or_path)).model, {}, shared_trunk=False), pack(forest[:3], loaded)

    def slopes() -> dict[str, Tensor]:
        roles.zero_grad()
        roles(batch, ("policy",))["policy"].sum().backward()
        return {name: weight.grad for name, weight in roles.named_parameters() if weight.grad is not None}

    plain = slopes()
    recompute.again(roles, 0)
    again = slopes()
    assert loaded.family.gated(loaded.model) and plain.keys() == again.keys()
    assert all(torch.equal(slope, again[name]) for name, slope in plain.items())


def test_a_saved_policy_is_the_same_in_plain_transformers(folder: Path, loaded: Loaded) -> None:
    plain = loaded.family.model_class().from_pretrained(folder).state_dict()
    assert all(torch.equal(weight, plain[name]) for name, weight in loaded.model.state_dict().items())
    names = set(load_file(folder / "model.safetensors"))
    assert names == {loaded.family.hub_name(name) for name in loaded.model.state_dict()}
    linear = [name for name, part in loaded.model.named_modules() if isinstance(part, torch.nn.Linear)]
    assert set(inspect(folder).linear_layers) == set(filter(loaded.family.adapts, linear))


def test_adapters_learn_and_go_back_into_the_weights(folder: Path, forest: list[Tree], tmp_path: Path) -> None:
    other = load(folder)
    adapted = adapt(other.model, Lora(r=2, lora_alpha=4, target_modules="all-linear"), seed=0)
    learns = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert learns and all("lora_" in name and other.family.adapts(name) for name in learns)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
        batch = pack(forest[:2], other)
        moved = Policy(adapted)(batch)
        Roles(adapted, {}, shared_trunk=False).save(Role.POLICY, tmp_path / "adapter")
        merged = load(Adapted(folder, (tmp_path / "adapter",)))
        assert torch.allclose(Policy(merged.model)(batch), moved, atol=2e-5)
    assert merged.features.kind == other.features.kind


def read_to_its_end(config: Any) -> Any:
    made = deepcopy(config)
    if hasattr(made, "vision_feature_layer"):
        made.vision_feature_layer = -1
    return made


def test_flops_are_those_that_torch_counts(folder: Path, loaded: Loaded, pictures: list[Image]) -> None:
    """Eager attention, so that torch counts all pairs of places, and the head at every place. Plain transformers runs a
    tower to its end, whichever of its layers is read; ours does not."""
    plain = loaded.family.model_class().from_pretrained(folder, attn_implementation="eager").eval()
    pieces = loaded.family.segments(TALK, True, loaded.tokenizer.eos_token)
    for picture in pictures:
        layout, flops = loaded.eyes.layout(picture), loaded.flops
        with FlopCounterMode(display=False) as seen:
            loaded.family.features(plain, loaded.eyes.pixels(picture), layout)
        assert seen.get_total_flops() == pytest.approx(flops.tower(layout), rel=0.05)
        ids = loaded.family.encode(loaded.tokenizer, pieces, layout).ids
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            plain(**given(loaded, ids, picture))
        text = len(ids) * (flops.token + flops.scored) + len(ids) ** 2 * flops.pair
        whole = text + flops.image(layout) + loaded.family.flops(read_to_its_end(plain.config)).tower(layout)
        assert counter.get_total_flops() == pytest.approx(whole, rel=0.05)


def test_the_fewest_and_the_most_places_hold(folder: Path, loaded: Loaded, pictures: list[Image]) -> None:
    fewest, most = inspect(folder).places
    assert all(fewest <= loaded.eyes.layout(picture).places <= most + 1 for picture in pictures)


@pytest.mark.parametrize("text", ["image", "end", "forbidden"])
def test_no_text_smuggles_a_control_token_in(loaded: Loaded, text: str) -> None:
    family = loaded.family
    spelt = {
        "image": family.image_token,
        "end": loaded.tokenizer.eos_token,
        "forbidden": next(iter(family.forbidden), ""),
    }
    if spelt[text]:
        with pytest.raises(ValueError, match=r"reserved token|contains"):
            tree(Conversation("c", None, ((Turn("what", f"a {spelt[text]} b"),),)), loaded)


def test_attention_takes_masks_of_trees(loaded: Loaded) -> None:
    """Eager attention would add a boolean mask as numbers, and flash attention reads none of four axes."""
    assert loaded.family.decoder(loaded.model).config._attn_implementation == "sdpa"


def test_a_file_is_found_by_the_model_type_of_its_models(folder: Path, loaded: Loaded) -> None:
    assert families.of(loaded.model) is loaded.family
    assert inspect(folder).family is loaded.family and families.file_of(loaded.family).stem in FAMILIES
