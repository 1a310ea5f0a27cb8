"""Moments of a hook's vectors, and of each feature's activation with them: what exact correlations need.

Both are sums of x - shift, where shift is a fixed vector near the mean, chosen once at the start of a run: residual
streams have coordinates whose mean is hundreds of times their spread, which float32 sums would not survive.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from featuredb.capture.firings import Firings

Float64 = NDArray[np.float64]

CHUNK = 1024
"""Features whose response is worked out at a time."""


class HookMoments:
    """Count, sum and scatter of (x - shift) over every counted token; shift is (d,) float32."""

    def __init__(self, shift: NDArray[np.float32]) -> None:
        self.shift = shift
        self.n = 0
        self.total = np.zeros(len(shift), dtype=np.float64)
        self.scatter = np.zeros((len(shift), len(shift)), dtype=np.float64)

    def add(self, centred: torch.Tensor) -> None:
        """centred: (n, d) float32, already less shift."""
        self.n += len(centred)
        self.total += centred.sum(dim=0, dtype=torch.float64).cpu().numpy()
        self.scatter += (centred.T @ centred).cpu().numpy()

    def merge(self, other: HookMoments) -> None:
        if not np.array_equal(self.shift, other.shift):
            raise ValueError("moments about two different shifts cannot be added")
        self.n += other.n
        self.total += other.total
        self.scatter += other.scatter

    def mean(self) -> Float64:
        """(d,) mean of x."""
        return self.shift + self.total / max(1, self.n)

    def covariance(self) -> Float64:
        """(d, d) population covariance of x."""
        offset = self.total / max(1, self.n)
        return self.scatter / max(1, self.n) - np.outer(offset, offset)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        return {"shift": self.shift, "n": np.array(self.n), "total": self.total, "scatter": self.scatter}

    @staticmethod
    def from_arrays(arrays: dict[str, NDArray[np.generic]]) -> HookMoments:
        moments = HookMoments(np.asarray(arrays["shift"], dtype=np.float32))
        moments.n = int(arrays["n"])
        moments.total = np.asarray(arrays["total"], dtype=np.float64)
        moments.scatter = np.asarray(arrays["scatter"], dtype=np.float64)
        return moments


class CrossMoments:
    """(n_features, d) float32 sums of a * (x - shift): with HookMoments they give cov(a, x) of every feature."""

    def __init__(self, n_features: int, width: int) -> None:
        self.sums = np.zeros((n_features, width), dtype=np.float32)

    def add(self, firings: Firings, centred: torch.Tensor) -> None:
        """centred: (n_rows, d) float32 of the same block, already less shift."""
        if len(firings) == 0:
            return
        starts = firings.feature_starts
        # A sparse (features x rows) by dense (rows x d) product; embedding_bag is the fastest of torch's on a CPU.
        products = torch.nn.functional.embedding_bag(
            torch.from_numpy(firings.row.astype(np.int64)).to(centred.device),
            centred,
            torch.from_numpy(starts).to(centred.device),
            mode="sum",
            per_sample_weights=torch.from_numpy(firings.activation).to(centred.device),
        )
        present = torch.from_numpy(firings.feature[starts].astype(np.int64))
        torch.from_numpy(self.sums).index_add_(0, present, products.cpu())

    def merge(self, other: CrossMoments) -> None:
        self.sums += other.sums

    def response(self, hook: HookMoments, total: Float64, deviation: Float64) -> NDArray[np.float32]:
        """(n_features, d) response directions cov(a, x) / sd(a); zero where the feature never varies.

        total, deviation: (n_features,) each feature's summed activation and its standard deviation over all tokens.
        For any read-out v, v @ response / sqrt(v' S v), S the hook's covariance, is the Pearson correlation of v'x
        with the activation.
        """
        n = max(1, hook.n)
        scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
        response = np.empty_like(self.sums)
        for start in range(0, len(response), CHUNK):  # the float64 in between is twice the size of all sums
            part = slice(start, start + CHUNK)
            covariance = self.sums[part] / n - np.outer(total[part] / n, hook.total / n)
            response[part] = covariance * scale[part, None]
        return response
