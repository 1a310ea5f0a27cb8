"""The full-text index of labels, asked with expressions in its own syntax, which `featuredb.search.keyword` writes.

Each statement begins at the index and goes from there to the labels it names, so that none reads a whole table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import bindparam, text
from sqlalchemy.orm import Session

Numbers = NDArray[np.int64]

_COUNT = text("select count(*) from label_fts where label_fts match :match")

# Ordered by `rank` alone: FTS5 does that by itself, and hands out no more rows than are asked for.
_BEST = text(
    "select f.rowid, l.dictionary_id, l.feature_index, f.rank"
    " from label_fts as f cross join label as l on l.id = f.rowid"
    " where f.label_fts match :match order by f.rank limit :most"
)
_SPREAD = text(
    "select f.rowid, l.dictionary_id, l.feature_index, length(l.text)"
    " from label_fts as f cross join label as l on l.id = f.rowid"
    " where f.label_fts match :match and f.rowid % :step = 0"
)

_AMONG = text("select rowid from label_fts where label_fts match :match and rowid in :labels").bindparams(
    bindparam("labels", expanding=True)
)


@dataclass(frozen=True, slots=True, eq=False)
class Matching:
    """The n labels that match, the best first."""

    label: Numbers
    dictionary: Numbers
    feature: Numbers
    """(n,) each label, its dictionary and its feature's index."""
    order: NDArray[np.float64]
    """(n,) the least comes first: its bm25, or its length, as was asked for; the oldest first among equals."""

    def __len__(self) -> int:
        return len(self.label)

    def only(self, chosen: NDArray[np.bool_]) -> Matching:
        """Those of `chosen` (n,)."""
        return Matching(self.label[chosen], self.dictionary[chosen], self.feature[chosen], self.order[chosen])


def count_matching(session: Session, match: str) -> int:
    """How many labels match: about 30 ns each."""
    return int(session.scalar(_COUNT, {"match": match}) or 0)


def best_matching(session: Session, match: str, most: int) -> Matching:
    """The labels that match best, by bm25: about 1 us for each that matches."""
    return _sorted(session.execute(_BEST, {"match": match, "most": most}).all())


def some_matching(session: Session, match: str, step: int) -> Matching:
    """One in `step` of the labels that match, spread evenly over all labels, the shortest first."""
    return _sorted(session.execute(_SPREAD, {"match": match, "step": step}).all())


def _sorted(rows: Sequence[Any]) -> Matching:
    label, dictionary, feature, order = zip(*rows, strict=True) if rows else ((), (), (), ())
    found = Matching(
        np.array(label, np.int64), np.array(dictionary, np.int64), np.array(feature, np.int64), np.array(order, float)
    )
    best = np.lexsort((found.label, found.order))
    return Matching(found.label[best], found.dictionary[best], found.feature[best], found.order[best])


def matching_among(session: Session, match: str, labels: Sequence[int]) -> set[int]:
    """Those of some labels that match."""
    found: set[int] = set()
    for start in range(0, len(labels), 500):
        found.update(session.scalars(_AMONG, {"match": match, "labels": labels[start : start + 500]}))
    return found
