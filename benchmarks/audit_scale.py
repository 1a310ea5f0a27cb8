"""Seconds and peak memory of labelling and auditing a dictionary of a hundred thousand features, check by check."""

from __future__ import annotations

from benchmarks.common import Bench, Figure, featuredb_command, run_measured
from benchmarks.larger import larger_store

ASKED, HOUR = 2.0, 3600


def measure(bench: Bench) -> list[Figure]:
    store, n_features = larger_store(bench)
    command = featuredb_command()
    label, label_peak = run_measured([command, "label", "make", "larger", "--quiet", "--db", str(store)])
    bench.say(f"labelled in {label:.0f} s")
    taken = {}
    for name in check_names():
        taken[name] = run_measured([command, "audit", "--check", name, "--quiet", "--limit", "1", "--db", str(store)])
        bench.say(f"{name}: {taken[name][0]:.0f} s")
    hours, peak = sum(seconds for seconds, _ in taken.values()) / HOUR, max(peak for _, peak in taken.values())
    bench.details["The audit of a hundred thousand features, check by check"] = _table(taken)
    how = f"mixtures of the demo's features: {n_features:,}, {n_features / 640:.0f} of them on a token"
    return [
        Figure("audit_scale: labelling", "", f"{label / HOUR:.2f} h, peak {label_peak:,.0f} MiB", how),
        Figure(
            "audit_scale: audit",
            f"≤ {ASKED:.0f} h",
            f"{hours:.2f} h, peak {peak:,.0f} MiB",
            f"every check by a `featuredb audit --check` of its own; {how}",
            hours <= ASKED,
        ),
    ]


def check_names() -> list[str]:
    """Every installed check, as users name it."""
    from featuredb.audit.checks import chosen_checks
    from featuredb.plugins import bare

    return [bare(check.name) for check in chosen_checks(())]


def _table(taken: dict[str, tuple[float, float]]) -> str:
    rows = ["| check | seconds | peak MiB |", "| --- | ---: | ---: |"]
    rows += [f"| {name} | {seconds:,.0f} | {peak:,.0f} |" for name, (seconds, peak) in taken.items()]
    return "\n".join(rows)
