"""A better label for a feature: made from the labeling half, and held against its own label on the audit half.

Since the two halves share no document, a label that was chosen on one is no better on the other by that choice. Rule:
one feature at a time, and only those asked for, because making a label costs some hundredths of a second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featuredb.labels.fit import Draws, Figures, Panel, Sample, Samples, figures
from featuredb.labels.requests import LabelToScore
from featuredb.predicates.text import Mask

if TYPE_CHECKING:
    from featuredb.audit.requests import AuditRequest
    from featuredb.predicates.tagged import Tagged

N_DRAWS = 200
"""Draws of documents by which the error of a difference is known."""

LEAST_P = 1e-6
"""A normal's tail says nothing farther out than this of what some hundred draws have."""

N_DECILES, ENOUGH = 10, 100
"""Tenths of a feature's firings by strength; thirds where fewer than so many firings are known."""


@dataclass(frozen=True)
class Fit:
    """One label on one feature, over all tokens of the audit half."""

    pearson: float
    precision: float
    recall: float
    f1: float

    @property
    def said(self) -> dict[str, float]:
        return {name: round(value, 4) for name, value in vars(self).items()}


NONE = Fit(0.0, 0.0, 0.0, 0.0)
"""Of a label that holds of no token."""


@dataclass(frozen=True)
class Better:
    """Another label for a feature, beside its own."""

    label: LabelToScore
    fit: Fit
    own: Fit
    p: float
    """Chance of such a difference in correlation where the other label fits no better; LEAST_P at least."""


class Alternatives:
    """Makes labels on the labeling half and compares them on the audit half."""

    def __init__(self, request: AuditRequest, tagged: Tagged, panel: Panel) -> None:
        """tagged, panel: of the audit half."""
        self._request, self._tagged, self._panel = request, tagged, panel
        self._draws = Draws(panel.n_groups, request.seed, N_DRAWS)
        self._samples = Samples(request.audit)
        self._labeling = Samples(request.labeling)

    @cached_property
    def _maker(self) -> tuple[Any, Any]:
        from featuredb.predicates.choose import Chooser
        from featuredb.predicates.wording import Wording

        chooser = Chooser(self._request.labeling, self._request.seed)
        return chooser, Wording(chooser.tagged, chooser.panel, chooser.families)

    def fresh(self, feature: int) -> LabelToScore | None:
        """A label for a feature from the labeling half alone; None where nothing tells it there."""
        chooser, wording = self._maker
        sample = self._labeling.of(feature)
        choice = chooser.choose(sample)
        if choice is None or not choice.clear:
            return None
        return LabelToScore(-1, feature, wording.label(sample, choice), choice.expression)

    def better(self, feature: int, own: Mask | None, others: Sequence[LabelToScore] = ()) -> Better | None:
        """The fresh label beside the own one; where there is none, the best of some others that have a predicate.

        own: (N,) the tokens its own label holds of; None where it is known to hold of none.
        """
        sample = self._samples.of(feature)
        fresh = self.fresh(feature)
        candidates = [fresh] if fresh is not None else [label for label in others if label.predicate is not None]
        if not candidates or not len(sample.at):
            return None
        held = [self._tagged.holds(label.predicate or {}) for label in candidates]
        fits = [_fit(figures(self._panel.total(sample, mask), sample.density)) for mask in held]
        best = max(range(len(fits)), key=lambda place: fits[place].pearson)
        ours = np.zeros(self._tagged.n_tokens, np.bool_) if own is None else own
        mine = NONE if own is None else _fit(figures(self._panel.total(sample, ours), sample.density))
        return Better(candidates[best], fits[best], mine, self._p(sample, ours, held[best]))

    def _p(self, sample: Sample, own: Mask, other: Mask) -> float:
        """One-sided, from the spread over documents drawn anew; normal, for draws are too few for a small p."""
        one, two = self._panel.tally(sample, own), self._panel.tally(sample, other)
        density = sample.density
        gain = float(figures(two.sum(axis=0), density).pearson - figures(one.sum(axis=0), density).pearson)
        drawn = self._draws.figures(two, density).pearson - self._draws.figures(one, density).pearson
        error = max(float(np.std(drawn)), 1e-3)
        return max(LEAST_P, 0.5 * math.erfc(gain / error / math.sqrt(2)))


def _fit(found: Figures) -> Fit:
    return Fit(float(found.pearson), float(found.precision), float(found.recall), float(found.f1))


def by_decile(activation: NDArray[np.float32], weight: NDArray[np.float32], holds: NDArray[np.bool_]) -> list[float]:
    """The share of firings that a label holds of, from the strongest tenth of them (or third) to the weakest.

    activation, weight, holds: (n,) of one feature's firings; weights add up to 1.
    """
    if not len(activation):
        return []
    order = np.argsort(-np.abs(activation), kind="stable")
    mass = np.cumsum(weight[order].astype(np.float64))
    n = N_DECILES if len(order) >= ENOUGH else 3
    part = np.minimum((n * (mass - weight[order] / 2) / max(float(mass[-1]), 1e-12)).astype(np.int64), n - 1)
    total = np.bincount(part, weight[order], n)
    return [round(float(x), 3) for x in np.bincount(part, weight[order] * holds[order], n) / np.maximum(total, 1e-12)]


def right_at_the_top(shares: Sequence[float], base: float) -> bool:
    """Whether a label holds of most of the strongest firings and of hardly more of the weaker half than of any text."""
    if len(shares) < 3:
        return False
    low = shares[len(shares) // 2 :]
    return shares[0] >= 0.5 and float(np.mean(low)) <= min(0.2, base + 0.1)
