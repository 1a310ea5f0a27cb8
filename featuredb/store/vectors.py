"""Directions of features: rows of a safetensors file, read through a memory map, and the FAISS index over them.

The index only proposes; every cosine that is answered is computed from the rows themselves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featuredb.errors import BadInput, FeatureDBError, NotFound, StoreUnusable
from featuredb.store.engine import disk_errors

Matrix = npt.NDArray[np.float32]

EXACT_ROWS = 50_000
"""Up to this many rows the index holds them as they are; past it, one bit a component."""

MIN_CANDIDATES = 1_000
"""Rows re-ranked at least when the index holds one bit a component.

60,000 x 256 rows in 600 loose clusters: recall@10 is 0.9995 with 100 candidates and 1.0 with 200. In 60 tight ones, a
thousand rows within 25 degrees of each other: 0.59 with 200, 0.985 with 800, 1.0 with 1,000. A query takes 3 ms on one
core then, most of it the exact re-ranking.
"""

_CHUNK = 16_384
_TYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2"}


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A row near a query."""

    index: int
    cosine: float


class Rows:
    """The rows of one tensor (F, d) in a safetensors file; of (F, n, d), as decoders are, each row's last vector.

    With `columns`, the columns of a tensor (d, F) in their place, as an encoder needs.
    Raises NotFound when the file or the tensor is not there, StoreUnusable when it cannot be what it says it is.
    """

    def __init__(self, path: Path, tensor: str, *, columns: bool = False) -> None:
        header, start = _header(path)
        entry = header.get(tensor)
        if entry is None:
            known = sorted(set(header) - {"__metadata__"})
            raise NotFound(f"{path} has no tensor {tensor!r}", hint=f"it has {', '.join(known)}")
        try:
            shape = tuple(int(size) for size in entry["shape"])
            kind = np.dtype(_TYPES[entry["dtype"]])
            offset = start + int(entry["data_offsets"][0])
            size = int(np.prod(shape, dtype=np.int64))
            flat: np.ndarray[Any, Any] = (
                np.memmap(path, kind, "r", offset, (size,)) if size else np.zeros(0, kind)  # a map cannot be empty
            )
            array = flat.reshape(shape)
            array = array[:, -1] if array.ndim == 3 else array
            if array.ndim != 2:
                raise ValueError(f"its shape is {list(shape)}")
        except (KeyError, IndexError, TypeError, ValueError, OverflowError, OSError) as error:
            raise StoreUnusable(f"{path}: tensor {tensor!r} cannot be read: {error}", hint=_CHECK) from error
        self._array = array.T if columns else array
        self._bfloat = entry["dtype"] == "BF16"

    def __len__(self) -> int:
        return int(self._array.shape[0])

    @property
    def width(self) -> int:
        return int(self._array.shape[1])

    def take(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]] | slice) -> Matrix:
        """The rows of those indices, (n, width) float32, in the order given. Raises IndexError."""
        found = np.ascontiguousarray(self._array[indices])
        if self._bfloat:
            return (found.astype(np.uint32) << 16).view(np.float32)
        return found.astype(np.float32)


def write_index(rows: Matrix | Rows, path: Path) -> None:
    """Writes the index over rows (F, d), each taken to unit length; a row of zeros stays so and is near nothing.

    Exact inner products up to EXACT_ROWS rows, then RaBitQ codes of one bit a component, scanned whole.
    Source: RaBitQ, Gao and Long (2024), SIGMOD, arXiv:2405.12497. Raises BadInput when a row is not finite.
    """
    import faiss

    taken = np.empty((len(rows), rows.width if isinstance(rows, Rows) else rows.shape[1]), np.float32)
    for start in range(0, len(taken), _CHUNK):
        part = slice(start, start + _CHUNK)
        taken[part] = _unit(rows.take(part) if isinstance(rows, Rows) else rows[part], start)
    metric = faiss.METRIC_INNER_PRODUCT
    if len(taken) <= EXACT_ROWS:
        index: Any = faiss.IndexFlatIP(taken.shape[1])
    else:
        index = faiss.IndexRaBitQFastScan(taken.shape[1], metric)
    index.train(taken)
    index.add(taken)
    with disk_errors(path):
        # FAISS reports a full disk as a bare RuntimeError; Python's own write says which error it was.
        path.write_bytes(faiss.serialize_index(index).data)


def nearest(
    index: Path, rows: Rows, query: npt.ArrayLike, k: int, *, skip: Collection[int] = (), candidates: int | None = None
) -> list[Neighbour]:
    """The k rows of largest cosine with `query` (width,), largest first, ties by index; never one of `skip`.

    candidates: rows the index proposes to be re-ranked; None chooses for a recall of at least 0.999 at k.
    Raises NotFound when the index is not there, BadInput when the query has another width, no length or is not finite.
    """
    direction = np.asarray(query, np.float32).reshape(1, -1)
    if direction.shape[1] != rows.width:
        raise BadInput(f"a vector of {direction.shape[1]} numbers cannot be compared with rows of {rows.width}")
    direction = _unit(direction, None)
    if not direction.any():
        raise BadInput("a vector of zeros has no direction", hint="give one that is not zero")
    found = read_index(index)
    if found.ntotal != len(rows) or found.d != rows.width:
        raise StoreUnusable(f"{index} does not belong to its vectors", hint=_CHECK)
    if candidates is not None:
        wanted = candidates
    elif len(rows) <= EXACT_ROWS:
        wanted = k + 16  # exact already; a few more settle ties
    else:
        wanted = max(MIN_CANDIDATES, 40 * k)
    left_out = np.fromiter(skip, np.int64, len(skip))
    near = _propose(found, direction, wanted, left_out)
    if not len(near):
        return []
    near = np.sort(near)  # the map is read in the order it lies on the disk
    cosines = _cosines(rows.take(near), direction[0])
    order = np.lexsort((near, -cosines))[:k]
    return [Neighbour(int(near[i]), float(cosines[i])) for i in order]


def _cosines(rows: Matrix, direction: Matrix) -> npt.NDArray[np.float64]:
    """Cosines of some rows with a unit direction; 0 for a row of zeros."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    cosines = np.zeros(len(rows))
    np.divide(rows @ direction, lengths, out=cosines, where=lengths > 0)
    return cosines


def index_fault(path: Path, rows: Rows, sample: npt.NDArray[np.int64]) -> str | None:
    """What is wrong between an index and its vectors, looking closely at the rows of `sample`; None when nothing is."""
    try:
        index = read_index(path)
        expected = _unit(rows.take(sample), None)
    except FeatureDBError as error:
        return error.message
    if index.ntotal != len(rows) or index.d != rows.width:
        return f"{index.ntotal} vectors of {index.d} for {len(rows)} rows of {rows.width}"
    for number, row in zip(sample.tolist(), expected, strict=True):
        kept = _unit(index.reconstruct(number).reshape(1, -1), None)[0]
        # One bit a component keeps about 0.8 of a row's direction, and of no other row's more than a little.
        near = row @ kept > 0.5 if row.any() else True
        if not (near if len(rows) > EXACT_ROWS else np.allclose(row, kept, atol=1e-5)):
            return f"vector {number} is not that of row {number}"
    return None


def read_index(path: Path) -> Any:
    """The FAISS index at `path`, kept in memory until the file changes. Raises NotFound, StoreUnusable."""
    try:
        stat = path.stat()
    except FileNotFoundError as error:
        raise NotFound(f"no index at {path}", hint=_CHECK) from error
    return _read_index(path, stat.st_mtime_ns, stat.st_size, stat.st_ino)


@lru_cache(maxsize=16)
def _read_index(path: Path, *version: int) -> Any:
    import faiss

    try:
        return faiss.deserialize_index(np.frombuffer(path.read_bytes(), np.uint8))
    except RuntimeError as error:
        raise StoreUnusable(f"{path} cannot be read as an index", hint=_CHECK) from error


def _propose(index: Any, direction: Matrix, wanted: int, left_out: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """At least `wanted` indices the index finds near and that are not left out, or all there are."""
    depth = wanted + min(len(left_out), 4 * wanted)
    while True:
        depth = min(depth, index.ntotal)
        if depth == 0:
            return np.zeros(0, np.int64)
        _, proposed = index.search(direction, depth)
        near: npt.NDArray[np.int64] = proposed[0][proposed[0] >= 0]
        near = near[~np.isin(near, left_out)]
        if len(near) >= wanted or depth == index.ntotal:
            return near[:wanted]
        depth *= 4


def _unit(rows: Matrix, first: int | None) -> Matrix:
    """The rows at unit length. `first`: the first one's index, for the error; None when they are no stored rows."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        bad = int(np.flatnonzero(~np.isfinite(lengths[:, 0]))[0])
        raise BadInput("a vector is not finite" if first is None else f"row {first + bad} is not finite")
    unit = np.zeros(rows.shape, np.float32)
    np.divide(rows, lengths, out=unit, where=lengths > 0, casting="same_kind")
    return unit


_CHECK = "run `featuredb check` on the store"


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """A safetensors file's header, and where its data begins."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > os.fstat(file.fileno()).st_size:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
    except FileNotFoundError as error:
        raise NotFound(f"no vectors at {path}", hint=_CHECK) from error
    except (ValueError, RecursionError) as error:
        raise StoreUnusable(f"{path} is no safetensors file: {error}", hint=_CHECK) from error
    if not isinstance(header, dict):
        raise StoreUnusable(f"{path} is no safetensors file", hint=_CHECK)
    return header, 8 + length
