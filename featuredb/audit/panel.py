"""Every firing of a dictionary on the panel, by feature and by token, and what pairs of features do there together.

Rule: counts and sums over the panel's tokens; what they mean is a check's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from featuredb.labels.evidence import Firings

BLOCK = 4_096
"""Features read at a time."""

Places = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fired:
    """nnz firings of n_features features on n_tokens panel tokens.

    Its size is that of the panel times how many features fire on a token, whatever the number of features.
    """

    n_features: int
    tokens: Places
    """(n_tokens,) the panel's places in `Passages.token`, ascending; a column below is an index into it."""
    start: Places
    """(n_features + 1,) where each feature's firings begin."""
    column: NDArray[np.int32]
    """(nnz,) by feature, then token."""
    activation: NDArray[np.float32]
    """(nnz,)"""

    @classmethod
    def read(cls, firings: Firings) -> Fired:
        """All of a dictionary's firings on the panel."""
        tokens = np.flatnonzero(firings.passages.on_panel).astype(np.int64)
        counts, columns, activations = [], list[NDArray[np.int32]](), list[NDArray[np.float32]]()
        for first in range(0, firings.n_features, BLOCK):
            last = min(first + BLOCK, firings.n_features)
            found = firings.panel(first, last)
            counts.append(np.bincount(found.feature - first, minlength=last - first))
            columns.append(np.searchsorted(tokens, found.at).astype(np.int32))
            activations.append(found.activation)
        count = np.concatenate(counts) if counts else np.zeros(0, np.int64)
        return cls(
            n_features=firings.n_features,
            tokens=tokens,
            start=np.concatenate([[0], np.cumsum(count)]).astype(np.int64),
            column=np.concatenate(columns) if columns else np.zeros(0, np.int32),
            activation=np.concatenate(activations) if activations else np.zeros(0, np.float32),
        )

    @property
    def n_tokens(self) -> int:
        return len(self.tokens)

    @cached_property
    def n_fires(self) -> Places:
        """(n_features,) tokens of the panel on which each fires."""
        return np.diff(self.start)

    def of(self, feature: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """One feature's columns, ascending, and activations."""
        part = slice(int(self.start[feature]), int(self.start[feature + 1]))
        return self.column[part], self.activation[part]

    def places(self, feature: int) -> Places:
        """Where one feature fires, as places of the passages."""
        return self.tokens[self.of(feature)[0]]

    @cached_property
    def feature(self) -> NDArray[np.int32]:
        """(nnz,) the feature of each firing."""
        return np.repeat(np.arange(self.n_features, dtype=np.int32), np.diff(self.start))

    @cached_property
    def by_token(self) -> tuple[Places, NDArray[np.int32], NDArray[np.float32]]:
        """The same firings by token: (n_tokens + 1,) where each token's begin, features and activations."""
        order = np.argsort(self.column, kind="stable")
        count = np.bincount(self.column, minlength=self.n_tokens)
        start = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        return start, self.feature[order], self.activation[order]

    def together(self, ours: Places, theirs: Places) -> Together:
        """What pairs of features do together. ours, theirs: (m,) features."""
        n_both = np.zeros(len(ours), np.int64)
        products = np.zeros(len(ours))
        for place, (one, other) in enumerate(zip(ours.tolist(), theirs.tolist(), strict=True)):
            a, x = self.of(one)
            b, y = self.of(other)
            _, at_a, at_b = np.intersect1d(a, b, assume_unique=True, return_indices=True)
            n_both[place] = len(at_a)
            products[place] = float(x[at_a].astype(np.float64) @ y[at_b].astype(np.float64))
        return Together(self, ours, theirs, n_both, products)

    @cached_property
    def sums(self) -> Floats:
        """(n_features,) of each one's activations."""
        return self._per_feature(self.activation.astype(np.float64))

    @cached_property
    def squares(self) -> Floats:
        """(n_features,) of each one's squared activations, added up."""
        return self._per_feature(self.activation.astype(np.float64) ** 2)

    def _per_feature(self, values: Floats) -> Floats:
        return np.asarray(np.bincount(self.feature, values, minlength=self.n_features), np.float64)


@dataclass(frozen=True)
class Together:
    """m pairs of features on the panel."""

    fired: Fired
    ours: Places
    theirs: Places
    n_both: Places
    """(m,) tokens on which both fire."""
    products: Floats
    """(m,) of their activations, added up over those tokens."""

    @cached_property
    def jaccard(self) -> Floats:
        """(m,) tokens on which both fire, as a share of those on which either does; 0 where none does."""
        n = self.fired.n_fires
        either = n[self.ours] + n[self.theirs] - self.n_both
        return np.asarray(self.n_both / np.maximum(either, 1), np.float64)

    @cached_property
    def correlation(self) -> Floats:
        """(m,) Pearson's, of the activations over all tokens of the panel; 0 where one never fires."""
        n, sums, squares = max(1, self.fired.n_tokens), self.fired.sums, self.fired.squares
        mean = sums / n
        spread = np.sqrt(np.maximum(squares / n - mean**2, 0))
        below = spread[self.ours] * spread[self.theirs]
        above = self.products / n - mean[self.ours] * mean[self.theirs]
        return np.asarray(np.divide(above, below, out=np.zeros(len(above)), where=below > 0), np.float64)
