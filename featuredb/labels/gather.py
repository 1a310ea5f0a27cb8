"""A dictionary of a store as a publication: what exporters write out, gathered some features at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from featuredb.errors import NotFound
from featuredb.hooknames import layer_of
from featuredb.labels.label_rows import published_labels
from featuredb.labels.publication import ExportRequest, Publication, PublishedExample, PublishedFeature, PublishedLabel
from featuredb.labels.table import shown_label
from featuredb.store.catalog import LabelRow
from featuredb.store.published import PUBLISHED, BulkReader, KeptText
from featuredb.store.refs import get_dictionary
from featuredb.store.segments import SegmentRef
from featuredb.store.store import Store

TOGETHER = 256
"""Features whose rows are in memory at one time."""


class Gathered:
    """What a store holds of one dictionary. Close it, or use it in a `with` block."""

    def __init__(self, request: ExportRequest, publisher: str | None = None) -> None:
        """publisher: whose form it is for; names that it gave to labelers and scorers come back as it wrote them.

        Raises NotFound for an unknown dictionary, and for one that has no run unless labels alone are asked for.
        """
        self._store: Store = request.db.store
        self._n_examples = 0 if request.labels_only else request.n_examples
        self._publisher = publisher
        with self._store.reading() as session:
            row = get_dictionary(session, request.dictionary)
            self._id = row.id
            self.name, self.n_features, self.hook, self.model = row.name, row.n_features, row.hook, row.model.name
            self.trained: Mapping[str, Any] = row.trained
            segment = _segment(session, row, needed=not request.labels_only)
        self.n_tokens = segment.n_tokens if segment is not None else 0
        """Counted tokens behind the figures; 0 where that is not known."""
        self._reader = BulkReader(self._store, segment) if segment is not None else None

    @property
    def published(self) -> Mapping[str, Any]:
        """What the publisher said of the dictionary; empty for one that was captured here."""
        found = self.trained.get(PUBLISHED)
        return found if isinstance(found, dict) else {}

    @property
    def layer(self) -> int | None:
        """The layer of its hook, or the one its publisher names."""
        told = self.published.get("layer")
        found = layer_of(self.hook)
        return found if found is not None or not isinstance(told, int) else told

    @property
    def sampled(self) -> bool:
        """Whether each feature has a uniform sample of the contexts where it fires: so for dictionaries captured."""
        return not self.published

    def publication(self) -> Publication:
        """All of it; its features are read as they are asked for."""
        return Publication(
            name=self.name,
            publisher=str(self.published.get("publisher", "featuredb")),
            model=self.model,
            hook=self.hook or None,
            n_features=self.n_features,
            features=_Features(self),
            extra={name: value for name, value in self.published.items() if name != "publisher"},
        )

    def features(self, *, examples: bool = True, labels: bool = True) -> Iterator[PublishedFeature]:
        """Every feature, by index."""
        for start in range(0, self.n_features, TOGETHER):
            chosen = range(start, min(start + TOGETHER, self.n_features))
            yield from self.take(chosen, examples=examples, labels=labels)

    def take(self, indices: Sequence[int], *, examples: bool = True, labels: bool = True) -> Iterator[PublishedFeature]:
        """The features of those indices, in their order."""
        for start in range(0, len(indices), TOGETHER):
            chosen = indices[start : start + TOGETHER]
            figures = self._reader.features(chosen) if self._reader else {}
            texts = self._reader.examples(chosen, self._n_examples) if self._reader and examples else {}
            said = self.labels(chosen) if labels else {}
            for index in chosen:
                yield _feature(index, figures.get(index, {}), texts.get(index, []), said.get(index, ()))

    def labels(self, indices: Sequence[int], *, shown: bool = False) -> dict[int, tuple[PublishedLabel, ...]]:
        """The labels that can be used of some features that have any, the oldest first; or the shown one alone."""
        found: dict[int, tuple[PublishedLabel, ...]] = {}
        with self._store.reading() as session:
            for start in range(0, len(indices), 500):
                by_feature: dict[int, list[LabelRow]] = {}
                rows = select(LabelRow).where(
                    LabelRow.dictionary_id == self._id, LabelRow.feature_index.in_(list(indices[start : start + 500]))
                )
                for row in session.scalars(rows.order_by(LabelRow.id)):
                    by_feature.setdefault(row.feature_index, []).append(row)
                if shown:
                    first = {index: shown_label(rows) for index, rows in by_feature.items()}
                    by_feature = {index: [row] for index, row in first.items() if row is not None}
                everyone = [row for index in sorted(by_feature) for row in by_feature[index]]
                for feature, label in published_labels(session, everyone, self._publisher):
                    found[feature] = (*found.get(feature, ()), label)
        return found

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def __enter__(self) -> Gathered:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Features:
    """Every feature of a dictionary, read anew each time."""

    def __init__(self, gathered: Gathered) -> None:
        self._gathered = gathered

    def __iter__(self) -> Iterator[PublishedFeature]:
        return self._gathered.features()


def _segment(session: Session, row: Any, *, needed: bool) -> SegmentRef | None:
    try:
        return SegmentRef.newest(session, row)
    except NotFound:
        if needed:
            raise
        return None


def _feature(
    index: int, row: Mapping[str, Any], texts: Sequence[KeptText], labels: tuple[PublishedLabel, ...]
) -> PublishedFeature:
    extra = row.get("extra") or {}
    more = extra.get("examples") or []
    vector = extra.get("vector")
    return PublishedFeature(
        index=index,
        density=row.get("density"),
        max_activation=None if row.get("max") is None else shortest(row["max"]),
        promoted=_weights(row.get("promoted", ())),
        suppressed=_weights(row.get("suppressed", ())),
        examples=tuple(_example(text, more) for text in texts),
        labels=labels,
        vector=None if vector is None else tuple(vector),
        extra=extra.get("fields") or {},
    )


def _example(text: KeptText, more: Sequence[Mapping[str, Any]]) -> PublishedExample:
    extra = dict(more[text.rank]) if text.kind == "top" and text.rank < len(more) else {}
    if text.kind != "top":
        extra["kind"] = text.kind
    activations = tuple(shortest(value) if value else 0.0 for value in text.activations)
    return PublishedExample(text.tokens, activations, _source(text.document), extra)


def _weights(pairs: Sequence[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    return tuple((text, shortest(value)) for text, value in pairs)


def shortest(value: float) -> float:
    """A float32 as people write it, 12.345 for 12.345000267028809: read back, it is the same float32."""
    return float(str(np.float32(value)))


def _source(document: str | None) -> str | None:
    """Where a text is from: its document, without the mark of its content that an import adds."""
    return None if document is None else re.sub(r"(^|/)[0-9a-f]{32}$", "", document) or None
