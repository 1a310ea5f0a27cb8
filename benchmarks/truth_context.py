"""Features whose context dependence is planted: meanings that switch along a context, and tokens without context.

Plants are told from all real features of a dictionary, some of which do drift, and from the same features on text put
elsewhere, where none can.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from benchmarks.common import Bench, Figure

if TYPE_CHECKING:
    from pathlib import Path

    from featuredb.audit.drifting import Drifts
    from featuredb.audit.requests import AuditRequest

N_SEEDS, N_PLANTS = 30, 50
WHOLE, PART, ALARMS, TOKEN, UNPLANTED = 0.99, 0.86, 0.05, 0.98, 0.07
EVERY = 5
"""Text is put elsewhere anew in one seed of so many."""

STILL = 12_345
"""Seed of the text put elsewhere that plants are told from."""


@dataclass
class Found:
    """What one dictionary gave: lists by seed."""

    flagged: float
    """Share of the real features flagged, as they are."""
    real: dict[str, list[float]] = field(default_factory=dict)
    still: dict[str, list[float]] = field(default_factory=dict)
    """AUROC by shape, against real features as they are, and where none can drift."""
    token: list[float] = field(default_factory=list)
    chance: list[float] = field(default_factory=list)
    topics: list[float] = field(default_factory=list)
    """Share flagged on text put elsewhere, at random and by topic."""


def measure(bench: Bench) -> list[Figure]:
    figures = list[Figure]()
    for name, path in _stores(bench).items():
        found = _dictionary(bench, path, name)
        figures += _figures(name, found)
    return figures


def _stores(bench: Bench) -> dict[str, Path]:
    from benchmarks.demo import demo_store
    from featuredb.testing.truth.minilm import QUICK, minilm_store

    minilm = bench.folder / "minilm.fdb"
    if not minilm.exists():
        minilm_store(minilm, QUICK if bench.quick else None)
    return {"demo": demo_store(bench), "minilm": minilm}


def _dictionary(bench: Bench, path: Path, name: str) -> Found:
    from featuredb.audit.drifting import drifts
    from featuredb.audit.gather import open_request
    from featuredb.store.segments import SegmentReader
    from featuredb.store.store import Store
    from featuredb.testing.truth.context import rearranged
    from featuredb.testing.truth.planted import Held

    with ExitStack() as stack:
        store = Store.open(path)
        request = stack.enter_context(open_request(store, SegmentReader(store), name))
        held = [Held(part) for part in (request.everything, request.audit, request.labeling)]
        request = replace(request, everything=held[0], audit=held[1], labeling=held[2])
        real, still = drifts(request), drifts(rearranged(request, STILL))
        found = Found(_flagged(real))
        for seed in range(bench.choose(N_SEEDS, 1)):
            _seed(bench, request, (real, still), seed, found)
    return found


def _seed(bench: Bench, request: AuditRequest, others: tuple[Drifts, Drifts], seed: int, found: Found) -> None:
    from featuredb.audit.drifting import drifts
    from featuredb.testing.truth.context import rearranged
    from featuredb.testing.truth.context_tasks import Shape, drift_aurocs, token_auroc

    n = bench.choose(N_PLANTS, 5)
    passages = request.everything.passages
    middle = int((passages.position + passages.start[1:] - passages.start[:-1]).max()) // 2
    shapes = [
        Shape("whole switch at 32", 32, 1.0),
        Shape("whole switch at 40", 40, 1.0),
        Shape("30% from 32 on", 32, 0.3),
        Shape("30% in the later half", middle, 0.3),
    ]
    for shape, (real, still) in drift_aurocs(request, others, shapes, seed, n).items():
        found.real.setdefault(shape, []).append(real)
        found.still.setdefault(shape, []).append(still)
    found.token.append(token_auroc(request, seed, n))
    if seed % EVERY == 0:
        found.chance.append(_flagged(drifts(replace(rearranged(request, seed), seed=seed))))
        found.topics.append(_flagged(drifts(replace(rearranged(request, seed, topical=0.9), seed=seed))))
    bench.say(f"seed {seed}: {[f'{shape} {values[-1]:.3f}' for shape, values in found.real.items()]}")


def _flagged(found: Drifts) -> float:
    from featuredb.audit.chance import RATE
    from featuredb_plugins.drifting import SWITCHED

    return float(((found.q < RATE) & (found.switched > SWITCHED)).mean()) if len(found.q) else 0.0


def _figures(name: str, found: Found) -> list[Figure]:
    rows = list[Figure]()
    how = f"AUROC, {N_PLANTS} planted against {name}'s features, {len(found.token)} seeds"
    for shape, values in found.real.items():
        asked = PART if shape.startswith("30%") else WHOLE
        still = found.still[shape]
        rows += [
            _least(f"truth_context: {name}, {shape}", asked, values, f"{how}, some of which do drift"),
            _least(f"truth_context: {name}, {shape}, text put elsewhere", asked, still, f"{how} where none can drift"),
        ]
    rows.append(_least(f"truth_context: {name}, token-bound", TOKEN, found.token, "unigram R2; from context's part"))
    for what, shares, most in (
        ("topics change, nothing else", found.topics, ALARMS),
        ("text put elsewhere at random", found.chance, ALARMS),
        ("as they are", [found.flagged], UNPLANTED),
    ):
        told = f"{statistics.mean(shares):.1%}, at most {max(shares):.1%}"
        rows.append(
            Figure(f"truth_context: {name}, {what}", f"≤ {most:.0%}", told, "features flagged", max(shares) <= most)
        )
    return rows


def _least(name: str, asked: float, values: Sequence[float], how: str) -> Figure:
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    mean = statistics.mean(values)
    return Figure(name, f"≥ {asked}", f"{mean:.3f} ± {sd:.3f} (least {min(values):.3f})", how, mean >= asked)
