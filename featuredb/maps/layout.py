"""Dictionaries laid out in two dimensions, so that features of near decoder directions lie near each other.

1. Features that fire and have a decoder row are taken; each row to unit length, for only directions count.
2. UMAP (McInnes et al., 2018, arXiv:1802.03426) of cosine distances, seeded, so that a machine gives the same again.
3. Past MANY features: of the first components of their PCA, from which UMAP also starts, and in fewer epochs.

Rule: features in, positions out. Where a map is kept is `kept`'s business, how it looks that of `plots`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featuredb.errors import PluginFailed
from featuredb.progress import Progress, ProgressReport, silent
from featuredb.store.vectors import Rows

MANY = 50_000
"""Features past which whole directions take gigabytes, and UMAP's spectral start may never come to an end."""

COMPONENTS = 50
EPOCHS = 100
"""For many features; UMAP's own choice is 500 up to 10,000 points and 200 past them."""

FEW = 20
"""Up to this many features, their neighbours say too little for UMAP's spectral start."""

SECONDS_A_FEATURE = 0.003
"""On one core, at most: 0.0028 of 16,384 features of width 768, 0.0019 of 30,000, 0.0014 of 60,000 by components."""

_CHUNK = 16_384


def lay_out(
    rows: Rows, features: NDArray[np.int64], *, seed: int, neighbors: int, progress: ProgressReport = silent
) -> NDArray[np.float32]:
    """(n, 2) positions of some features. rows: every feature's direction; those of `features` are not zero.

    Raises PluginFailed where umap-learn is not installed.
    """
    n = len(features)
    umap = _umap(progress, n)
    if n < 3:
        return np.stack([np.arange(n), np.zeros(n)], axis=1).astype(np.float32)
    settings: dict[str, Any] = {"init": "pca" if n <= FEW else "spectral"}
    if n > MANY:
        vectors = _components(rows, features, min(COMPONENTS, rows.width))
        settings = {"init": "pca", "n_epochs": EPOCHS, "low_memory": True}
    else:
        vectors = _unit(rows.take(features))
    progress(Progress("map", 0, n, "features", note=cost(n)))
    with _quiet():
        found = umap.UMAP(
            n_components=2,
            metric="cosine",
            n_neighbors=max(min(neighbors, n - 1), 2),
            random_state=seed,
            n_jobs=1,  # more would be refused beside a seed
            **settings,
        ).fit_transform(vectors)
    progress(Progress("map", n, n, "features"))
    positions: NDArray[np.float32] = np.asarray(found, dtype=np.float32)
    return positions


def cost(n: int) -> str:
    """What a layout of n features takes, in words."""
    minutes = n * SECONDS_A_FEATURE / 60
    said = "under a minute" if minutes < 0.75 else f"about {max(round(minutes), 1):,} min on one core"
    return f"{said}, by {COMPONENTS} principal components" if n > MANY else said


def with_direction(rows: Rows, features: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of some features whose row is not zero."""
    parts = [features[start : start + _CHUNK] for start in range(0, len(features), _CHUNK)]
    return np.concatenate([part[rows.take(part).any(axis=1)] for part in parts]) if parts else features


def _components(rows: Rows, features: NDArray[np.int64], n_components: int) -> NDArray[np.float32]:
    """(n, n_components): the unit rows along the directions in which they vary most."""
    mean, square = np.zeros(rows.width), np.zeros((rows.width, rows.width))
    parts = [features[start : start + _CHUNK] for start in range(0, len(features), _CHUNK)]
    for part in parts:
        unit = _unit(rows.take(part))
        mean += unit.sum(axis=0, dtype=np.float64)
        square += unit.T @ unit
    mean /= len(features)
    _, vectors = np.linalg.eigh(square / len(features) - np.outer(mean, mean))
    first = vectors[:, ::-1][:, :n_components].astype(np.float32)
    return np.concatenate([(_unit(rows.take(part)) - mean.astype(np.float32)) @ first for part in parts])


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _umap(progress: ProgressReport, n: int) -> Any:
    progress(
        Progress("map", 0, n, "features", note="umap-learn is compiled as it is loaded, which takes half a minute")
    )
    try:
        with _quiet():
            import umap
    except ImportError as error:
        raise PluginFailed(
            f"maps need umap-learn, which cannot be loaded: {error}", hint="pip install 'featuredb[plots]'"
        ) from error
    return umap


@contextmanager
def _quiet() -> Iterator[None]:
    """umap and numba warn of what they chose themselves: threads, dense matrices, unconnected neighbours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
