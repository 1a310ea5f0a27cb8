"""Seconds to label and score all features of the demo without a language model, once its text is in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from benchmarks.common import Bench, Figure, featuredb_command, run_measured
from benchmarks.demo import demo_store

ASKED = 90


def measure(bench: Bench) -> list[Figure]:
    store = bench.folder / "demo-timed-labels.fdb"
    shutil.copytree(demo_store(bench), store)  # other figures want the demo as it was left
    command, where = featuredb_command(), ("--again", "--quiet", "--db", str(store))
    label, label_peak = run_measured([command, "label", "make", "demo", *where])
    score, score_peak = run_measured([command, "score", "demo", *where])
    n_features, n_labels = _counts(store)
    seconds = label + score
    return [
        Figure(
            "labelling",
            f"≤ {ASKED} s",
            f"{seconds:.0f} s, peak {max(label_peak, score_peak):,.0f} MiB",
            f"`label make demo` {label:.0f} s, `score demo` {score:.0f} s; {n_features:,} features, of which "
            f"{n_labels:,} fire often enough; {os.cpu_count()} cores",
            seconds <= ASKED,
        )
    ]


def _counts(store: Path) -> tuple[int, int]:
    """How many features there are, and how many have a label."""
    from featuredb.database import open as open_store

    with open_store(store) as db:
        features = db.sql("select count(*) as n from feature")["n"].to_pylist()[0]
        return features, len({label.feature for label in db.labels()})
