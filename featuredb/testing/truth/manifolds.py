"""Rings among other groups of features that lie as near each other: where a check for manifolds ranks them.

Rule: groups in, ranks out. Any check will do whose evidence names `group` and `others`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from featuredb.audit.requests import Judged
from featuredb.plugins import Check
from featuredb.testing.truth.synthetic import synthetic_request
from featuredb.testing.truth.synthetic_world import Kind, Shape

GROUPS: tuple[tuple[Kind, int], ...] = (
    *(("circle", 7), ("circle", 12), ("line", 6), ("line", 9), ("line", 9)),
    *(("independent", 2),) * 80,
    *(("independent", 3),) * 20,
    *(("independent", 4),) * 17,
    *((kind, n) for n in range(3, 9) for kind in ("bundle",) * 13),
)
"""Two hundred, of which two are rings."""

Order = Callable[[Judged], float]


@dataclass(frozen=True)
class Ranked:
    """One planted group, and what a check makes of it."""

    kind: Kind
    size: int
    rank: int
    """From 1, among the groups that the check found; a planted group that it did not find comes last."""
    n_groups: int
    """Groups found."""
    judged: Judged | None
    """Of the member with the largest score; None where no member was judged."""

    @property
    def flagged(self) -> bool:
        return self.judged is not None and self.judged.flagged


def crowd(n_tokens: int = 12_288, groups: tuple[tuple[Kind, int], ...] = GROUPS) -> Shape:
    """A world of groups alone, whose members fire some 300 times each."""
    return Shape(n_tokens=n_tokens, n_trees=0, n_free=0, groups=groups, group_rate=300 / n_tokens)


def rank_groups(check: Check, seed: int, shape: Shape) -> list[Ranked]:
    """Where a check ranks the planted groups of a world by its own score."""
    planted = synthetic_request(seed, shape)
    judged = {one.feature: one for one in check.audit(planted.request)}
    found = []
    for kind, features in planted.groups:
        mine = [judged[feature] for feature in features if feature in judged]
        best = max(mine, key=lambda one: one.score, default=None)
        found.append(Ranked(kind, len(features), 0, 0, best))
    return order_of(found, lambda one: one.score)


def order_of(ranked: Sequence[Ranked], order: Order) -> list[Ranked]:
    """The same groups ranked by something else of what was judged, the largest first."""
    groups = {_group(one.judged): order(one.judged) for one in ranked if one.judged is not None}
    place = {group: number + 1 for number, group in enumerate(sorted(groups, key=lambda g: (-groups[g], g)))}
    ranks = [place[_group(one.judged)] if one.judged is not None else len(place) + 1 for one in ranked]
    return [replace(one, rank=rank, n_groups=len(place)) for one, rank in zip(ranked, ranks, strict=True)]


def irreducible(judged: Judged) -> float:
    """(1 - mixture) times separability, of the evidence: the order of Engels et al. (2025), arXiv:2405.14860."""
    return float((1 - judged.evidence["mixture"]) * judged.evidence["separability"])


def _group(judged: Judged) -> int:
    return int(judged.evidence["group"])
