"""Seconds and peak memory of the whole audit of the demo without a language model, once it is labeled."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.common import Bench, Figure, featuredb_command, run_measured
from benchmarks.demo import demo_store

ASKED = 120


def measure(bench: Bench) -> list[Figure]:
    store = labelled_demo(bench)
    command = [featuredb_command(), "audit", "--dictionary", "demo", "--quiet", "--limit", "1", "--db", str(store)]
    seconds, peak = run_measured(command)
    found = _findings(store)
    bench.details["What the audit finds in the demo"] = _table(found)
    how = f"`featuredb audit`: every check, 2,048 features; {os.cpu_count()} cores"
    return [Figure("audit", f"≤ {ASKED} s", f"{seconds:.0f} s, peak {peak:,.0f} MiB", how, seconds <= ASKED)]


def labelled_demo(bench: Bench) -> Path:
    """A copy of the demo's store with labels, made where no other figure has yet."""
    store = bench.folder / "demo-audited.fdb"
    if not store.exists():
        shutil.copytree(demo_store(bench), store)
        subprocess.run([featuredb_command(), "label", "make", "demo", "--quiet", "--db", str(store)], check=True)
    return store


def _findings(store: Path) -> dict[str, int]:
    command = [featuredb_command(), "audit", "ls", "--json", "--db", str(store)]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["rows"]
    found: dict[str, int] = {}
    for row in rows:
        found[row["check"]] = found.get(row["check"], 0) + 1
    return found


def _table(found: dict[str, int]) -> str:
    rows = ["| finding | features |", "| --- | ---: |"]
    return "\n".join([*rows, *(f"| {name} | {n:,} |" for name, n in sorted(found.items(), key=lambda pair: -pair[1]))])
