"""Contrasting texts as a user makes them: snippets that end in the concept, and snippets that hold nothing of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.planted.documents import Marked

if TYPE_CHECKING:
    from featuredb.model import Model

N_TEXTS = 32
"""Texts a side."""

SHORTEST, LONGEST = 20, 40
"""Tokens of a snippet, every number as likely; fewer where its document does not reach back so far."""

FEWEST = 5
NEAREST = 60
"""A negative snippet is one of so many places of the positive's document, the nearest to it."""


class Snippets:
    """Cuts the texts of one concept after another out of the same documents."""

    def __init__(self, documents: Sequence[Marked], model: Model) -> None:
        self._documents = documents
        self._model = model

    def contrast(self, concept: int, seed: int, n: int = N_TEXTS) -> tuple[list[str], list[str]]:
        """Up to n positive texts and as many negative ones, none twice on a side.

        A positive text ends at a token of the concept, and every such token of the documents is as likely. Its
        negative is cut from the same document, as near as may be, where there is nothing of the concept; or as little
        as there is anywhere, in a document that is full of it.
        """
        draw = np.random.default_rng([seed, concept])
        counts = [int(document.marks[:, concept].sum()) for document in self._documents]
        starts = np.concatenate([[0], np.cumsum(counts)])
        positive, negative = list[str](), list[str]()
        for hit in draw.permutation(int(starts[-1])).tolist():
            if len(positive) == n:
                break
            which = int(np.searchsorted(starts, hit, side="right")) - 1
            document = self._documents[which]
            at = int(np.flatnonzero(document.marks[:, concept])[hit - starts[which]])
            ours = self._cut(document, at, _length(draw))
            theirs = self._without(document, concept, at, draw)
            if ours and theirs and ours not in positive and theirs not in negative:
                positive.append(ours)
                negative.append(theirs)
        return positive, negative

    def _without(self, document: Marked, concept: int, at: int, draw: np.random.Generator) -> str | None:
        length = _length(draw)
        total = np.concatenate([[0], np.cumsum(document.marks[:, concept])])
        if len(total) <= length:
            return None
        held: NDArray[np.int64] = total[length:] - total[:-length]
        free = np.flatnonzero(held == held.min())
        nearest = free[np.argsort(np.abs(free + length - 1 - at), kind="stable")[:NEAREST]]
        return self._cut(document, int(draw.choice(nearest)) + length - 1, length)

    def _cut(self, document: Marked, last: int, length: int) -> str | None:
        """The text of the tokens up to `last`; None where that would be too little, blank, or no longer end in it."""
        first = max(0, last + 1 - length)
        text = document.text[document.offsets[first, 0] : document.offsets[last, 1]]
        if last - first + 1 < FEWEST or not text.strip():
            return None
        return text if self._model.encode_text(text)[-1] == document.ids[last] else None


def _length(draw: np.random.Generator) -> int:
    return int(draw.integers(SHORTEST, LONGEST + 1))
