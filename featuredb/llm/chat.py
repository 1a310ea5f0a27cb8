"""What every language model here is asked through, whether it answers over HTTP or from memory.

Rule: a protocol and its records. A chat never judges an answer: it brings one, or says why there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from featuredb.llm.prompts import Question


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said."""

    kept: str
    """As `answers.keepable` writes it."""
    n_in: int | None
    """Tokens, as the server counted them; None where it does not say."""
    n_out: int | None


@dataclass(frozen=True, slots=True)
class NoReply:
    """Why a model said nothing. Never kept: the next run asks again."""

    reason: str


class Chat(Protocol):
    """A language model, and the questions that are on their way to it."""

    model: str
    """Its name, as scores and labels tell it."""
    max_tokens: int
    """Tokens of an answer, at most."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that may change an answer beside the question: part of what is hashed."""
        ...

    @property
    def provenance(self) -> dict[str, Any]:
        """Where answers come from, for a reader: no key, password or path of URLs."""
        ...

    @property
    def room(self) -> int:
        """How many questions it takes right now."""
        ...

    def submit(self, ticket: int, question: Question) -> None:
        """Sends a question on its way; only while there is room."""
        ...

    def collect(self) -> list[tuple[int, Reply | NoReply]]:
        """What came back since, by ticket: at least one, waiting for it. Only while something is on its way.

        Raises BadInput when no question can be answered: a wrong key, model or address.
        """
        ...

    def close(self) -> list[tuple[int, Reply | NoReply]]:
        """Stops what is on its way, and what came back before that and was not collected. May be called twice."""
        ...
