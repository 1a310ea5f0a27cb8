"""One ranked answer from several, by reciprocal ranks. Ranks only: nothing is known here of what was searched."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

K = 60
"""Added to every rank, so that the first few of one way do not outweigh being found in two.

Source: reciprocal rank fusion; Cormack, Clarke and Buettcher (2009), SIGIR, where 60 is the value they settled on.
"""

Key = tuple[str, int]
"""A feature: its dictionary's name and its index."""


@dataclass(frozen=True, slots=True)
class Fused:
    """A feature that was found."""

    key: Key
    score: float
    """1 / (K + rank), summed over the ways that found it."""
    ranks: dict[str, int]
    """Its rank from 1 in each of those ways, the best first."""


def fuse(ways: Mapping[str, Mapping[Key, int]]) -> list[Fused]:
    """All that was found, by score, ties by key. ways: the rank of each feature from 1, by way; ties share a rank.

    Where a feature has the same rank in two ways, the one that comes first in `ways` comes first in its ranks.
    """
    found: dict[Key, dict[str, int]] = {}
    for way, ranks in ways.items():
        for key, rank in ranks.items():
            found.setdefault(key, {})[way] = rank
    fused = [
        Fused(
            key, math.fsum(1 / (K + rank) for rank in ranks.values()), dict(sorted(ranks.items(), key=lambda of: of[1]))
        )
        for key, ranks in found.items()
    ]
    return sorted(fused, key=lambda each: (-each.score, each.key))


def tied_ranks(scores: Sequence[object]) -> list[int]:
    """Ranks from 1 of scores in order, the best first: equal ones share the rank of the first of them."""
    ranks: list[int] = []
    for place, score in enumerate(scores):
        ranks.append(ranks[-1] if place and score == scores[place - 1] else place + 1)
    return ranks
