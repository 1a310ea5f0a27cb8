"""The panel: a uniform sample of contexts on which every non-zero activation is kept.

Which contexts belong is decided by hash, so it is known only at the end; until then the firings of every context
that might belong lie in a file, because they may be many and memory must not grow with the corpus.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featuredb.capture.firings import Firings
from featuredb.capture.hashing import hash_contexts

RECORD = np.dtype([("feature", "<u4"), ("context", "<u4"), ("position", "<u2"), ("activation", "<f4")])
CHUNK = 1 << 20
"""Records held in memory at a time when the panel is read back."""


class PanelContexts:
    """The n contexts of smallest hash among those seen."""

    def __init__(self, n: int, seed: int) -> None:
        self.n = n
        self.seed = seed
        self.context = np.empty(0, dtype=np.int64)

    def add(self, contexts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sees some new contexts; returns those of them that belong now, sorted."""
        pool = np.concatenate([self.context, contexts])
        order = np.lexsort((pool, hash_contexts(self.seed, pool)))[: self.n]
        self.context = np.sort(pool[order])
        return np.intersect1d(contexts, self.context)

    def merge(self, other: PanelContexts) -> None:
        self.add(other.context)

    def worst_hash(self) -> np.uint64:
        """The hash to beat; the largest there is while there is room."""
        if len(self.context) < self.n:
            return np.uint64(2**64 - 1)
        return np.uint64(hash_contexts(self.seed, self.context).max())


class PanelFirings:
    """The firings of one dictionary on contexts that may belong to the panel, in a file of sorted runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ends: list[int] = []
        """Where each run ends, in records; a run is sorted by feature, context and position."""

    def add(self, firings: Firings, belonging: NDArray[np.int64]) -> None:
        inside = np.isin(firings.context, belonging)
        records = np.empty(int(inside.sum()), dtype=RECORD)
        records["feature"] = firings.feature[inside]
        records["context"] = firings.context[inside]
        records["position"] = firings.position[inside]
        records["activation"] = firings.activation[inside]
        if len(records):
            with self.path.open("ab") as file:
                file.write(records.tobytes())
            self.ends.append((self.ends[-1] if self.ends else 0) + len(records))

    def merge(self, other: PanelFirings) -> None:
        offset = self.ends[-1] if self.ends else 0
        with self.path.open("ab") as file:
            for run in other._runs():
                file.write(np.asarray(run).tobytes())
        self.ends += [offset + end for end in other.ends]

    def truncate(self, ends: list[int]) -> None:
        """Forgets what was written after a checkpoint."""
        self.ends = list(ends)
        with self.path.open("ab") as file:
            file.truncate((ends[-1] if ends else 0) * RECORD.itemsize)

    def read(self, belonging: NDArray[np.int64], n_features: int) -> Iterator[NDArray[np.void]]:
        """The firings on the contexts that belong, sorted by feature, context and position, in large pieces."""
        edges = self._feature_edges(n_features)
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            pieces = [_between(run, low, high) for run in self._runs()]
            records = np.concatenate(pieces) if pieces else np.empty(0, dtype=RECORD)
            records = records[np.isin(records["context"], belonging)]
            # Runs hold different contexts, each already in order, so this sort has little to do.
            order = np.lexsort((records["position"], records["context"], records["feature"]))
            if len(order):
                yield records[order]

    def _runs(self) -> Iterator[NDArray[np.void]]:
        """Each run, mapped only while it is looked at so that the file does not count as this process's memory."""
        begin = 0
        for end in self.ends:
            yield np.memmap(self.path, dtype=RECORD, mode="r", offset=begin * RECORD.itemsize, shape=(end - begin,))
            begin = end

    def _feature_edges(self, n_features: int) -> list[int]:
        """Feature indices that cut the records into pieces of about CHUNK."""
        counts = np.zeros(n_features, dtype=np.int64)
        for run in self._runs():
            counts += np.bincount(run["feature"], minlength=n_features)
        piece = np.cumsum(counts) // CHUNK
        cuts = np.flatnonzero(np.diff(piece)) + 1
        return [0, *cuts.tolist(), n_features]


def _between(run: NDArray[np.void], low: int, high: int) -> NDArray[np.void]:
    """A copy of a sorted run's records of features low to high."""
    first, last = np.searchsorted(run["feature"], np.array([low, high], dtype=np.uint32))
    return np.array(run[first:last])
