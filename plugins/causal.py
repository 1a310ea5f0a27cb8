"""Scores a label by what its feature does: the decoder row is added, and the change is held against the label."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featuredb.labels.effects import Effects
from featuredb.labels.requests import Scored
from featuredb.labels.shares import rank_among, wilson

if TYPE_CHECKING:
    from featuredb.labels.requests import ScoreRequest

N_DECOYS = 50

QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
"""What a label quotes, such as the tokens that a feature fires on."""


class Causal:
    """The share of other features' labels that the effect of adding the feature speaks for less than for its own.

    `permuted` is the same share under the effect of another feature's decoder row: what a permuted dictionary gives. A
    label of what a feature fires on need not say what it does, so a low figure does not make such a label wrong.
    Source: output-side evaluation as in Gur-Arieh et al. (2025), arXiv:2501.08319, without a language model.
    """

    name = "causal.v2"
    options = ()

    def score(self, request: ScoreRequest) -> Iterator[Scored]:
        effects = Effects(request.workshop, request.evidence, request.seed)
        for label in request.labels:
            decoys = request.decoys(label.feature, N_DECOYS)
            effect = effects.of(label.feature)
            if not decoys or not effect.any():
                reason = "adding it changes nothing" if decoys else "no other labels"
                yield Scored(label.label_id, None, failed=reason)
                continue
            vectors = meanings([label.text, *(decoy.text for decoy in decoys)], request.workshop.embed)
            near = (vectors @ effect).astype(np.float64)
            share, p = rank_among(float(near[0]), near[1:])
            low, high = wilson(share, len(decoys))
            details = {"p": p, "channel": effects.channel, "embedder": request.workshop.embedder.id}
            if len(decoys) > 1:
                # The label of the feature whose effect this is takes no part: it is not one chosen by chance.
                permuted = (vectors @ effects.of(decoys[0].feature)).astype(np.float64)
                details["permuted"] = rank_among(float(permuted[0]), permuted[2:])[0]
            yield Scored(label.label_id, share, low=low, high=high, n=len(decoys), baseline=0.5, details=details)


def meanings(texts: Sequence[str], embed: Callable[[Sequence[str]], NDArray[np.float32]]) -> NDArray[np.float32]:
    """(n, width) unit vectors of labels, less what all of them say: of each as it reads, and of what it quotes alone.

    A small embedder hears little of a few quoted tokens among the words around them.
    """
    quoted = [" ".join(QUOTED.findall(text)).strip() or text for text in texts]
    return _unit(_centred(embed(texts)) + _centred(embed(quoted)))


def _centred(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return _unit(vectors - vectors.mean(axis=0))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
