"""Rings of features among two hundred groups that lie as near each other: ranked first, and alone flagged."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.common import Bench, Figure

N_SEEDS, N_TRAINED = 30, 5
TOP, PAIRS = 0.02, 0.10
"""Share of the groups among which rings have to rank, and among which no independent pair may."""


@dataclass(frozen=True)
class Ranks:
    """What one seed gave."""

    circles: dict[int, float]
    """By points: rank as a share of the groups found."""
    circles_unsifted: dict[int, float]
    """The same by (1 - mixture) * separability alone."""
    pair: float
    """The best pair's."""
    n_circles_flagged: int
    n_others_flagged: int
    n_others: int
    n_lines_flagged: int
    n_low_p: int
    """Groups but rings of p at most 5%, of `n_tested`."""
    n_tested: int


def measure(bench: Bench) -> list[Figure]:
    seeds = range(bench.choose(N_SEEDS, 1))
    found = []
    for seed in seeds:
        found.append(ranks_of(seed))
        bench.say(f"seed {seed}: {found[-1]}")
    trained = []
    for seed in range(bench.choose(N_TRAINED, 1)):
        trained.append(trained_of(seed, bench.choose(1_500, 20)))
        bench.say(f"trained, seed {seed}: {trained[-1]}")
    return [*figures(found), *trained_figures(trained)]


@dataclass(frozen=True)
class Trained:
    """What one seed gave of a dictionary that is trained on a world."""

    f1: float
    mcc: float
    n_absorbing: int
    """Features that are silent on some words of theirs."""
    n_points: int
    """Features that stand for points of rings."""
    n_points_flagged: int
    n_others_flagged: int
    n_others: int


def trained_of(seed: int, n_steps: int) -> Trained:
    from featuredb.plugins import Registry
    from featuredb.testing.truth.synthetic_trained import agreement, trained_request

    synthetic = trained_request(seed, k=4, n_steps=n_steps)
    judged = list(Registry.installed().check("manifold").audit(synthetic.request))
    points = {feature for kind, features in synthetic.groups if kind == "circle" for feature in features}
    flagged = {one.feature for one in judged if one.flagged}
    f1, mcc = agreement(synthetic)
    n_absorbing = len({one.feature for one in synthetic.absorptions})
    n_others = len(synthetic.stands_for) - len(points)
    return Trained(f1, mcc, n_absorbing, len(points), len(flagged & points), len(flagged - points), n_others)


def trained_figures(found: Sequence[Trained]) -> list[Figure]:
    how = f"top-4 dictionaries trained on synthetic worlds of 300 features, {len(found)} seeds"
    of = sum(one.n_points for one in found)
    points = f"{sum(one.n_points_flagged for one in found)} of {of}"
    wrong, others = sum(one.n_others_flagged for one in found), sum(one.n_others for one in found)
    absorbing = sum(one.n_absorbing for one in found) / len(found)
    return [
        Figure("truth_manifold: trained, F1", "", _said([one.f1 for one in found]), how),
        Figure("truth_manifold: trained, MCC", "", _said([one.mcc for one in found]), how),
        Figure("truth_manifold: trained, points of rings flagged", "", points, f"rings of 7 and 12; {how}"),
        Figure("truth_manifold: trained, others flagged", "≤ 7%", f"{wrong / others:.2%}", how, wrong / others <= 0.07),
        Figure("truth_manifold: trained, absorbing", "", f"{absorbing:.1f} a dictionary", how),
    ]


def ranks_of(seed: int) -> Ranks:
    from featuredb.plugins import Registry
    from featuredb.testing.truth.manifolds import crowd, irreducible, order_of, rank_groups

    ranked = rank_groups(Registry.installed().check("manifold"), seed, crowd())
    unsifted = order_of(ranked, irreducible)
    circles = [one for one in ranked if one.kind == "circle"]
    others = [one for one in ranked if one.kind != "circle"]
    tested = [one for one in others if one.judged is not None and one.judged.p is not None]
    return Ranks(
        circles={one.size: one.rank / one.n_groups for one in circles},
        circles_unsifted={one.size: one.rank / one.n_groups for one in unsifted if one.kind == "circle"},
        pair=min(one.rank / one.n_groups for one in others if (one.kind, one.size) == ("independent", 2)),
        n_circles_flagged=sum(one.flagged for one in circles),
        n_others_flagged=sum(one.flagged for one in others),
        n_others=len(others),
        n_lines_flagged=sum(one.flagged for one in others if one.kind == "line"),
        n_low_p=sum(one.judged.p <= 0.05 for one in tested if one.judged is not None and one.judged.p is not None),
        n_tested=len(tested),
    )


def figures(found: Sequence[Ranks]) -> list[Figure]:
    n = len(found)
    how = f"among 200 groups of a synthetic dictionary, {n} seeds"
    rows = []
    for points in (7, 12):
        ours, unsifted = [one.circles[points] for one in found], [one.circles_unsifted[points] for one in found]
        by = f"rank as a share of the groups; a ring of {points} {how}"
        rows.append(Figure(f"truth_manifold: {points} points", f"top {TOP:.0%}", _said(ours), by, max(ours) <= TOP))
        sole = "the same by (1 - mixture) * separability alone"
        rows.append(Figure(f"truth_manifold: {points} points, unsifted", "", _said(unsifted), sole))
    pairs = [one.pair for one in found]
    kept = f"none in the top {PAIRS:.0%}"
    by = "rank of the best of 80 pairs that fire independently; the same"
    rows.append(Figure("truth_manifold: pairs", kept, _said(pairs), by, min(pairs) > PAIRS))
    lines = sum(one.n_lines_flagged for one in found)
    rows.append(Figure("truth_manifold: lines", "none flagged", f"{lines} of {3 * n}", how, lines == 0))
    rings = sum(one.n_circles_flagged for one in found)
    rows.append(Figure("truth_manifold: rings flagged", "", f"{rings} of {2 * n}", how))
    wrong, of = sum(one.n_others_flagged for one in found), sum(one.n_others for one in found)
    rows.append(
        Figure("truth_manifold: others flagged", "≤ 7%", f"{wrong / of:.2%} of {of:,}", how, wrong / of <= 0.07)
    )
    low, tested = sum(one.n_low_p for one in found), sum(one.n_tested for one in found)
    by = f"of {tested:,} groups of 4 or more but rings; what the null gives if it is right is 5%"
    rows.append(Figure("truth_manifold: p at most 5%", "", f"{low / tested:.1%}", by))
    return rows


def _said(values: Sequence[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1%} ± {spread:.1%} ({min(values):.1%} to {max(values):.1%})"
