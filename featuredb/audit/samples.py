"""A few firings of each feature that stand for all of them, and how well masks of tokens tell where it fires.

The figures are those of `featuredb.labels.fit`, for many expressions and features at a time: from some hundred firings
of a feature, and its exact density. Rule: sums over firings; nothing here knows of labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.requests import Places
from featuredb.labels.evidence import Firings
from featuredb.labels.fit import PRIOR, Floats, Samples
from featuredb.predicates.text import Mask
from featuredb.progress import Progress, ProgressReport, silent

MOST = 400
"""Firings kept of a feature: 7 KiB of them."""


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


class Thin:
    """Thinned firings of F features, side by side in few arrays; a feature of which none is known is not there."""

    def __init__(self, samples: Sequence[Thinned]) -> None:
        self.features = tuple(sample.feature for sample in samples)
        self.density: Floats = np.array([sample.density for sample in samples])
        self.n_panel = np.array([sample.n_panel for sample in samples], np.int64)
        self.first: Places = np.cumsum([0, *(len(sample.at) for sample in samples)])
        """(F + 1,) where each one's firings begin in the arrays below."""
        self.at: Places = _joined([sample.at for sample in samples], np.int64)
        self.activation: NDArray[np.float32] = _joined([sample.activation for sample in samples], np.float32)
        self.weight: NDArray[np.float32] = _joined([sample.weight for sample in samples], np.float32)
        self.on_panel: Mask = _joined([sample.on_panel for sample in samples], np.bool_)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, place: int) -> Thinned:
        part = slice(self.first[place], self.first[place + 1])
        return Thinned(
            feature=self.features[place],
            density=float(self.density[place]),
            at=self.at[part],
            activation=self.activation[part],
            weight=self.weight[part],
            on_panel=self.on_panel[part],
            n_panel=int(self.n_panel[place]),
        )


def _joined(parts: Sequence[NDArray[Any]], kind: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, kind), *parts])


def thin(firings: Firings, features: Sequence[int], seed: int, progress: ProgressReport = silent) -> Thin:
    """The firings of some features that are known, MOST of each at most, drawn by seed and feature."""
    reader, found = Samples(firings), list[Thinned]()
    for number, feature in enumerate(features):
        sample = reader.of(feature)
        n = len(sample.at)
        kept = np.ones(n, np.bool_)
        if n > MOST:
            kept = np.zeros(n, np.bool_)
            kept[np.random.default_rng((seed, feature)).permutation(n)[:MOST]] = True
        order = np.flatnonzero(kept)
        order = order[np.argsort(np.abs(sample.activation[order]), kind="stable")]
        thinned = Thinned(
            feature=feature,
            density=sample.density,
            at=sample.at[order],
            activation=sample.activation[order],
            weight=sample.weights(kept)[order].astype(np.float32),
            on_panel=sample.on_panel[order],
            n_panel=int(sample.on_panel.sum()),
        )
        if n:
            found.append(thinned)
        if number % 256 == 255:
            progress(Progress("reading firings", number + 1, len(features), "features"))
    return Thin(found)


@dataclass(frozen=True)
class Fits:
    """How well masks tell where features fire, at the natural base rate: of several masks, or several features."""

    recall: Floats
    precision: Floats
    f1: Floats
    pearson: Floats


class Fitting:
    """Of some features, all that the figures of masks need beside the masks; sums are over firings, by weight."""

    def __init__(self, thin: Thin, n_tokens: int) -> None:
        """n_tokens: of the panel."""
        self._thin = thin
        self._density = thin.density
        self._mean, self._square, on_panel = np.zeros((3, len(thin)))
        for place in range(len(thin)):
            sample = thin[place]
            a = sample.activation.astype(np.float64)
            self._mean[place] = sample.density * float(sample.weight @ a)
            self._square[place] = sample.density * float(sample.weight @ (a * a))
            on_panel[place] = np.count_nonzero(sample.on_panel)
        # Of the panel's firings some were left out: those kept stand for all of them.
        self._share = thin.n_panel / np.maximum(1.0, on_panel)
        self._n_silent = n_tokens - thin.n_panel

    def of_one(self, place: int, x: NDArray[np.bool_], held: NDArray[np.int64]) -> Fits:
        """m masks on one feature, each figure (m,). x: (m, n) what they say of its firings; held: see `_fits`."""
        sample = self._thin[place]
        weight, values = sample.weight.astype(np.float64), x.astype(np.float64)
        recall, ax = values @ weight, values @ (weight * sample.activation)
        return self._fits(np.array([place]), recall, ax, values @ sample.on_panel.astype(np.float64), held)

    def of_mask(self, places: Places, mask: Mask, n_held: int) -> Fits:
        """One mask on k features, each figure (k,). mask: (N,); n_held: panel tokens it holds of."""
        thin, first = self._thin, self._thin.first
        count = first[places + 1] - first[places]
        owner = np.repeat(np.arange(len(places)), count)
        at = np.arange(len(owner)) + np.repeat(first[places] - (np.cumsum(count) - count), count)
        # Of another feature's firings a label most often holds of few: only those are added up.
        hit = np.flatnonzero(mask[thin.at[at]])
        owner, at = owner[hit], at[hit]
        weight = thin.weight[at].astype(np.float64)

        def total(values: NDArray[Any]) -> Floats:
            return np.bincount(owner, values, len(places)).astype(np.float64)

        panel = total(thin.on_panel[at])
        return self._fits(places, total(weight), total(weight * thin.activation[at]), panel, np.array([n_held]))

    def _fits(self, places: Places, recall: Floats, ax: Floats, on_panel: Floats, held: NDArray[np.int64]) -> Fits:
        """By the derivation in `featuredb.labels.fit`. held: panel tokens that each mask holds of."""
        d, mean = self._density[places], self._mean[places]
        silent = np.maximum(held - self._share[places] * on_panel, 0) + PRIOR
        both = d * recall
        base = both + (1 - d) * silent / (self._n_silent[places] + 2 * PRIOR)
        variance = np.maximum(self._square[places] - mean**2, 0)
        return Fits(
            recall=recall,
            precision=both / np.maximum(base, 1e-30),
            f1=2 * both / np.maximum(d + base, 1e-30),
            pearson=np.clip((d * ax - base * mean) / np.sqrt(np.maximum(base * (1 - base) * variance, 1e-30)), -1, 1),
        )
