"""What a run ought to leave, worked out the slow way: plain transformers, sae-lens's own encode, numpy and Python.

Rule: nothing of featuredb is called here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

BOS = 0
RADIUS = 32
LOWEST_EXPONENT, N_BINS = -20, 40
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Place:
    """One token of a row; document and offset are -1 where the packing put it there."""

    token: int
    document: int
    offset: int

    @property
    def counted(self) -> bool:
        return self.token != BOS


Row = list[Place]


def rows_by_hand(documents: Sequence[Sequence[int]], kind: str, length: int, n_tokens: int | None) -> list[Row]:
    """The rows of a packing: each opens with BOS; `concat` also puts it between documents, `document` opens a row."""
    special = Place(BOS, -1, -1)
    rows: list[Row] = []
    row: Row = []
    for number, ids in enumerate(documents):
        for offset, token in enumerate(ids):
            if (not row or offset == 0) and token != BOS:
                row.append(special)
            if len(row) == length:  # the separator took the last place
                rows.append(row)
                row = [special]
            row.append(Place(token, number, offset))
            if len(row) == length:
                rows.append(row)
                row = []
        if kind == "document" and row:
            rows.append(row)
            row = []
    if row:
        rows.append(row)
    return rows if n_tokens is None else _cut(rows, n_tokens)


def _cut(rows: list[Row], n_tokens: int) -> list[Row]:
    """The rows up to the n-th counted token."""
    kept: list[Row] = []
    for row in rows:
        kept.append([])
        for place in row:
            kept[-1].append(place)
            n_tokens -= place.counted
            if n_tokens == 0:
                return kept
    return kept


def hidden_states(model: Any, rows: Sequence[Row], layers: Sequence[int]) -> dict[int, list[Float32]]:
    """For each layer, the output of its block on each row: (T, d) each. One row at a time, so nothing is padded."""
    found: dict[int, list[Float32]] = {layer: [] for layer in layers}
    for row in rows:
        with torch.inference_mode():
            output = model(torch.tensor([[place.token for place in row]]), output_hidden_states=True)
        for layer in layers:
            found[layer].append(output.hidden_states[layer + 1][0].numpy())
    return found


@dataclass(frozen=True)
class Oracle:
    """What one dictionary does on the counted tokens of some rows."""

    rows: list[Row]
    x: Float32
    """(n, d) the hook's vectors."""
    acts: Float32
    """(n, F)"""

    @staticmethod
    def make(rows: list[Row], states: list[Float32], folder: Path) -> Oracle:
        from sae_lens import SAE

        counted = [[place.counted for place in row] for row in rows]
        x = np.concatenate([state[mask] for state, mask in zip(states, counted, strict=True)])
        with torch.inference_mode():
            acts = SAE.load_from_disk(folder).encode(torch.from_numpy(x)).numpy()
        return Oracle(rows, x, acts)

    @property
    def n_features(self) -> int:
        return int(self.acts.shape[1])

    @cached_property
    def context(self) -> NDArray[np.int64]:
        """(n,) the row of each counted token."""
        return np.array([index for index, row in enumerate(self.rows) for place in row if place.counted])

    @cached_property
    def position(self) -> NDArray[np.int64]:
        """(n,) its place in the row."""
        return np.array([position for row in self.rows for position, place in enumerate(row) if place.counted])

    @cached_property
    def dense(self) -> Float32:
        """(rows, longest, F) activations, 0 where no token counts."""
        grid = np.zeros((len(self.rows), max(map(len, self.rows)), self.n_features), dtype=np.float32)
        grid[self.context, self.position] = self.acts
        return grid

    @cached_property
    def peaks(self) -> Float32:
        """(rows, F) each row's largest activation."""
        peaks: Float32 = self.dense.max(axis=1)
        return peaks

    @cached_property
    def n_contexts(self) -> NDArray[np.int64]:
        return np.asarray((self.peaks > 0).sum(axis=0))

    def firing(self, feature: int) -> NDArray[np.float64]:
        """The feature's activations that are not zero."""
        return np.asarray(self.acts[self.acts[:, feature] > 0, feature], dtype=np.float64)

    def histogram(self, feature: int, error: float = 0.0) -> NDArray[np.int64]:
        """Counts by floor(log2 a), of activations that are off by an error, relative and absolute."""
        values = np.maximum(self.firing(feature) * (1 + error) + error, 2.0**LOWEST_EXPONENT)
        bins = np.floor(np.log2(values)).astype(int) - LOWEST_EXPONENT
        return np.bincount(np.clip(bins, 0, N_BINS - 1), minlength=N_BINS)

    def strongest(self, feature: int, k: int) -> list[int]:
        """The rows of its k largest peaks, in order; of equal ones the earlier first."""
        order = sorted((-float(peak), row) for row, peak in enumerate(self.peaks[:, feature]) if peak > 0)
        return [row for _, row in order[:k]]

    def sampled(self, feature: int, k: int, seed: int) -> list[int]:
        """The k rows of smallest hash where it fires."""
        firing = [row for row, peak in enumerate(self.peaks[:, feature]) if peak > 0]
        return sorted(firing, key=lambda row: visit_hash(seed, feature, row))[:k]

    def window(self, feature: int, row: int, peak: int) -> tuple[int, list[int]]:
        """Where the window's first firing is, and from there to its last the shares of the peak in 1/255."""
        low, high = self.document_bounds(row, peak)
        places = range(max(low, peak - RADIUS), min(high, peak + RADIUS + 1))
        values = {place: float(self.dense[row, place, feature]) for place in places}
        fires = [place for place, value in values.items() if value > 0]
        top = values[peak]
        shares = [max(1, round(255 * values[p] / top)) if values[p] else 0 for p in range(fires[0], fires[-1] + 1)]
        return fires[0], shares

    def document_bounds(self, row: int, position: int) -> tuple[int, int]:
        """The stretch of a row that belongs to the document of a position."""
        mine = [p for p, place in enumerate(self.rows[row]) if place.document == self.rows[row][position].document]
        return mine[0], mine[-1] + 1

    def covariance(self) -> NDArray[np.float64]:
        return np.cov(self.x.astype(np.float64), rowvar=False, bias=True)

    def response(self, feature: int) -> NDArray[np.float64]:
        """(d,) cov(x, a) / sd(a); zero for a feature that never fires."""
        a = self.acts[:, feature].astype(np.float64)
        centred = self.x.astype(np.float64) - self.x.astype(np.float64).mean(axis=0)
        return np.zeros(self.x.shape[1]) if a.std() == 0 else centred.T @ (a - a.mean()) / len(a) / a.std()


def mix(value: int) -> int:
    """splitmix64; Steele, Lea, Flood (2014)."""
    whole = 2**64 - 1
    z = (value + 0x9E3779B97F4A7C15) & whole
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & whole
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & whole
    return z ^ (z >> 31)


def visit_hash(seed: int, feature: int, row: int) -> int:
    return mix(mix(mix(seed % 2**64) ^ feature) ^ row)


def row_hash(seed: int, row: int) -> int:
    return mix(mix(seed % 2**64 ^ int.from_bytes(b"panel")) ^ row)


def in_widest_gap(values: NDArray[np.float64], quantile: float) -> float:
    """A number between two neighbours of `values`, near a quantile, where they stand farthest apart."""
    ordered = np.sort(values)
    middle = int(quantile * len(ordered))
    near = ordered[max(0, middle - 40) : middle + 40]
    widest = int(np.diff(near).argmax())
    return float(near[widest : widest + 2].mean())
