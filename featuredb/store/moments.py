"""A hook's mean and covariance as a run keeps them, and the frame in which correlations are plain inner products."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featuredb.errors import NotFound, StoreUnusable
from featuredb.store.mapped import CHECK, Matrix

Float64 = NDArray[np.float64]

FILTER_RIDGE = 1e-3
"""Of the mean variance, added to each when patterns are made read-outs; 1e-4 and 1e-2 rank features as well."""

_RIDGE = 1e-6
"""Of each coordinate's variance, added so that a covariance of few or dependent tokens has a root."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Of a hook's vectors, over every counted token of a run."""

    n: int
    mean: Float64
    """(d,)"""
    covariance: Float64
    """(d, d)"""
    root: Float64
    """(d, d) lower triangular: root @ root.T is the covariance, but for a ridge of a millionth."""

    @property
    def width(self) -> int:
        return len(self.mean)

    def spread(self, read_outs: Float64) -> Float64:
        """(n,) standard deviation of v'x for each read-out v of (n, d)."""
        variance = np.einsum("ij,ij->i", read_outs @ self.covariance, read_outs)
        spread: Float64 = np.sqrt(np.maximum(variance, 0.0))
        return spread

    def read_out_of(self, pattern: Float64) -> Float64:
        """(d,) the read-out of what adds `pattern` (d,) to the hook's vectors: the covariance's inverse times it.

        Source: Haufe et al. (2014), NeuroImage 87.
        """
        ridge = FILTER_RIDGE * float(np.diag(self.covariance).mean())
        return np.asarray(np.linalg.solve(self.covariance + ridge * np.eye(self.width), pattern), np.float64)

    def of_read_outs(self, read_outs: Float64) -> Float64:
        """Read-outs (n, d) in the frame in which the hook's vectors have unit covariance: those of length 1 there have
        a standard deviation of 1, and their inner products with response directions in it are correlations."""
        seen: Float64 = read_outs @ self.root
        return seen

    def reach(self, responses: Matrix) -> Float64:
        """(n,) the largest correlation that any read-out has with the features of those response directions (n, d)."""
        seen = responses.astype(np.float64) @ self._inverse.T
        reach: Float64 = np.maximum(np.sqrt((seen**2).sum(axis=1)), np.finfo(np.float64).tiny)
        return reach

    def of_responses(self) -> Matrix:
        """(d, d) what takes response directions, as rows, into that frame: there none is longer than 1, and a coded
        index errs by the same small share of a correlation for all. In the stream's own frame a few coordinates of
        large variance are most of every response, and codes of one bit keep nothing of the others."""
        return np.ascontiguousarray(self._inverse.T, np.float32)

    @cached_property
    def _inverse(self) -> Float64:
        """(d, d) of the root."""
        return np.asarray(np.linalg.inv(self.root), np.float64)


def read_moments(path: Path) -> Moments:
    """The moments that a run wrote. Raises NotFound, StoreUnusable."""
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise NotFound(f"no moments at {path}", hint=CHECK) from error
    return _read(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=64)
def _read(path: Path, *version: int) -> Moments:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found = load_file(path)
        covariance = np.asarray(found["covariance"], np.float64)
        mean = np.asarray(found["mean"], np.float64)
        if covariance.shape != (len(mean), len(mean)) or not np.isfinite(covariance).all():
            raise ValueError(f"its covariance has shape {covariance.shape}, or is not finite")
        return Moments(int(found["n"].item()), mean, covariance, _root(covariance))
    except (SafetensorError, KeyError, ValueError) as error:
        raise StoreUnusable(f"{path} cannot be read as moments: {error}", hint=CHECK) from error


def _root(covariance: Float64) -> Float64:
    diagonal = np.diag(covariance)
    floor = max(float(diagonal.max(initial=0.0)) * 1e-12, np.finfo(np.float64).tiny)
    ridge = _RIDGE
    while True:
        try:
            return np.asarray(np.linalg.cholesky(covariance + np.diag(ridge * diagonal + floor)), np.float64)
        except np.linalg.LinAlgError:  # rounding has made it a little less than positive
            ridge *= 100
            floor *= 100
