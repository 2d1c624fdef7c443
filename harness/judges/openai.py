"""Any model behind an OpenAI-compatible API: "openai:MODEL"."""

from collections.abc import Mapping
from typing import Any

from harness.contracts.judge_kind import JudgeKind, Post
from harness.contracts.settings import Price
from harness.judging import prices
from harness.judging.chat_api import no_access
from harness.judging.journal import Journal
from harness.judging.llm import Llm, part_of


class OpenAI(JudgeKind):
    """Its replies are kept in the store's journal and paid once (`harness.judging.llm.Llm`)."""

    form = "openai:MODEL"
    paid = True

    @property
    def price(self) -> Price | None:
        """USD per million tokens, input and output; None where neither user nor testbed nor `PRICES` knows."""
        return self.chat.price or self.prices.get(self.rest) or prices.PRICES.get(self.rest)

    def unusable(self) -> str:
        """That no model is named, or that the environment has no key."""
        if not self.rest:
            return f'"{self.name}" names no model; write {self.form}'
        return f'"{self.name}" {no_access()}' if no_access() else ""

    def identity(self) -> Mapping[str, Any]:
        """The model's name and how it is asked."""
        return {"name": self.name, **self.chat.model_dump(exclude={"price"})}

    def remark(self) -> str:
        """That nobody knows its price, which a budget needs."""
        return prices.unpriced(self.rest, part_of(self.chat)) if self.price is None else ""

    def hire(self, post: Post) -> Llm:
        """A client with the store's journal."""
        journal = Journal(post.root / ".journal")
        return Llm(self.rest, self.chat, post.runtime, journal, self.price, post.root, post.tick, post.data)
