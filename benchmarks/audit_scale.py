"""Seconds and peak memory of labelling and auditing a dictionary of a hundred thousand features."""

from __future__ import annotations

from benchmarks.common import Bench, Figure, featuredb_command, run_measured
from benchmarks.larger import larger_store

ASKED, HOUR = 2, 3600


def measure(bench: Bench) -> list[Figure]:
    store, n_features = larger_store(bench)
    command = featuredb_command()
    label, label_peak = run_measured([command, "label", "make", "larger", "--quiet", "--db", str(store)])
    bench.say(f"labelled in {label:.0f} s")
    seconds, peak = run_measured([command, "audit", "--quiet", "--limit", "1", "--db", str(store)])
    how = f"mixtures of the demo's features: {n_features:,}, 156 of them on a token; 500,000 tokens"
    said = f"{seconds / HOUR:.2f} h, peak {peak:,.0f} MiB"
    return [
        Figure("audit_scale: labelling", "", f"{label / HOUR:.2f} h, peak {label_peak:,.0f} MiB", how),
        Figure("audit_scale: audit", f"≤ {ASKED} h", said, f"`featuredb audit`: every check; {how}", seconds <= 7200),
    ]
