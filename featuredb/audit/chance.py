"""What chance alone gives: p values from draws, and which of many are still worth believing."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

RATE = 0.05
"""False discovery rate at which checks flag."""

Floats = NDArray[np.float64]


def empirical_p(value: float, null: ArrayLike) -> float:
    """Chance of a value as large where the null holds, from draws under it; never 0.

    Source: Davison and Hinkley (1997), Bootstrap Methods and their Application, section 4.2.
    """
    draws = np.asarray(null, np.float64)
    return float((1 + np.count_nonzero(draws >= value)) / (1 + draws.size))


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """(n,) for each of n p values the least false discovery rate at which it is still among the discoveries.

    NaN, which is no test, stays NaN and is not counted. Source: Benjamini and Hochberg (1995), JRSS B 57(1).
    """
    values = np.asarray(p, np.float64)
    found = np.full(values.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(values))
    if not len(tested):
        return found
    order = tested[np.argsort(values[tested], kind="stable")]
    rates = values[order] * len(order) / np.arange(1, len(order) + 1)
    found[order] = np.minimum(np.minimum.accumulate(rates[::-1])[::-1], 1.0)
    return found
