"""Scores a label by its rank among the labels of other features that fire about as often."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from featuredb.concepts.auroc import auroc, auroc_columns
from featuredb.labels.meanings import LabelMeanings
from featuredb.labels.requests import Scored
from featuredb.labels.shares import rank_among, wilson

if TYPE_CHECKING:
    from featuredb.labels.requests import ScoreRequest

N_DECOYS = 50
"""Labels that a label is ranked among; the least p value is one in 51."""


class Rank:
    """The share of other features' labels that fit the feature worse than its own, ties counted half, and a p value.

    A right label beats nearly all of them. What makes one feature harder than another falls out, since every label is
    held against the same snippets.
    """

    name = "rank.v1"
    options = ()

    def score(self, request: ScoreRequest) -> Iterator[Scored]:
        meanings = LabelMeanings(request, N_DECOYS)
        for label in request.labels:
            found = meanings.of(label)
            if found is None or len(found.decoys) == 0:
                reason = "no text of the scoring half where the feature fires" if found is None else "no other labels"
                yield Scored(label.label_id, None, failed=reason)
                continue
            own = auroc(found.own, found.positive).value
            others, _, _ = auroc_columns(found.decoys.T, found.positive)
            share, p = rank_among(own, others)
            low, high = wilson(share, len(others))
            yield Scored(
                label.label_id,
                share,
                low=low,
                high=high,
                n=len(others),
                baseline=0.5,
                details={"p_embedding": p, "auroc": own, "embedder": meanings.embedder},
            )
