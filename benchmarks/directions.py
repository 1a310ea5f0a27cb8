"""Finding the nearest of a million directions: recall, speed against an exact scan, memory, and the time to build.

Rows lie in clusters of mixed size and tightness, from near copies (cosine 0.9 among one another) to clusters that
hardly stand out from the rest (0.2). Half of the queries are rows with noise on them, from a little to twice their
length, and half are new draws of the clusters. For correlations the rows are response directions of a stream with a few
coordinates of very large variance: of every length up to 1 in the frame in which that stream is white.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Bench, Figure, timed
from featuredb.search.spaces import highest_shares
from featuredb.store.index import CodedIndex
from featuredb.store.moments import Moments, read_moments
from featuredb.store.vectors import Rows, highest, read_index, write_index

LEAST_RECALL, LEAST_SPEED, MOST_MEMORY, MOST_SECONDS = 0.999, 12.0, 0.05, 60.0
K = 10
N_QUERIES = 200
N_SHARES = 40
TIGHTEST, LOOSEST = 0.3, 2.0
"""Length of the noise around a cluster's centre, whose own length is 1."""
NOISES = (0.1, 0.5, 1.0, 2.0)
"""Of the queries that are rows with noise on them."""
CHUNK = 50_000

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class World:
    """Rows in a file, and what is asked of them."""

    path: Path
    shape: tuple[int, int]
    queries: Float32
    """(n, width) whose inner products with the rows are the scores."""
    unit: bool
    moments: Moments | None

    def rows(self) -> Rows:
        return Rows(self.path, "rows")


def measure(bench: Bench) -> list[Figure]:
    shape = (bench.choose(1_000_000, 60_000), bench.choose(768, 128))
    figures = []
    for unit in (True, False):
        world = make(bench.folder, *shape, n_clusters=bench.choose(2_000, 120), unit=unit)
        figures += _figures(bench, world)
        world.path.unlink()
    return figures


def make(folder: Path, n: int, width: int, *, n_clusters: int, unit: bool, seed: int = 0) -> World:
    """A file of clustered rows, of length 1 or of any length and in an uneven stream, and queries to ask of them."""
    random = np.random.default_rng(seed)
    moments = None if unit else _uneven_stream(folder, width)
    centres = _unit(random.standard_normal((n_clusters, width), np.float32))
    spread = np.geomspace(TIGHTEST, LOOSEST, n_clusters).astype(np.float32)
    size = np.exp(0.8 * random.standard_normal(n_clusters))
    size /= size.sum()
    owner = random.choice(n_clusters, n, p=size)
    shuffled = np.sort(random.choice(n, N_QUERIES // 2, replace=False))
    kept = np.empty((len(shuffled), width), np.float32)

    def draw(owners: NDArray[np.int64]) -> Float32:
        noise = random.standard_normal((len(owners), width), np.float32) / width**0.5
        return _unit(centres[owners] + spread[owners, None] * noise)

    def chunks() -> Iterator[Float32]:
        for start in range(0, n, CHUNK):
            rows = draw(owner[start : start + CHUNK])
            mine = (shuffled >= start) & (shuffled < start + CHUNK)
            kept[mine] = rows[shuffled[mine] - start]
            if moments is not None:  # white rows of every length up to 1, taken into the stream's own frame
                rows *= random.uniform(0.05, 0.95, (len(rows), 1)).astype(np.float32)
                rows = rows @ moments.root.T.astype(np.float32)
            yield rows

    path = folder / f"{'unit' if unit else 'response'}.safetensors"
    save_rows(path, (n, width), chunks())
    noise = random.standard_normal(kept.shape, np.float32) * random.choice(NOISES, (len(kept), 1)) / width**0.5
    fresh = draw(random.choice(n_clusters, N_QUERIES - len(kept), p=size))
    queries = _unit(np.concatenate([kept + noise, fresh]).astype(np.float32))
    if moments is not None:  # the read-outs that look so in the white frame
        queries = np.linalg.solve(moments.root.T, queries.T).T.astype(np.float32)
    return World(path, (n, width), queries, unit, moments)


def save_rows(path: Path, shape: tuple[int, int], chunks: Iterator[Float32]) -> None:
    """A safetensors file of one tensor, written as it is made."""
    n_bytes = 4 * shape[0] * shape[1]
    header = json.dumps({"rows": {"dtype": "F32", "shape": list(shape), "data_offsets": [0, n_bytes]}}).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for chunk in chunks:
            file.write(np.ascontiguousarray(chunk, np.float32).data)


def _figures(bench: Bench, world: World) -> list[Figure]:
    import faiss

    rows, path = world.rows(), world.path.with_suffix(".faiss")
    through = None if world.moments is None else world.moments.of_responses()
    build = timed(lambda: write_index(rows, path, unit=world.unit, through=through))
    index = read_index(path)
    share = path.stat().st_size / (4 * world.shape[0] * world.shape[1])
    flat = faiss.IndexFlatIP(world.shape[1])
    for _, part in rows.chunks():
        flat.add(part)
    best, _ = flat.search(world.queries, K)
    seen = None if world.moments is None else world.moments.of_read_outs(world.queries.astype(np.float64))

    def ask(number: int) -> NDArray[np.float64]:
        frame = None if seen is None else seen[number]
        return highest(rows, world.queries[number], K, unit=world.unit, index=index, seen=frame)[1]

    hits = sum(int((ask(i) >= best[i, -1] - 1e-6 * abs(best[i, 0])).sum()) for i in range(len(best)))
    recall = hits / best.size
    shares = [] if world.moments is None else [_shares(world, rows, index)]
    speeds = {}
    for threads in dict.fromkeys((faiss.omp_get_max_threads(), 1)):
        speeds[threads] = _speed(ask, lambda i: flat.search(world.queries[i : i + 1], K), threads)
    name = f"directions, {'cosine' if world.unit else 'correlation'}"
    how = f"{world.shape[0]:,} × {world.shape[1]}, {len(best)} queries, clusters tight and loose"
    (both, ours, theirs), one = next(iter(speeds.values())), speeds[1]
    bench.say(f"{name}: recall {recall:.4f}, {both:.1f} × ({one[0]:.1f} × on one thread), built in {build:.1f} s")
    return [
        Figure(f"{name}, recall@10", f"≥ {LEAST_RECALL}", f"{recall:.4f}", how, recall >= LEAST_RECALL),
        Figure(
            f"{name}, speed",
            f"≥ {LEAST_SPEED:.0f} × an exact scan",
            f"{both:.1f} ×; {ours:.1f} and {theirs:.0f} ms; {one[0]:.1f} × on one thread",
            "p50 of single queries against faiss.IndexFlatIP, in turns, with the same threads",
            both >= LEAST_SPEED,
        ),
        *shares,
        Figure(
            f"{name}, memory", f"≤ {MOST_MEMORY:.0%} of the rows", f"{share:.1%}", "the index", share <= MOST_MEMORY
        ),
        Figure(f"{name}, build", f"≤ {MOST_SECONDS:.0f} s", f"{build:.1f} s", "read, encoded, written", build <= 60),
    ]


def _shares(world: World, rows: Rows, index: CodedIndex) -> Figure:
    """What `correlate` does: the ten of largest share among the thousand of highest correlation."""
    moments = world.moments
    assert moments is not None
    spent: tuple[list[float], list[float]] = ([], [])
    n_same = 0
    chosen = world.queries[:: N_QUERIES // N_SHARES].astype(np.float64)
    for read_out in chosen:
        answers = []
        for seconds, how in zip(spent, (index, None), strict=True):
            start = time.perf_counter()
            answers.append(highest_shares(rows, moments, read_out, K, index=how)[0])
            seconds.append(1000 * (time.perf_counter() - start))
        n_same += len(set(answers[0].tolist()) & set(answers[1].tolist()))
    ours, theirs = map(statistics.median, spent)
    return Figure(
        "directions, as correlate sorts",
        "",
        f"{n_same / (K * len(chosen)):.4f} of the exact answer; {ours:.0f} and {theirs:.0f} ms",
        "ten of largest share among the thousand of highest correlation, with the index and without",
    )


def _speed(ask: Callable[[int], object], scan: Callable[[int], object], threads: int) -> tuple[float, float, float]:
    """How many times slower the scan is, and both medians in milliseconds; the two take turns."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        ours: list[float] = []
        theirs: list[float] = []
        for number in range(0, N_QUERIES, 2):
            for work, spent in ((ask, ours), (scan, theirs)):
                start = time.perf_counter()
                work(number)
                spent.append(1000 * (time.perf_counter() - start))
    finally:
        faiss.omp_set_num_threads(before)
    mine, scans = statistics.median(ours), statistics.median(theirs)
    return scans / mine, mine, scans


def _uneven_stream(folder: Path, width: int) -> Moments:
    """The moments of a stream whose variances fall off as a power, with a few coordinates far above the others."""
    from safetensors.numpy import save_file

    random = np.random.default_rng(5)
    basis, _ = np.linalg.qr(random.standard_normal((width, width)))
    covariance = (basis * np.arange(1, width + 1) ** -1.0) @ basis.T
    loud = random.choice(width, 3, replace=False)
    covariance[loud, loud] += 100.0
    path = folder / "stream.safetensors"
    save_file({"n": np.array([10**6]), "mean": np.zeros(width), "covariance": covariance}, path)
    return read_moments(path)


def _unit(rows: Float32) -> Float32:
    unit: Float32 = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
