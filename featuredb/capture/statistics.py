"""Exact figures of every feature over all counted tokens: counts, sums, maximum and a log2 histogram."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featuredb.capture.firings import Firings
from featuredb.store.layout import LOWEST_EXPONENT

N_BINS = 40

ARRAYS = ("n_fires", "n_contexts", "total", "total_squares", "maximum", "histogram")


class FeatureStatistics:
    """Sums over the firings of (n_features,) features. Merging two gives the figures of both texts together."""

    def __init__(self, n_features: int) -> None:
        self.n_fires = np.zeros(n_features, dtype=np.int64)
        self.n_contexts = np.zeros(n_features, dtype=np.int64)
        self.total = np.zeros(n_features, dtype=np.float64)
        self.total_squares = np.zeros(n_features, dtype=np.float64)
        self.maximum = np.zeros(n_features, dtype=np.float32)
        self.histogram = np.zeros((n_features, N_BINS), dtype=np.uint32)

    def add(self, firings: Firings) -> None:
        if len(firings) == 0:
            return
        starts = firings.feature_starts
        present = firings.feature[starts]
        activation = firings.activation.astype(np.float64)
        self.n_fires[present] += np.diff(np.append(starts, len(firings)))
        self.n_contexts += np.bincount(firings.visits.feature, minlength=len(self.n_contexts))
        self.total[present] += np.add.reduceat(activation, starts)
        self.total_squares[present] += np.add.reduceat(activation * activation, starts)
        self.maximum[present] = np.maximum(self.maximum[present], np.maximum.reduceat(firings.magnitude, starts))
        np.add.at(self.histogram, (firings.feature, bin_of(firings.magnitude)), 1)

    def merge(self, other: FeatureStatistics) -> None:
        self.n_fires += other.n_fires
        self.n_contexts += other.n_contexts
        self.total += other.total
        self.total_squares += other.total_squares
        np.maximum(self.maximum, other.maximum, out=self.maximum)
        self.histogram += other.histogram

    def mean(self) -> NDArray[np.float64]:
        """(n_features,) mean activation where the feature fires; 0 where it never does."""
        return self.total / np.maximum(self.n_fires, 1)

    def m2(self) -> NDArray[np.float64]:
        """(n_features,) sum of squared deviations from that mean, over the same firings."""
        return np.maximum(0.0, self.total_squares - self.n_fires * self.mean() ** 2)

    def deviation(self, n_tokens: int) -> NDArray[np.float64]:
        """(n_features,) standard deviation of the activation over all n_tokens, silent ones included."""
        mean = self.total / n_tokens
        return np.sqrt(np.maximum(0.0, self.total_squares / n_tokens - mean**2))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        return {name: getattr(self, name) for name in ARRAYS}

    def load(self, arrays: dict[str, NDArray[np.generic]]) -> None:
        for name in ARRAYS:
            setattr(self, name, arrays[name])


def bin_of(magnitude: NDArray[np.float32]) -> NDArray[np.int32]:
    """The histogram bin of each positive magnitude."""
    _, exponent = np.frexp(magnitude)  # magnitude = m * 2**exponent with m in [0.5, 1)
    bins: NDArray[np.int32] = np.clip(exponent - 1 - LOWEST_EXPONENT, 0, N_BINS - 1).astype(np.int32)
    return bins
