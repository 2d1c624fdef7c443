"""Records as people have them: every schema gives the same example, and nothing in one is passed over in silence."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from harness.contracts.records import Dropped, Example, Turn
from harness.contracts.settings import Reading
from harness.families.llava import SYSTEM
from harness.sources._schemas import ABOUT, said
from harness.sources.local import Local
from harness.system.errors import UsageError

ASKED, ANSWER, WORSE = "What colour?", "It is blue.", "It is red."
TURN = Turn(ASKED, ANSWER)


def loaded(folder: Path, *records: Any, **reading: Any) -> list[Example | Dropped]:
    (folder / "images").mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        Pillow.new("RGB", (6, 4)).save(folder / "images" / name)
    (folder / "my.json").write_text(json.dumps(records))
    return list(Local(folder / "my.json", folder / "images").load(reading=Reading(**reading)))


def human(text: Any = f"<image>\n{ASKED}") -> dict[str, Any]:
    return {"from": "human", "value": text}


def gpt(text: Any = ANSWER) -> dict[str, Any]:
    return {"from": "gpt", "value": text}


def user(content: Any = f"<image>\n{ASKED}") -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any = ANSWER) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def parts(*texts: str) -> list[dict[str, Any]]:
    """A message's content as chat templates have it, the picture's place first."""
    return [{"type": "image"}, *({"type": "text", "text": text} for text in texts)]


PLAIN: dict[str, dict[str, Any]] = {
    "llava": {"image": "a.png", "conversations": [human(), gpt()]},
    "sharegpt, images": {"images": ["a.png"], "conversations": [human(), gpt()]},
    "messages": {"images": ["a.png"], "messages": [user(), assistant()]},
    "messages in parts": {"images": ["a.png"], "messages": [user(parts(ASKED)), assistant(parts(ANSWER)[1:])]},
    "conversations with roles": {"image": "a.png", "conversations": [user(), assistant()]},
    "picture in a message": {"messages": [user([{"type": "image", "image": "a.png"}, *parts(ASKED)[1:]]), assistant()]},
    "parts of datasets": {
        "images": [{"bytes": None, "path": "a.png"}],
        "messages": [user([{"type": "image", "index": 0, "text": None}, *parts(ASKED)[1:]]), assistant()],
    },
    "image path": {"image_path": "a.png", "messages": [user(), assistant()]},
    "image named twice": {"image": "a.png", "images": ["a.png"], "messages": [user(), assistant()]},
    "chosen alone": {"image": "a.png", "prompt": ASKED, "chosen": ANSWER},
    "the template's own system turn": {
        "image": "a.png",
        "messages": [{"role": "system", "content": SYSTEM}, user(), assistant()],
    },
    "empty fields": {
        "image": "a.png",
        "conversations": [human(), gpt()],
        "system": "",
        "tools": [],
        "rejected": None,
        "video": {},
        "score": float("nan"),
    },
}

PREFERENCES: dict[str, dict[str, Any]] = {
    "trl": {"images": ["a.png"], "prompt": ASKED, "chosen": ANSWER, "rejected": WORSE},
    "trl, conversational": {
        "images": ["a.png"], "prompt": [user(parts(ASKED))], "chosen": [assistant()], "rejected": [assistant(WORSE)],
    },
    "trl, implicit prompt": {
        "images": ["a.png"],
        "chosen": [user(parts(ASKED)), assistant()],
        "rejected": [user(parts(ASKED)), assistant(WORSE)],
    },
    "prompt said again": {
        "image": "a.png", "prompt": f"<image>\n{ASKED}", "chosen": [user(), assistant()],
        "rejected": [user(), assistant(WORSE)],
    },
    "llama-factory": {"images": ["a.png"], "conversations": [human()], "chosen": gpt(), "rejected": gpt(WORSE)},
    "ms-swift": {"images": ["a.png"], "messages": [user(), assistant()], "rejected_response": WORSE},
    "ms-swift, whole": {
        "images": ["a.png"], "messages": [user(), assistant()], "rejected_messages": [user(), assistant(WORSE)],
    },
    "povid": {
        "image": "a.png", "conversations": [human(), gpt()], "rejected_conversations": [human(), gpt(WORSE)],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_a_conversation_in_any_schema(name: str, tmp_path: Path) -> None:
    [example] = loaded(tmp_path, PLAIN[name])
    assert isinstance(example, Example), example
    assert (example.turns, example.rejected) == ((TURN,), None)
    assert example.image is not None
    assert example.image.path == str(tmp_path / "images" / "a.png")


@pytest.mark.parametrize("name", PREFERENCES)
def test_a_preference_in_any_schema(name: str, tmp_path: Path) -> None:
    [example] = loaded(tmp_path, PREFERENCES[name])
    assert isinstance(example, Example), example
    assert (example.turns, example.rejected) == ((TURN,), WORSE)
    assert example.image is not None


def test_a_preference_after_several_turns(tmp_path: Path) -> None:
    before = [user(parts("Who?")), assistant("A man.")]
    [example] = loaded(
        tmp_path,
        {
            "image": "a.png",
            "chosen": [*before, user(ASKED), assistant()],
            "rejected": [*before, user(ASKED), assistant(WORSE)],
        },
    )
    assert isinstance(example, Example)
    assert (example.turns, example.rejected) == ((Turn("Who?", "A man."), TURN), WORSE)


@pytest.mark.parametrize("nothing", [None, float("nan"), "", [], [None], [""], {"bytes": None, "path": None}])
@pytest.mark.parametrize("field", ["image", "images"])
def test_every_way_to_say_no_image(field: str, nothing: Any, tmp_path: Path) -> None:
    found = loaded(tmp_path, {field: nothing, "conversations": [human("Say hi."), gpt("Hi.")]})
    assert [(e.image, e.turns) for e in found if isinstance(e, Example)] == [(None, (Turn("Say hi.", "Hi."),))]


UNREAD = {
    "system": "You are brief.",
    "history": [["a", "b"]],
    "tools": [{"name": "f"}],
    "video": "a.mp4",
    "videos": ["a.mp4"],
    "audios": ["a.wav"],
    "answer": "It is green.",
    "question": "What?",
    "prompt": "What?",
    "rejected": "It is red.",
    "response_rejected": "It is red.",
    "chosen_score": 0.9,
    "rejected_score": 0.1,
    "weight": 0,
    "loss_mask": [0, 1],
    "label": False,
    "image_url": "https://example.org/a.png",
    "captions": ["a"],
}


@pytest.mark.parametrize("field", UNREAD)
def test_a_field_that_nothing_reads_stops_the_run_by_name(field: str, tmp_path: Path) -> None:
    """Once per file, with how many records have it and the option to leave it out, which works."""
    plain = PLAIN["llava"]
    records = [plain | {"id": "x", field: UNREAD[field]}, plain | {"id": "y"}]
    with pytest.raises(UsageError, match=rf"{field} \(1 of 2 records\).*reading.ignore=\[{field}\]"):
        loaded(tmp_path, *records)
    without = loaded(tmp_path, *records, ignore=[field])
    assert [e.turns for e in without if isinstance(e, Example)] == [(TURN,), (TURN,)]


def test_mutant_a_schema_that_is_content_with_what_it_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were every name in the short list, a rejected answer beside a conversation would be lost without a word."""
    monkeypatch.setattr("harness.sources._schemas.ABOUT", ABOUT | set(UNREAD))
    [example] = loaded(tmp_path, PLAIN["llava"] | {"rejected": WORSE})
    assert isinstance(example, Example)
    assert example.rejected is None


def test_names_of_things_are_not_asked_about(tmp_path: Path) -> None:
    [example] = loaded(tmp_path, PLAIN["llava"] | dict.fromkeys(ABOUT, "x"))
    assert isinstance(example, Example)


DROPPED: dict[str, dict[str, Any]] = {
    "a system turn, for which LLaVA's template has no place": {
        "image": "a.png", "conversations": [{"from": "system", "value": "You are brief."}, human(), gpt()],
    },
    "a turn of 'observation', for which LLaVA's template has no place": {
        "conversations": [human("x"), {"from": "observation", "value": "y"}, gpt()],
    },
    "a turn has the field 'weight', which is not read": {"conversations": [human("x"), gpt() | {"weight": 0}]},
    "a turn has the field 'tool_calls', which is not read": {
        "messages": [user("x"), assistant() | {"tool_calls": [{"id": "1"}]}],
    },
    "a turn has a part that is no text and no single image: video": {
        "messages": [user([{"type": "video", "video": "a.mp4"}]), assistant()],
    },
    "a turn has a part that is no text and no single image: image": {
        "images": ["a.png"], "messages": [user([{"type": "image", "index": 1}, *parts(ASKED)[1:]]), assistant()],
    },
    "both conversations and messages": {"conversations": [human("x"), gpt()], "messages": [user("x"), assistant()]},
    "2 images; LLaVA-1.5 takes one": {"images": ["a.png", "b.png"], "messages": [user(), assistant()]},
    "chosen is one text and there is no prompt": {"chosen": ANSWER, "rejected": WORSE},
    "chosen and rejected differ before their last answer": {
        "chosen": [user("x"), assistant()], "rejected": [user("y"), assistant(WORSE)],
    },
    "a text contains the reserved token <image>": {"messages": [user(parts(ASKED)), assistant()]},
    "rejected: no answer": {"prompt": "x", "chosen": ANSWER, "rejected": " "},
}  # fmt: skip


@pytest.mark.parametrize("reason", DROPPED)
def test_what_cannot_be_held_is_dropped_by_name(reason: str, tmp_path: Path) -> None:
    dropped, kept = loaded(tmp_path, DROPPED[reason], PLAIN["llava"])
    assert isinstance(dropped, Dropped), dropped
    assert dropped.reason.split(" (")[0] == reason
    assert isinstance(kept, Example)


def test_a_system_turn_is_left_out_where_asked_for(tmp_path: Path) -> None:
    [example] = loaded(tmp_path, next(iter(DROPPED.values())), ignore=["system"])
    assert isinstance(example, Example)
    assert example.turns == (TURN,)


def test_an_ignored_field_of_a_turn_is_left_out(tmp_path: Path) -> None:
    [example] = loaded(tmp_path, {"conversations": [human(ASKED), gpt() | {"weight": 0}]}, ignore=["weight"])
    assert isinstance(example, Example)


def test_a_preference_that_is_ignored_is_none(tmp_path: Path) -> None:
    assert said(PREFERENCES["trl"], ["rejected"]).rejected is None
