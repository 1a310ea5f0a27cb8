"""Seconds and peak memory of `featuredb demo`, once it is installed."""

from __future__ import annotations

from pathlib import Path

from benchmarks.common import Bench, Figure, featuredb_command, run_measured

ASKED = 240


def measure(bench: Bench) -> list[Figure]:
    store = bench.folder / "demo-timed.fdb"
    seconds, peak = run_measured([featuredb_command(), "demo", "--quiet", "--db", str(store)])
    store.rename(_kept(bench))
    how = "`featuredb demo`: 500,000 tokens, then the tour"
    return [Figure("demo", f"≤ {ASKED} s", f"{seconds:.0f} s, peak {peak:,.0f} MiB", how, seconds <= ASKED)]


def demo_store(bench: Bench) -> Path:
    """The store that the demo leaves, made where no other figure has yet."""
    if not _kept(bench).exists():
        measure(bench)
    return _kept(bench)


def _kept(bench: Bench) -> Path:
    return bench.folder / "demo.fdb"
