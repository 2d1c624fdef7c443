"""Over real HTTP, against a server that fails in every way: no failure is a score, and nothing is paid twice."""

import itertools
import json
import math
import random
import signal
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
from fake import HANG, QUICK, asked, asker, completion, llm, refusal, serving, wait_for

from benchmarks._judging import ask
from harness.comparison.published import judge_of, rescore
from harness.contracts.judge import Ask, Judge, answered
from harness.contracts.records import Image, Item, Unscored
from harness.contracts.settings import Runtime
from harness.system.errors import HarnessError, UsageError

ROOT = Path(__file__).parents[2]


def grade(text: str) -> float | None:
    try:
        return float(text) if 0 <= float(text) <= 1 else None
    except ValueError:
        return None


def grades(judge: Judge, count: int) -> list[float | Unscored]:
    """A judged benchmark in small: `count` items, each a grade from 0 to 1."""
    items = [Item(str(n), None, f"Grade response {n}.", str(n), {}) for n in range(count)]
    return [ask(judge, "toy", item, item.prompt, {}, grade, "one number", max_tokens=16) for item in items]


def verdict(number: int) -> str:
    return str(random.Random(number).random())


def number_of(body: dict[str, Any]) -> int:
    return int(body["messages"][0]["content"].partition("Grade response ")[2].partition(".")[0])


FAULTS: list[Any] = (
    [refusal(429, **{"retry-after": "0.05"})] * 20 + [refusal(500)] * 10 + [HANG] * 6
    + [completion("0.5")[:-40]] * 4 + ["Quite good, I would say."] * 2 + ["7"] * 2
)  # fmt: skip


def faulty(body: dict[str, Any], times: int) -> Any:
    """Of 200 items 44 meet a fault, each fault as often as FAULTS has it; every eighth of these meets it for ever."""
    number = number_of(body)
    fault, rank = number % 200, number // 200
    if fault >= len(FAULTS) or (times > 1 and (rank + fault) % 8):
        return verdict(number)
    again = "could not be read" in body["messages"][0]["content"]
    if isinstance(FAULTS[fault], str) and again and (rank + fault) % 8:
        return verdict(number)
    return FAULTS[fault]


def hopeless(count: int) -> set[int]:
    return {n for n in range(count) if n % 200 < len(FAULTS) and not (n // 200 + n % 200) % 8}


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.heavy)])
def test_items_through_every_fault_are_the_clean_run_to_the_last_bit(count: int, tmp_path: Path) -> None:
    runtime = Runtime(ask_timeout_s=30, ask_deadline_s=300, ask_attempts=3, ask_concurrency=64)
    with serving(faulty) as server:
        found = answered(llm(tmp_path, runtime), lambda judge: grades(judge, count))
        assert sum(server.asked.values()) <= 1.4 * count
        once = runtime.model_copy(update={"ask_attempts": 1})
        resumed = answered(llm(tmp_path, once), lambda judge: grades(judge, count))
    lost = {n for n, score in enumerate(found) if isinstance(score, Unscored)}
    assert lost == hopeless(count) and 0.01 < len(lost) / count < 0.05
    clean = [float(verdict(n)) for n in range(count) if n not in lost]
    assert [score for score in found if not isinstance(score, Unscored)] == clean
    assert math.fsum(s for s in found if not isinstance(s, Unscored)) == math.fsum(clean)
    assert [s for s in resumed if not isinstance(s, Unscored)] == clean


def test_the_order_of_the_replies_does_not_matter(tmp_path: Path) -> None:
    def late(body: dict[str, Any], times: int) -> str:
        time.sleep(random.random() / 20)
        return verdict(number_of(body))

    with serving(late):
        runs = [answered(llm(tmp_path / str(n)), lambda judge: grades(judge, 60)) for n in range(3)]
        assert runs[0] == runs[1] == runs[2] == grades(llm(tmp_path / "0"), 60)
        orders = {(tmp_path / str(n) / "replies.jsonl").read_text().count("key") for n in range(3)}
        assert orders == {60}


def test_a_verdict_out_of_range_is_asked_for_twice_and_no_more(tmp_path: Path) -> None:
    with serving(lambda body, times: "7") as server:
        [score] = answered(llm(tmp_path), lambda judge: grades(judge, 1))
        assert isinstance(score, Unscored) and "one number" in score.reason and "'7'" in score.reason
        assert sum(server.asked.values()) == 2


def test_retry_after_is_waited_for(tmp_path: Path) -> None:
    times: list[float] = []

    def busy(body: dict[str, Any], count: int) -> Any:
        times.append(time.monotonic())
        return "0.5" if count > 1 else refusal(429, **{"retry-after": "0.7"})

    with serving(busy):
        assert llm(tmp_path).reply(asked(1)) == "0.5"
    assert times[1] - times[0] >= 0.7


def test_a_question_has_a_deadline_whatever_the_server_does(tmp_path: Path) -> None:
    with serving(lambda body, times: refusal(429, **{"retry-after": "600"})):
        began = time.monotonic()
        reply = llm(tmp_path, QUICK.model_copy(update={"ask_deadline_s": 0.5})).reply(asked(1))
    assert isinstance(reply, Unscored) and "no reply within 0.5 s" in reply.reason
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refusal(401, "invalid_api_key"), "see to OPENAI_API_KEY"),
        (refusal(403), "OPENAI_API_KEY may do"),
        (refusal(404, "model_not_found"), "model's name"),
        (refusal(429, "insufficient_quota"), "quota"),
    ],
)
def test_what_no_retry_cures_stops_at_once_and_keeps_what_there_is(tmp_path: Path, answer: Any, said: str) -> None:
    calls = itertools.count()

    def dying(body: dict[str, Any], times: int) -> Any:
        return answer if next(calls) >= 30 else verdict(number_of(body))

    quick = QUICK.model_copy(update={"ask_concurrency": 4})
    with serving(dying), pytest.raises(HarnessError, match=said) as caught:
        began = time.monotonic()
        answered(llm(tmp_path, quick), lambda judge: grades(judge, 100))
    assert time.monotonic() - began < 30 and caught.value.exit_status == 3
    assert next(calls) <= 30 + 2 * 4  # those under way, and one more each where they end before the stop is seen
    with serving(lambda body, times: verdict(number_of(body))) as server:
        assert answered(llm(tmp_path), lambda judge: grades(judge, 100)) == [float(verdict(n)) for n in range(100)]
        assert sum(server.asked.values()) == 70


def test_a_server_that_is_not_there_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setattr("harness.judging.llm.BACKOFF_S", 0.01)
    with pytest.raises(HarnessError, match=r"no connection.*OPENAI_BASE_URL"):
        answered(llm(tmp_path), lambda judge: grades(judge, 5))


def test_a_budget_is_refused_before_the_first_call(tmp_path: Path) -> None:
    runtime = QUICK.model_copy(update={"budget": 0.05})
    with serving(lambda body, times: "0.5") as server, pytest.raises(HarnessError, match=r"--budget"):
        answered(llm(tmp_path, runtime), lambda judge: grades(judge, 100))
    assert not server.asked


def test_a_budget_without_a_price_says_how_to_give_one(tmp_path: Path) -> None:
    from harness.contracts.settings import Chat
    from harness.judging.journal import Journal
    from harness.judging.llm import Llm

    with pytest.raises(UsageError, match=r"prices: \{tiny: \[INPUT, OUTPUT\]\}"):
        Llm("tiny", Chat(), Runtime(budget=1), Journal(tmp_path))


def slow(body: dict[str, Any], times: int) -> str:
    time.sleep(0.02)
    return verdict(number_of(body))


def test_four_processes_pay_once_for_each_question(tmp_path: Path) -> None:
    with serving(slow) as server:
        children = [asker(tmp_path, 100) for _ in range(4)]
        assert [child.wait(60) for child in children] == [0] * 4
        assert sum(server.asked.values()) == len(server.asked) == 100


def test_four_processes_never_exceed_one_budget(tmp_path: Path) -> None:
    with serving(slow) as server:
        children = [asker(tmp_path, 100, budget=0.2) for _ in range(4)]
        said = [child.communicate(timeout=60)[1] for child in children]
        assert all("of the budget of 0.20 USD" in text for text in said)
        assert 0.1 < sum(server.billed) <= 0.2
        assert sum(server.asked.values()) == len(server.asked)


def test_killed_it_asks_again_only_what_was_under_way(tmp_path: Path) -> None:
    with serving(slow) as server:
        for share in (20, 60):
            child = asker(tmp_path, 100)
            wait_for(lambda share=share: len(server.billed) >= share)  # type: ignore[misc]
            child.send_signal(signal.SIGKILL)
            child.wait()
        assert asker(tmp_path, 100).wait(60) == 0
        assert len(server.asked) == 100
        assert sum(server.asked.values()) <= 100 + 2 * 8


def test_a_repeat_is_another_question_and_the_same_repeat_is_not(tmp_path: Path) -> None:
    with serving(lambda body, times: str(times)) as server:
        judge = llm(tmp_path, temperature=1.0)
        assert [judge.reply(asked(1, run=run)) for run in (0, 1, 0, 1)] == ["1", "2", "1", "2"]
        assert judge.used["toy/1", 1]["model"] == "gpt-4-0613-day1"
        assert len(server.asked) == 1
        assert llm(tmp_path, temperature=0.5).reply(asked(1)) == "3"


def test_an_image_is_shown_to_a_judge_that_can_see_and_only_where_asked(tmp_path: Path) -> None:
    from PIL import Image as Pillow

    from harness.store.digest import file_digest

    bodies: list[Any] = []
    Pillow.new("RGB", (8, 8)).save(tmp_path / "black.png")
    image = Image("black.png", file_digest(tmp_path / "black.png"))
    asks = [Ask(f"toy/{see}", "toy", image, "What?", {}, 16, see) for see in (True, False)]
    with serving(lambda body, times: bodies.append(body["messages"][0]["content"]) or "fine"):
        for images in (True, False):
            judge = llm(tmp_path, images=images)
            assert [judge.reply(one) for one in asks] == ["fine", "fine"]
    assert bodies[1:] == ["What?"]  # the three questions without a picture are one
    assert bodies[0][0] == {"type": "text", "text": "What?"}
    assert bodies[0][1]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")


def test_a_photo_that_is_turned_is_another_question(tmp_path: Path) -> None:
    """One file, read as its rows lie and as its camera says: what a judge said of the one is not said of the other."""
    from PIL import ExifTags
    from PIL import Image as Pillow

    from harness.store.digest import file_digest

    photo, exif = tmp_path / "photo.jpg", Pillow.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Pillow.linear_gradient("L").save(photo, exif=exif)
    ways = [Image("photo.jpg", file_digest(photo), upright) for upright in (False, True)]
    shown: dict[str, str] = {}
    with serving(
        lambda body, times: shown.setdefault(body["messages"][0]["content"][1]["image_url"]["url"], f"{len(shown)}")
    ):
        said = [llm(tmp_path, images=True).reply(Ask("toy", "toy", one, "What?", {}, 16, see=True)) for one in ways]
    assert said == ["0", "1"] and len(shown) == 2


def test_parameters_go_into_the_request_and_null_takes_out(tmp_path: Path) -> None:
    bodies: list[Any] = []
    with serving(lambda body, times: bodies.append(body) or "fine"):
        llm(tmp_path, temperature=None, parameters={"max_tokens": None, "max_completion_tokens": 99}).reply(asked(1))
    assert bodies[0].keys() == {"model", "messages", "max_completion_tokens"}


def test_the_same_reply_gives_the_same_mean_whatever_else_is_asked(tmp_path: Path) -> None:
    with serving(lambda body, times: verdict(number_of(body))):
        few = answered(llm(tmp_path), lambda judge: grades(judge, 10))
        many = answered(llm(tmp_path / "other"), lambda judge: grades(judge, 30))
    assert many[:10] == few and statistics.fmean(s for s in few if not isinstance(s, Unscored)) > 0


def test_published_answers_judged_twice_have_a_mean_and_a_deviation(tmp_path: Path) -> None:
    """One item, rated 2 in one run and 4 in the other: their mean is 3, and they lie sqrt(2) apart."""
    rows = [{"image_id": "i", "question": "What is it?", "gt_answer": "a cup"}]
    (tmp_path / "said.json").write_text(json.dumps([row | {"model_answer": "It is red."} for row in rows]))
    (tmp_path / "template.json").write_text(json.dumps(rows))
    files = [str(tmp_path / "said.json")], [str(tmp_path / "template.json")]
    with serving(lambda body, times: f"Rating: {2 * times}"):
        done = rescore("mmhal", *files, [], judge=judge_of("openai:gpt-4-0613", 2, None, tmp_path))
    assert done.metrics["mmhal/rating"] == 3.0
    assert any("mean of 2 runs" in note and "mmhal/rating 1.414" in note for note in done.notes)
