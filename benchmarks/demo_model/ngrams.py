"""N-gram language models over token ids, the baselines that the demo model is held against.

Interpolated modified Kneser-Ney: counts of the highest order, numbers of distinct predecessors below it, three
discounts an order, and the uniform distribution under all. Source: Chen & Goodman (1999), An Empirical Study of
Smoothing Techniques for Language Modeling, §3.

No history reaches over a document's beginning: what lies before a separator is read as separators.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Order:
    """What one order knows, keys ascending: a sequence of ids is a number in base `vocabulary`."""

    grams: Keys
    """History and word."""
    discounted: Floats
    """Each gram's count less its discount."""
    histories: Keys
    totals: Floats
    """Counts of all grams of a history."""
    kept_back: Floats
    """Sum of the discounts taken from them, which goes to the order below."""


class NGramModel:
    """Probabilities of the next token given the `order - 1` before it."""

    def __init__(self, stream: NDArray[np.integer], order: int, vocabulary: int, separator: int) -> None:
        """stream: token ids (n,), documents joined by `separator`, which is predicted like any other token."""
        if vocabulary**order >= 2**63:
            raise ValueError(f"{order} tokens of {vocabulary} do not fit a 64-bit key")
        self.order, self.vocabulary, self.separator = order, vocabulary, separator
        self._orders: list[_Order] = []
        grams, n_seen = np.unique(_keys(windows(stream, order, separator), vocabulary), return_counts=True)
        counts = n_seen.astype(np.float64)
        for length in range(order, 0, -1):
            self._orders.append(_discounted(grams, counts, vocabulary))
            if length > 1:
                grams, counts = self._shortened(grams, counts, length)

    def probabilities(self, grams: NDArray[np.integer]) -> Floats:
        """(n,) probability of each row's last token after those before it; grams: (n, order), as `windows` makes."""
        keys = _keys(grams, self.vocabulary)
        probability = np.full(len(keys), 1 / self.vocabulary)
        for length, known in enumerate(reversed(self._orders), start=1):
            gram = keys % self.vocabulary**length
            at, found = _places(known.histories, gram // self.vocabulary)
            place, seen = _places(known.grams, gram)
            counted = np.where(seen, known.discounted[place], 0.0) + known.kept_back[at] * probability
            probability = np.where(found, counted / known.totals[at], probability)
        return probability

    def _shortened(self, grams: Keys, counts: Floats, length: int) -> tuple[Keys, Floats]:
        """Grams without their first token, counted by how many distinct tokens stood there.

        A gram that begins at a document's beginning has the separator alone before it, so it keeps its own count.
        """
        shorter = grams % self.vocabulary ** (length - 1)
        opens = (shorter // self.vocabulary ** (length - 2) == self.separator) & (length > 2)
        kept, place = np.unique(shorter, return_inverse=True)
        distinct = np.bincount(place, weights=np.where(opens, counts, 1.0)).astype(np.float64)
        return kept, distinct


def windows(stream: NDArray[np.integer], order: int, separator: int) -> Keys:
    """(n, order) each token after the `order - 1` before it; what lies before a separator is read as separators."""
    rows = np.full((len(stream), order), separator, dtype=np.int64)
    rows[:, -1] = stream
    open_rows = np.ones(len(stream), dtype=bool)
    for back in range(1, order):
        open_rows[:back] = False
        before = np.full(len(stream), separator, dtype=np.int64)
        before[back:] = stream[:-back]
        rows[open_rows, order - 1 - back] = before[open_rows]
        open_rows &= before != separator
    return rows


def _keys(rows: NDArray[np.integer], vocabulary: int) -> Keys:
    keys = np.zeros(len(rows), dtype=np.int64)
    for column in rows.T:
        keys = keys * vocabulary + column
    return keys


def _discounted(grams: Keys, counts: Floats, vocabulary: int) -> _Order:
    discounts = _discounts(counts)[np.minimum(counts, 3).astype(np.int64)]
    histories, first = np.unique(grams // vocabulary, return_index=True)
    return _Order(
        grams, counts - discounts, histories, np.add.reduceat(counts, first), np.add.reduceat(discounts, first)
    )


def _discounts(counts: Floats) -> Floats:
    """(4,) what to take from a count of 0, 1, 2 and at least 3.

    The paper's estimates; where no gram has one of the counts they need, or they leave (0, count), half a count.
    """
    n1, n2, n3, n4 = (int((counts == count).sum()) for count in (1, 2, 3, 4))
    if not (n1 and n2 and n3 and n4):
        return np.array([0.0, 0.5, 0.5, 0.5])
    share = n1 / (n1 + 2 * n2)
    found = np.array([0.0, 1 - 2 * share * n2 / n1, 2 - 3 * share * n3 / n2, 3 - 4 * share * n4 / n3])
    return np.where((found > 0) & (found < [1, 1, 2, 3]), found, [0.0, 0.5, 0.5, 0.5])


def _places(keys: Keys, wanted: Keys) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each wanted key stands among ascending keys (some place where it does not), and whether it does."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return place, keys[place] == wanted
