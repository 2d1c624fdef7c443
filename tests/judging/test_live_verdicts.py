"""Hostile verdicts through `harness score --judge`: each is asked for again and then unscored, never a number."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake import serving
from test_replies import BAD, says
from typer.testing import CliRunner

from benchmarks import hallusion, indomain, llava_bench, mmhal, mmvet, objhal, shr
from harness.cli import app
from harness.comparison.published import judge_of, rescore
from harness.judging.journal import Journal
from harness.system.errors import UsageError

GRADES = [
    "7", "1.5", "-0.5", "+0.5", "nan", "NaN", "inf", "1e-1", "0,5", "50%", "½", "1/2", "True", "null", "None", "{}",
    "0.5 or 0.9", "0.5 0.9", "0.5, 0.9", "0.5 - 0.9", "0.5 (or 0.9)", "0.5\n0.9", "0.5\n\n0.9\n", "1 (out of 10)",
    "1 out of 10", "1 of 3 objects", "0.5 | 0.9", "I cannot grade this.", "I'm sorry, but 1.0 is not for me to give.",
    '{"grade": 0.5}', "zero", "0.5.5",
]  # fmt: skip
RATINGS = [
    "Rating: 7", "Rating: 33", "Rating: -1", "Rating: 2.5", "Rating: NaN", "Rating: six", "Rating:", "5", "",
    "Rating: 3\nRating: 5", "Rating: 3 or 4", "Rating: 3-4", "Rating: 3 Rating: 4", "Rating: 6/10",
    "Rating: 4 out of 5", "I cannot rate this.", "Hallucination: no", "Score: 5", "Rating: 2,5",
]  # fmt: skip
PAIRS = [
    "8", "8 9 7", "11 3", "-1 3", "8.5 9", "nan nan", "8 9\n2 3", "8/10 9/10", "eight nine", "", "8 and 9",
    "The first is 8.\nThe second is 9.",
]  # fmt: skip
LABELS = [
    "", "1. correct: x\n2. correct: y", "Judgement:", "Judgement:\n1. correct: x", "Judgement:\nI cannot\nhelp you.",
    "Judgement:\n1. right: x\n2. wrong: y", "Judgement:\n2. correct: x\n1. hallucination: y",
    "Judgement:\n1. correct: x\n1. correct: x", "Judgement:\n1. correct or hallucination: x\n2. correct: y",
    "Judgement:\n1. not correct: x\n2. correct: y", "Judgement:\n1. correct: x\n2. correct: y\n3. correct: z",
]  # fmt: skip
SCORES = [
    "8", "8 9 7", "11 3", "0 8", "-1 3", "nan nan", "inf 8", "8 9\n2 3", "8/10 9/10", "eight nine", "", "8 and 9",
    "Assistant 1: 8\nAssistant 2: 9", "8; 9", "[8] [9]", "8-9",
]  # fmt: skip
MARKS = [
    "", "yes", "0", "1", "not correct", "partly correct", "correct or incorrect", "correct\nincorrect", "corrects",
    "It is correct.", "The student is right.", "correct (mostly)", "unclear, but correct",
]  # fmt: skip
OBJECTS = [
    "", "dog", "dog, cat", "()", "{}", '{"objects": ["dog"]}', "[dog]", "['dog']", '["dog", 2]', "[null]", '["dog"',
    'Here you are: ["dog"]', '["dog"]\nThat is all.', "```\n```", "[" * 100_000, "null", '"dog"', '[["dog"]]',
]  # fmt: skip
CASES: list[tuple[Callable[[str], Any], list[str]]] = [
    (mmvet.verdict, GRADES),
    (mmhal.verdict, RATINGS),
    (indomain.verdict, PAIRS),
    (lambda reply: shr.verdict(reply, 2), LABELS),
    (llava_bench.verdict, SCORES),
    (hallusion.verdict, MARKS),
    (objhal.parse, OBJECTS),
]
NAMES = ["mmvet", "mmhal", "indomain", "shr", "llava_bench", "hallusion", "objhal"]


@pytest.mark.parametrize(("read", "replies"), CASES, ids=NAMES)
def test_what_is_no_verdict_is_not_read_as_one(read: Callable[[str], Any], replies: list[str]) -> None:
    assert [reply for reply in replies if read(reply) is not None] == []


def test_rules_for_published_verdicts_would_make_numbers_of_them() -> None:
    """The mutants: what official scripts read, which take the first thing that looks like a verdict."""
    marked = lambda reply: {"unclear": None}.get(said := hallusion.parse(reply), said)  # noqa: E731
    lenient = [
        mmvet.parse,
        mmhal.parse_robust,
        indomain.parse,
        lambda reply: shr.parse(reply, 2),
        llava_bench.parse,
        marked,
    ]
    read = [sum(rule(reply) is not None for reply in said) for rule, (_, said) in zip(lenient, CASES[:-1], strict=True)]
    assert read[0] > 5 and read[1] > 3 and read[2] > 0 and read[3] > 3 and read[4] > 3 and read[5] > 5


@pytest.mark.parametrize(
    ("read", "reply", "verdict"),
    [
        (mmvet.verdict, "0.5", 0.5), (mmvet.verdict, " 1.\n", 1.0), (mmvet.verdict, "0.5 because it is.", 0.5),
        (mmvet.verdict, "0.0 (the truth is 3)", 0.0), (mmvet.verdict, "0.5\n1. It names 2 of 3.", 0.5),
        (mmhal.verdict, "I thought of rating: 5 first.\nRating: 3", 3), (mmhal.verdict, "**Rating: 6**", 6),
        (mmhal.verdict, "Rating: 4/6", 4), (mmhal.verdict, "The rating is 2.", 2),
        (indomain.verdict, "8 9\nBoth are fine.", (8, 9)), (indomain.verdict, "Let me see.\n10, 0", (10, 0)),
        (llava_bench.verdict, "8 9\nBoth are fine.", (8, 9)), (llava_bench.verdict, " 7.5,  10 ", (7.5, 10)),
        (lambda reply: shr.verdict(reply, 2), "So:\n**Judgement:**\n1. Correct: it is\n2. **cannot judge**: mood",
         ["correct", "cannot judge"]),
        (hallusion.verdict, "**Correct.**", "correct"), (hallusion.verdict, "Output: unclear", "unclear"),
        (hallusion.verdict, "incorrect\nThe circles differ, so it is not correct.", "incorrect"),
        (objhal.parse, "```json\n[\n\"dog\"\n]\n```", ["dog"]), (objhal.parse, "Objects:\n[]", []),
    ],
)  # fmt: skip
def test_a_verdict_may_have_reasons_around_it(read: Callable[[str], Any], reply: str, verdict: Any) -> None:
    assert read(reply) == verdict


def mmvet_files(folder: Path, count: int) -> list[str]:
    """So many questions and answers to be judged."""
    rows = {f"v1_{n}": {"question": f"Case {n}?", "answer": "4", "capability": ["rec"]} for n in range(count)}
    (folder / "mm-vet.json").write_text(json.dumps(rows))
    (folder / "answers.json").write_text(json.dumps(dict.fromkeys(rows, "four")))
    return ["--answers", str(folder / "answers.json"), "--questions", str(folder / "mm-vet.json")]


def case(body: dict[str, Any]) -> int:
    return int(re.findall(r"Case (\d+)\?", body["messages"][0]["content"])[-1])


def test_no_hostile_reply_is_a_number_or_kept_for_one(tmp_path: Path) -> None:
    """The last of the items has an honest verdict; the same command asks what failed again, and not what was said."""
    bodies = [*(body for body, _ in BAD.values()), *map(says, GRADES), says("0.5")]
    files, failed = mmvet_files(tmp_path, len(bodies)), len(BAD)
    store = ["--store", str(tmp_path / "store"), "--set", "runtime.ask_attempts=1", "--json"]
    command = ["score", "mmvet", *files, "--judge", "openai:gpt-4-0613", *store]
    with serving(lambda body, times: bodies[case(body)]) as server:
        first = CliRunner().invoke(app, command)
        told = json.loads(first.stdout)
        assert (told["n"], told["unscored"], told["metrics"]["mmvet/all"]) == (1, len(bodies) - 1, 50.0)
        assert sum(server.asked.values()) == failed + 2 * len(GRADES) + 1
        kept = {reply["text"] for reply in Journal(tmp_path / "store" / ".journal").replies.values()}
        assert len(kept) <= len(GRADES) + 1 and "1.0" not in kept
        assert CliRunner().invoke(app, command).stdout == first.stdout
        assert sum(server.asked.values()) == 2 * failed + 3 * len(GRADES) + 1


def test_a_judge_that_finds_its_form_is_heard_by_the_same_command(tmp_path: Path) -> None:
    """Twice no verdict leaves the item unscored and says so; once the judge is mended the command gets its verdict."""
    files, said = mmvet_files(tmp_path, 2), {0: "0.5", 1: "Good."}
    command = ["score", "mmvet", *files, "--judge", "openai:gpt-4-0613", "--store", str(tmp_path / "s"), "--json"]
    with serving(lambda body, times: said[case(body)]) as server:
        first = json.loads(CliRunner().invoke(app, command).stdout)
        assert (first["n"], first["unscored"]) == (1, 1)
        said[1] = "1.0"
        second = CliRunner().invoke(app, command)
        assert second.exit_code == 0 and json.loads(second.stdout)["metrics"]["mmvet/all"] == 75.0
        assert sum(server.asked.values()) == 4
        assert CliRunner().invoke(app, command).stdout == second.stdout
        assert sum(server.asked.values()) == 4


def test_the_judges_parameters_go_into_the_request(tmp_path: Path) -> None:
    files, bodies = mmvet_files(tmp_path, 1), []
    sets = ["judging.temperature=null", "judging.seed=7", "runtime.ask_concurrency=1", "judging.price=[0,0]"]
    sets += ["judging.parameters={max_tokens: null, max_completion_tokens: 99, reasoning_effort: low}"]
    command = ["score", "mmvet", *files, "--judge", "openai:mine", "--store", str(tmp_path / "s"), "--budget", "1"]
    with serving(lambda body, times: bodies.append(body) or "1.0"):
        done = CliRunner().invoke(app, [*command, *(word for text in sets for word in ("--set", text))])
    assert done.exit_code == 0 and "100" in done.stdout
    assert bodies[0].items() >= {"seed": 7, "max_completion_tokens": 99, "reasoning_effort": "low"}.items()
    assert not bodies[0].keys() & {"temperature", "max_tokens"}


@pytest.mark.parametrize(
    ("judge", "sets", "said"),
    [
        ("openai:m", ["judging.temprature=1"], 'no field "temprature"'),
        ("openai:m", ["dpo.beta=1"], "dpo"),
        ("openai:m", ["judging.temperature=hot"], "temperature"),
        ("script:FILE", ["judging.temperature=1"], "says the same whatever"),
        ("oracle", [], "not available"),
    ],
)
def test_what_no_judge_reads_is_refused(tmp_path: Path, judge: str, sets: list[str], said: str) -> None:
    (tmp_path / "said.json").write_text("{}")
    with serving(lambda body, times: "1.0"), pytest.raises(UsageError, match=said):
        judge_of(judge.replace("FILE", str(tmp_path / "said.json")), 1, None, tmp_path, sets)


@pytest.mark.parametrize("given", [["0.5"], ["1"], "0.5", 0.5, 1, [0.25]])
def test_published_grades_are_numbers_also_as_text_or_alone(tmp_path: Path, given: Any) -> None:
    assert graded(tmp_path, given) == 100 * float(given[0] if isinstance(given, list) else given)


@pytest.mark.parametrize("given", [[None], None, ["N/A"], "", [], {}, [True], [[0.5]], ["nan"], [1.5], [-0.1], "1,0"])
def test_published_grades_that_are_none_name_their_record(tmp_path: Path, given: Any) -> None:
    with pytest.raises(UsageError, match=r'score of "v1_0".*numbers from 0 to 1'):
        graded(tmp_path, given)


def graded(folder: Path, given: Any) -> float:
    (folder / "needs.json").write_text('{"v1_0": ["rec"]}')
    (folder / "grades.json").write_text(json.dumps({"v1_0": {"score": given}}))
    files = [str(folder / "needs.json")], [f"grades={folder / 'grades.json'}"]
    return rescore("mmvet", [], *files).metrics["mmvet/all"]


def scripted(folder: Path, script: Any) -> Any:
    """Two items judged by saved replies."""
    files = mmvet_files(folder, 2)
    (folder / "said.json").write_text(json.dumps(script))
    judge = judge_of(f"script:{folder / 'said.json'}", 1, None, folder)
    return rescore("mmvet", [files[1]], [files[3]], [], judge=judge)


def test_saved_replies_that_are_numbers_are_their_text_zero_too(tmp_path: Path) -> None:
    assert scripted(tmp_path, {"mmvet/v1_0": 0, "mmvet/v1_1": 0.8}).metrics["mmvet/all"] == 40.0


def test_saved_replies_in_words_are_no_number(tmp_path: Path) -> None:
    done = scripted(tmp_path, {"mmvet/v1_0": "Score: 0.8", "mmvet/v1_1": "0.5"})
    assert (done.n, done.unscored, done.metrics["mmvet/all"]) == (1, 1, 50.0)


@pytest.mark.parametrize("script", [["0.5"], "0.5", {"mmvet/v1_0": None}, {"mmvet/v1_0": [0.5]}, {"mmvet/v1_0": True}])
def test_saved_replies_that_are_no_text_are_named(tmp_path: Path, script: Any) -> None:
    with pytest.raises(UsageError, match=r"said\.json"):
        scripted(tmp_path, script)
