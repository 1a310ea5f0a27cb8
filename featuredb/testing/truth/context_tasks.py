"""How well checks of context dependence tell what was planted: AUROC by seed, and false alarms where nothing drifts.

Rule: figures alone; what is planted is in `context.py`. A check sees plants and real features in the same form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.drifting import Drifts, drifts
from featuredb.audit.requests import AuditRequest
from featuredb.audit.unigram import Unigram
from featuredb.audit.weighted import blocks
from featuredb.search.scope import ENOUGH_FIRINGS
from featuredb.testing.truth.context import auroc, context_part, few, rearranged, switch, token_part
from featuredb.testing.truth.planted import Plant, known_firings, planted_request

LEAST_FIRINGS, MOST_DENSITY = 160, 0.03
"""Of features that plants are made of: firings on the panel, and share of all tokens."""

BESIDE = 64
"""Real features that plants are put beside."""

ALIKE = 40
"""The features nearest in density among which a late meaning is drawn."""


@dataclass(frozen=True)
class Shape:
    """A drift: from a position of the context on, a share of the firings is of another feature."""

    name: str
    position: int
    share: float


def drift_aurocs(
    request: AuditRequest, others: Sequence[Drifts], shapes: Sequence[Shape], seed: int, n: int = 100
) -> dict[str, list[float]]:
    """For each shape, n planted features told from each of some others by their score.

    others: such as `drifts(request)`, the real features, some of which may drift; and those of `rearranged(request)`,
    where none can.
    """
    random = np.random.default_rng((31, seed))
    usable, density = _usable(request), request.everything.density
    passages, plants = request.everything.passages, list[Plant]()
    for shape in shapes:
        for early in random.choice(usable, n).tolist():
            distance = np.abs(np.log(density[usable] / density[early]))
            late = int(random.choice(usable[np.argsort(distance, kind="stable")[1 : ALIKE + 1]]))
            one, other = (known_firings(request.everything, each) for each in (early, late))
            number = BESIDE + len(plants)
            plants.append(switch(number, one, other, passages, (shape.position, shape.share), seed))
    features = range(BESIDE, BESIDE + len(plants))
    found = drifts(replace(planted_request(few(request, BESIDE), plants, features=features), seed=seed))
    scores = np.zeros(len(plants))
    scores[found.feature - BESIDE] = found.score
    groups = np.split(scores, len(shapes))
    return {
        shape.name: [auroc(group, one.score) for one in others] for shape, group in zip(shapes, groups, strict=True)
    }


def false_alarms(request: AuditRequest, seed: int, topical: float, switched: float) -> float:
    """The share of real features flagged as drifting on text put elsewhere, where none can. topical: see `rearranged`;
    switched: what the check asks for."""
    found = drifts(replace(rearranged(request, seed, topical), seed=seed))
    return float(((found.q < 0.05) & (found.switched > switched)).mean())


def token_auroc(request: AuditRequest, seed: int, n: int = 100) -> float:
    """n token-bound features told by unigram R2 from n that keep only what context adds, of the same real features."""
    random = np.random.default_rng((32, seed))
    chosen = random.choice(_usable(request), n, replace=False).tolist()
    plants = [token_part(BESIDE + number, each, request) for number, each in enumerate(chosen)]
    plants += [context_part(BESIDE + n + number, each, request) for number, each in enumerate(chosen)]
    planted = planted_request(few(request, BESIDE), plants, features=range(BESIDE, BESIDE + 2 * n))
    r2 = unigram_r2(planted)[BESIDE:]
    return auroc(r2[:n], r2[n:])


def unigram_r2(request: AuditRequest) -> NDArray[np.float64]:
    """(n_features,) of those asked for; 0 where it is not known, and of the others."""
    unigram, r2 = Unigram(request), np.zeros(request.panel.n_features)
    for known in blocks(request):
        r2[known.first : known.last] = np.nan_to_num(unigram.explain(known).r2)
    return r2


def _usable(request: AuditRequest) -> NDArray[np.int64]:
    everything = request.everything
    enough = (everything.n_fires >= ENOUGH_FIRINGS) & (request.panel.n_fires >= LEAST_FIRINGS)
    return np.flatnonzero(enough & (everything.density <= MOST_DENSITY)).astype(np.int64)
