"""Bytes of a segment for each feature, with 24 + 64 examples: of the throughput's dictionary, and of the demo's.

The panel holds every activation of a fixed number of contexts, so its share does not grow with the corpus; it is told
apart by writing the segment again without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common import Bench, Figure
from benchmarks.demo import demo_store
from benchmarks.throughput import run_ingest, store_folder
from benchmarks.workload import gpt2_small, make_dictionary, make_model, make_plan

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ASKED = 6000


def measure(bench: Bench) -> list[Figure]:
    shape = gpt2_small(bench)
    large = store_folder(bench, "LM head", 0)
    if not large.exists():
        plan = make_plan(shape, make_model(bench, shape, head=True), make_dictionary(bench, shape))
        run_ingest(large, plan)
    return [
        _figure(bench, f"segment, {shape.name}", large),
        _figure(bench, "segment, demo", demo_store(bench)),
    ]


def _figure(bench: Bench, name: str, store: Path) -> Figure:
    import duckdb

    (path,) = (found for found in (store / "runs").glob("*/*.duckdb") if found.name != "contexts.duckdb")
    bare = bench.folder / f"{store.stem}-without-panel.duckdb"
    with duckdb.connect() as connection:
        n_features, n_examples = _copy_without_panel(connection, path, bare)
    whole, rest = path.stat().st_size / n_features, bare.stat().st_size / n_features
    return Figure(
        name,
        f"≤ {ASKED:,} bytes a feature",
        f"{whole:,.0f}; {rest:,.0f} without the panel",
        f"{n_features:,} features, {n_examples / n_features:.1f} examples each",
        whole <= ASKED,
    )


def _copy_without_panel(connection: DuckDBPyConnection, path: Path, out: Path) -> tuple[int, int]:
    """How many features and examples there are."""
    out.unlink(missing_ok=True)
    connection.execute(f"attach '{path}' as segment (read_only)")
    connection.execute(f"attach '{out}' as bare (storage_version 'v2.0.0')")
    for table in ("feature", "example", "meta"):
        connection.execute(f"create table bare.{table} as from segment.{table}")
    counts = connection.execute(
        "select (select count(*) from segment.feature), (select count(*) from segment.example)"
    ).fetchone()
    connection.execute("detach bare")
    assert counts is not None
    return counts
