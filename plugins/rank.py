"""Scores a label by its rank among the labels of other features that fire about as often: by meaning and by predicate.

Each channel holds every label against the same feature: its similarity in meaning to the feature's texts, and how well
its executable part tells where the feature fires. A label without an executable part takes no part in the second.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from featuredb.labels.requests import Scored
from featuredb.labels.shares import rank_among, wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from featuredb.labels.fit import Panel, Sample
    from featuredb.labels.meanings import Nearness
    from featuredb.labels.requests import LabelToScore, ScoreRequest
    from featuredb.predicates.tagged import Tagged

    Compared = tuple[float, NDArray[np.float64]]
    """A label's figure on one feature, and its decoys' on the same."""

N_DECOYS = 50
"""Labels that a label is ranked among; the least p value is one in 51."""

DECIMALS = 5
"""Of cosines that are compared."""

FIGURES = {"embedding": "auroc", "predicate": "pearson"}
"""What each channel compares."""


class Rank:
    """The share of other features' labels that fit the feature worse than its own, ties counted half, and p values.

    A right label beats nearly all of them. What makes one feature harder than another falls out, since every label is
    held against the same feature. The figure is the share over both channels' comparisons together: the mean of the
    two shares where every decoy has an executable part, and the first alone where the label has none. Its interval is
    that of as many decoys as the larger channel has, for both channels hold the label against the same ones.
    The p value of a channel is (1 + decoys that fit as well or better) / (1 + decoys).
    """

    name = "rank.v2"
    options = ()

    def score(self, request: ScoreRequest) -> Iterator[Scored]:
        from featuredb.labels.meanings import LabelMeanings

        meanings = LabelMeanings(request, N_DECOYS)
        correlations = Correlations(request) if request.labels else None
        for label in request.labels:
            by_meaning = _by_meaning(meanings.of(label))
            by_predicate = correlations.of(label) if correlations else None
            channels = {"embedding": by_meaning, "predicate": by_predicate}
            yield _scored(label.label_id, channels, meanings.embedder)


class Correlations:
    """Pearson's correlation of each label's executable part, and its decoys', with the label's feature.

    Each executable part is evaluated once and held against all features that asked for it: the work for a pair is that
    of the feature's firings, about 50 microseconds.
    """

    def __init__(self, request: ScoreRequest) -> None:
        from featuredb.labels.fit import Panel, samples_of
        from featuredb.predicates.tagged import Tagged

        tagged, panel = Tagged(request.evidence.passages), Panel(request.evidence.passages)
        wanted: dict[int, LabelToScore] = {}
        self._decoys: dict[int, list[int]] = {}
        asked: dict[int, set[int]] = {}
        for label in request.labels:
            # A feature whose labels have no executable part is not held against others' parts.
            if label.predicate is None or not len(panel.at):
                continue
            if label.feature not in self._decoys:
                drawn = [each for each in request.decoys(label.feature, N_DECOYS) if each.predicate is not None]
                self._decoys[label.feature] = [each.label_id for each in drawn]
                wanted |= {each.label_id: each for each in drawn}
            wanted[label.label_id] = label
            for label_id in (label.label_id, *self._decoys[label.feature]):
                asked.setdefault(label_id, set()).add(label.feature)
        features = sorted(self._decoys)
        samples = {sample.feature: sample for sample in samples_of(request.evidence, features) if len(sample.at)}
        self._found: dict[tuple[int, int], float] = {}
        for label_id, label in wanted.items():
            holds = _holds(tagged, label)
            if holds is not None:
                told = [samples[feature] for feature in asked[label_id] if feature in samples]
                values = _correlations(panel, told, holds)
                self._found |= {(label_id, s.feature): v for s, v in zip(told, values, strict=True)}

    def of(self, label: LabelToScore) -> Compared | None:
        """The label's own and its decoys'; None where it, or every decoy, has no executable part that can be used."""
        import numpy as np

        own = self._found.get((label.label_id, label.feature))
        found = [self._found.get((decoy, label.feature)) for decoy in self._decoys.get(label.feature, ())]
        others = np.array([value for value in found if value is not None], np.float64)
        return None if own is None or len(others) == 0 else (own, others)


def _holds(tagged: Tagged, label: LabelToScore) -> NDArray[np.bool_] | None:
    """(N,) where the label's executable part holds; None where it has none that can be used."""
    from featuredb.errors import BadInput

    try:
        return None if label.predicate is None else tagged.holds(label.predicate)
    except BadInput:
        return None


def _correlations(panel: Panel, samples: list[Sample], holds: NDArray[np.bool_]) -> list[float]:
    """What `predicate-fit` says of an expression for each of some features."""
    import numpy as np

    from featuredb.labels.fit import figures

    n_held = int(np.count_nonzero(holds[panel.at]))
    return [float(figures(panel.total(each, holds, n_held), each.density).pearson) for each in samples]


def _by_meaning(found: Nearness | None) -> Compared | None:
    """The AUROC of the label's similarity to the feature's texts against silent ones, and its decoys'."""
    import numpy as np

    from featuredb.concepts.auroc import auroc_columns

    if found is None or len(found.decoys) == 0:
        return None
    # A decoy that reads the same is a tie, which rounding in float32 would else decide either way.
    cosines = np.round(np.vstack([found.own, found.decoys]), DECIMALS)
    values, _, _ = auroc_columns(cosines.T, found.positive)
    return float(values[0]), values[1:]


def _scored(label_id: int, channels: dict[str, Compared | None], embedder: str) -> Scored:
    """One figure from what each channel found."""
    won, n_compared, n = 0.0, 0, 0
    details: dict[str, float | int | str] = {"embedder": embedder}
    for channel, compared in channels.items():
        if compared is not None:
            own, others = compared
            share, p = rank_among(own, others)
            won, n_compared, n = won + share * len(others), n_compared + len(others), max(n, len(others))
            details |= {FIGURES[channel]: own, f"share_{channel}": share, f"p_{channel}": p}
            details[f"n_{channel}"] = len(others)
    if n_compared == 0:
        return Scored(label_id, None, failed="no other labels, or no text of the scoring half where the feature fires")
    value = won / n_compared
    low, high = wilson(value, n)
    return Scored(label_id, value, low=low, high=high, n=n, baseline=0.5, details=details)
