"""Features that fire together: how often, and how their activations go together, on the panel of their runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featuredb.search.spaces import Place
from featuredb.store.cofiring import Together, compare_panels, read_together
from featuredb.store.segments import SegmentReader

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class CoFiring:
    """Of one feature with others, over every token that both panels hold, silent ones included; arrays are (n,)."""

    feature: NDArray[np.int64]
    """The others that fire on the panel, by index."""
    n_together: NDArray[np.int64]
    """Tokens on which both fire."""
    jaccard: Floats
    """Those as a share of the tokens on which either does."""
    correlation: Floats
    """Pearson's, of the activations; NaN where one of the two does not vary."""
    n_own: int
    """Tokens of the panel on which the one feature fires."""


def why_not(reader: SegmentReader, ours: Place, theirs: Place) -> str | None:
    """Why two dictionaries' features cannot be asked what they do on the same tokens; None where they can.

    Special tokens that a document spells out count here as silent tokens of it, for a segment does not name them.
    """
    for place in (ours, theirs):
        if place.segment is None:
            return f"{place.name} has no run"
    assert ours.segment is not None
    assert theirs.segment is not None
    if ours.segment.run == theirs.segment.run:
        return None
    if ours.corpus_id != theirs.corpus_id:
        return f"{theirs.name} was run on another corpus than {ours.name}"
    n, n_other = compare_panels(reader, ours.segment, theirs.segment, _special(ours, theirs))
    if n_other:
        return f"the runs of {ours.name} and {theirs.name} cut the corpus into different tokens"
    return None if n else f"the panels of {ours.name} and {theirs.name} have no token in common"


def cofiring(
    reader: SegmentReader, ours: Place, feature: int, theirs: Place, features: Sequence[int] | None = None
) -> CoFiring:
    """What a feature and those of a dictionary (None: all that fire) do together; `why_not` says whether it can be."""
    if ours.segment is None or theirs.segment is None:
        raise ValueError("a dictionary without a run has no panel")
    sums = read_together(reader, ours.segment, feature, theirs.segment, _special(ours, theirs), features)
    n_own = sums.own[0]
    either = n_own + sums.n - sums.n_both
    jaccard = np.divide(sums.n_both, either, out=np.zeros(len(sums.n)), where=either > 0)
    return CoFiring(sums.feature, sums.n_both, jaccard, _pearson(sums), n_own)


def _pearson(sums: Together) -> Floats:
    n = max(1, sums.n_tokens)
    _, total, squares = sums.own
    own_variance = squares / n - (total / n) ** 2
    variance = sums.squares / n - (sums.total / n) ** 2
    both = sums.products / n - sums.total / n * (total / n)
    scale = np.sqrt(np.maximum(own_variance * variance, 0.0))
    found: Floats = np.divide(both, scale, out=np.full(len(both), np.nan), where=scale > 0)
    return found


def _special(ours: Place, theirs: Place) -> list[int]:
    return sorted({*ours.special, *theirs.special})
