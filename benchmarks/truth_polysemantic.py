"""Features merged from two or three: whether the audit tells them from real ones, and how many meanings it counts.

The demo's dictionary, and one trained on all-MiniLM-L6-v2. Of 300 features drawn by each seed thirty are merged with
another that has 30 to 50% of the firings, thirty with one that has 10%, and thirty with two others.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common import Bench, Figure

if TYPE_CHECKING:
    from featuredb.audit.requests import AuditRequest
    from featuredb.testing.truth.merged import Told

N_SEEDS = 30
ASKED = {"30-50%": 0.93, "10%": 0.75}
MEANINGS = 0.60
FLAGGED = 0.07

Seeds = Sequence[Sequence["Told"]]


def measure(bench: Bench) -> list[Figure]:
    found = []
    for name, path in stores(bench):
        seeds = told_of(path, name, bench.choose(N_SEEDS, 1), bench.say)
        found += figures(seeds, name)
        bench.details[f"Merged features of {name}, by kind"] = table(seeds)
    return found


def stores(bench: Bench) -> Iterator[tuple[str, Path]]:
    """The dictionaries, by name, with the stores that hold them; made where they are not there yet."""
    from featuredb.demo import run_demo
    from featuredb.progress import silent
    from featuredb.testing.truth.minilm import QUICK, Size, minilm_store

    demo = bench.folder / "demo.fdb"
    if not demo.exists():
        run_demo(demo, train=False, progress=silent, n_tokens=bench.choose(500_000, 20_000))
    yield "demo", demo
    yield "minilm", minilm_store(bench.folder / "minilm.fdb", QUICK if bench.quick else Size())


def told_of(path: Path, dictionary: str, n_seeds: int, say: Callable[[str], None]) -> Seeds:
    """What the check made of every feature, seed by seed."""
    from featuredb.plugins import Registry
    from featuredb.testing.truth.merged import tell

    check = Registry.installed().check("polysemantic")
    found = []
    with opened(path, dictionary) as request:
        for seed in range(n_seeds):
            found.append(tell(check, request, seed))
            said = ", ".join(f"{kind} {_auroc(found[-1], kind):.3f}" for kind in ASKED)
            say(f"{dictionary}, seed {seed}: {said}")
    return found


@contextmanager
def opened(path: Path, dictionary: str) -> Iterator[AuditRequest]:
    from featuredb.audit.gather import open_request
    from featuredb.store.segments import SegmentReader
    from featuredb.store.store import Store
    from featuredb.testing.truth.merged import held

    store = Store.open(path)
    reader = SegmentReader(store)
    with open_request(store, reader, dictionary) as request:
        yield held(request)
    reader.close()


def figures(seeds: Seeds, name: str) -> list[Figure]:
    rows = []
    for kind, asked in ASKED.items():
        values = [_auroc(each, kind) for each in seeds]
        rows.append(
            Figure(
                f"truth_polysemantic: {name}, minority {kind}",
                f"AUROC ≥ {asked}",
                _said(values),
                f"merged against real features of the dictionary {name}; {len(seeds)} seeds",
                statistics.mean(values) >= asked,
            )
        )
    exact = [statistics.mean(_exact(each)) for each in seeds]
    by_k = ", ".join(f"{statistics.mean(_exact(each)[k] for each in seeds):.0%} of {k + 1}" for k in range(3))
    how = f"the number of meanings is right; mean of real features (1), 30-50% (2) and three (3): {by_k}"
    met = statistics.mean(exact) >= MEANINGS
    rows.append(Figure(f"truth_polysemantic: {name}, meanings", f"≥ {MEANINGS:.0%}", _said(exact, ".1%"), how, met))
    wrong = [_flagged(each, "real") for each in seeds]
    power = ", ".join(f"{statistics.mean(_flagged(each, kind) for each in seeds):.0%} of {kind}" for kind in ASKED)
    met = statistics.mean(wrong) <= FLAGGED
    how = f"real features that are flagged, whatever they mean; of merged ones {power}"
    rows.append(
        Figure(
            f"truth_polysemantic: {name}, flagged",
            f"≤ {FLAGGED:.0%}",
            _said(wrong, ".1%", worst_is_most=True),
            how,
            met,
        )
    )
    return rows


def table(seeds: Seeds) -> str:
    """AUROC by kind and stratum, all seeds together: merged and real features of the same stratum."""
    lines = ["| | all | token-bound | contextual | density < 0.3% | 0.3-1% | 1-3% |", "|---|---|---|---|---|---|---|"]
    everything = [told for each in seeds for told in each]
    parts = [
        everything,
        [told for told in everything if told.stratum == "token-bound"],
        [told for told in everything if told.stratum == "contextual"],
        *(
            [told for told in everything if low <= told.density < high]
            for low, high in ((0, 0.003), (0.003, 0.01), (0.01, 0.031))
        ),
    ]
    for kind in (*ASKED, "three"):
        cells = " | ".join(f"{_auroc(part, kind):.3f} ({_count(part, kind)})" for part in parts)
        lines.append(f"| {kind} | {cells} |")
    flagged = " | ".join(f"{_flagged(part, 'real'):.1%} ({_count(part, 'real')})" for part in parts)
    lines.append(f"| real, flagged | {flagged} |")
    return "\n".join(lines)


def _auroc(told: Sequence[Told], kind: str) -> float:
    from featuredb.testing.truth.context import auroc

    bad, good = ([each.score for each in told if each.kind == what] for what in (kind, "real"))
    return auroc(bad, good) if bad and good else float("nan")


def _exact(told: Sequence[Told]) -> list[float]:
    """The share of features of one, two and three meanings of which that number was told."""
    kinds = {"real": 1, "30-50%": 2, "three": 3}
    shares = []
    for kind, k in kinds.items():
        counted = [each.n_meanings == k for each in told if each.kind == kind]
        shares.append(statistics.mean(counted) if counted else float("nan"))
    return shares


def _flagged(told: Sequence[Told], kind: str) -> float:
    flags = [each.flagged for each in told if each.kind == kind]
    return statistics.mean(flags) if flags else float("nan")


def _count(told: Sequence[Told], kind: str) -> int:
    return sum(each.kind == kind for each in told)


def _said(values: Sequence[float], form: str = ".3f", *, worst_is_most: bool = False) -> str:
    if len(values) < 2:
        return format(values[0], form)
    worst, word = (max(values), "most") if worst_is_most else (min(values), "least")
    return f"{statistics.mean(values):{form}} ± {statistics.stdev(values):{form}} ({word} {worst:{form}})"
