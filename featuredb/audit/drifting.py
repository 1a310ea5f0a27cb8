"""All features of a request held against both axes, context and document: how much each drifts, and by what chance.

Rule: which features can be judged, and one score and p value for each; what is flagged is the check's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.chance import benjamini_hochberg
from featuredb.audit.drift import Axis, Shift, Strata, context_axis, document_axis, shifts
from featuredb.audit.requests import AuditRequest
from featuredb.search.scope import ENOUGH_FIRINGS

LEAST = 20
"""Firings that have to be on tokens met both early and late in one document."""

SURE = 4.0
"""-log10 of the p value from which on a switched share counts in full."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Drifts:
    """m features that can be judged; (m,) each."""

    axes: Sequence[Axis]
    feature: NDArray[np.int64]
    score: Floats
    """0 to 1: the switched share along the axis that shows most, less where chance might give it."""
    switched: Floats
    z: Floats
    along: NDArray[np.int64]
    """Which axis that is."""
    cut: NDArray[np.int64]
    """And which of its cuts the switch is nearest."""
    at_cut: Floats
    """The switched share there."""
    p: Floats
    """The smaller of the axes', for two tries."""
    q: Floats


def drifts(request: AuditRequest) -> Drifts:
    """Every feature that is asked for, fired often enough and does so on tokens met on both sides of a cut."""
    passages, tokens = request.everything.passages, request.panel.tokens
    axes = [make(passages, tokens) for make in (context_axis, document_axis)]
    found = [_along(request, axis) for axis in axes]
    asked = np.asarray(request.features, np.int64)
    enough = np.max([one.n_matched for one in found], axis=0) >= LEAST
    kept = asked[(request.everything.n_fires[asked] >= ENOUGH_FIRINGS) & enough[asked]]
    scores = np.stack([_score(one)[kept] for one in found])
    along = scores.argmax(axis=0)
    p = np.minimum(1, len(axes) * np.min([one.p[kept] for one in found], axis=0))

    column = np.arange(len(kept))

    def chosen(name: str) -> Floats:
        return np.asarray(np.stack([getattr(one, name)[kept] for one in found])[along, column], np.float64)

    return Drifts(
        axes=axes,
        feature=kept,
        score=scores.max(axis=0),
        switched=chosen("switched"),
        z=chosen("z"),
        along=along.astype(np.int64),
        cut=chosen("cut").astype(np.int64),
        at_cut=chosen("at_cut"),
        p=p,
        q=benjamini_hochberg(p),
    )


def _along(request: AuditRequest, axis: Axis) -> Shift:
    """All features along an axis; of those with too few matched firings nothing is said."""
    strata = Strata(request.everything.passages, request.panel.tokens, axis)
    blocks = [one for _, _, one in shifts(request.panel, strata, request.seed)]
    joined = Shift(*(np.concatenate([getattr(one, each.name) for one in blocks]) for each in fields(Shift)))
    few = joined.n_matched < LEAST
    return replace(
        joined,
        switched=np.where(few, 0.0, joined.switched),
        z=np.where(few, 0.0, joined.z),
        p=np.where(few, 1.0, joined.p),
    )


def _score(one: Shift) -> Floats:
    return np.clip(np.nan_to_num(one.switched) * np.clip(-np.log10(one.p) / SURE, 0, 1), 0, 1)
