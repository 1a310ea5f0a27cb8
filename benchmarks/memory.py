"""Peak memory of `featuredb ingest model` on the demo model: ten times the tokens must not take more of it."""

from __future__ import annotations

from benchmarks.common import Bench, Figure, featuredb_command, run_measured
from featuredb.demo.tour import dictionary_folder, model_folder

ASKED = 1.1
CORPUS = "python-docs:tests"
"""The demo's text with the standard library's tests: python-docs alone may hold less than a million tokens."""


def measure(bench: Bench) -> list[Figure]:
    few, many = bench.choose(100_000, 5_000), bench.choose(1_000_000, 20_000)
    peaks = [_peak(bench, n_tokens) for n_tokens in (few, many)]
    ratio = peaks[1] / peaks[0]
    return [
        Figure(
            "memory",
            f"≤ {ASKED} ×",
            f"{ratio:.3f} ×; {peaks[0]:,.0f} and {peaks[1]:,.0f} MiB",
            f"peak of `featuredb ingest model` on the demo model at {few:,} and {many:,} tokens",
            ratio <= ASKED,
        )
    ]


def _peak(bench: Bench, n_tokens: int) -> float:
    store = bench.folder / f"memory-{n_tokens}.fdb"
    asked = ["--dictionary", f"saelens:{dictionary_folder()}", "--corpus", CORPUS, "--tokens", str(n_tokens)]
    command = [featuredb_command(), "ingest", "model", str(model_folder()), *asked, "--device", "cpu"]
    seconds, peak = run_measured([*command, "--db", str(store), "--quiet"])
    bench.say(f"{n_tokens:,} tokens: {peak:,.0f} MiB, {seconds:.0f} s")
    return peak
