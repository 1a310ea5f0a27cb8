"""How much the place in a context, or in a document, tells of whether a feature fires; for many features at once.

With D = P(fires) and bins of places b, of all tokens and of firings,

    gain = KL(P(b | fires) || P(b)) bits a firing        MI = D gain + (1 - D) KL(P(b | silent) || P(b)) bits a token.

MI cannot be more than the entropy of firing, which is 0.01 bits where D is 0.001, so rare features are told by the
gain: log2(1/s) for one that fires evenly over a share s of the places and nowhere else. Firings come in clusters: what
is independent are pieces of text, or documents for places in a document, so their number m takes the bias off,
(n_bins - 1) / (2 m ln 2), and 2 m ln 2 gain is chi squared where firing knows nothing of the place.
Source: Miller (1955), Note on the bias of information estimates.

Rule: arrays in, arrays out; thresholds and sentences are a check's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.weighted import Weighted
from featuredb.store.passages import Passages

LEAST = 0.01
"""Share of all tokens that a bin has at least; smaller ones are joined with the next."""

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Axis:
    """Places in n_bins of doubling width."""

    name: str
    """"context" or "document"."""
    bin: Places
    """(N,) of each place of the passages."""
    edges: Places
    """(n_bins,) the first place of each bin."""
    share: Floats
    """(n_bins,) of the panel's tokens."""
    cluster: Places
    """(N,) what tokens are independent by."""


@dataclass(frozen=True)
class Placed:
    """What places tell of a block of features; (n_features,) each."""

    mi: Floats
    """Bits a token, bias taken off; never below 0."""
    gain: Floats
    """Bits a firing, likewise."""
    p: Floats
    """1 where there is no firing."""
    n_clusters: Floats
    """In how many pieces, or documents, it fires."""
    density: Floats
    """(n_features, n_bins) P(fires | bin)."""


def axes(passages: Passages, panel: Places) -> tuple[Axis, Axis]:
    """Position in the context and in the document. panel: the panel's places, ascending."""
    piece = passages.piece.astype(np.int64)
    within = np.arange(passages.n_tokens) - passages.start[piece]
    position, offset = passages.position[piece] + within, passages.offset[piece] + within
    return (
        _axis("context", position, panel, piece),
        _axis("document", offset, panel, passages.document[piece].astype(np.int64)),
    )


def placed(known: Weighted, axis: Axis, density: Floats) -> Placed:
    """What an axis tells of a block of features. density: (n_features,) P(fires) over the run."""
    n, n_bins = known.n_features, len(axis.share)
    rate = np.nan_to_num(density)
    weight = known.weights(np.ones(len(known.at), np.bool_))
    cell = known.feature * n_bins + axis.bin[known.at]
    fires: Floats = np.bincount(cell, weight, n * n_bins).astype(np.float64).reshape(n, n_bins)
    silent = np.clip(axis.share - rate[:, None] * fires, 0, None)
    silent /= np.maximum(silent.sum(axis=1, keepdims=True), 1e-12)
    n_clusters = _distinct(known.feature, axis.cluster[known.at], n)
    bits = _bits(fires, axis.share)
    bias = (n_bins - 1) / (2 * np.log(2) * np.maximum(n_clusters, 1))
    gain = np.maximum(bits - bias, 0)
    mi = np.maximum(rate * gain + (1 - rate) * _bits(silent, axis.share) * _kept(gain, bits), 0)
    p = np.where(n_clusters > 0, _chi_squared(2 * n_clusters * np.log(2) * bits, n_bins - 1), 1.0)
    return Placed(mi, gain, p, n_clusters, np.clip(rate[:, None] * fires / axis.share, 0, 1))


def _kept(gain: Floats, bits: Floats) -> Floats:
    """The share of what was found that is not bias."""
    return np.divide(gain, bits, out=np.zeros_like(gain), where=bits > 0)


def _axis(name: str, place: Places, panel: Places, cluster: Places) -> Axis:
    on_panel = place[panel]
    largest = int(place.max(initial=1))
    edges = [0]
    for edge in (1 << power for power in range(1, largest.bit_length() + 1)):
        here = np.count_nonzero((on_panel >= edges[-1]) & (on_panel < edge))
        if here >= LEAST * len(panel) and np.count_nonzero(on_panel >= edge) >= LEAST * len(panel):
            edges.append(edge)
    bounds = np.array(edges, np.int64)
    which = np.searchsorted(bounds, place, side="right") - 1
    share = np.bincount(which[panel], minlength=len(bounds)) / max(1, len(panel))
    return Axis(name, which.astype(np.int64), bounds, np.maximum(share, 1e-12), cluster)


def _bits(found: Floats, share: Floats) -> Floats:
    """(n,) KL divergence of rows from a distribution."""
    ratio = np.where(found > 0, found, 1.0) / np.where(found > 0, share, 1.0)
    return np.asarray((found * np.log2(ratio)).sum(axis=1), np.float64)


def _distinct(feature: Places, cluster: Places, n: int) -> Floats:
    width = int(cluster.max(initial=0)) + 1
    return np.bincount(np.unique(feature * width + cluster) // width, minlength=n).astype(np.float64)


def _chi_squared(value: Floats, freedom: int) -> Floats:
    """(n,) the upper tail."""
    import torch

    if freedom < 1:
        return np.ones(len(value))
    half = torch.full((len(value),), freedom / 2, dtype=torch.float64)
    tail = torch.special.gammaincc(half, torch.from_numpy(np.maximum(value, 0) / 2)).numpy()
    return np.asarray(np.clip(tail, 1e-12, 1.0), np.float64)
