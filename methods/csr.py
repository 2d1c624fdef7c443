"""CSR: iterated DPO on responses the model searches itself, rewarded by likelihood and CLIP (Zhou et al. 2024,
arXiv 2405.14622).

Sigmoid DPO on summed log-probs. Data: each round grows a tree of sentences per prompt: diverse beam search continues
every kept node by one sentence, a few nodes go on, and every leaf is a response. The leaf with the best calibrated
reward is chosen, the worst rejected. The next round starts from the trained policy, which is its reference.

`reward=score` is the paper's: a sentence earns lambda * max(100 cos, 0) by CLIP and (1 - lambda) * its probability;
nodes go on by the sum over their path, which is also a leaf's reward. `reward=rank` is what was shipped: siblings are
ranked by both, a path costs the mean of its nodes' mixed ranks (root included, at 0), and nodes go on by likelihood
alone.

Other than in the official code, candidates of all prompts are searched side by side, `max_characters` does not count
the prompt, sentences go to CLIP as they are (there cut out by offsets into the prompt's text) and are shortened to its
77 tokens, depth has a limit, and prompts are the split's (there paraphrases of "describe this image"). A tree with one
leaf is dropped (there both sides are then the same), and no record is cut to 1,024 tokens. Here a sentence's likelihood
is without the diversity penalty, equal siblings are one node, and a path that may end before its next sentence is a
leaf too. Adapters are merged after each round, as there; the reference is cached log-probs of that checkpoint.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.contracts.method import Loss, Method, Role, Round, Unit
from harness.contracts.records import Dropped, Example, Pair, Prompt, Record, Response
from harness.training import losses

if TYPE_CHECKING:
    from harness.models.logps import LogProbs


@dataclass(frozen=True)
class Node:
    """A sentence of a path: the text so far, the summed likelihood score, every sentence's reward, whether it ended."""

    text: str = ""
    likelihood: float = 0.0
    rewards: tuple[float, ...] = ()
    ended: bool = False


@dataclass(frozen=True)
class Csr(Method):
    """Best and worst leaf of a sentence tree; sigmoid DPO, whose reference moves each round."""

    label: ClassVar[str] = "CSR"
    of_the_paper: ClassVar[bool] = True
    roles: ClassVar[tuple[Role, ...]] = (Role.POLICY, Role.REFERENCE)
    unit: ClassVar[Unit] = "record"
    training_only: ClassVar[tuple[str, ...]] = ("beta",)
    needs_clip: ClassVar[bool] = True

    beta: float = field(default=0.1, metadata={"help": "strength of the implicit KL", "source": "official trainer"})
    iterations: int = field(default=3, metadata={"help": "rounds of search and training", "source": "paper"})
    beams: int = field(default=5, metadata={"help": "candidates per node", "source": "official script"})
    penalty: float = field(default=3.0, metadata={"help": "diversity penalty, nats", "source": "official script"})
    keep_best: int = field(default=1, metadata={"help": "best nodes of a level that go on", "source": "official code"})
    keep_worst: int = field(
        default=2, metadata={"help": "worst nodes of a level that go on", "source": "official code"}
    )
    max_depth: int = field(default=16, metadata={"help": "sentences at most", "source": "ours"})
    max_characters: int = field(
        default=1024,
        metadata={"help": "a longer path goes no further", "source": "official code (there with the prompt)"},
    )
    sentence_tokens: int = field(default=70, metadata={"help": "tokens of a sentence", "source": "official code"})
    reward: Literal["score", "rank"] = field(
        default="score", metadata={"help": "rank: as_shipped", "source": "paper; official code"}
    )
    lam: float = field(default=0.9, metadata={"help": "weight of CLIP, lambda", "source": "official script"})

    @property
    def rounds(self) -> int:
        """Search and training alternate."""
        return self.iterations

    def build(self, examples: Iterable[Example], round: Round) -> Iterator[Record | Dropped]:
        """One pair per example whose tree has two different leaves."""
        examples = list(examples)
        leaves = self.search([example for example in examples if example.image], round)
        for example in examples:
            found = sorted(leaves.get(example.id, []), key=self.value)
            if not example.image:
                yield Dropped(example.id, "no image to compare a response with")
            elif len({leaf.text for leaf in found}) < 2:
                yield Dropped(example.id, "the tree has one leaf")
            else:
                yield Pair(example.id, example.image, example.turns[0].question, found[-1].text, found[0].text)

    def search(self, examples: Sequence[Example], round: Round) -> dict[str, list[Node]]:
        """Example id -> the leaves of its tree; one level of all trees at a time."""
        growing = {example.id: [Node()] for example in examples}
        leaves: dict[str, list[Node]] = {example.id: [] for example in examples}
        for _ in range(self.max_depth):
            tips = [(e, at, node) for e in examples for at, node in enumerate(growing[e.id])]
            prompts = [Prompt(f"{e.id}@{at}", e.image, e.turns[0].question, (), node.text) for e, at, node in tips]
            said = round.candidates(prompts, self.beams, self.penalty, ".", self.sentence_tokens)
            clean = [distinct(node.text, responses) for (*_, node), responses in zip(tips, said, strict=True)]
            asked = [(e.image, r.text) for (e, *_), kept in zip(tips, clean, strict=True) for r in kept if e.image]
            close = iter(round.similarity(asked))
            grown: dict[str, list[Node]] = {example.id: [] for example in examples}
            for (example, _, node), kept, responses in zip(tips, clean, said, strict=True):
                children = self.children(node, kept, [next(close) for _ in kept])
                leaves[example.id] += [child for child in children if child.ended]
                if node.text and (not children or any(r.ended and not r.text for r in responses)):
                    leaves[example.id].append(node)  # nothing follows, or the end may
                grown[example.id] += [child for child in children if not child.ended]
            growing = {id: self.kept(nodes) for id, nodes in grown.items()}
            if not any(growing.values()):
                break
        return {id: found + growing[id] for id, found in leaves.items()}

    def children(self, node: Node, said: Sequence[Response], close: Sequence[float]) -> list[Node]:
        """A node for each continuation; `close` are the cosines of image and sentence."""
        scores = [response.logp / max(1, response.tokens) for response in said if response.logp is not None]
        if self.reward == "rank":
            ranks = zip(ranked(scores), ranked(close), strict=True)
            rewards = [-(1 - self.lam) * likely - self.lam * seen for likely, seen in ranks]
        else:
            rewards = [
                self.lam * max(100 * cosine, 0.0) + (1 - self.lam) * math.exp(response.logp or 0.0)
                for response, cosine in zip(said, close, strict=True)
            ]
        made = []
        for response, score, reward in zip(said, scores, rewards, strict=True):
            text = f"{node.text} {response.text}".strip()
            over = response.ended or len(text) >= self.max_characters
            made.append(Node(text, node.likelihood + score, (*node.rewards, reward), over))
        return made

    def kept(self, nodes: Sequence[Node]) -> list[Node]:
        """The best and the worst of a level, by reward (paper) or by likelihood (as shipped)."""
        if self.reward == "rank":
            order = sorted(nodes, key=lambda node: node.likelihood, reverse=True)
        else:
            order = sorted(nodes, key=self.value, reverse=True)
        worst = max(len(order) - self.keep_worst, self.keep_best)
        return [*order[: self.keep_best], *order[worst:]]

    def value(self, leaf: Node) -> float:
        """A path's reward: the sum over its sentences (paper); with rank the negated mean cost, the root counted."""
        whole = sum(leaf.rewards)
        return whole / (len(leaf.rewards) + 1) if self.reward == "rank" else whole

    def loss(self, logps: "LogProbs") -> Loss:
        """Eq. 6 of the nSFT paper on sums of response log-probs."""
        return losses.paired(logps, self.beta)


def ranked(values: Sequence[float]) -> list[float]:
    """Each value's place from 1/n (the largest) to 1; equal values keep their order."""
    order = sorted(range(len(values)), key=lambda at: -values[at])
    return [(order.index(at) + 1) / len(values) for at in range(len(values))]


def distinct(before: str, said: Sequence[Response]) -> list[Response]:
    """The continuations worth a node: the official filters, and none twice.

    Dropped are texts under four characters, with more than five line breaks, with letters or signs from outside Latin
    script, or already on the path.
    """
    found: dict[str, Response] = {}
    for response in said:
        text = response.text
        if len(text) >= 4 and text.count("\n") <= 5 and not foreign(text) and text not in before:
            found.setdefault(text, response)
    return list(found.values())


def foreign(text: str) -> bool:
    """Whether a text holds letters of another script (Chinese, Cyrillic) or pictures (emoji)."""
    letters = re.findall(r"[^\x00-\u024f]", text)
    return any(unicodedata.category(letter) in ("Lo", "Lu", "Ll", "Lm", "So") for letter in letters)
