"""Finding the directions of features nearest a query: exactly up to a size, past it through an index of one bit codes.

The index only proposes; every score that is answered is computed from the rows themselves.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featuredb.errors import BadInput, FeatureDBError, NotFound, StoreUnusable
from featuredb.progress import ProgressReport, silent
from featuredb.store.engine import disk_errors
from featuredb.store.index import CodedIndex
from featuredb.store.mapped import CHECK, Matrix, Rows

__all__ = [
    "EXACT_ROWS",
    "Neighbour",
    "Rows",
    "best_scores",
    "exact_scores",
    "highest",
    "index_fault",
    "nearest",
    "read_index",
    "write_index",
]

EXACT_ROWS = 50_000
"""Up to this many rows every one is looked at; past it, an index of one bit a component says which."""

FIRST_DEPTH = 8_192
"""Rows that the index proposes at first. Of 1,000,000 x 768 in clusters tight and loose the median query needs 800 of
them, and to propose 8,192 takes the scan a quarter longer than to propose ten."""

HOPELESS = 8
"""Where more than one row in so many would be looked at out of order, looking at all of them in order is quicker. So it
is where no row stands out, as among directions drawn at random."""

_SLACK = 16
"""Rows past the answer that are scored in double precision, so that rounding decides no place in it."""

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A row near a query."""

    index: int
    cosine: float


def highest(
    rows: Rows,
    query: npt.ArrayLike,
    k: int,
    *,
    unit: bool,
    keep: Mask | None = None,
    index: CodedIndex | None = None,
    seen: Floats | None = None,
    candidates: int | None = None,
) -> tuple[Indices, Floats]:
    """The k rows that score highest with `query` (width,), highest first and ties by index, and their scores.

    unit: the score is the cosine, 0 for a row of zeros; otherwise the inner product.
    keep: (F,) the rows that may be answered; None: all.
    index: looked in first where given; `seen` is the query in the index's frame, where that is not the rows' own.
    candidates: rows the index proposes to be looked at; None looks at as many as the answer needs.
    """
    direction = _query(query, rows.width, unit)
    most = len(rows) if keep is None else int(np.count_nonzero(keep))
    if most == 0 or k < 1:
        return np.zeros(0, np.int64), np.zeros(0)
    if keep is not None and most <= max(len(rows) // HOPELESS, 4 * k) and most < len(rows):
        return _best(rows, np.flatnonzero(keep), direction, k, unit)
    if index is not None:
        found = _through_index(rows, direction, k, unit, keep, index, direction if seen is None else seen, candidates)
        if found is not None:
            return _best(rows, found, direction, k, unit)
    scores = _scores(rows, direction, unit)
    if keep is not None:
        scores = np.where(keep, scores, -np.inf)
    return _best(rows, _top(scores, min(k + _SLACK, most)), direction, k, unit)


def exact_scores(rows: Rows, indices: Indices, query: npt.ArrayLike, *, unit: bool) -> Floats:
    """(n,) the scores of some rows with `query`, in double precision: the same to the last bit that `highest` gives."""
    return _exact(rows, indices, _query(query, rows.width, unit), unit)


def _exact(rows: Rows, indices: Indices, direction: Floats, unit: bool) -> Floats:
    taken = rows.take(indices).astype(np.float64)
    # Not through BLAS, where a row's sum depends on how many rows are beside it.
    scores: Floats = (taken * direction).sum(axis=1)
    if unit:
        lengths = np.sqrt((taken * taken).sum(axis=1))
        scores = np.divide(scores, lengths, out=np.zeros(len(taken)), where=lengths > 0)
    return scores


def best_scores(rows: Rows, queries: Floats, *, unit: bool, keep: Mask | None = None) -> Floats:
    """(n,) what the best row scores with each of (n, width) queries, in single precision; -inf where none is kept.

    One pass over the rows, a part at a time. unit, keep: as for `highest`; queries are taken as they are.
    """
    best = np.full(len(queries), -np.inf)
    turned = np.ascontiguousarray(queries.T, np.float32)
    for part, taken in rows.chunks():
        if keep is not None and not keep[part].all():
            taken = taken[keep[part]]
        if len(taken):
            scores = taken @ turned
            if unit:
                lengths = np.sqrt(np.einsum("ij,ij->i", taken, taken))
                scores /= np.where(lengths > 0, lengths, np.inf)[:, None]
            np.maximum(best, scores.max(axis=0), out=best)
    return best


def nearest(
    index: Path, rows: Rows, query: npt.ArrayLike, k: int, *, skip: Collection[int] = (), candidates: int | None = None
) -> list[Neighbour]:
    """The k rows of largest cosine with `query` (width,), largest first, ties by index; never one of `skip`.

    index: of the rows at unit length; looked in where there are more than EXACT_ROWS.
    candidates: rows the index proposes to be looked at; None looks at as many as the answer needs.
    Raises NotFound when the index is needed and not there, BadInput when the query has another width, no length or is
    not finite.
    """
    _query(query, rows.width, unit=True)
    coded = None
    if len(rows) > EXACT_ROWS:
        found = read_index(index)
        coded = found if isinstance(found, CodedIndex) else None  # of an earlier form: every row is looked at
        if _shape(found) != (len(rows), rows.width):
            raise StoreUnusable(f"{index} does not belong to its vectors", hint=CHECK)
    keep = None
    if skip:
        keep = np.ones(len(rows), np.bool_)
        keep[np.fromiter(skip, np.int64, len(skip))] = False
    near, cosines = highest(rows, query, k, unit=True, keep=keep, index=coded, candidates=candidates)
    return [Neighbour(number, cosine) for number, cosine in zip(near.tolist(), cosines.tolist(), strict=True)]


def write_index(
    rows: Matrix | Rows,
    path: Path,
    *,
    unit: bool = True,
    through: Matrix | None = None,
    of: str = "",
    report: ProgressReport = silent,
) -> None:
    """Writes the index over rows (F, d): of zeros, a row stays so and is near nothing.

    unit: the rows are taken to unit length. through: (d, d) what they are multiplied by first, for a query that will be
    seen in that frame. of: a name for the rows' contents, kept in a coded index.
    Exact inner products up to EXACT_ROWS rows, then codes of one bit a component: see `CodedIndex.build`.
    Raises BadInput when a row is not finite.
    """
    import faiss

    def take(part: slice) -> Matrix:
        taken = rows.take(part) if isinstance(rows, Rows) else np.asarray(rows[part], np.float32)
        return _prepared(taken, unit, through, part.start)

    n_rows, width = len(rows), rows.width if isinstance(rows, Rows) else rows.shape[1]
    if n_rows > EXACT_ROWS:
        CodedIndex.build(take, n_rows, width, of, report).save(path)
        return
    index = faiss.IndexFlatIP(width)
    index.add(take(slice(0, n_rows)))
    with disk_errors(path):
        # FAISS reports a full disk as a bare RuntimeError; Python's own write says which error it was.
        path.write_bytes(faiss.serialize_index(index).data)


def read_index(path: Path) -> Any:
    """The index at `path`, kept in memory until the file changes: a CodedIndex, or FAISS's own of few rows.

    Raises NotFound, StoreUnusable.
    """
    try:
        stat = path.stat()
    except FileNotFoundError as error:
        raise NotFound(f"no index at {path}", hint=CHECK) from error
    return _read_index(path, stat.st_mtime_ns, stat.st_size, stat.st_ino)


def index_fault(
    path: Path, rows: Rows, sample: Indices, *, unit: bool = True, through: Matrix | None = None
) -> str | None:
    """What is wrong between an index and its vectors, looking closely at the rows of `sample`; None when nothing is.

    unit, through: as they were given to `write_index`.
    """
    try:
        index = read_index(path)
        expected = _prepared(rows.take(sample), unit, through, None)
    except FeatureDBError as error:
        return error.message
    if (shape := _shape(index)) != (len(rows), rows.width):
        return f"{shape[0]} vectors of {shape[1]} for {len(rows)} rows of {rows.width}"
    if isinstance(index, CodedIndex):
        alike = index.agreement(expected, sample) > 0.4
    else:
        alike = np.isclose(index.reconstruct_batch(sample), expected, atol=1e-5).all(axis=1)
    return None if alike.all() else f"vector {(wrong := sample[alike.argmin()])} is not that of row {wrong}"


def _shape(index: Any) -> tuple[int, int]:
    """How many rows an index holds, and how wide they are."""
    return (len(index), index.width) if isinstance(index, CodedIndex) else (index.ntotal, index.d)


@lru_cache(maxsize=16)
def _read_index(path: Path, *version: int) -> Any:
    import faiss

    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{":  # safetensors: eight bytes of length, then JSON
        return CodedIndex.load(path)
    try:
        return faiss.deserialize_index(np.frombuffer(path.read_bytes(), np.uint8))
    except RuntimeError as error:
        raise StoreUnusable(f"{path} cannot be read as an index", hint=CHECK) from error


def _through_index(
    rows: Rows,
    direction: Floats,
    k: int,
    unit: bool,
    keep: Mask | None,
    index: CodedIndex,
    seen: Floats,
    candidates: int | None,
) -> Indices | None:
    """The rows among which the answer is; None where looking at all rows is quicker than finding out."""
    most = len(rows) // HOPELESS
    # Where rows differ in length, those that lie nearest the query are not those that score highest.
    depths = (max((1 if unit else 4) * candidates, FIRST_DEPTH),) if candidates else (min(FIRST_DEPTH, most), most)
    for depth in dict.fromkeys(depths):
        proposal = index.propose(seen, max(depth, k))
        near, estimate, bound = proposal.index, proposal.estimate, proposal.bound
        if keep is not None:
            kept = keep[near]
            near, estimate, bound = near[kept], estimate[kept], bound[kept]
        if candidates:
            return near[_top(estimate, candidates)]
        if len(near) < k:
            continue
        head = _top(estimate, min(4 * k + _SLACK, len(near)))
        # The k-th score among the likeliest rows: the answer's last is no lower.
        last = float(np.partition(_scores_of(rows, np.sort(near[head]), direction, unit), len(head) - k)[len(head) - k])
        hopeful = bound >= last
        hopeful[head] = True
        if np.count_nonzero(hopeful) > most:
            return None
        if proposal.ceiling <= last:
            return near[hopeful]
    return None


def _best(rows: Rows, among: Indices, direction: Floats, k: int, unit: bool) -> tuple[Indices, Floats]:
    """The k best of some rows, scored in double precision once single precision has left a few more than k."""
    among = np.sort(among)  # the map is read in the order it lies on the disk
    if len(among) > k + _SLACK:
        scores = np.concatenate(
            [_scores_of(rows, part, direction, unit) for part in np.array_split(among, -(-len(among) // 16_384))]
        )
        among = np.sort(among[_top(scores, k + _SLACK)])
    exact = _exact(rows, among, direction, unit)
    order = np.lexsort((among, -exact))[:k]
    return among[order], exact[order]


def _scores_of(rows: Rows, among: Indices, direction: Floats, unit: bool) -> Matrix:
    """(n,) scores of some rows, in single precision."""
    taken = rows.take(among)
    # Not through BLAS: so few rows are done before its threads are awake.
    products = np.einsum("ij,j->i", taken, direction.astype(np.float32))
    return _over_lengths(products, np.sqrt(np.einsum("ij,ij->i", taken, taken))) if unit else products


def _scores(rows: Rows, direction: Floats, unit: bool) -> Matrix:
    """(F,) scores of all rows, in single precision."""
    products = rows.products(direction.astype(np.float32)[None])[0]
    return _over_lengths(products, rows.lengths()) if unit else products


def _over_lengths(products: Matrix, lengths: Matrix) -> Matrix:
    return np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)


def _top(scores: Matrix, k: int) -> Indices:
    """Places of the k largest, in no order."""
    if k >= len(scores):
        return np.arange(len(scores))
    return np.argpartition(scores, len(scores) - k)[len(scores) - k :]


def _query(query: npt.ArrayLike, width: int, unit: bool) -> Floats:
    direction = np.asarray(query, np.float64).reshape(-1)
    if len(direction) != width:
        raise BadInput(f"a vector of {len(direction)} numbers cannot be compared with rows of {width}")
    length = float(np.linalg.norm(direction))
    if not np.isfinite(length):
        raise BadInput("a vector is not finite")
    if length == 0:
        raise BadInput("a vector of zeros has no direction", hint="give one that is not zero")
    return direction / length if unit else direction


def _prepared(rows: Matrix, unit: bool, through: Matrix | None, first: int | None) -> Matrix:
    """Rows as an index holds them. `first`: the first one's index, for the error; None when they are no stored rows."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))[:, None]
    if not np.isfinite(lengths).all():
        bad = int(np.flatnonzero(~np.isfinite(lengths[:, 0]))[0])
        raise BadInput("a vector is not finite" if first is None else f"row {first + bad} is not finite")
    if unit:
        rows = np.divide(rows, lengths, out=np.zeros(rows.shape, np.float32), where=lengths > 0, casting="same_kind")
    return rows if through is None else rows @ through
