"""How near labels are, in meaning, to the texts a feature fires on: what the scorers by meaning share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featuredb.labels.requests import LabelToScore, ScoreRequest
from featuredb.labels.snippets import SnippetMaker

N_FIRING = 10
"""Snippets where a feature fires. Embedding them is most of the work, about 2 ms each on one core."""

N_SILENT = 80
"""Snippets where it is silent; nearly all are snippets of other features too, and are embedded once."""

N_NEIGHBOURS = 4

N_DECOYS = 5
"""Other features' labels whose mean figure is the baseline."""

AHEAD = 512
"""Labels whose snippets are embedded together, so that batches are full."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Nearness:
    """Similarities of labels with one feature's snippets."""

    positive: NDArray[np.bool_]
    """(n,) whether the feature fires on each snippet."""
    own: Floats
    """(n,) cosines of the feature's own label."""
    decoys: Floats
    """(m, n) cosines of other features' labels."""


class LabelMeanings:
    """Embeds the labels of a request and their features' snippets, some hundred labels ahead."""

    def __init__(self, request: ScoreRequest, n_decoys: int = N_DECOYS) -> None:
        self._request = request
        self._n_decoys = n_decoys
        self._snippets = SnippetMaker(request.evidence, N_FIRING, N_SILENT, request.seed)
        self._order = {label.label_id: place for place, label in enumerate(request.labels)}
        self._drawn: dict[int, tuple[list[str], NDArray[np.bool_]]] = {}
        self._decoys: dict[int, list[LabelToScore]] = {}

    @property
    def embedder(self) -> str:
        return self._request.workshop.embedder.id

    def of(self, label: LabelToScore) -> Nearness | None:
        """Similarities for one of the request's labels; None where its feature fires on no text, or is silent on none.

        Labels are to be asked for in the request's order.
        """
        if label.feature not in self._drawn:
            start = self._order[label.label_id]
            self._prepare(self._request.labels[start : start + AHEAD])
        texts, positive = self._drawn[label.feature]
        if not positive.any() or positive.all():
            return None
        embed = self._request.workshop.embed
        snippets = embed(texts)
        others = self._decoys[label.feature]
        decoys = embed([other.text for other in others]) if others else snippets[:0]
        return Nearness(positive, snippets @ embed([label.text])[0], decoys @ snippets.T)

    def _prepare(self, labels: Sequence[LabelToScore]) -> None:
        workshop = self._request.workshop
        wanted: dict[str, None] = {}
        for label in labels:
            if label.feature not in self._drawn:
                drawn = self._snippets.of(label.feature, workshop.neighbours(label.feature, N_NEIGHBOURS))
                texts = self._snippets.texts(np.concatenate([drawn.firing, drawn.silent]))
                self._drawn[label.feature] = (texts, np.arange(len(texts)) < len(drawn.firing))
                self._decoys[label.feature] = self._request.decoys(label.feature, self._n_decoys)
            wanted |= dict.fromkeys(self._drawn[label.feature][0])
            wanted |= dict.fromkeys([label.text, *(other.text for other in self._decoys[label.feature])])
        workshop.embed(list(wanted))
