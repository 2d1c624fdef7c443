"""CSR: trees of sentences, their reward, and which leaves become a pair."""

import math

import pytest
from scripted import EXAMPLES, Scripted

from harness.contracts.records import Dropped, Pair, Prompt, Response
from methods.csr import Csr, Node, distinct

Sentence = tuple[str, float, bool]


def two_levels(prompt: Prompt) -> list[Sentence]:
    """Two sentences, then two endings each; the likelihood prefers b, CLIP (below) prefers a."""
    if not prompt.begun:
        return [("aaaa.", -2.0, False), ("bbbb.", -1.0, False)]
    return [("good end.", -1.5, True), ("evil end.", -0.5, True)]


def cosine(image: object, text: str) -> float:
    return {"aaaa.": 0.3, "bbbb.": 0.1, "good end.": 0.3, "evil end.": 0.1}[text]


def pair(method: Csr, **script: object) -> Pair:
    first, *_ = method.build(EXAMPLES[:1], Scripted(sentences=two_levels, cosines=cosine, **script))  # type: ignore[arg-type]
    assert isinstance(first, Pair)
    return first


def test_image_reward_alone_chooses_what_clip_prefers() -> None:
    made = pair(Csr(lam=1.0))
    assert (made.chosen, made.rejected) == ("aaaa. good end.", "bbbb. evil end.")


def test_likelihood_alone_chooses_what_the_model_prefers() -> None:
    made = pair(Csr(lam=0.0))
    assert (made.chosen, made.rejected) == ("bbbb. evil end.", "aaaa. good end.")


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_ranks_have_the_same_limits(lam: float) -> None:
    assert pair(Csr(lam=lam, reward="rank")) == pair(Csr(lam=lam))


def test_a_reward_by_hand() -> None:
    """.9 * max(100 * .3, 0) + .1 * e^-2 = 27.01353 for one sentence; a negative cosine earns nothing."""
    said = [Response("x", "aaaa.", 1, logp=-2.0), Response("x", "bbbb.", 1, logp=-2.0)]
    first, second = Csr().children(Node(), said, [0.3, -0.3])
    assert first.rewards == pytest.approx((27.0 + 0.1 * math.exp(-2),))
    assert second.rewards == pytest.approx((0.1 * math.exp(-2),))


def test_a_rank_cost_by_hand() -> None:
    """Two siblings: likelihood places 1 and .5, CLIP places .5 and 1; costs .1 + .45 and .05 + .9, over two nodes."""
    said = [Response("x", "aaaa.", 1, logp=-2.0), Response("x", "bbbb.", 1, logp=-1.0)]
    method = Csr(reward="rank")
    first, second = method.children(Node(), said, [0.3, 0.1])
    assert (method.value(first), method.value(second)) == pytest.approx((-0.55 / 2, -0.95 / 2))


def test_best_and_worst_go_on_and_nobody_twice() -> None:
    nodes = [Node(str(n), float(n), (float(n),)) for n in range(6)]
    assert [node.text for node in Csr().kept(nodes)] == ["5", "1", "0"]
    assert [node.text for node in Csr(keep_best=2, keep_worst=2).kept(nodes[:3])] == ["2", "1", "0"]
    assert Csr().kept(nodes[:1]) == nodes[:1]


def test_a_tree_with_one_leaf_gives_no_pair() -> None:
    one = Scripted(sentences=lambda prompt: [("The end.", -1.0, True)])
    assert list(Csr().build(EXAMPLES[:1], one)) == [Dropped("one", "the tree has one leaf")]


def test_a_path_ends_at_the_greatest_depth_or_length() -> None:
    endless = Scripted(sentences=lambda p: [(f"{'x' * 30} {len(p.begun)} {n}.", -1.0 - n, False) for n in range(3)])
    deep = next(iter(Csr(max_depth=2).build(EXAMPLES[:1], endless)))
    long = next(iter(Csr(max_characters=80).build(EXAMPLES[:1], endless)))
    assert isinstance(deep, Pair)
    assert isinstance(long, Pair)
    assert deep.chosen.count(".") == 2
    assert 80 <= len(long.chosen) < 160


@pytest.mark.parametrize(
    "text", ["", "a.", "狗在这里。。", "Это собака.", "A dog 🐶.", "a\nb\nc\nd\ne\nf\ng.", "Once."]
)
def test_odd_and_repeated_sentences_get_no_node(text: str) -> None:
    assert distinct("Once. Twice.", [Response("x", text, 1)]) == []


def test_a_node_without_a_sensible_continuation_is_a_leaf() -> None:
    def says(prompt: Prompt) -> list[Sentence]:
        return [("a.", -1.0, False)] if prompt.begun else [("One.", -1.0, False), ("Two.", -2.0, False)]

    made = next(iter(Csr().build(EXAMPLES[:1], Scripted(sentences=says, cosines=lambda i, t: float(t == "One.")))))
    assert isinstance(made, Pair)
    assert (made.chosen, made.rejected) == ("One.", "Two.")


def test_a_node_after_which_the_model_would_end_is_a_leaf_too() -> None:
    def says(prompt: Prompt) -> list[Sentence]:
        return [("", -0.1, True), ("More.", -1.0, True)] if prompt.begun else [("One two.", -1.0, False)]

    made = next(iter(Csr().build(EXAMPLES[:1], Scripted(sentences=says))))
    assert isinstance(made, Pair)
    assert (made.chosen, made.rejected) == ("One two. More.", "One two.")


def test_a_path_s_reward_is_cumulative() -> None:
    assert Csr().value(Node("x", 0.0, (2.0, 1.0))) == 3.0
    assert Csr(reward="rank").value(Node("x", 0.0, (-0.5, -1.0))) == -0.5
