"""A feature's findings in words and examples: what each check looks for, and the text it speaks of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from featuredb.audit.answers import findings_of
from featuredb.audit.checks import explained
from featuredb.records import FindingCard, FindingRow
from featuredb.search.cards import example_rows
from featuredb.store.layout import RADIUS
from featuredb.store.refs import get_feature
from featuredb.store.segments import SegmentReader, SegmentRef
from featuredb.store.store import Store

N_EXAMPLES = 5
"""Contexts shown of a finding."""

EVERY = 10_000
"""More examples of each kind than any feature has."""


Kept = dict[tuple[int, int | None], Mapping[str, Any]]
"""Examples by context and position, and each context's first by None."""


def explain(store: Store, reader: SegmentReader, feature: str) -> list[FindingCard]:
    """A feature's findings, the worst first, each with what it means and some of its examples. Raises NotFound."""
    with store.reading() as session:
        row, index = get_feature(session, feature)
        findings = findings_of(session, row, index)
        segment = SegmentRef.newest(session, row)
    kept: Kept = {}
    for example in reader.examples(segment, index, EVERY) if findings else ():
        kept.setdefault((example["context"], None), example)
        kept.setdefault((example["context"], example["position"]), example)
    return [_card(one, reader, segment, kept) for one in findings]


def _card(finding: FindingRow, reader: SegmentReader, segment: SegmentRef, kept: Kept) -> FindingCard:
    fields = {field.name: getattr(finding, field.name) for field in dataclasses.fields(finding)}
    said = list((finding.evidence or {}).get("examples", ()))[:N_EXAMPLES]
    places = [(one, None) if isinstance(one, int) else (int(one[0]), int(one[1])) for one in said]
    unknown = [context for context, position in places if (context, position) not in kept]
    firings: dict[int, list[dict[str, Any]]] = {}
    for row in reader.panel_of(segment, finding.index, unknown) if unknown else ():
        firings.setdefault(row["context"], []).append(row)
    rows: list[Mapping[str, Any]] = []
    for context, position in places:
        found = kept.get((context, position)) or _place(context, position, firings.get(context, ()))
        rows += [] if found is None else [found]
    return FindingCard(
        **fields, meaning=explained(finding.plugin or finding.check), examples=example_rows(reader, segment, rows)
    )


def _place(context: int, position: int | None, firings: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """A place that no kept example is of, as one: at the feature's strongest firing there, or where evidence says."""
    if position is None and not firings:
        return None
    peak = max(firings, key=lambda row: row["activation"], default=None)
    if position is None and peak is not None:
        position = peak["position"]
    assert position is not None
    largest = peak["activation"] if peak is not None else 0.0
    start = max(0, position - RADIUS)
    window = [0] * (2 * RADIUS + 1)
    for row in firings:
        if start <= row["position"] < start + len(window):
            window[row["position"] - start] = round(255 * row["activation"] / largest)
    here = [row["activation"] for row in firings if row["position"] == position]
    return {
        "kind": "place",
        "rank": 0,
        "context": context,
        "position": position,
        "activation": largest,
        "window_start": start,
        "window": window,
        "shown": here[0] if here else 0.0,
    }
