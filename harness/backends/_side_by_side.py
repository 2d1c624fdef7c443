"""A backend in several processes side by side, each with a part of what is asked and accelerators of its own.

What is asked about one picture goes to one process, so that it is looked at once; to which, depends on the prompts
alone. A response depends on its prompt and the seed, so that parts change it no more than batches do. The processes
keep their model until this one loads any other, and end when this one does.
"""

import atexit
import os
import subprocess
import sys
import traceback
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from harness.contracts import plugins
from harness.contracts.backend import Backend, Generated, Model, Running, Sampling, Search
from harness.contracts.records import Prompt, Response
from harness.contracts.settings import Dtype, Generation
from harness.models import load
from harness.system import lifeline, machine
from harness.system.console import install
from harness.system.errors import HarnessError
from harness.system.profile import measure, quiet

Item = TypeVar("Item")
BEGIN = "import sys; sys.path[:] = {path!r}; from {name} import main; main(*map(int, sys.argv[1:]))"


@dataclass(frozen=True)
class SideBySide(Backend):
    """`one`, the backend of `generation`, in up to so many processes: fewer where accelerators or pictures are."""

    one: Backend
    generation: Generation
    processes: int

    @property
    def merges(self) -> bool:
        """As it does by itself."""
        return self.one.merges

    @property
    def gpus(self) -> int:
        """Those of all of them."""
        return self.one.gpus * self.processes

    def problem(self) -> str:
        """Its own."""
        return self.one.problem()

    def identity(self) -> dict[str, Any]:
        """Its own: how many there are changes no token."""
        return self.one.identity()

    def respond(
        self, model: Model, prompts: Sequence[Prompt], sampling: Sampling, running: Running, blank: bool = False
    ) -> Generated:
        """Each part's responses; FLOPs are the sum, None where one does not tell."""
        parts = self.parts(prompts)
        made: list[tuple[Generated, tuple[float, float]]] = self.ask(
            "respond", [(model, [prompts[at] for at in part], sampling, running, blank) for part in parts], running
        )
        flops = [each.flops for each, _ in made if each.flops is not None]
        return Generated(
            back(parts, [each.responses for each, _ in made]),
            sum(flops) if len(flops) == len(made) else None,
            tuple(map(max, *(peaks for _, peaks in made), (0.0, 0.0))),
        )

    def candidates(
        self, model: Model, prompts: Sequence[Prompt], search: Search, running: Running
    ) -> list[list[Response]]:
        """Each part's candidates."""
        parts = self.parts(prompts)
        asked = [(model, [prompts[at] for at in part], search, running) for part in parts]
        return back(parts, [made for made, _ in self.ask("candidates", asked, running)])

    def logps(
        self, model: Model, prompts: Sequence[Prompt], tokens: Sequence[tuple[int, ...]], dtype: Dtype, running: Running
    ) -> list[tuple[float, ...]]:
        """Each part's log-probs."""
        parts = self.parts(prompts)
        asked = [(model, [prompts[at] for at in part], [tokens[at] for at in part], dtype, running) for part in parts]
        return back(parts, [made for made, _ in self.ask("logps", asked, running)])

    def parts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Whose prompts are whose."""
        gpus = machine.gpus()
        return parts_of(prompts, min(self.processes, len(gpus) // self.one.gpus) if gpus else self.processes)

    def ask(self, what: str, asked: Sequence[tuple[Any, ...]], running: Running) -> list[Any]:
        """What a process says to each part, with its peaks of memory; whatever goes wrong, all are at an end."""
        try:
            hands = hands_of(self.generation, self.one.gpus, len(asked))
            for hand, order in zip(hands, asked, strict=True):
                hand.say((what, *(one._replace(tick=quiet) if one is running else one for one in order)))
            return _heard(hands, [len(order[1]) for order in asked], running)
        except BaseException:
            let_go(at_once=True)
            raise


def _heard(hands: "Sequence[Hand]", totals: list[int], running: Running) -> list[Any]:
    """What each says in the end; meanwhile, how far all are."""
    done, made = [0] * len(hands), dict[int, Any]()
    lines = {hand.line: at for at, hand in enumerate(hands)}
    while len(made) < len(hands):
        for line in wait([hand.line for at, hand in enumerate(hands) if at not in made]):
            at = lines[line]  # type: ignore[index]
            kind, *said = hands[at].hear()
            if kind == "failed":
                raise said[0]
            if kind == "made":
                made[at] = said
            else:
                done[at], totals[at] = said
                running.tick(sum(done), sum(totals))
    return [made[at] for at in range(len(hands))]


def parts_of(prompts: Sequence[Prompt], most: int) -> list[list[int]]:
    """The places of prompts in up to `most` parts, about as many in each, and all of one picture in one.

    HarnessError where two prompts have one id, whom parts could not tell.
    """
    if len({prompt.id for prompt in prompts}) < len(prompts):
        raise HarnessError("two prompts have the same id; a response could not be told from another's.")
    alike = defaultdict[tuple[str, str], list[int]](list)
    for at, prompt in enumerate(prompts):
        alike[(prompt.image.key, "") if prompt.image else ("", prompt.id)].append(at)
    parts: list[list[int]] = [[] for _ in range(max(1, most))]
    for group in sorted(alike.values(), key=len, reverse=True):
        min(parts, key=len).extend(group)
    return [sorted(part) for part in parts if part] or [[]]


def back(parts: Sequence[Sequence[int]], made: Sequence[Sequence[Item]]) -> list[Item]:
    """What was made of parts, in the order of what was asked; HarnessError where a part has another number."""
    if any(len(part) != len(each) for part, each in zip(parts, made, strict=True)):
        raise HarnessError("the backend gives another number of responses than there are prompts.")
    placed = {at: one for part, each in zip(parts, made, strict=True) for at, one in zip(part, each, strict=True)}
    return [placed[at] for at in sorted(placed)]


class Hand:
    """A process that asks the backend of `generation`; it sees these accelerators, None: whatever there is."""

    def __init__(self, generation: Generation, sees: Sequence[str] | None) -> None:
        self.line, its = Pipe()
        life, self.life = Pipe(duplex=False)
        code = BEGIN.format(path=sys.path, name=__name__)
        told = map(str, (its.fileno(), life.fileno(), os.getpid()))
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, *told],
            env=os.environ | ({} if sees is None else {"CUDA_VISIBLE_DEVICES": ",".join(sees)}),
            pass_fds=[its.fileno(), life.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=2,  # what a user's file prints is no result
            start_new_session=True,  # Ctrl-C is ours to handle
        )
        its.close()
        life.close()
        self.say(generation)

    def say(self, what: object) -> None:
        """Send it something."""
        try:
            self.line.send(what)
        except OSError:
            raise _died() from None

    def hear(self) -> Any:
        """What it says next."""
        try:
            return self.line.recv()
        except (EOFError, OSError):
            raise _died() from None


def _died() -> HarnessError:
    return HarnessError(
        "a process that responds died (out of memory? unless another cause stands above); what was finished is kept, "
        "so run the same command again, with a smaller runtime.generate_processes if memory is short."
    )


_kept: list[Hand] = []
_for: list[object] = []  # whose they are


def hands_of(generation: Generation, gpus: int, count: int) -> list[Hand]:
    """So many processes, with so many accelerators each; they are kept, and nothing is loaded here beside them."""
    there = machine.gpus()
    if _for != (wanted := [generation, gpus, there]):
        let_go()
        _for[:] = wanted
        load.beside(let_go)
        atexit.register(let_go)
    while len(_kept) < count:
        if not _kept:
            load.let_go()
        at = len(_kept) * gpus
        _kept.append(Hand(generation, there[at : at + gpus] if there else None))
    return _kept[:count]


def let_go(at_once: bool = False) -> None:
    """End them; each gives back what it holds. `at_once`: in the middle of work."""
    ending = [*_kept]
    _kept.clear()
    for hand in ending:
        (hand.life if at_once else hand.line).close()
    for hand in ending:
        lifeline.end(hand.process)
        hand.line.close()
        hand.life.close()


def main(line: int, life: int, parent: int) -> None:
    """A process's life: it answers until nobody asks any more, and goes when its parent is gone."""
    install()
    lifeline.follow(parent, life)
    asking = Connection(line)
    with suppress(EOFError):
        generation = asking.recv()
        one = plugins.make(__package__, generation.backend, Backend, generation.options)  # type: ignore[type-abstract]
        while True:
            asking.send(_answer(one, asking, *asking.recv()))


def _answer(one: Backend, asking: Connection, what: str, *order: Any) -> tuple[Any, ...]:
    """What it is to say to an order: what was made and its peaks, or why nothing was."""
    told = [
        part._replace(tick=lambda *how_far: asking.send(("ticked", *how_far))) if isinstance(part, Running) else part
        for part in order
    ]
    try:
        with measure() as used:
            made = getattr(one, what)(*told)
        return "made", made, (used.peak_host_gib, used.peak_device_gib)
    except HarnessError as error:
        return "failed", error
    except Exception as error:
        if machine.exhausted(error):
            return "failed", MemoryError(str(error))
        traceback.print_exc()
        return "failed", HarnessError(f"a process that responds failed: {type(error).__name__}: {error}.")
