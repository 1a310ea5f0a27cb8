"""What a block of contexts makes one dictionary's features do, sorted once so that every reducer reads it in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

UInt64 = NDArray[np.uint64]
Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rows:
    """The counted tokens of a block, in order of context and position; n of them."""

    context: Int64
    """(n,) the context's place in the corpus."""
    position: Int32
    """(n,) the token's place in its context."""
    low: Int32
    """(n,) where its document begins in this context."""
    high: Int32
    """(n,) where its document ends in this context, exclusive."""

    def __len__(self) -> int:
        return len(self.context)

    @staticmethod
    def concatenate(parts: Sequence[Rows]) -> Rows:
        return Rows(
            np.concatenate([part.context for part in parts]),
            np.concatenate([part.position for part in parts]),
            np.concatenate([part.low for part in parts]),
            np.concatenate([part.high for part in parts]),
        )


@dataclass(frozen=True)
class Firings:
    """The non-zero activations of a block, sorted by feature, context and position; m of them."""

    n_features: int
    feature: Int32
    """(m,)"""
    row: Int32
    """(m,) the token, as a place in `rows`."""
    activation: Float32
    """(m,) never zero; negative only where the dictionary's activation function is signed."""
    rows: Rows

    @staticmethod
    def sort(n_features: int, feature: Int32, row: Int32, activation: Float32, rows: Rows) -> Firings:
        """Firings from unsorted triples; a (feature, row) pair comes at most once."""
        order = np.argsort(feature.astype(np.int64) * max(1, len(rows)) + row)
        return Firings(n_features, feature[order], row[order], activation[order], rows)

    def __len__(self) -> int:
        return len(self.feature)

    @cached_property
    def context(self) -> Int64:
        """(m,)"""
        return self.rows.context[self.row]

    @cached_property
    def position(self) -> Int32:
        """(m,)"""
        return self.rows.position[self.row]

    @cached_property
    def magnitude(self) -> Float32:
        """(m,) |activation|, which ranks firings."""
        return np.abs(self.activation)

    @cached_property
    def feature_starts(self) -> Int64:
        """Where each firing feature's firings begin."""
        return _run_starts(self.feature[1:] != self.feature[:-1], len(self))

    @cached_property
    def visits(self) -> Visits:
        """One record for each (feature, context) pair that fires."""
        return Visits.of(self)


@dataclass(frozen=True, slots=True)
class Visits:
    """(feature, context) pairs that fire, each at its strongest token; v of them, sorted by feature and context."""

    feature: Int32
    context: Int64
    position: Int32
    """(v,) the strongest token's position, the earliest where several are equal."""
    activation: Float32
    low: Int32
    high: Int32
    first: Int64
    """(v,) where the pair's firings begin in its Firings."""
    n: Int64
    """(v,) how many firings the pair has."""

    @staticmethod
    def of(firings: Firings) -> Visits:
        changes = (firings.feature[1:] != firings.feature[:-1]) | (firings.context[1:] != firings.context[:-1])
        first = _run_starts(changes, len(firings))
        n = np.diff(np.append(first, len(firings)))
        if len(first) == 0:
            peak = first
        else:
            strongest = np.maximum.reduceat(firings.magnitude, first)
            at_peak = np.flatnonzero(firings.magnitude == np.repeat(strongest, n))
            visit = np.repeat(np.arange(len(first)), n)[at_peak]
            peak = at_peak[_run_starts(visit[1:] != visit[:-1], len(visit))]
        row = firings.row[peak]
        rows = firings.rows
        return Visits(
            firings.feature[peak],
            rows.context[row],
            rows.position[row],
            firings.activation[peak],
            rows.low[row],
            rows.high[row],
            first,
            n,
        )


def _run_starts(changes: NDArray[np.bool_], n: int) -> Int64:
    """Where runs begin, given the n-1 places at which neighbours differ."""
    if n == 0:
        return np.empty(0, dtype=np.int64)
    return np.concatenate([[0], np.flatnonzero(changes) + 1])
