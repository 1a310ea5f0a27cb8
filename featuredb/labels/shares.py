"""Ranks and shares: where a figure stands among others, and the interval of a share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Z = 1.959963984540054
"""Standard deviations to either side of a normal's mean between which 95 in 100 lie."""

CHANCE = 0.05
"""P value above which a label's rank among other features' labels is one that chance gives."""


def above_baseline(low: float | None, baseline: float | None, details: Mapping[str, Any]) -> bool | None:
    """Whether a score says more than another feature's label would; None where that is not known.

    Its whole interval has to lie above the baseline, and where it was ranked among other labels (details "p", or "p_"
    and a channel) the least p value, times the channels, has to be at most CHANCE. The interval says how well this
    label's figure is known; how far apart the figures of wrong labels lie, which is more, only the rank says.
    """
    if low is None or baseline is None:
        return None
    found = [value for name, value in details.items() if (name == "p" or name.startswith("p_")) and value is not None]
    return low > baseline and (not found or min(found) * len(found) <= CHANCE)


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
