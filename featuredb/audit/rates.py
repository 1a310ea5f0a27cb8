"""How often a feature fires, and what may be said of one that fires hardly or nearly always.

Rule: counts and rows in, bounds and cosines out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lgamma, log, log1p

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.requests import Directions
from featuredb.labels.evidence import Firings

CONFIDENCE = 0.95

ANTIPODAL = 0.9
"""Product of the cosines of two features' encoder and decoder rows, both negative, from which on they are one direction
and its opposite. Source: Sun et al. (2025), arXiv:2506.15679."""

BLOCK = 2_048
"""Features whose rows are read at a time."""

STEPS = 60
"""Halvings of the interval in which a bound lies."""


def n_tokens(firings: Firings) -> int:
    """Counted tokens of the run, from how often features fired and on what share; those of the panel where none did."""
    fired = (firings.n_fires > 0) & (firings.density > 0)
    if not fired.any():
        return int(np.count_nonzero(firings.passages.on_panel))
    # Of many tokens a share is rounded least where the feature fires most.
    most = int(np.argmax(np.where(fired, firings.n_fires, 0)))
    return round(float(firings.n_fires[most]) / float(firings.density[most]))


def largest_rate(count: int, n: int) -> float:
    """The upper end of the one-sided 95% interval of a rate that gave `count` of n; about 3 / n where it gave none.

    The rate under which as few have a chance of one in twenty. Source: Clopper and Pearson (1934), Biometrika 26(4).
    """
    if count >= n:
        return 1.0
    if count == 0:
        return float(-np.expm1(log(1 - CONFIDENCE) / n))
    k = np.arange(count + 1)
    ways = np.array([lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) for i in range(count + 1)])
    low, high = count / n, 1.0
    for _ in range(STEPS):
        # Rates differ by powers of ten, so the middle is the geometric one.
        rate = (low * high) ** 0.5
        chance = float(np.exp(ways + k * log(rate) + (n - k) * log1p(-rate)).sum()) if rate < 1 else 0.0
        low, high = (rate, high) if chance > 1 - CONFIDENCE else (low, rate)
    return high


@dataclass(frozen=True)
class Opposites:
    """For each of m features the one that most nearly is its opposite."""

    partner: NDArray[np.int64]
    """(m,) -1 where no feature's encoder and decoder rows both point the other way."""
    strength: NDArray[np.float64]
    """(m,) product of the two cosines, 0 to 1."""


def opposites(directions: Directions, features: Sequence[int], n_features: int) -> Opposites:
    """max over j of cos(enc_i, enc_j) cos(dec_i, dec_j) where both are negative, for each of some features i.

    Holds BLOCK x len(features) cosines at a time. Raises BadInput where there are no weights.
    Source: Sun et al. (2025), arXiv:2506.15679.
    """
    partner, strength = np.full(len(features), -1, np.int64), np.zeros(len(features))
    if not len(features):
        return Opposites(partner, strength)
    encoder, decoder = _unit(directions.encoder(features)), _unit(directions.decoder(features))
    for first in range(0, n_features, BLOCK):
        others = range(first, min(first + BLOCK, n_features))
        reads = encoder @ _unit(directions.encoder(others)).T
        writes = decoder @ _unit(directions.decoder(others)).T
        product = np.where((reads < 0) & (writes < 0), reads * writes, 0)
        best = product.argmax(axis=1)
        value = product[np.arange(len(features)), best]
        better = value > strength
        partner[better], strength[better] = first + best[better], value[better]
    return Opposites(partner, strength)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, length, out=np.zeros_like(rows), where=length > 0), np.float32)
