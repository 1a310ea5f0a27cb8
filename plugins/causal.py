"""Scores a label by what its feature does: the decoder row is added, and the change is held against the label."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from featuredb.labels.effects import Effects
from featuredb.labels.requests import Scored
from featuredb.labels.shares import rank_among, wilson

if TYPE_CHECKING:
    from featuredb.labels.requests import ScoreRequest

N_DECOYS = 50


class Causal:
    """The share of other features' labels that the effect of adding the feature speaks for less than for its own.

    The baseline is the same share under the effect of another feature's decoder row: what a permuted dictionary gives.
    A label of what a feature fires on need not say what it does, so a low figure does not make such a label wrong.
    Source: output-side evaluation as in Gur-Arieh et al. (2025), arXiv:2501.08319, without a language model.
    """

    name = "causal.v1"
    options = ()

    def score(self, request: ScoreRequest) -> Iterator[Scored]:
        effects = Effects(request.workshop, request.evidence, request.seed)
        embed = request.workshop.embed
        for label in request.labels:
            decoys = request.decoys(label.feature, N_DECOYS)
            effect = effects.of(label.feature)
            if not decoys or not effect.any():
                reason = "adding it changes nothing" if decoys else "no other labels"
                yield Scored(label.label_id, None, failed=reason)
                continue
            vectors = embed([label.text, *(decoy.text for decoy in decoys)])
            vectors = vectors - vectors.mean(axis=0)
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
            near = (vectors @ effect).astype(np.float64)
            share, p = rank_among(float(near[0]), near[1:])
            permuted = (vectors @ effects.of(decoys[0].feature)).astype(np.float64)
            low, high = wilson(share, len(decoys))
            yield Scored(
                label.label_id,
                share,
                low=low,
                high=high,
                n=len(decoys),
                baseline=0.5,
                details={
                    "p": p,
                    "permuted": rank_among(float(permuted[0]), permuted[1:])[0],
                    "channel": effects.channel,
                    "embedder": request.workshop.embedder.id,
                },
            )
