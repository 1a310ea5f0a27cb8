"""Wrong labels planted in a dictionary, and how well they are told from right ones.

Labels change hands, features stay as they are. Rule: who gets whose label, and the figures of telling it; the labels'
own fit is worked out by `featuredb.audit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.comparing import TEXTUAL, Compared, Comparing
from featuredb.audit.directions import largest
from featuredb.audit.verdicts import judge_margins, suspected
from featuredb.labels.requests import LabelToScore

SHARE = 0.3
"""Of the labels, those that change hands."""

ALIKE = 10
"""Features among which labels are exchanged: neighbours in order of density, of those chosen."""

NEAREST = 5
"""Features nearest in direction, or labels nearest in meaning, of which one is exchanged with."""

Way = Literal["density", "direction", "meaning"]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Swapped:
    """Labels by feature, and which features have another's."""

    labels: dict[int, LabelToScore]
    wrong: frozenset[int]


def swap(
    labels: Mapping[int, LabelToScore],
    seed: int,
    *,
    density: Floats | None = None,
    partners: Mapping[int, Sequence[int]] | None = None,
    share: float = SHARE,
) -> Swapped:
    """Exchanges some labels between features.

    density: (n_features,), for exchanges among features that fire about as often; partners: for each feature those one
    of which it may exchange with. Only one of the two. Labels of the same text are never exchanged.
    """
    random = np.random.default_rng((seed, len(labels)))
    features = sorted(labels)
    owner = {feature: feature for feature in features}
    order = [features[place] for place in random.permutation(len(features)).tolist()]
    wanted = round(share * len(features))
    if density is not None:
        chosen = sorted(order[:wanted], key=lambda feature: (density[feature], feature))
        for start in range(0, len(chosen), ALIKE):
            group = chosen[start : start + ALIKE]
            if len(group) > 1:
                turned = [group[place] for place in random.permutation(len(group)).tolist()]
                owner |= dict(zip(turned, [*turned[1:], turned[0]], strict=True))
    elif partners is not None:
        done = set[int]()
        for feature in order:
            free = [each for each in partners.get(feature, ()) if each in owner and each not in done]
            free = [each for each in free if labels[each].text != labels[feature].text]
            if len(done) >= wanted or feature in done or not free:
                continue
            other = int(random.choice(free))
            owner[feature], owner[other] = other, feature
            done |= {feature, other}
    wrong = {feature for feature, other in owner.items() if labels[other].text != labels[feature].text}
    given = {
        feature: LabelToScore(labels[other].label_id, feature, labels[other].text, labels[other].predicate)
        for feature, other in owner.items()
    }
    return Swapped(given, frozenset(wrong))


def nearest_labels(comparing: Comparing, n: int = NEAREST) -> dict[int, list[int]]:
    """For each feature those whose labels are nearest to its own in meaning."""
    features = comparing.features
    vectors = comparing.meanings_of([comparing.labels[each] for each in features])
    like = vectors @ vectors.T
    np.fill_diagonal(like, -2)
    nearest, _ = largest(like, max(0, min(n, len(features) - 1)))
    return {
        feature: [features[place] for place in row] for feature, row in zip(features, nearest.tolist(), strict=True)
    }


@dataclass(frozen=True)
class Told:
    """What margins make of planted labels; (F,) in the order of `features`."""

    features: tuple[int, ...]
    wrong: Mask
    badness: Floats
    """Higher where a label is less supported."""
    unsupported: Mask
    """Whether it is one of those that are called wrong if a better label is found."""

    def auroc(self, among: Mask | None = None) -> float:
        """The chance that a wrong label is less supported than a right one; NaN where one of the two is missing."""
        among = np.ones(len(self.wrong), np.bool_) if among is None else among
        return auroc(self.badness[among], self.wrong[among])

    def false_alarms(self) -> float:
        """Share of right labels that are unsupported."""
        return float(self.unsupported[~self.wrong].mean())

    def found(self) -> float:
        """Share of wrong labels that are unsupported."""
        return float(self.unsupported[self.wrong].mean()) if self.wrong.any() else float("nan")

    def precision_at_k(self) -> float:
        """Share of wrong labels among as many of the least supported as there are."""
        k = int(self.wrong.sum())
        return float(self.wrong[np.argsort(-self.badness, kind="stable")[:k]].mean()) if k else float("nan")


def tell(compared: Compared, swapped: Swapped, channels: Iterable[str] | None = None) -> Told:
    """The margins of labels that changed hands.

    compared: what `Comparing.compare` makes of them; channels: only these, such as TEXTUAL; None: all.
    """
    judgement = judge_margins(compared, channels)
    features = judgement.compared.features
    return Told(
        features,
        np.array([feature in swapped.wrong for feature in features], np.bool_),
        -judgement.support,
        suspected(judgement),
    )


def auroc(scores: Floats, positive: Mask) -> float:
    """The area under the ROC curve, ties counted half."""
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    return float((rank[positive].sum() - n * (n + 1) / 2) / (n * m))


def over_seeds(measure: Callable[[int], float], seeds: Iterable[int]) -> Floats:
    """(n,) one figure for each seed."""
    return np.array([measure(seed) for seed in seeds], np.float64)


__all__ = ["TEXTUAL", "Swapped", "Told", "auroc", "nearest_labels", "over_seeds", "swap", "tell"]
