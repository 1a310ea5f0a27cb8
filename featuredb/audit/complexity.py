"""How early in a model a feature can be read off by a linear map; one ridge per layer for all features at once.

For each residual hook up to the dictionary's own, a = h W + b is fitted on tokens of one half of the documents and its
R2 is measured on the other. A map without a threshold tells only part of an activation that is mostly 0, even where the
dictionary reads; what earlier hooks tell is held against that:

    K = 1 - mean over earlier hooks of min(1, R2 / R2 at the dictionary's own hook),

near 0 where the embedding already tells the feature, near 1 where the last layers make it. Source: Fel et al. (2024),
arXiv:2407.06076, who take 1 - mean R2 over all layers, which for sparse features says how sparse they are first of all.

Rule: arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.panel import Fired

LEAST_R2 = 0.05
"""What the dictionary's own hook has to tell of a feature for it to be said when the others do."""

RIDGE = 1e-3
"""Beside the mean eigenvalue of X'X: what every direction has added."""

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Readout:
    """How well each feature is read at each hook."""

    hooks: tuple[str, ...]
    r2: Floats
    """(n_hooks, n_features) on tokens that nothing was fitted on, 0 to 1; NaN where a feature fires too seldom."""
    n_fitted: Places
    """(n_features,) firings among the tokens fitted on."""
    n_measured: Places

    @property
    def complexity(self) -> Floats:
        """(n_features,) K; NaN where even the last hook tells too little, and where there is no earlier one."""
        own = self.r2[-1]
        if len(self.hooks) < 2:
            return np.full(len(own), np.nan)
        told = np.minimum(self.r2[:-1] / np.where(own >= LEAST_R2, own, np.nan), 1)
        return np.asarray(1 - told.mean(axis=0), np.float64)


def read_out(
    layers: Mapping[str, Floats32], fired: Fired, columns: Places, fitted: NDArray[np.bool_], least: int
) -> Readout:
    """Reads every feature off every hook.

    layers: (n, d) vectors by hook; columns: (n,) which of the panel's tokens they are of, ascending; fitted: (n,)
    whether a token is fitted on; least: firings that either part has to have.
    """
    row = np.full(fired.n_tokens, -1, np.int64)
    row[columns] = np.arange(len(columns))
    here = np.flatnonzero(row[fired.column] >= 0)
    rows, feature = row[fired.column[here]], fired.feature[here].astype(np.int64)
    value = fired.activation[here].astype(np.float32)
    parts = {True: fitted[rows], False: ~fitted[rows]}
    counts = {part: np.bincount(feature[chosen], minlength=fired.n_features) for part, chosen in parts.items()}
    known = np.minimum(counts[True], counts[False]) >= least
    r2 = np.full((len(layers), fired.n_features), np.nan)
    for number, vectors in enumerate(layers.values()):
        first, second = parts[True], parts[False]
        weights, bias = _solve(vectors, fitted, (rows[first], feature[first], value[first]), fired.n_features)
        found = _r2(vectors[~fitted], (_places(~fitted)[rows[second]], feature[second], value[second]), weights, bias)
        r2[number] = np.where(known, np.clip(found, 0, 1), np.nan)
    return Readout(tuple(layers), r2, counts[True], counts[False])


def _solve(
    vectors: Floats32, fitted: NDArray[np.bool_], sparse: tuple[Places, Places, Floats32], n_features: int
) -> tuple[Floats, Floats]:
    """(d, n_features) and (n_features,): the ridge of every feature at once."""
    x = vectors[fitted].astype(np.float64)
    mean = x.mean(axis=0)
    x -= mean
    rows, feature, value = sparse
    n = len(x)
    a_mean = np.bincount(feature, value, n_features) / n
    # The vectors' mean is off, so that of the activations does not matter here.
    cross = _cross(x, _places(fitted)[rows], feature, value, n_features)
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += RIDGE * np.trace(gram) / len(gram) + 1e-12
    weights = np.linalg.solve(gram, cross)
    return np.asarray(weights, np.float64), np.asarray(a_mean - mean @ weights, np.float64)


def _r2(x: Floats32, sparse: tuple[Places, Places, Floats32], weights: Floats, bias: Floats) -> Floats:
    """(n_features,) 1 - E[(a - x W - b)^2] / Var(a), from moments of x and the sparse a alone."""
    rows, feature, value = sparse
    n, n_features = len(x), len(bias)
    x64 = x.astype(np.float64)
    mean, gram = x64.mean(axis=0), x64.T @ x64 / n
    a = np.bincount(feature, value, n_features) / n
    aa = np.bincount(feature, value.astype(np.float64) ** 2, n_features) / n
    cross = _cross(x64, rows, feature, value, n_features) / n
    said = mean @ weights
    squares = (weights * (gram @ weights)).sum(axis=0) + 2 * bias * said + bias**2
    lost = aa - 2 * ((weights * cross).sum(axis=0) + bias * a) + squares
    spread = aa - a**2
    return np.where(spread > 0, 1 - lost / np.where(spread > 0, spread, 1.0), np.nan)


def _cross(x: Floats, rows: Places, feature: Places, value: Floats32, n_features: int) -> Floats:
    """(d, n_features) X'A, A sparse; its firings are by feature."""
    import torch

    start = np.concatenate([[0], np.cumsum(np.bincount(feature, minlength=n_features))])
    sums = torch.nn.functional.embedding_bag(
        torch.from_numpy(rows),
        torch.from_numpy(np.ascontiguousarray(x, np.float32)),
        torch.from_numpy(start[:-1].astype(np.int64)),
        mode="sum",
        per_sample_weights=torch.from_numpy(np.ascontiguousarray(value, np.float32)),
    )
    return np.asarray(sums.numpy().T, np.float64)


def _places(chosen: NDArray[np.bool_]) -> Places:
    """(n,) the number of each row among those chosen."""
    return np.asarray(np.cumsum(chosen) - 1, np.int64)
