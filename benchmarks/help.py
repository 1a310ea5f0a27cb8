"""Seconds of `featuredb --help`, and the large libraries it imports: none."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from benchmarks.common import Bench, Figure, featuredb_command, spread, timed

ASKED = 0.3
N_RUNS = 10
HEAVY = ("torch", "transformers", "faiss", "sae_lens")
SCRIPT = f"""
import contextlib, io, json, sys
from featuredb.cli.main import main
with contextlib.redirect_stdout(io.StringIO()):
    main(["--help"], standalone_mode=False)
print(json.dumps([len(sys.modules), [name for name in {HEAVY!r} if name in sys.modules]]))
"""


def measure(bench: Bench) -> list[Figure]:
    command = [featuredb_command(), "--help"]

    def run() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    run()  # the first one compiles
    seconds = [timed(run) for _ in range(bench.choose(N_RUNS, 3))]
    answer = subprocess.run([sys.executable, "-c", SCRIPT], check=True, stdout=subprocess.PIPE, text=True).stdout
    n_modules, heavy = json.loads(answer)
    return [
        Figure(
            "help",
            f"≤ {ASKED} s, none of {', '.join(HEAVY)}",
            f"{spread(seconds)} s; imports {', '.join(heavy) or 'none of them'}",
            f"`featuredb --help`, {len(seconds)} processes, {n_modules} modules",
            statistics.median(seconds) <= ASKED and not heavy,
        )
    ]
