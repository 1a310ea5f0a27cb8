"""Features that mean two or three things because they are as many features merged, and how a check tells them.

Rule: what is planted and what a check made of it; figures over seeds are a benchmark's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from featuredb.audit.requests import AuditRequest, Judged, Places
from featuredb.search.scope import ENOUGH_FIRINGS
from featuredb.testing.truth.planted import Held, Plant, planted_request

if TYPE_CHECKING:
    from featuredb.plugins import Check

LEAST_FIRINGS = 80
"""On the panel, of a feature that is merged or held against those that are."""

MOST_DENSE = 0.03

N_FEATURES, N_EACH = 300, 30
"""Features that are looked at, and how many of them are planted of each kind."""

HALF, TENTH, THIRDS = "30-50%", "10%", "three"
"""Kinds: the second feature's share of the firings, or three features of a third each."""

REAL = "real"

TOKENS, BOUND, LOOSE = 8, 0.8, 0.5
"""A feature of whose firings BOUND or more are on TOKENS tokens is token-bound; below LOOSE it is contextual."""


@dataclass(frozen=True)
class Merged:
    """A request with merged features in it, and what each of its features is."""

    request: AuditRequest
    kind: Mapping[int, str]
    """Of each feature that is audited: HALF, TENTH, THIRDS or REAL."""
    sources: Mapping[int, tuple[int, ...]]
    """The features it is made of; itself for a real one."""


@dataclass(frozen=True)
class Told:
    """What a check made of one feature."""

    kind: str
    score: float
    flagged: bool
    n_meanings: int | None
    token_share: tuple[float, ...]
    """Of each source, the share of its firings on its TOKENS commonest tokens."""
    density: float
    """Of the source that fires most."""

    @property
    def stratum(self) -> str | None:
        """Whether all sources are token-bound, or all contextual; None for what is neither."""
        if min(self.token_share) >= BOUND:
            return "token-bound"
        return "contextual" if max(self.token_share) < LOOSE else None


def held(request: AuditRequest) -> AuditRequest:
    """The request with its firings in memory, to plant in many times."""
    return replace(request, everything=Held(request.everything))


def pool(request: AuditRequest) -> list[int]:
    """Features that fire often enough on the panel, and on at most MOST_DENSE of all tokens."""
    everything, n_panel = request.everything, request.panel.n_fires
    good = (everything.n_fires >= ENOUGH_FIRINGS) & (everything.density <= MOST_DENSE) & (n_panel >= LEAST_FIRINGS)
    return [int(each) for each in np.flatnonzero(good)]


def merge(request: AuditRequest, features: Sequence[int], shares: Sequence[float], seed: int) -> Plant:
    """The first feature with others merged into it: on each token the largest of their activations, each as a share of
    the largest it has on the panel. Of each so many firings are kept, drawn by seed, that their shares are those asked.

    Source: the merges of Kopf et al. (2025), arXiv:2506.15538, and their usual form with real activations.
    """
    random = np.random.default_rng((seed, *features))
    known = [(request.panel.places(each), request.panel.of(each)[1]) for each in features]
    total = min(len(at) / share for (at, _), share in zip(known, shares, strict=True))
    places, values = list[Places](), []
    for (at, activation), share in zip(known, shares, strict=True):
        kept = np.sort(random.permutation(len(at))[: max(1, round(total * share))])
        places.append(at[kept])
        values.append(activation[kept] / max(float(activation.max(initial=0)), 1e-9))
    at, value = np.concatenate(places), np.concatenate(values).astype(np.float32)
    order = np.lexsort((-value, at))
    at, value = at[order], value[order]
    first = np.append(True, at[1:] != at[:-1])[: len(at)]
    return Plant(features[0], at[first], value[first])


def plant_merged(request: AuditRequest, seed: int) -> Merged:
    """N_FEATURES features of the request drawn by seed, of which N_EACH are made each of HALF, TENTH and THIRDS; fewer
    where the pool is small. A merged feature's decoder row points between those it is made of.
    """
    random = np.random.default_rng((seed, 77))
    good = pool(request)
    chosen = random.permutation(good)[:N_FEATURES].tolist()
    n_each = min(N_EACH, len(chosen) // 10)
    kind, sources, plants, rows = dict[int, str](), dict[int, tuple[int, ...]](), list[Plant](), {}
    for place, feature in enumerate(chosen):
        what = (HALF, TENTH, THIRDS)[place // n_each] if place < 3 * n_each else REAL
        kind[feature] = what
        others = random.choice([each for each in good if each != feature], 2, replace=False).tolist()
        minority = {HALF: float(random.uniform(0.3, 0.5)), TENTH: 0.1}.get(what, 0.0)
        made = {REAL: (feature,), THIRDS: (feature, *others)}.get(what, (feature, others[0]))
        sources[feature] = made
        if what != REAL:
            shares = (1 / 3, 1 / 3, 1 / 3) if what == THIRDS else (1 - minority, minority)
            plants.append(merge(request, made, shares, seed))
            decoder = request.directions.decoder(made)
            rows[feature] = np.sum(decoder / np.linalg.norm(decoder, axis=1, keepdims=True), axis=0)
    planted = planted_request(request, plants, decoder=rows, features=chosen)
    return Merged(replace(planted, seed=seed), kind, sources)


def tell(check: Check, request: AuditRequest, seed: int) -> list[Told]:
    """What a check makes of features merged by a seed, and of real ones beside them."""
    merged = plant_merged(request, seed)
    return [_told(request, merged, judged) for judged in check.audit(merged.request)]


def _told(request: AuditRequest, merged: Merged, judged: Judged) -> Told:
    sources = merged.sources[judged.feature]
    return Told(
        kind=merged.kind[judged.feature],
        score=judged.score,
        flagged=judged.flagged,
        n_meanings=judged.evidence.get("n_meanings"),
        token_share=tuple(_token_share(request, each) for each in sources),
        density=max(float(request.everything.density[each]) for each in sources),
    )


def _token_share(request: AuditRequest, feature: int) -> float:
    count = np.unique(request.everything.passages.token[request.panel.places(feature)], return_counts=True)[1]
    return float(np.sort(count)[-TOKENS:].sum() / max(1, count.sum()))
