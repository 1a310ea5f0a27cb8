"""The data door: what a labeler may read and what a scorer may use are two halves of the documents that never meet.

A labeler is given `Evidence` of the labeling half and a scorer that of the scoring half; neither object can be asked
for the other's text, examples or firings. Only what concerns no label at all reads both.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from featuredb.labels.split import Half, half_of
from featuredb.store.passages import Examples, PanelFirings, PassageReader, Passages
from featuredb.store.segments import SegmentReader, SegmentRef
from featuredb.store.store import Store


class Firings(Protocol):
    """What a dictionary's features do on some documents: read from a store, as `Evidence`, or planted."""

    n_fires: NDArray[np.int64]
    """(n_features,) tokens of the whole run on which each fires."""
    density: NDArray[np.float64]
    """(n_features,) their share of all counted tokens of the run."""
    largest: NDArray[np.float32]
    """(n_features,) largest activation in the run."""

    @property
    def n_features(self) -> int: ...

    @property
    def passages(self) -> Passages:
        """The documents' kept text. On its panel pieces every firing is known."""
        ...

    def panel(self, first: int, last: int) -> PanelFirings:
        """Every firing of features first to last (left out) on the panel's tokens."""
        ...

    def examples(self, first: int, last: int) -> Examples:
        """The kept examples of features first to last (left out)."""
        ...


class Evidence:
    """What one dictionary's features do on one half of the documents of a run."""

    def __init__(self, store: Store, reader: SegmentReader, segment: SegmentRef, half: Half | None) -> None:
        """half: None for all documents, which only checks that concern no label may read."""
        self.dictionary = segment.dictionary
        self.half = half
        figures = reader.figures(segment)
        self.n_fires: NDArray[np.int64] = np.ma.filled(figures["n_fires"], 0)
        """(n_features,) tokens of the whole run on which each fires; 0 where that is not known."""
        self.density: NDArray[np.float64] = np.ma.filled(figures["density"], np.nan)
        """(n_features,) their share of all counted tokens of the run; NaN where that is not known."""
        self.largest: NDArray[np.float32] = np.ma.filled(figures["max"], 0)
        """(n_features,) largest activation in the run; 0 where that is not known."""
        self._passages = PassageReader(store, segment, lambda document: half in (None, half_of(document)))

    @property
    def n_features(self) -> int:
        return len(self.n_fires)

    @property
    def passages(self) -> Passages:
        """The half's text. On its panel pieces every firing is known."""
        return self._passages.passages

    def panel(self, first: int, last: int) -> PanelFirings:
        """Every firing of features first to last (left out) on the half's panel tokens."""
        return self._passages.panel(first, last)

    def examples(self, first: int, last: int) -> Examples:
        """The half's kept examples of features first to last (left out)."""
        return self._passages.examples(first, last)

    def close(self) -> None:
        self._passages.close()

    def __enter__(self) -> Evidence:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
