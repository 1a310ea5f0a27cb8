"""Ranks and shares: where a figure stands among others, and the interval of a share."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Z = 1.959963984540054
"""Standard deviations to either side of a normal's mean between which 95 in 100 lie."""


def rank_among(own: float, others: NDArray[np.float64]) -> tuple[float, float]:
    """The share of the others below `own`, ties counted half, and the p value of a rank so high by chance."""
    below = float((others < own).sum() + 0.5 * (others == own).sum())
    at_least = float((others >= own).sum())
    return below / len(others), (1 + at_least) / (1 + len(others))


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95% interval of a share of n. Source: Wilson (1927), JASA 22(158)."""
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    reach = Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
    return max(0.0, centre - reach), min(1.0, centre + reach)
