"""A few firings of each feature that stand for all of them, and how well masks of tokens tell where it fires.

The figures are those of `featuredb.labels.fit`, for many expressions and features at a time: from some hundred firings
of a feature, and its exact density. Rule: sums over firings; nothing here knows of labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.requests import Places
from featuredb.labels.evidence import Firings
from featuredb.labels.fit import PRIOR, Floats, Samples
from featuredb.predicates.text import Mask
from featuredb.progress import Progress, ProgressReport, silent

MOST = 400
"""Firings kept of a feature: 5 KiB of them."""

Bits = NDArray[np.uint8]


@dataclass(frozen=True)
class Thinned:
    """Firings of one feature, n of them, strongest last."""

    feature: int
    density: float
    at: Places
    """(n,) places of the passages."""
    activation: NDArray[np.float32]
    weight: NDArray[np.float32]
    """(n,) what each counts for, so that a weighted mean is one over all firings; they add up to 1."""
    on_panel: Mask
    n_panel: int
    """Firings on the panel, counted before any was left out."""

    @property
    def strengths(self) -> Floats:
        """(n,) the weights with each firing counted by its activation."""
        found: Floats = self.weight.astype(np.float64) * np.abs(self.activation.astype(np.float64))
        total = float(found.sum())
        return found / total if total else found


def thin(firings: Firings, features: Sequence[int], seed: int, progress: ProgressReport = silent) -> dict[int, Thinned]:
    """The firings of some features that are known, MOST of each at most, drawn by seed and feature."""
    reader, found = Samples(firings), {}
    for number, feature in enumerate(features):
        sample = reader.of(feature)
        n = len(sample.at)
        kept = np.ones(n, np.bool_)
        if n > MOST:
            kept = np.zeros(n, np.bool_)
            kept[np.random.default_rng((seed, feature)).permutation(n)[:MOST]] = True
        order = np.flatnonzero(kept)
        order = order[np.argsort(np.abs(sample.activation[order]), kind="stable")]
        found[feature] = Thinned(
            feature=feature,
            density=sample.density,
            at=sample.at[order],
            activation=sample.activation[order],
            weight=sample.weights(kept)[order].astype(np.float32),
            on_panel=sample.on_panel[order],
            n_panel=int(sample.on_panel.sum()),
        )
        if number % 256 == 255:
            progress(Progress("reading firings", number + 1, len(features), "features"))
    return found


@dataclass(frozen=True)
class Fits:
    """How well m masks tell where one feature fires, at the natural base rate; each (m,)."""

    recall: Floats
    precision: Floats
    f1: Floats
    pearson: Floats


def look_up(bits: Sequence[Bits], at: Places) -> NDArray[np.bool_]:
    """(m, n) what m packed masks say at n places."""
    if not len(bits):
        return np.zeros((0, len(at)), np.bool_)
    byte, shift = at >> 3, (7 - (at & 7)).astype(np.uint8)
    return np.stack([(each[byte] >> shift) & 1 for each in bits]).view(np.bool_)


def fits(sample: Thinned, x: NDArray[np.bool_], held: NDArray[np.int64], n_tokens: int) -> Fits:
    """The figures of m masks. x: (m, n) what they say of the sample's firings; held: (m,) panel tokens they hold of.

    By the derivation in `featuredb.labels.fit`.
    """
    weight, a = sample.weight.astype(np.float64), sample.activation.astype(np.float64)
    values = x.astype(np.float64)
    recall, ax = values @ weight, values @ (weight * a)
    on_panel = sample.on_panel.astype(np.float64)
    share = sample.n_panel / max(1.0, float(on_panel.sum()))
    d = sample.density
    n_silent = n_tokens - sample.n_panel
    silent = (np.maximum(held - share * (values @ on_panel), 0) + PRIOR) / (n_silent + 2 * PRIOR)
    both = d * recall
    base = both + (1 - d) * silent
    mean, square = d * float(weight @ a), d * float(weight @ (a * a))
    spread = np.sqrt(np.maximum(base * (1 - base) * max(square - mean**2, 0), 1e-30))
    return Fits(
        recall=recall,
        precision=both / np.maximum(base, 1e-30),
        f1=2 * both / np.maximum(d + base, 1e-30),
        pearson=np.clip((d * ax - base * mean) / spread, -1, 1),
    )
