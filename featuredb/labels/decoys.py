"""Labels of other features that fire about as often: what a figure of a label is held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featuredb.labels.requests import LabelToScore

WIDTH = 4
"""Decoys are drawn from this many times as many features, those nearest in density."""


class Decoys:
    """Draws decoys among some labels, one a feature; which ones depends on the seed and the feature alone."""

    def __init__(self, labels: Sequence[LabelToScore], density: NDArray[np.float64], seed: int) -> None:
        """density: (n_features,) of the whole dictionary."""
        first = {label.feature: label for label in reversed(labels)}
        features = np.array(sorted(first), np.int64)
        # Ties by feature, so that the order is the same however the labels came.
        self._order = features[np.lexsort((features, density[features]))]
        self._density = density[self._order]
        self._place = {feature: place for place, feature in enumerate(self._order.tolist())}
        self._of_all = density
        self._labels = first
        self._seed = seed

    def draw(self, feature: int, n: int) -> list[LabelToScore]:
        """Up to n labels of other features whose density is nearest this one's, in random order."""
        own = self._place.get(feature, len(self._order))
        n_others = len(self._order) - (own < len(self._order))
        if n_others == 0 or n < 1:
            return []
        wanted = min(n_others, WIDTH * n)
        middle = int(np.searchsorted(self._density, self._of_all[feature]))
        near = np.arange(wanted) + min(max(0, middle - wanted // 2), n_others - wanted)
        near += near >= own  # places among the others are places among all, past its own one further
        chosen = np.random.default_rng((self._seed, feature)).permutation(self._order[near])[:n]
        return [self._labels[int(index)] for index in chosen]
