"""A run of which every activation is known: real samples, windows and panel, drawn by the capture's own reducers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from featuredb.capture.firings import Firings, Rows
from featuredb.capture.kept import EMPTY, KeptContexts, hash_order
from featuredb.capture.panel import PanelContexts
from featuredb.labels.evidence import Evidence
from featuredb.store.layout import RADIUS
from featuredb.store.passages import Examples, PanelFirings, Passages

Activations = NDArray[np.float32]


def contexts_of(token: NDArray[Any], length: int, texts: list[str], per_document: int = 5) -> Passages:
    """Contexts of some length, one piece each, `per_document` of them a document; none on the panel."""
    n = len(token) // length
    number = np.arange(n, dtype=np.int32)
    return Passages(
        token=token[: n * length].astype(np.int32),
        start=np.arange(0, (n + 1) * length, length, dtype=np.int64),
        context=number,
        position=np.zeros(n, np.int32),
        document=number // per_document,
        offset=length * (number % per_document),
        panel=np.zeros(n, np.bool_),
        names={document: f"document {document}" for document in range(-(-n // per_document))},
        texts=texts,
    )


@dataclass(frozen=True)
class PlantedRun:
    """What Evidence would show of a run, all documents admitted."""

    text: Passages
    activations: Activations
    """(N, n_features)"""
    n_panel: int
    n_samples: int
    seed: int = 0

    @property
    def evidence(self) -> Evidence:
        """Itself, as those see it who expect it to come from a store."""
        return cast(Evidence, self)

    @property
    def n_features(self) -> int:
        return int(self.activations.shape[1])

    @cached_property
    def n_fires(self) -> NDArray[np.int64]:
        return np.asarray(np.count_nonzero(self.activations, axis=0), np.int64)

    @cached_property
    def density(self) -> NDArray[np.float64]:
        return self.n_fires / len(self.activations)

    @cached_property
    def passages(self) -> Passages:
        chosen = PanelContexts(self.n_panel, self.seed)
        chosen.add(self.text.context.astype(np.int64))
        return Passages(**{**vars(self.text), "panel": np.isin(self.text.context, chosen.context)})

    def panel(self, first: int, last: int) -> PanelFirings:
        at = np.flatnonzero(self.passages.on_panel)
        feature, place = np.nonzero(self.activations[at, first:last].T)
        values = self.activations[at[place], feature + first]
        return PanelFirings((feature + first).astype(np.int32), at[place], values)

    def examples(self, first: int, last: int) -> Examples:
        kept = self._sample
        feature, rank = np.nonzero(kept.key[first:last] != EMPTY)
        feature = feature + first
        text = self.text
        at = text.locate(kept.context[feature, rank].astype(np.int32), kept.position[feature, rank])
        piece = np.searchsorted(text.start, at, side="right") - 1
        low, high = np.maximum(at - RADIUS, text.start[piece]), np.minimum(at + RADIUS + 1, text.start[piece + 1])
        windows = kept.window[feature, rank]
        shares = [row[a - p + RADIUS : b - p + RADIUS] for row, a, b, p in zip(windows, low, high, at, strict=True)]
        return Examples(
            feature=feature.astype(np.int32),
            kind=np.ones(len(at), np.uint8),
            rank=rank.astype(np.int32),
            at=at,
            activation=kept.activation[feature, rank],
            low=low,
            high=high,
            shares=np.concatenate([*shares, np.zeros(0, np.uint8)]).astype(np.float32) / np.float32(255),
            first=np.concatenate([[0], np.cumsum(high - low)]).astype(np.int64),
        )

    @cached_property
    def _sample(self) -> KeptContexts:
        kept = KeptContexts(self.n_features, self.n_samples)
        kept.add(self._firings, hash_order(self._firings, self.seed))
        return kept

    @cached_property
    def _firings(self) -> Firings:
        text = self.text
        piece = text.piece
        low = text.position[piece]
        length = np.diff(text.start)[piece].astype(np.int32)
        position = (np.arange(text.n_tokens) - text.start[:-1][piece] + low).astype(np.int32)
        rows = Rows(text.context[piece].astype(np.int64), position, low, low + length)
        row, feature = np.nonzero(self.activations)
        values = self.activations[row, feature]
        return Firings.sort(self.n_features, feature.astype(np.int32), row.astype(np.int32), values, rows)
