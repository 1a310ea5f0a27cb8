"""Many directions at one bit a component, scanned whole: the codes propose rows, and say how far they may be wrong.

Rule: estimates only. Every score that is answered is computed from the rows themselves, elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featuredb.errors import StoreUnusable
from featuredb.progress import Progress, ProgressReport, silent
from featuredb.store.engine import disk_errors
from featuredb.store.mapped import CHECK, CHUNK_BYTES, Matrix, Vector

FORMAT = "featuredb.index.v1"

SHARD_ROWS = 1 << 20
"""Rows that one thread scans; several threads take a shard each."""

CERTAIN = 4.0
"""How many standard deviations of an estimate's error a row's score is taken to lie above it at most: it lies higher
once in 30,000 times."""

_ERROR = (np.pi / 2 - 1) ** 0.5
"""Standard deviation of the estimate of a cosine, times the root of the width."""

_MEAN_COSINE = (2 / np.pi) ** 0.5
"""Of a row and its code, after a rotation that spreads every row evenly."""

_SAMPLE_BLOCKS, _BLOCK_ROWS = 64, 512
_SEED = 20_240_521

Take = Callable[[slice], Matrix]


@dataclass(frozen=True, slots=True)
class Proposal:
    """Rows that seem to score high with a query, in no order."""

    index: npt.NDArray[np.int64]
    estimate: Vector
    bound: Vector
    """What each row's score does not exceed; see CERTAIN."""
    ceiling: float
    """What the scores of rows that are missing here do not exceed; -inf where none is missing."""


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """A fixed random rotation: what makes the codes' error the same for all rows, whatever coordinates stand out.

    Two rounds of signs and of products with two small orthogonal matrices, (a, a) and (b, b) where a * b is the width:
    it costs the (a + b)-th part of a full matrix and mixes as well.
    """

    signs: Matrix
    """(2, width)"""
    left: Matrix
    """(2, a, a)"""
    right: Matrix
    """(2, b, b)"""

    @staticmethod
    def make(width: int) -> Rotation:
        random = np.random.default_rng(_SEED)
        a = next(size for size in range(int(width**0.5), 0, -1) if width % size == 0)
        signs = random.choice(np.array([-1, 1], np.float32), (2, width))
        return Rotation(signs, _orthogonal(random, a), _orthogonal(random, width // a))

    def __call__(self, rows: Matrix) -> Matrix:
        """(n, width) rows turned."""
        a, b = self.left.shape[1], self.right.shape[1]
        turned = rows
        for signs, left, right in zip(self.signs, self.left, self.right, strict=True):
            within = (turned * signs).reshape(-1, b) @ right
            across = np.ascontiguousarray(within.reshape(-1, a, b).transpose(0, 2, 1)).reshape(-1, a) @ left
            turned = across.reshape(-1, a * b)
        return turned


class CodedIndex:
    """Codes of the rows of one matrix. A row's score with a query is estimated as

        centre . query + length of (row - centre) * length of query * their cosine, by the row's signs

    Source: RaBitQ, Gao and Long (2024), SIGMOD, arXiv:2405.12497. A code here is RaBitQ's: the signs of the rotated
    difference from the centre. Its estimator divides by each row's own cosine with its code; the mean of all takes its
    place, which the error below includes, and so FAISS's scan of four-bit tables needs no arithmetic for each row and
    takes half the time of its RaBitQ index (8.7 and 16 ms for 1,000,000 x 768 on one thread).
    """

    def __init__(self, shards: list[Any], rotation: Rotation, centre: Vector, lengths: Vector, of: str) -> None:
        self._shards = shards
        self._starts = np.cumsum([0, *(shard.ntotal for shard in shards)])
        self._rotation = rotation
        self._centre = centre
        self._lengths = lengths
        self._longest = float(lengths.max(initial=0.0))
        self.of = of
        """The name that `build` was given for the rows' contents."""

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def width(self) -> int:
        return len(self._centre)

    @staticmethod
    def build(take: Take, n_rows: int, width: int, of: str = "", report: ProgressReport = silent) -> CodedIndex:
        """The index over the rows that `take` gives, (n, width) float32 for a slice of them.

        It holds a bit for each component and a float for each row: 1/32 of the rows' own bytes and a little.
        """
        rotation = Rotation.make(width)
        centre = np.concatenate([take(part) for part in _sample_parts(n_rows)]).mean(axis=0, dtype=np.float64)
        centre32 = centre.astype(np.float32)
        lengths = np.empty(n_rows, np.float32)
        step = max(32, CHUNK_BYTES // (4 * width) // 32 * 32)
        size = -(-n_rows // -(-n_rows // SHARD_ROWS) // 32) * 32  # FAISS lays 32 codes side by side
        shards = []
        for first in range(0, n_rows, size):
            shard = _empty_shard(width)
            end = min(first + size, n_rows)
            for start in range(first, end, step):
                part = slice(start, min(start + step, end))
                rows = take(part) - centre32
                lengths[part] = np.sqrt(np.einsum("ij,ij->i", rows, rows))
                shard.add(_padded(rotation(rows)))
                report(Progress("index", part.stop, n_rows, "directions"))
            shards.append(shard)
        return CodedIndex(shards, rotation, centre32, lengths, of)

    def propose(self, query: npt.NDArray[np.floating[Any]], depth: int) -> Proposal:
        """The `depth` rows of each shard whose difference from the centre seems to lie nearest `query` (width,)."""
        length = float(np.linalg.norm(query))
        turned = _padded(self._rotation(np.asarray(query / length, np.float32).reshape(1, -1)))
        found = _each(lambda shard: _scan(shard, turned, depth), self._shards)
        index = np.concatenate([start + near for start, (_, near) in zip(self._starts, found, strict=False)])
        root = self.width**0.5
        cosine = np.concatenate([sums for sums, _ in found]) / np.float32(root * _MEAN_COSINE)
        doubt = CERTAIN * _ERROR / root
        offset = float(query @ self._centre)
        lengths = self._lengths[index] * np.float32(length)
        estimate = lengths * cosine + np.float32(offset)
        bound = estimate + lengths * np.float32(doubt)
        # Where a shard has more rows than it gave, none of them seems nearer than the last that it gave.
        last = [
            float(sums[-1]) if len(sums) else np.inf
            for (sums, _), shard in zip(found, self._shards, strict=True)
            if shard.ntotal > len(sums)
        ]
        ceiling = -np.inf
        if last:
            most = max(last) / (root * _MEAN_COSINE) + doubt
            ceiling = offset + length * most * (self._longest if most > 0 else 0.0)
        return Proposal(index, estimate, bound, ceiling)

    def agreement(self, rows: Matrix, numbers: npt.NDArray[np.int64]) -> Vector:
        """(n,) cosine of each of some rows (n, width), as `take` gave them, with the code of that number: about 0.8
        where they belong together, and near 0 where they do not. 1 for a row at the centre."""
        turned = _padded(self._rotation(rows - self._centre))
        shard = np.searchsorted(self._starts, numbers, side="right") - 1
        signs = np.stack(
            [
                self._shards[at].reconstruct(int(number - self._starts[at]))
                for at, number in zip(shard.tolist(), numbers.tolist(), strict=True)
            ]
        )
        lengths = np.sqrt(np.einsum("ij,ij->i", turned, turned)) * self.width**0.5
        products = np.einsum("ij,ij->i", turned, signs)
        found: Vector = np.divide(products, lengths, out=np.ones(len(rows), np.float32), where=lengths > 0)
        return found

    def save(self, path: Path) -> None:
        """Writes one safetensors file: each shard as FAISS serializes it, and what else a query needs."""
        import faiss
        from safetensors.numpy import save_file

        arrays: dict[str, npt.NDArray[Any]]
        arrays = {f"shard.{number}": faiss.serialize_index(shard) for number, shard in enumerate(self._shards)}
        arrays |= {"signs": self._rotation.signs, "left": self._rotation.left, "right": self._rotation.right}
        arrays |= {"centre": self._centre, "lengths": self._lengths}
        about = {"n_shards": len(self._shards), "of": self.of}
        with disk_errors(path):
            save_file(arrays, path, metadata={FORMAT: json.dumps(about, sort_keys=True)})

    @staticmethod
    def load(path: Path) -> CodedIndex:
        """The index that `save` wrote. Raises StoreUnusable where the file is none, or broken."""
        import faiss
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                about = json.loads((file.metadata() or {})[FORMAT])
                shards = [faiss.deserialize_index(file.get_tensor(f"shard.{n}")) for n in range(about["n_shards"])]
                rotation = Rotation(*(file.get_tensor(name) for name in ("signs", "left", "right")))
                return CodedIndex(shards, rotation, file.get_tensor("centre"), file.get_tensor("lengths"), about["of"])
        except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
            raise StoreUnusable(f"{path} cannot be read as an index", hint=CHECK) from error


def _empty_shard(width: int) -> Any:
    """A FAISS index whose codes are signs: four of them to a code of four bits, none of it trained."""
    import faiss

    groups = -(-width // 4)
    shard = faiss.IndexPQFastScan(4 * groups, groups, 4, faiss.METRIC_INNER_PRODUCT)
    patterns = np.where(np.arange(16)[:, None] >> np.arange(4) & 1, 1.0, -1.0).astype(np.float32)
    faiss.copy_array_to_vector(np.tile(patterns, (groups, 1)).ravel(), shard.pq.centroids)
    shard.is_trained = True
    return shard


def _scan(shard: Any, query: Matrix, depth: int) -> tuple[Vector, npt.NDArray[np.int64]]:
    """The sums over their signs of the `depth` rows for which these are highest, highest first, and the rows."""
    sums, near = shard.search(query, min(depth, shard.ntotal))
    there = near[0] >= 0  # of equal sums at the very bottom FAISS gives none
    return sums[0][there], near[0][there]


def _padded(rows: Matrix) -> Matrix:
    """Rows with zeros behind them up to a multiple of four."""
    missing = -rows.shape[1] % 4
    return np.pad(rows, ((0, 0), (0, missing))) if missing else np.ascontiguousarray(rows)


def _each(work: Callable[[Any], Any], shards: list[Any]) -> list[Any]:
    """What `work` makes of each shard, on as many threads as FAISS is allowed."""
    import faiss

    n_threads = min(len(shards), faiss.omp_get_max_threads())
    return [work(shard) for shard in shards] if n_threads < 2 else list(_pool(n_threads).map(work, shards))


@lru_cache(maxsize=1)
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="featuredb-scan")


def _sample_parts(n_rows: int) -> list[slice]:
    """Short stretches of rows, evenly apart."""
    starts = np.linspace(0, max(0, n_rows - _BLOCK_ROWS), _SAMPLE_BLOCKS).astype(np.int64)
    return [slice(start, min(start + _BLOCK_ROWS, n_rows)) for start in dict.fromkeys(starts.tolist())]


def _orthogonal(random: np.random.Generator, size: int) -> Matrix:
    """(2, size, size) two of them, uniformly drawn."""
    q, r = np.linalg.qr(random.standard_normal((2, size, size)))
    return np.asarray(q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :], np.float32)
