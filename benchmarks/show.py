"""Milliseconds of `db.feature(...)` inside a process, from a store of 100,000 features with their examples.

The store is a real one: a small random model and dictionary over enough text that features have examples. Features are
asked for in random order, none twice, among those that have an example.
"""

from __future__ import annotations

import random
import statistics
import time
from pathlib import Path

from benchmarks.common import Bench, Figure, timed
from benchmarks.throughput import run_ingest
from benchmarks.workload import Shape, make_dictionary, make_model, make_plan

ASKED = 10.0
N_WARM = 20


def measure(bench: Bench) -> list[Figure]:
    shape = Shape("wide", 1, 64, "layers.0.resid_post", bench.choose(100_000, 2_000), 64, bench.choose(131_072, 4_096))
    path = bench.folder / "wide.fdb"
    plan = make_plan(shape, make_model(bench, shape, head=True), make_dictionary(bench, shape))
    seconds, _ = run_ingest(path, plan)
    bench.say(f"store of {shape.n_features:,} features made in {seconds:.0f} s")
    return _figures(path, shape, bench.choose(1000, 50))


def _figures(path: Path, shape: Shape, n: int) -> list[Figure]:
    from featuredb.database import open as open_store

    with open_store(path) as db:
        alive = db.sql("select feature from feature where n_fires > 0 order by feature")["feature"].to_pylist()
        chosen = random.Random(0).sample(alive, min(n + N_WARM, len(alive)))
    with open_store(path) as db:
        first = timed(lambda: db.feature(f"{shape.name}/{chosen[0]}"))
        for index in chosen[1:N_WARM]:
            db.feature(f"{shape.name}/{index}")
        spent, shown = [], []
        for index in chosen[N_WARM:]:
            start = time.perf_counter()
            card = db.feature(f"{shape.name}/{index}")
            spent.append(1000 * (time.perf_counter() - start))
            shown.append(len(card.examples))
    half, *_ = statistics.quantiles(spent, n=2)
    tail = statistics.quantiles(spent, n=20)[-1]
    return [
        Figure(
            "show",
            f"p50 ≤ {ASKED:.0f} ms",
            f"p50 {half:.1f} ms, p95 {tail:.1f} ms",
            f"{len(spent):,} of {shape.n_features:,} features, {statistics.mean(shown):.1f} examples each; "
            f"the first took {1000 * first:.0f} ms",
            half <= ASKED,
        )
    ]
