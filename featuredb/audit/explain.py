"""A feature's findings in words and examples: what each check looks for, and the text it speaks of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from featuredb.audit.answers import findings_of
from featuredb.audit.checks import explained
from featuredb.records import ExampleRow, FindingCard, FindingRow
from featuredb.search.cards import example_rows
from featuredb.store.refs import get_feature
from featuredb.store.segments import SegmentReader, SegmentRef
from featuredb.store.store import Store

N_EXAMPLES = 5
"""Contexts shown of a finding."""

EVERY = 10_000
"""More examples of each kind than any feature has."""


def explain(store: Store, reader: SegmentReader, feature: str) -> list[FindingCard]:
    """A feature's findings, the worst first, each with what it means and some of its examples. Raises NotFound."""
    with store.reading() as session:
        row, index = get_feature(session, feature)
        findings = findings_of(session, row, index)
        segment = SegmentRef.newest(session, row)
    kept = reader.examples(segment, index, EVERY) if findings else []
    return [_card(one, reader, segment, kept) for one in findings]


def _card(
    finding: FindingRow, reader: SegmentReader, segment: SegmentRef, kept: Sequence[Mapping[str, Any]]
) -> FindingCard:
    fields = {field.name: getattr(finding, field.name) for field in dataclasses.fields(finding)}
    said = (finding.evidence or {}).get("examples", ())
    return FindingCard(**fields, meaning=explained(finding.check), examples=_examples(reader, segment, kept, said))


def _examples(
    reader: SegmentReader, segment: SegmentRef, kept: Sequence[Mapping[str, Any]], said: Sequence[Any]
) -> tuple[ExampleRow, ...]:
    """The contexts that the evidence names: at the feature's peak there, or at a stated place, where it may be silent.

    said: numbers of contexts, or [context, position].
    """
    by_context: dict[int, Mapping[str, Any]] = {}
    for row in kept:
        by_context.setdefault(row["context"], row)
    rows = []
    for one in list(said)[:N_EXAMPLES]:
        context, position = (one, None) if isinstance(one, int) else (int(one[0]), int(one[1]))
        found = by_context.get(context)
        if found is not None and position in (None, found["position"]):
            rows.append(found)
        elif position is not None:
            rows.append(_silent(context, position))
    return example_rows(reader, segment, rows)


def _silent(context: int, position: int) -> dict[str, Any]:
    """A place that no kept example is of."""
    return {
        "kind": "place",
        "rank": 0,
        "context": context,
        "position": position,
        "activation": 0.0,
        "window_start": position,
        "window": [],
    }
