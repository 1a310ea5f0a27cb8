"""The full-text index of labels, asked with expressions in its own syntax, which `featuredb.search.keyword` writes.

Each statement begins at the index and goes from there to the labels it names, so that none reads a whole table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, text
from sqlalchemy.orm import Session

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


class Matching(NamedTuple):
    """A label that matches."""

    label_id: int
    dictionary_id: int
    feature_index: int
    order: float
    """The least comes first: its bm25, or its length, as was asked for."""


def count_matching(session: Session, match: str) -> int:
    """How many labels match: about 30 ns each."""
    return int(session.scalar(_COUNT, {"match": match}) or 0)


def best_matching(session: Session, match: str, most: int) -> list[Matching]:
    """The labels that match best, by bm25, the oldest first among equals: about 1 us for each that matches."""
    rows = session.execute(_BEST, {"match": match, "most": most})
    return sorted((Matching(*row) for row in rows), key=lambda row: (row.order, row.label_id))


def some_matching(session: Session, match: str, step: int) -> list[Matching]:
    """One in `step` of the labels that match, spread evenly over all labels, the shortest first."""
    rows = session.execute(_SPREAD, {"match": match, "step": step})
    return sorted((Matching(*row) for row in rows), key=lambda row: (row.order, row.label_id))


def matching_among(session: Session, match: str, labels: Sequence[int]) -> set[int]:
    """Those of some labels that match."""
    found: set[int] = set()
    for start in range(0, len(labels), 500):
        found.update(session.scalars(_AMONG, {"match": match, "labels": labels[start : start + 500]}))
    return found
