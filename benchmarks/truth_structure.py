"""How well duplicates, splits and absorbed features are found that were planted in the demo's dictionary.

Planted by `featuredb.testing.truth.structure`: what is done to the features, and why, is told there.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Bench, Figure, spread
from benchmarks.demo import demo_store

if TYPE_CHECKING:
    from featuredb.audit.requests import AuditRequest
    from featuredb.testing.truth.structure import Structure

N_SEEDS, N_PLANTED, N_ALONE = 30, 40, 400
"""Plantings; of each kind in one; and features left alone that are audited beside them."""

N_SYNTHETIC = 10
"""Synthetic dictionaries."""

DUPLICATE, SPLIT, HOLE, TOKEN, FALSE, SYNTHETIC = 0.99, 0.90, 0.80, 0.60, 0.07, 0.90

FINDINGS = ("duplicate, taking turns", "duplicate, together", "split by token", "split by document", "hole")


@dataclass
class Row:
    """What one kind of planting gave, by seed."""

    auroc: list[float] = field(default_factory=list)
    flagged: list[float] = field(default_factory=list)
    named: list[float] = field(default_factory=list)
    false: list[float] = field(default_factory=list)
    """Share of the features left alone that the check flags."""
    token: list[float] = field(default_factory=list)
    cosine: list[float] = field(default_factory=list)
    """AUROC of the largest decoder cosine alone."""


def measure(bench: Bench) -> list[Figure]:
    rows = {name: Row() for name in FINDINGS}
    with labelled_demo(bench) as request:
        world = World(request)
        for seed in range(bench.choose(N_SEEDS, 1)):
            world.take(seed, bench.choose(N_PLANTED, 8), rows)
            bench.say(f"seed {seed}: " + ", ".join(f"{name} {row.auroc[-1]:.3f}" for name, row in rows.items()))
    bench.details["Planted duplicates, splits and holes"] = _table(rows)
    return [*_figures(rows), _synthetic(bench)]


def _synthetic(bench: Bench) -> Figure:
    """Absorption in synthetic dictionaries, where a child fires in its parent's place and brings its direction."""
    from featuredb.plugins import Registry
    from featuredb.testing.truth.structure import found
    from featuredb.testing.truth.synthetic import synthetic_request

    values = []
    for seed in range(bench.choose(N_SYNTHETIC, 1)):
        world = synthetic_request(seed)
        partner = {one.feature: one.absorber for one in world.absorptions}
        judged = Registry.installed().check("absorbed").audit(world.request)
        values.append(found(judged, partner, set(partner)).auroc)
        bench.say(f"synthetic, seed {seed}: {values[-1]:.3f}")
    how = f"true dictionaries of synthetic worlds with a hierarchy, {len(values)} seeds; an unjudged feature scores 0"
    met = statistics.mean(values) >= SYNTHETIC
    return Figure("truth_structure: absorption, synthetic", f"AUROC ≥ {SYNTHETIC:.2f}", said(values), how, met)


@contextmanager
def labelled_demo(bench: Bench) -> Iterator[AuditRequest]:
    """The demo's dictionary with labels by `plain`, read into memory."""
    from featuredb.audit.gather import open_request
    from featuredb.labels.runs import LabelWork, run_labelers
    from featuredb.store.segments import SegmentReader
    from featuredb.store.store import Store
    from featuredb.testing.truth.planted import Held

    with Store.open(demo_store(bench)) as store:
        reader = SegmentReader(store)
        run_labelers(store, reader, LabelWork("demo"))
        with open_request(store, reader, "demo") as request:
            halves = (Held(each) for each in (request.everything, request.audit, request.labeling))
            everything, audit, labeling = halves
            yield replace(request, everything=everything, audit=audit, labeling=labeling)


class World:
    """A dictionary in which things are planted again and again."""

    def __init__(self, request: AuditRequest) -> None:
        from featuredb.predicates.tagged import Tagged
        from featuredb.search.scope import ENOUGH_FIRINGS

        self._request = request
        self._enough = request.everything.n_fires >= ENOUGH_FIRINGS
        self._tagged = Tagged(request.audit.passages)
        self._holds: dict[int, NDArray[np.bool_]] = {
            feature: self._tagged.holds(label.predicate)
            for feature, label in request.labels.items()
            if label.predicate is not None and self._enough[feature]
        }

    def take(self, seed: int, n: int, rows: dict[str, Row]) -> None:
        """Plants by a seed, audits, and adds what was found."""
        from featuredb.plugins import Registry
        from featuredb.testing.truth.structure import found, plant_structure

        made = plant_structure(self._request, seed, n, self._holds)
        request = self._part(made.into(self._request), made, seed)
        judged = {
            name: list(Registry.installed().check(name).audit(request)) for name in ("duplicate", "split", "absorbed")
        }
        cosine = request.directions.nearest(1)[1][:, 0]
        alone = [feature for feature in request.features if feature not in made.touched]
        for name, check, partner in _planted(made):
            one, row = found(judged[check], partner, made.touched), rows[name]
            row.auroc.append(one.auroc)
            row.flagged.append(one.flagged)
            row.named.append(one.named)
            row.false.append(one.false)
            row.cosine.append(_auroc(cosine[list(partner)], cosine[alone]))
        texts = request.everything.passages.texts
        tokens = {one.feature: one.evidence.get("token") for one in judged["absorbed"]}
        right = [tokens.get(hole.feature) == texts[hole.token] for hole in made.holes]
        rows["hole"].token.append(sum(right) / max(1, len(right)))

    def _part(self, request: AuditRequest, made: Structure, seed: int) -> AuditRequest:
        """The request for what was planted and some features left alone: to plant takes less time than to audit all."""
        rest = [each for each in request.features if each not in made.touched and self._enough[each]]
        chosen = np.random.default_rng((seed, 9)).permutation(rest)[:N_ALONE].tolist()
        return replace(request, features=sorted([*made.touched, *chosen]))


def _planted(made: Structure) -> Iterator[tuple[str, str, dict[int, int]]]:
    """Each kind of planting, the check that has to find it, and which feature each planted one belongs to."""
    kinds = (
        ("duplicate, taking turns", "duplicate", made.duplicates["turns"]),
        ("duplicate, together", "duplicate", made.duplicates["both"]),
        ("split by token", "split", made.splits["token"]),
        ("split by document", "split", made.splits["document"]),
    )
    for name, check, pairs in kinds:
        yield name, check, dict(pairs) | {other: one for one, other in pairs}
    yield "hole", "absorbed", {hole.feature: hole.child for hole in made.holes}


def _auroc(bad: Sequence[float] | NDArray[np.float32], sound: Sequence[float] | NDArray[np.float32]) -> float:
    from featuredb.testing.truth.structure import auroc

    return auroc(map(float, bad), map(float, sound))


def _figures(rows: dict[str, Row]) -> list[Figure]:
    n = len(rows["hole"].auroc)
    how = f"{N_PLANTED} of each kind planted in the demo's dictionary, {N_ALONE} features left alone, {n} seeds"
    asked = dict(zip(FINDINGS, (DUPLICATE, DUPLICATE, SPLIT, SPLIT, HOLE), strict=True))
    figures = [
        Figure(
            f"truth_structure: {name}",
            f"AUROC ≥ {asked[name]:.2f}",
            said(row.auroc),
            how,
            statistics.mean(row.auroc) >= asked[name],
        )
        for name, row in rows.items()
    ]
    token = statistics.mean(rows["hole"].token)
    figures.append(
        Figure("truth_structure: hole, token named", f"≥ {TOKEN:.0%}", said(rows["hole"].token), how, token >= TOKEN)
    )
    for check, name in (("duplicate", FINDINGS[0]), ("split", FINDINGS[2]), ("absorbed", "hole")):
        false = statistics.mean(rows[name].false)
        figures.append(
            Figure(
                f"truth_structure: {check}, flagged though left alone",
                f"≤ {FALSE:.0%}",
                said(rows[name].false),
                "the dictionary's own pairs and holes, where it has some, count as false",
                false <= FALSE,
            )
        )
    return figures


def said(values: Sequence[float]) -> str:
    """Mean, standard deviation and least of the seeds; the value alone where there is one."""
    if len(values) < 2:
        return spread(values)
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}, least {min(values):.3f}"


def _table(rows: dict[str, Row]) -> str:
    lines = ["| planted | AUROC | flagged | partner named | decoder cosine alone |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {name} | {said(row.auroc)} | {said(row.flagged)} | {said(row.named)} | {said(row.cosine)} |"
        for name, row in rows.items()
    ]
    return "\n".join(lines)
