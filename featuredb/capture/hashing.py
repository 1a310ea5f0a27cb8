"""The hash that chooses samples: a function of what is hashed and the seed, of nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijective 64-bit mixer. Source: splitmix64; Steele, Lea, Flood (2014), OOPSLA."""
    with np.errstate(over="ignore"):
        z = values + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def hash_visits(seed: int, feature: NDArray[np.int32], context: NDArray[np.int64]) -> NDArray[np.uint64]:
    """One 64-bit hash for each (feature, context) pair."""
    return mix(mix(mix(_seed(seed)) ^ feature.astype(np.uint64)) ^ context.astype(np.uint64))


def hash_contexts(seed: int, context: NDArray[np.int64]) -> NDArray[np.uint64]:
    """One 64-bit hash for each context."""
    return mix(mix(_seed(seed) ^ np.uint64(0x70616E656C)) ^ context.astype(np.uint64))


def _seed(seed: int) -> NDArray[np.uint64]:
    return np.array([seed], dtype=np.int64).astype(np.uint64)
