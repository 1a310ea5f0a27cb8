"""Scores labels by their executable part: how well it tells, over all tokens, where the feature fires and how much."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featuredb.labels.requests import Scored, ScoreRequest

N_DECOYS = 50
"""Other features' labels: their median figure is the baseline, and the label's rank among them gives the p value."""


class PredicateFit:
    """Pearson's correlation of the label's predicate with the activation, at the natural base rate.

    Source: Oikarinen et al. (2025), arXiv:2506.05774: of the figures in use, it notices best that a label is too narrow
    or too broad.
    """

    name = "predicate-fit.v2"
    options: tuple[str, ...] = ()

    def score(self, request: ScoreRequest) -> Iterator[Scored]:
        from statistics import median

        import numpy as np

        from featuredb.errors import BadInput
        from featuredb.labels.fit import Draws, Panel, Samples, figures, fit
        from featuredb.labels.requests import Scored
        from featuredb.labels.shares import rank_among
        from featuredb.predicates.tagged import Tagged

        tagged = Tagged(request.evidence.passages)
        panel = Panel(request.evidence.passages)
        draws = Draws(panel.n_groups, request.seed)
        samples = Samples(request.evidence)
        for label in request.labels:
            if label.predicate is None:
                yield Scored(label.label_id, None, failed="has no executable part")
                continue
            try:
                holds = tagged.holds(label.predicate)
            except BadInput as error:
                yield Scored(label.label_id, None, failed=f"its executable part cannot be used: {error.message}")
                continue
            sample = samples.of(label.feature)
            if not len(sample.at) or not len(panel.at):
                yield Scored(label.label_id, None, failed="no text of the scoring half where the feature fires")
                continue
            found = fit(sample, holds, panel, draws)
            others = []
            for decoy in request.decoys(label.feature, N_DECOYS):
                if decoy.predicate is not None:
                    total = panel.total(sample, tagged.holds(decoy.predicate))
                    others.append(float(figures(total, sample.density).pearson))
            yield Scored(
                label.label_id,
                found.pearson,
                low=found.low,
                high=found.high,
                n=found.n_tokens,
                baseline=median(others) if others else None,
                details={
                    "f1": found.f1,
                    "average_precision": found.average_precision,
                    "precision": found.precision,
                    "recall": found.recall,
                    "base_rate": found.base,
                    "n_firing": found.n_firing,
                    **({"p": rank_among(found.pearson, np.array(others))[1]} if others else {}),
                },
            )
