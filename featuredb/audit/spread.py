"""How unlike the places are at which a feature fires, and into how many parts they fall that have nothing in common.

All is done with unit vectors: the model's vectors at the dictionary's input, centred and whitened over the panel, so
that what all text shares counts for nothing. A firing's likeness to the others is the median of its cosines with them.
Of a feature of one meaning the firings least like the others are still more like them than tokens taken at random are;
of one that means two things they are not.

Rule: vectors in, figures and parts out; nothing here reads a store or knows a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.requests import Floats32

ODD = 0.1
"""Share of the firings that is looked at: those least like the others."""

RIDGE = 0.05
"""Added to every variance when whitening, as a share of their mean: directions of no variance must not count."""

APART = 0.07
"""Cosine between two parts, as a share of that within them, below which they are two meanings. Of pairs of features
nearly all are below it, and of halves of one feature few are."""

LEAST_SHARE = 0.12
"""The smallest part of the firings that is a meaning of its own."""

LEAST_PART = 4
"""Firings it needs."""

MOST_PARTS = 4

Mask = NDArray[np.bool_]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Space:
    """Where likeness is measured."""

    mean: Floats32
    """(d,)"""
    whiten: Floats32
    """(d, d)"""
    anything: Floats32
    """(m, d) unit vectors of tokens taken at random."""

    @classmethod
    def of(cls, vectors: Floats32, n_random: int = 256) -> Space:
        """vectors: (n, d) at tokens taken at random, in no order."""
        mean = vectors.mean(axis=0)
        centred = (vectors - mean).astype(np.float64)
        variance, axes = np.linalg.eigh(centred.T @ centred / max(1, len(vectors) - 1))
        scale = 1 / np.sqrt(np.maximum(variance, 0) + RIDGE * max(float(variance.mean()), 1e-12))
        whiten = ((axes * scale) @ axes.T).astype(np.float32)
        return cls(mean.astype(np.float32), whiten, unit((vectors[:n_random] - mean.astype(np.float32)) @ whiten))

    def units(self, vectors: Floats32) -> Floats32:
        """(n, d) of unit length."""
        return unit((vectors - self.mean) @ self.whiten)


@dataclass(frozen=True)
class Spread:
    """What n firings of one feature have in common."""

    alike: float
    """Mean cosine of a firing with another."""
    odd: float
    """Likeness of the firings least like the others: the mean of that tenth."""
    random: float
    """Mean likeness of tokens taken at random to the firings."""
    random_sd: float

    @property
    def distance(self) -> float:
        """How much more like the others the odd firings are than random tokens, in standard deviations of those."""
        return (self.odd - self.random) / max(self.random_sd, 1e-9)


def unit(vectors: NDArray[np.floating[Any]]) -> Floats32:
    """(n, d) rows of unit length; rows of zeros stay."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12), np.float32)


def spread(units: Floats32, anything: Floats32) -> Spread:
    """units: (n, d) of n > 1 firings; anything: (m, d) of random tokens; both of unit length."""
    n = len(units)
    cosine = units @ units.T
    off = ~np.eye(n, dtype=np.bool_)
    likeness = np.sort(np.median(cosine[off].reshape(n, n - 1), axis=1))
    random = np.median(anything @ units.T, axis=1)
    return Spread(
        alike=float(cosine[off].mean()),
        odd=float(likeness[: max(1, round(ODD * n))].mean()),
        random=float(random.mean()),
        random_sd=float(random.std()),
    )


def parts(units: Floats32) -> Labels:
    """(n,) the part each firing belongs to, the largest 0: all 0 where no two parts lie apart.

    The part that falls apart furthest is cut in two, again and again, while what is cut lies APART.
    """
    n = len(units)
    label = np.zeros(n, np.int64)
    least = max(LEAST_PART, int(np.ceil(LEAST_SHARE * n)))
    open_parts = {0: _cut(units, np.arange(n), least)}
    while len(open_parts) < MOST_PARTS:
        ready = {part: cut for part, cut in open_parts.items() if cut is not None}
        if not ready:
            break
        part = min(ready, key=lambda each: ready[each][0])
        new = len(open_parts)
        label[ready[part][1]] = new
        for each in (part, new):
            open_parts[each] = _cut(units, np.flatnonzero(label == each), least)
    order = np.argsort(-np.bincount(label), kind="stable")
    return np.argsort(order)[label].astype(np.int64)


def _cut(units: Floats32, rows: Labels, least: int) -> tuple[float, Labels] | None:
    """How nearly two parts of some firings are one, and the rows of one of them; None where they are not apart."""
    if len(rows) < 2 * least:
        return None
    own = units[rows]
    halves = _halves(own, least)
    ratios = [likeness_ratio(own, one) for one in halves]
    best = int(np.argmin(ratios)) if ratios else -1
    return (ratios[best], rows[halves[best]]) if ratios and ratios[best] < APART else None


def _halves(units: Floats32, least: int) -> Mask:
    """(k, n) ways to cut n vectors in two, each the end of 2-means on the sphere from a start along a principal
    component; none twice.
    """
    centred = units - units.mean(axis=0)
    # Of the vectors' products: they are fewer than their coordinates.
    components = np.linalg.eigh(centred @ centred.T)[1][:, :-4:-1].T
    high, low = np.quantile(components, [0.85, 0.15], axis=1)[..., None]
    found = np.concatenate([components > 0, components > high, components < low])
    total, going = units.sum(axis=0), np.ones(len(found), np.bool_)
    for _ in range(10):
        going &= _large(found, least)
        if not going.any():
            break
        now = found[going]
        inside = now.astype(np.float32) @ units
        new = (unit(inside) - unit(total - inside)) @ units.T > 0
        found[going] = new
        going[going] = (new != now).any(axis=1)
    found = found[_large(found, least)]
    found ^= found[:, :1]  # a part and the rest are the same cut
    return np.unique(found, axis=0)


def _large(ways: Mask, least: int) -> Mask:
    """(k,) whether both parts are large enough. ways: (k, n)"""
    count = np.count_nonzero(ways, axis=1)
    large: Mask = (least <= count) & (count <= ways.shape[1] - least)
    return large


def likeness_ratio(units: Floats32, one: Mask) -> float:
    """Mean cosine between two parts of vectors as a share of that within them; 1 for parts that are no parts."""
    between = float(units[one].mean(axis=0) @ units[~one].mean(axis=0))
    inside = sum(_inside(units[each]) * np.count_nonzero(each) for each in (one, ~one)) / len(units)
    return between / max(inside, 0.02)


def _inside(units: Floats32) -> float:
    n = len(units)
    total = units.sum(axis=0)
    return float(total @ total - n) / (n * (n - 1)) if n > 1 else 0.0
