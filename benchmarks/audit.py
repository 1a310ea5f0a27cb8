"""Seconds and peak memory of the whole audit of the demo without a language model, once it is labeled."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.common import Bench, Figure, featuredb_command, run_measured
from benchmarks.labelled import labelled

ASKED = 120


def measure(bench: Bench) -> list[Figure]:
    store = bench.folder / "demo-audited.fdb"
    shutil.copytree(labelled(bench, "demo"), store, dirs_exist_ok=True)
    command = [featuredb_command(), "audit", "--dictionary", "demo", "--quiet", "--limit", "1", "--db", str(store)]
    seconds, peak = run_measured(command)
    found = _findings(store)
    bench.details["What the audit finds in the demo"] = _table(found)
    how = f"`featuredb audit`: every check, 2,048 features; {os.cpu_count()} cores"
    return [Figure("audit", f"≤ {ASKED} s", f"{seconds:.0f} s, peak {peak:,.0f} MiB", how, seconds <= ASKED)]


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
