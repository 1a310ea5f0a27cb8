"""Takes the figures and writes them down.

    python -m benchmarks [NAME ...] [--out docs/benchmarks.md] [--quick]

Without a name, all of them. A page that is there already keeps the figures that were not taken this time, if they come
from the same machine and versions, and everything from its "Notes" on.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.common import ROOT, Bench, Figure, machine, today

NAMES = (
    *("throughput", "delphi", "memory", "demo", "segment", "show", "activate", "directions"),
    *("planted", "search", "label_truth", "label_causal", "label_nulls", "labelling", "audit", "audit_scale"),
    *("truth_labels", "truth_polysemantic", "truth_structure", "truth_context", "truth_manifold", "help"),
)
"""Each a module here; in this order, because some leave a store that a later one looks at."""
PAGE = ROOT / "docs" / "benchmarks.md"
MACHINE, NOTES = "## Machine", "## Notes"
HEADER = """\
# Benchmarks

Written by `make bench`, all but the notes. Ratios are of runs that took turns in one process or one session.
"""
COLUMNS = "| figure | asked | measured | met | how | taken |\n| --- | --- | --- | --- | --- | --- |\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Takes featuredb's figures.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all when none is given")
    parser.add_argument("--out", type=Path, help=f"the page to write; by default {PAGE.relative_to(ROOT)}")
    parser.add_argument("--stores", type=Path, metavar="FOLDER", help="keep models and stores here for the next time")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing written unless --out is given")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(NAMES)
    if unknown:
        parser.error(f"no figure called {min(unknown)!r}; there are {', '.join(NAMES)}")
    names = [name for name in NAMES if not arguments.names or name in arguments.names]
    figures, details = take(names, quick=arguments.quick, stores=arguments.stores)
    print("\n".join(_row(figure) for found in figures.values() for figure in found))
    for heading, table in details.items():
        print(f"\n{heading}\n{table}")
    out = arguments.out or (None if arguments.quick else PAGE)
    if out is not None:
        before = out.read_text(encoding="utf-8") if out.exists() else ""
        out.write_text(page(before, figures, details), encoding="utf-8")
    sys.exit(any(figure.met is False for found in figures.values() for figure in found) and not arguments.quick)


def take(names: Sequence[str], *, quick: bool, stores: Path | None) -> tuple[dict[str, list[Figure]], dict[str, str]]:
    """The figures by name, and the tables that go with them. stores: where models and stores are kept, if anywhere."""
    if stores is not None:
        stores.mkdir(parents=True, exist_ok=True)
        return _taken(names, Bench(stores, quick, {}))
    cache = ROOT / ".bench"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="work-") as folder:
        return _taken(names, Bench(Path(folder), quick, {}))


def _taken(names: Sequence[str], bench: Bench) -> tuple[dict[str, list[Figure]], dict[str, str]]:
    figures = {}
    for name in names:
        start = time.perf_counter()
        print(name, file=sys.stderr, flush=True)
        figures[name] = import_module(f"benchmarks.{name}").measure(bench)
        bench.say(f"{name} took {time.perf_counter() - start:.0f} s")
    return figures, bench.details


def page(before: str, figures: Mapping[str, Sequence[Figure]], details: Mapping[str, str]) -> str:
    """The whole page, with what is kept of the one before."""
    there = "\n".join(f"* {line}" for line in machine())
    rows, tables = _kept(before) if there in before else ({}, {})
    for name, found in figures.items():
        rows[name] = [_row(figure) for figure in found]
    tables.update(details)
    lines = "\n".join(row for name in NAMES for row in rows.get(name, []))
    shown = "".join(f"\n## {heading}\n\n{table}\n" for heading, table in tables.items())
    notes = before[before.index(NOTES) :] if NOTES in before else f"{NOTES}\n"
    return f"{HEADER}\n## Figures\n\n{COLUMNS}{lines}\n\n{MACHINE}\n\n{there}\n{shown}\n{notes}"


def _kept(before: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The rows of an earlier page by figure, and its further tables by heading."""
    rows: dict[str, list[str]] = {}
    for line in before.partition(MACHINE)[0].splitlines():
        names = [name for name in NAMES if re.match(rf"\| {re.escape(_title(name))}\b", line)]
        for name in names:
            rows.setdefault(name, []).append(line)
    found = re.findall(r"^## (?!Figures|Machine)(.+)\n\n((?:\|.*\n)+)", before, re.MULTILINE)
    return rows, {heading: table.rstrip("\n") for heading, table in found}


def _title(name: str) -> str:
    """How the rows of a figure begin."""
    return "against Delphi" if name == "delphi" else name


def _row(figure: Figure) -> str:
    met = {True: "yes", False: "**no**", None: ""}[figure.met]
    return f"| {figure.name} | {figure.asked} | {figure.measured} | {met} | {figure.how} | {today()} |"


if __name__ == "__main__":
    main()
