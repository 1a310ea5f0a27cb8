"""Where a label holds, its feature is silent, and another feature brings its direction instead: feature absorption.

For each kind of token that the label holds of, the share on which the feature fires is held against that on all other
kinds (the kind itself left out). Where it fires clearly less, the features that fire there instead are asked how much
of this feature's decoder direction their own rows bring: what they add along it, in units of what the feature adds
where it fires, less what they add there too. A kind of token counts by how much is missing times how much of it is
made up for. The null is that of other directions: the same firings, held against other features' decoder rows.

Rule: firings, rows and what labels hold of in; no text.
Source: Chanin et al. (2024), arXiv:2409.14507; the share of 0.4 is SAEBench's, its `full` absorption.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.panel import Fired
from featuredb.audit.requests import AuditRequest, Directions, Floats32
from featuredb.errors import BadInput
from featuredb.labels.evidence import Firings
from featuredb.predicates.tagged import Tagged
from featuredb.search.scope import ENOUGH_FIRINGS

ENOUGH_TOKENS = 5
"""Tokens of a kind that the label holds of, from which on it is looked at."""

ENOUGH_FIRED = 10
"""Firings under the label on other kinds of token, without which nothing can be expected of one kind."""

CLEARLY = 2.0
"""Standard errors by which a feature has to fire less than expected."""

N_KINDS = 8
"""Kinds of token looked at for each feature: those on which most firings are missing."""

N_PLACES = 200
"""Silent places of each that are looked at."""

MOSTLY = 0.5
"""An absorber fires on this share of those places at least."""

COSINE, CARRIED = 0.025, 0.4
"""An absorber's least decoder cosine, and the least share of the feature's own part along its direction that it makes
up for. Source: SAEBench's absorption metric."""

N_OTHERS = 2_000
"""Other features whose rows stand for any direction."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Hole:
    """One kind of token on which a feature is silent where its label holds, and the feature that is there instead."""

    token: int
    """Its id."""
    absorber: int
    n_tokens: int
    """Tokens of the kind that the label holds of."""
    expected: float
    """Of them, on how many the feature would fire if it did as on the others."""
    observed: int
    z: float
    """Standard errors between the two."""
    cosine: float
    """Of the decoder rows."""
    carried: float
    """What the absorber brings along the feature's direction, in units of what the feature brings where it fires."""
    share: float
    """Of the silent places on which the absorber fires."""
    score: float
    """Share of firings that are missing, times how much is carried, at most 1."""
    silent: Places
    """Some of the silent places on which the absorber fires: columns of the panel."""


@dataclass(frozen=True)
class Absorption:
    """What was found for one feature."""

    hole: Hole | None
    """The worst one."""
    score: float
    p: float
    """Chance of as high a score along another feature's direction."""


@dataclass(frozen=True)
class _Candidates:
    """Holes that one feature may have, as arrays over (kind of token, absorber)."""

    kind: Places
    absorber: Places
    missing: Floats
    """Share of the expected firings."""
    brought: Floats
    """Mean activation of the absorber on the silent places, less that where the feature fires under its label."""
    share: Floats


def absorptions(request: AuditRequest, tagged: Tagged) -> dict[int, Absorption]:
    """What absorbs each feature asked for that fires often enough and whose label a program can check, by feature.

    tagged: of the audit half's passages. Features of whose holes nothing can be known are left out.
    """
    search = Absorptions(request.panel, request.everything, request.audit, request.directions, request.seed)
    found = {}
    for feature in request.features:
        label = request.labels.get(feature)
        if label is None or label.predicate is None or request.everything.n_fires[feature] < ENOUGH_FIRINGS:
            continue
        try:
            holds = tagged.holds(label.predicate)
        except BadInput:  # a label of an older bank of predicates
            continue
        one = search.of(feature, holds)
        if one is not None:
            found[feature] = one
    return found


class Absorptions:
    """Looks for holes, a feature at a time, on the part of the panel that no labeler has seen."""

    def __init__(self, panel: Fired, everything: Firings, audit: Firings, directions: Directions, seed: int) -> None:
        """panel: of `everything`, whose passages hold those of `audit`."""
        self._panel, self._directions = panel, directions
        here = audit.passages
        self._here = np.flatnonzero(here.on_panel)
        self._column = columns_of(panel, everything, audit)
        self._token = here.token[self._here]
        random = np.random.default_rng((seed, 5))
        fires = np.flatnonzero(panel.n_fires > 0)
        self._others = np.sort(random.permutation(fires)[:N_OTHERS])

    @cached_property
    def _other_rows(self) -> Floats32:
        """(n_others, d) unit rows."""
        return _unit(self._directions.decoder(self._others.tolist()))

    def of(self, feature: int, holds: Mask) -> Absorption | None:
        """What absorbs a feature. holds: (N,) where its label holds, over the audit half's passages.

        None where the label holds of too few tokens, or the feature hardly fires there.
        """
        at = np.flatnonzero(holds[self._here])
        if len(at) < ENOUGH_FIRED:
            return None
        columns, activations = self._panel.of(feature)
        column = self._column[at]
        fires = np.isin(column, columns, assume_unique=True)
        if fires.sum() < ENOUGH_FIRED:
            return None
        kinds, kind = np.unique(self._token[at], return_inverse=True)
        lacks = deficits(kind, fires, len(kinds))
        chosen = np.flatnonzero((lacks.n >= ENOUGH_TOKENS) & (lacks.z >= CLEARLY))
        chosen = chosen[np.argsort(-(lacks.expected - lacks.observed)[chosen], kind="stable")[:N_KINDS]]
        if not len(chosen):
            return Absorption(None, 0.0, 1.0)
        found = self._candidates(feature, column, fires, kind, lacks, chosen)
        if not len(found.kind):
            return Absorption(None, 0.0, 1.0)
        own = self._directions.decoder([feature])[0]
        strength = float(activations[np.searchsorted(columns, column[fires])].mean()) * float(np.linalg.norm(own))
        rows = self._directions.decoder(found.absorber.tolist())
        scores, carried = _scores(found, rows, own / max(float(np.linalg.norm(own)), 1e-12), strength)
        best = int(scores.argmax())
        if scores[best] <= 0:
            return Absorption(None, 0.0, 1.0)
        others = self._other_rows[~np.isin(self._others, [feature, *found.absorber.tolist()])]
        null = _scores(found, rows, others.T, strength)[0].max(axis=0)
        where = int(found.kind[best])
        silent = column[(kind == where) & ~fires]
        theirs = self._panel.of(int(found.absorber[best]))[0]
        hole = Hole(
            token=int(kinds[where]),
            absorber=int(found.absorber[best]),
            n_tokens=int(lacks.n[where]),
            expected=float(lacks.expected[where]),
            observed=int(lacks.observed[where]),
            z=float(lacks.z[where]),
            cosine=float(_unit(rows[[best]])[0] @ own / max(float(np.linalg.norm(own)), 1e-12)),
            carried=float(carried[best]),
            share=float(found.share[best]),
            score=float(scores[best]),
            silent=silent[np.isin(silent, theirs)],
        )
        return Absorption(
            hole, min(hole.score, 1.0), float((1 + np.count_nonzero(null >= hole.score)) / (1 + len(null)))
        )

    def _candidates(
        self, feature: int, column: Places, fires: Mask, kind: Places, lacks: Deficits, chosen: Places
    ) -> _Candidates:
        where, who, missing, brought, share = [], [], [], list[Floats](), list[Floats]()
        elsewhere = self._means(column[fires][:: max(1, int(fires.sum()) // N_PLACES)])
        for each in chosen.tolist():
            silent = column[(kind == each) & ~fires]
            silent = silent[:: max(1, len(silent) // N_PLACES)]
            features, mean, often = self._means(silent)
            mostly = (often >= MOSTLY) & (features != feature)
            features = features[mostly]
            less = np.zeros(len(features))
            _, ours, theirs = np.intersect1d(features, elsewhere[0], assume_unique=True, return_indices=True)
            less[ours] = elsewhere[1][theirs]
            where.append(np.full(len(features), each))
            who.append(features)
            missing.append(np.full(len(features), 1 - lacks.observed[each] / max(lacks.expected[each], 1e-9)))
            brought.append(np.maximum(mean[mostly] - less, 0))
            share.append(often[mostly])
        return _Candidates(*(np.concatenate(part) for part in (where, who, missing, brought, share)))

    def _means(self, columns: Places) -> tuple[Places, Floats, Floats]:
        """Which features fire on some tokens, their mean activation over all of those, and on what share of them."""
        start, features, activations = self._panel.by_token
        count = start[columns + 1] - start[columns]
        within = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
        source = np.repeat(start[columns], count) + within
        found, place = np.unique(features[source], return_inverse=True)
        n = max(1, len(columns))
        mean = np.bincount(place, activations[source].astype(np.float64), len(found)) / n
        return found.astype(np.int64), mean, np.bincount(place, minlength=len(found)) / n


@dataclass(frozen=True)
class Deficits:
    """For each kind of token: how many there are, on how many a feature fires, and on how many it would."""

    n: Floats
    observed: Floats
    expected: Floats
    """By the share on all other kinds."""
    z: Floats
    """Standard errors by which fewer were seen. Kinds of token differ anyway: what is a finding is told by what fires
    there instead, and along which direction."""


def deficits(kind: Places, fires: Mask, n_kinds: int) -> Deficits:
    """How much less a feature fires on each kind of token than on the others. kind, fires: (n,) of n tokens."""
    n = np.asarray(np.bincount(kind, minlength=n_kinds), np.float64)
    k = np.asarray(np.bincount(kind, fires.astype(np.float64), n_kinds), np.float64)
    rest = n.sum() - n
    rate = np.divide(k.sum() - k, rest, out=np.zeros(n_kinds), where=rest > 0)
    rate = np.where(k.sum() - k >= ENOUGH_FIRED, rate, 0.0)
    chance = n * rate * (1 - rate)
    below = np.sqrt(chance)
    z = np.divide(n * rate - k, below, out=np.zeros(n_kinds), where=below > 0)
    # A rate of 1 leaves no chance: what is missing is missing.
    z = np.where((below <= 0) & (n * rate > k), np.inf, z)
    return Deficits(n, k, n * rate, z)


def columns_of(panel: Fired, everything: Firings, part: Firings) -> Places:
    """The panel's columns of the panel tokens of a part of the documents, in the part's order.

    panel: of `everything`, whose passages hold the part's.
    """
    here = part.passages
    at = np.flatnonzero(here.on_panel)
    piece = np.searchsorted(here.start, at, side="right") - 1
    position = here.position[piece] + (at - here.start[piece])
    places = everything.passages.locate(here.context[piece], position.astype(np.int32))
    return np.asarray(np.searchsorted(panel.tokens, places), np.int64)


def _scores(found: _Candidates, rows: Floats32, along: Floats32, strength: float) -> tuple[Floats, Floats]:
    """What each candidate scores along a unit direction (d,), or several (d, m), and what it carries."""
    cosine = _unit(rows) @ along
    wide = (len(rows),) + (1,) * (along.ndim - 1)
    length = np.linalg.norm(rows, axis=1).reshape(wide)
    carried = found.brought.reshape(wide) * cosine * length / max(strength, 1e-12)
    carried = np.where(cosine >= COSINE, carried, 0)
    return found.missing.reshape(wide) * carried, carried


def _unit(rows: Floats32) -> Floats32:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, length, out=np.zeros_like(rows), where=length > 0), np.float32)
