"""What a comparison made reads back where it is taken: records through --data, a model in plain transformers."""

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow
from typer.testing import CliRunner

from harness.cli import app
from harness.comparison import exporting
from harness.contracts.records import Conversation, Dropped, Example, Image, Pair, Rollout, Turn
from harness.contracts.settings import Reading
from harness.sources._written import FORMS, written
from harness.sources.local import Local
from harness.store.store import Stage, Store
from harness.system.errors import Full, UsageError
from harness.system.jsonl import write_jsonl
from reports.manifest import Asked, Trained
from reports.runs import opened
from tests.fake_run import manifest

ASKED = (Turn("What is there?", "A red cup."), Turn("Is it full?", "No, it is empty."))
PAIR = Pair("p", None, "Is it full?", "No.", "Yes, of tea.", history=(ASKED[0],))
SPOKEN = Conversation("c", None, (ASKED,))
BRANCHES = Conversation("b", None, ((ASKED[0],), (ASKED[1],)))


def read_back(file: Path, **reading: Any) -> list[Example]:
    found = list(Local(file, file.parent).load(reading=Reading(**reading)))
    assert not any(isinstance(one, Dropped) for one in found), found
    return [one for one in found if isinstance(one, Example)]


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_every_format_reads_back_as_it_was(form: str, shown: bool, tmp_path: Path) -> None:
    Pillow.new("RGB", (6, 4)).save(tmp_path / "a.png")
    rows = [row for record in (SPOKEN, PAIR, BRANCHES) for row in written(record, form, "a.png" * shown, "ours")]
    (tmp_path / "records.json").write_text(json.dumps(rows))
    told = {one.id: one for one in read_back(tmp_path / "records.json")}
    assert told["c"].turns == ASKED and told["c"].rejected is None
    assert told["p"].turns == (ASKED[0], Turn("Is it full?", "No.")) and told["p"].rejected == "Yes, of tea."
    assert (told["b#0"].turns, told["b#1"].turns) == ((ASKED[0],), (ASKED[1],))
    assert all((one.image is not None) == shown for one in told.values())


@pytest.mark.parametrize("form", FORMS)
def test_without_its_rejected_side_a_pair_would_read_back_as_another(form: str, tmp_path: Path) -> None:
    """The mutant: whoever writes pairs as conversations loses what they are for."""
    [row] = written(PAIR, form, "", "ours")
    kept = {name: cell for name, cell in row.items() if "rejected" not in name}
    (tmp_path / "records.json").write_text(json.dumps([kept]))
    [one] = read_back(tmp_path / "records.json")
    assert one.rejected is None


class World:
    """A run of one row, made up: a build of these records, a training, a picture in the store."""

    def __init__(self, folder: Path, *builds: list[Any]) -> None:
        store = Store(folder / "store")
        (folder / "store" / "images").mkdir(parents=True)
        Pillow.new("RGB", (6, 4), (9, 90, 200)).save(folder / "store" / "images" / "a.png")
        self.picture = folder / "store" / "images" / "a.png"
        self.stages = []
        for number, records in enumerate(builds):
            build = Stage("build", {"round": number})
            store.run(build, lambda out, records=records: write_jsonl(out / "records.jsonl", records))
            self.stages += [build.name, self.made(number, store).name]
        self.run = folder / "run"
        self.run.mkdir()
        made = [Trained(row="nsft", seed=0, stages=self.stages)]
        told = manifest(rows={"nsft": Asked(name="nsft")}, trained=made, stages=self.stages, models={"0": "m" * 64})
        told.write(self.run / "manifest.json")

    def made(self, number: int, store: Store) -> Stage:
        """The training of a round."""
        train = Stage("train", {"round": number, "training": {"lr": 1}})
        store.run(train, self.model)
        return train

    @staticmethod
    def model(out: Path) -> None:
        (out / "checkpoint").mkdir()
        (out / "checkpoint" / "config.json").write_text("{}")

    def export(self, *words: str) -> Any:
        return CliRunner().invoke(app, ["export", str(self.run), *words])


def shown(path: Path) -> Image:
    from harness.store.digest import file_digest

    return Image("images/a.png", file_digest(path))


def test_records_come_with_their_pictures_and_a_card_that_says_synthetic(tmp_path: Path) -> None:
    Pillow.new("RGB", (6, 4), (9, 90, 200)).save(tmp_path / "twin.png")
    there = World(tmp_path, [Conversation("c", shown(tmp_path / "twin.png"), (ASKED,)), SPOKEN])
    ran = there.export("--records", "nsft", "--out", str(tmp_path / "x"))
    assert ran.exit_code == 0 and "2 rows of 2 records" in ran.output
    first, second = read_back(tmp_path / "x" / "records.json")
    assert first.image and second.image is None
    assert Path(first.image.path).read_bytes() == there.picture.read_bytes()
    card = (tmp_path / "x" / "README.md").read_text()
    assert "mini (synthetic)" in card and "- synthetic\n" in card and "--data records.json" in card


def test_texts_that_no_reader_takes_are_left_out_and_counted(tmp_path: Path) -> None:
    there = World(tmp_path, [SPOKEN, Conversation("e", None, ((Turn("What?", " "),),)), PAIR])
    ran = there.export("--records", "nsft", "--out", str(tmp_path / "x"))
    assert "2 rows of 2 records" in ran.output and "1 records left out, for readers refuse an empty text" in ran.output
    assert len(read_back(tmp_path / "x" / "records.json")) == 2


def test_rollouts_are_left_out_by_name_and_alone_they_are_no_export(tmp_path: Path) -> None:
    rollout = Rollout("r", None, "What?", (1, 2), {"advantage": (0.1, 0.2)})
    there = World(tmp_path, [PAIR], [rollout])
    ran = there.export("--records", "nsft", "--format", "trl", "--out", str(tmp_path / "x"))
    assert "round 2: 1 rollouts left out" in ran.output
    assert [file.name for file in sorted((tmp_path / "x").iterdir())] == ["README.md", "records-1.json"]
    (tmp_path / "other").mkdir()
    alone = World(tmp_path / "other", [rollout]).export("--records", "nsft", "--out", str(tmp_path / "y"))
    assert "no records that a format holds" in str(alone.exception) and not (tmp_path / "y").exists()


def test_the_model_comes_with_what_it_is(tmp_path: Path) -> None:
    ran = World(tmp_path, [SPOKEN]).export("--checkpoint", "nsft", "--out", str(tmp_path / "x"))
    assert ran.exit_code == 0, ran.output
    card = (tmp_path / "x" / "README.md").read_text()
    assert (tmp_path / "x" / "config.json").is_file()
    for words in ("m" * 64, '{"lr": 1}', "mini (synthetic)", "license: other", "Nothing of it was scored."):
        assert words in card


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "one of --records ROW, --checkpoint ROW and --responses"),
        (["--records", "nsft", "--checkpoint", "nsft"], "one of --records ROW, --checkpoint ROW and --responses"),
        (["--records", "dpo"], 'has nothing of a row "dpo"; it has nsft'),
        (["--records", "nsft", "--seed", "3"], "no seed 3 of nsft; it has 0"),
        (["--records", "nsft", "--format", "vicuna"], "there are llava, trl, sharegpt"),
        (["--records", "nsft", "--format", "adapter"], "there are llava, trl, sharegpt"),
        (["--checkpoint", "nsft", "--format", "llava"], "there are merged, adapter"),
        (["--records", "nsft", "--out", "."], "is there already"),
        (["--records", "nsft", "--out", "run/x"], "is inside"),
        (["--records", "nsft", "--out", "store/build/x"], "is inside"),
        (["--records", "nsft", "--push", "me"], "give OWNER/NAME"),
    ],
)
def test_what_cannot_be_exported_is_a_sentence(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = World(tmp_path, [SPOKEN])
    monkeypatch.chdir(tmp_path)
    ran = there.export(*words)
    assert said in str(ran.exception) and not (tmp_path / "exports").exists()


def test_a_picture_that_is_not_the_one_trained_on_is_not_passed_on(tmp_path: Path) -> None:
    Pillow.new("RGB", (6, 4), (9, 90, 201)).save(tmp_path / "other.png")
    there = World(tmp_path, [Conversation("c", shown(tmp_path / "other.png"), (ASKED,))])
    ran = there.export("--records", "nsft", "--out", str(tmp_path / "x"))
    assert "is not the picture that was trained on" in str(ran.exception) and not (tmp_path / "x").exists()


def test_a_damaged_model_is_not_passed_on(tmp_path: Path) -> None:
    there = World(tmp_path, [SPOKEN])
    (tmp_path / "store" / there.stages[1] / "checkpoint" / "config.json").write_text("[]")
    ran = there.export("--checkpoint", "nsft", "--out", str(tmp_path / "x"))
    assert "has changed" in str(ran.exception) and not (tmp_path / "x").exists()


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Path, place: Path) -> None:
        place.write_bytes(file.read_bytes()[:1])
        raise OSError(errno.ENOSPC, "No space left on device", str(place))

    monkeypatch.setattr(shutil, "copy2", full)
    ran = World(tmp_path, [SPOKEN]).export("--checkpoint", "nsft", "--out", str(tmp_path / "new" / "deep" / "x"))
    assert isinstance(ran.exception, Full) and "No space left on device" in str(ran.exception)
    assert not (tmp_path / "new").exists()


def test_two_exports_to_one_place_do_not_mix(tmp_path: Path) -> None:
    place, run = tmp_path / "exports" / "x", World(tmp_path, [SPOKEN]).run
    refused = pytest.raises(UsageError, match="cannot be made")
    with opened([run]) as (found,), refused, exporting.new_folder(place, found) as one:
        (one / "a").touch()
        with exporting.new_folder(place, found) as other:
            (other / "b").touch()
    assert [path.name for path in place.iterdir()] == ["b"] and len([*place.parent.iterdir()]) == 1


def test_what_failed_says_why_it_is_not_there(tmp_path: Path) -> None:
    there = World(tmp_path, [SPOKEN])
    told = json.loads((there.run / "manifest.json").read_text())
    told["trained"][0]["stages"] = ["build/" + "0" * 20]
    told["failed"] = [{"row": "nsft", "label": "nSFT", "seed": 0, "benchmark": "pope", "stage": "b", "why": "no disk"}]
    (there.run / "manifest.json").write_text(json.dumps(told))
    ran = there.export("--records", "nsft", "--out", str(tmp_path / "x"))
    assert "nsft, seed 0, was not made: no disk" in str(ran.exception)


class Hub:
    """A hub that remembers what it was given."""

    given: list[Any]

    def create_repo(self, name: str, **how: Any) -> str:
        self.given.append((name, how["private"], how["repo_type"]))
        return f"https://hub/{name}"

    def upload_folder(self, folder_path: Path, **how: Any) -> None:
        self.given.append(sorted(file.name for file in Path(folder_path).iterdir()))


def test_pushed_it_is_private_and_of_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    Hub.given = []
    ran = World(tmp_path, [SPOKEN]).export("--checkpoint", "nsft", "--out", str(tmp_path / "x"), "--push", "me/it")
    assert "uploaded to https://hub/me/it" in ran.output
    assert Hub.given == [("me/it", True, "model"), ["README.md", "config.json"]]


def test_a_hub_that_cannot_be_reached_costs_the_upload_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(self: Any, *words: Any, **how: Any) -> None:
        raise OSError("no route to the hub")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", down)
    ran = World(tmp_path, [SPOKEN]).export("--records", "nsft", "--out", str(tmp_path / "x"), "--push", "me/it")
    assert isinstance(ran.exception, exporting.HarnessError) and "no route to the hub" in str(ran.exception)
    assert (tmp_path / "x" / "records.json").is_file()
