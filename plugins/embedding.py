"""Scores a label by how much nearer its meaning is to texts its feature fires on than to those where it is silent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from featuredb.concepts.auroc import auroc, auroc_columns
from featuredb.labels.meanings import N_DECOYS, LabelMeanings
from featuredb.labels.requests import Scored

if TYPE_CHECKING:
    from featuredb.labels.requests import ScoreRequest


class Embedding:
    """The AUROC of the label's similarity to firing against silent snippets.

    Source: the embedding scorer of Paulo et al. (2025), arXiv:2410.13928, with snippets short enough for a small model.
    """

    name = "embedding.v2"
    options = ()

    def score(self, request: ScoreRequest) -> Iterator[Scored]:
        meanings = LabelMeanings(request)
        for label in request.labels:
            found = meanings.of(label)
            if found is None:
                yield Scored(label.label_id, None, failed="no text of the scoring half where the feature fires")
                continue
            positive = found.positive
            own = auroc(found.own, positive)
            decoys = found.decoys[:N_DECOYS]
            others = auroc_columns(decoys.T, positive)[0] if len(decoys) else None
            yield Scored(
                label.label_id,
                own.value,
                low=own.low,
                high=own.high,
                n=len(positive),
                baseline=float(np.mean(others)) if others is not None else None,
                details={"embedder": meanings.embedder, "n_firing": int(positive.sum())},
            )
