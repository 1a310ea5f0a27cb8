"""How much of an activation the current token alone explains, for many features at once.

Fitted on one half of the documents and measured on the other. Every figure is one over tokens drawn uniformly from the
run, put together from panel and windows as `featuredb.labels.fit` explains. For the token v,

    E[a | v] = N D E[a 1(v) | fires] / max(n(v), N D P(v | fires)),

with D = P(fires), N the tokens of the half's panel and n(v) how often v is there; a token is met at least as often as
the feature fires on it. KAPPA silent occurrences are added to each token, so that one met once is not believed.

Rule: arrays in, arrays out; thresholds and sentences are a check's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.weighted import Weighted, audit_half, part_density
from featuredb.labels.fit import ENOUGH_DOCUMENTS

if TYPE_CHECKING:
    from featuredb.audit.requests import AuditRequest

KAPPA = 0.5
"""Silent occurrences that a token is taken to have beside those seen: Jeffreys' prior."""

N_DRAWS = 200
"""Draws of the bootstrap."""

GROUPS_AT_ONCE = 1 << 24
"""Numbers held at a time while token tables meet documents."""

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

NEAR, NEAR_A, NEAR_AA, NEAR_AM, FAR, FAR_A, FAR_AA, FAR_AM, FIRES, TOKENS, TOKENS_MM = range(11)
"""Columns of a tally, for the activation a and what the token foretells, m."""


@dataclass(frozen=True)
class Foretold:
    """E[a | token] of a block of features: k pairs of feature and token in which there is a firing."""

    key: Places
    """(k,) feature times the vocabulary, plus token; ascending."""
    value: Floats
    share: Floats
    """(k,) of the feature's firings, those on the token."""
    strength: Floats
    """(k,) of the feature's activation, all added up, what the token has."""
    rate: Floats
    """(k,) P(fires | token)."""
    n_vocabulary: int

    @property
    def feature(self) -> Places:
        """(k,) counted from the block's first."""
        return self.key // self.n_vocabulary

    @property
    def token(self) -> Places:
        return self.key % self.n_vocabulary

    def of(self, feature: Places, token: Places) -> Floats:
        """(m,) what is foretold for features on tokens; 0 where the feature was not seen on the token."""
        if not len(self.key):
            return np.zeros(len(feature))
        wanted = feature * self.n_vocabulary + token
        place = np.minimum(np.searchsorted(self.key, wanted), len(self.key) - 1)
        return np.where(self.key[place] == wanted, self.value[place], 0.0)


@dataclass(frozen=True)
class Explained:
    """What tokens explain of a block's features; (n_features,) each, NaN where a half shows no firing."""

    r2: Floats
    """1 - E[(a - E[a | token])^2] / Var(a), on the half it was not fitted on."""
    low: Floats
    high: Floats
    """Ends of its 95% interval, documents of the measured half drawn anew; the table of means is taken as it is."""
    n_fitted: Floats
    n_measured: Floats
    """Firings known in either half."""
    foretold: Foretold


class Unigram:
    """The text of both halves, read once, to hold features against."""

    def __init__(self, request: AuditRequest) -> None:
        self._request = request
        passages = request.everything.passages
        self.token = passages.token.astype(np.int64)
        self.n_vocabulary = max(len(passages.texts), int(self.token.max(initial=0)) + 1)
        self.measured = audit_half(request)
        tokens = request.panel.tokens
        self._fit_panel = tokens[~self.measured[tokens]]
        self._measure_panel = tokens[self.measured[tokens]]
        self.seen = np.bincount(self.token[self._fit_panel], minlength=self.n_vocabulary).astype(np.float64)
        inside = passages.panel & self.measured[np.minimum(passages.start[:-1], max(0, len(self.token) - 1))]
        groups = (
            passages.document if len(np.unique(passages.document[inside])) >= ENOUGH_DOCUMENTS else passages.context
        )
        numbers, group = np.unique(groups, return_inverse=True)
        # Documents without a token on the panel weigh nothing and are not drawn.
        used = np.unique(group.ravel()[inside])
        self._of_piece = np.searchsorted(used, group.ravel())
        self._known = np.isin(np.arange(len(numbers)), used)[group.ravel()]
        self.n_groups = len(used)

    @cached_property
    def _table(self) -> tuple[Places, NDArray[np.int64], Floats]:
        """How often each token is on the measured panel, by group: where each token's begin, groups, counts."""
        key = self.token[self._measure_panel] * self.n_groups + self._group(self._measure_panel)
        found, count = np.unique(key, return_counts=True)
        start = np.searchsorted(found // max(1, self.n_groups), np.arange(self.n_vocabulary + 1))
        return start.astype(np.int64), found % max(1, self.n_groups), count.astype(np.float64)

    @cached_property
    def _counts(self) -> Floats:
        random = np.random.default_rng((self._request.seed, self.n_groups))
        equal = np.full(self.n_groups, 1 / max(1, self.n_groups))
        return random.multinomial(self.n_groups, equal, size=N_DRAWS).astype(np.float64)

    def explain(self, known: Weighted) -> Explained:
        """What the tokens explain of a block of features."""
        density = self._request.everything.density[known.first : known.last]
        foretold = self.foretell(known, ~self.measured[known.at])
        tally = self._tally(known, foretold)
        point = r2_of(tally.sum(axis=1), density)
        drawn = np.stack([r2_of(np.einsum("g,fgc->fc", draw, tally), density) for draw in self._counts])
        with np.errstate(invalid="ignore"):
            low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        later = self.measured[known.at]
        return Explained(
            r2=point,
            low=np.minimum(low, point),
            high=np.maximum(high, point),
            n_fitted=known.count(~later),
            n_measured=known.count(later),
            foretold=foretold,
        )

    def foretell(self, known: Weighted, chosen: NDArray[np.bool_]) -> Foretold:
        """E[a | token] from the chosen firings, which lie in the half that is fitted on."""
        weight = known.weights(chosen)[chosen]
        n_tokens = float(len(self._fit_panel))
        seen = known.count(chosen & known.on_panel)
        density = part_density(seen, n_tokens, self._request.everything.density[known.first : known.last])
        feature = known.feature[chosen]
        key, owner = np.unique(feature * self.n_vocabulary + self.token[known.at[chosen]], return_inverse=True)
        share = np.bincount(owner, weight, len(key)).astype(np.float64)
        strength = np.bincount(owner, weight * known.activation[chosen], len(key)).astype(np.float64)
        scale = n_tokens * density[key // self.n_vocabulary]
        met = np.maximum(self.seen[key % self.n_vocabulary], scale * share) + KAPPA
        total = np.bincount(key // self.n_vocabulary, strength, known.n_features)
        of_all = strength / np.where(total > 0, total, 1.0)[key // self.n_vocabulary]
        return Foretold(key, scale * strength / met, share, of_all, scale * share / met, self.n_vocabulary)

    def _tally(self, known: Weighted, foretold: Foretold) -> Floats:
        """(n_features, n_groups, 11) of the measured half."""
        piece = np.searchsorted(self._request.everything.passages.start, known.at, side="right") - 1
        chosen = np.flatnonzero(self.measured[known.at] & self._known[piece])
        feature, a, near = known.feature[chosen], known.activation[chosen], known.near[chosen]
        m = foretold.of(feature, self.token[known.at[chosen]])
        cell = feature * self.n_groups + self._of_piece[piece[chosen]]
        rows = np.zeros((known.n_features, self.n_groups, 11))
        n_cells = known.n_features * self.n_groups
        for column, value in enumerate((np.ones(len(a)), a, a * a, a * m)):
            for begin, here in ((NEAR, near), (FAR, ~near)):
                summed = np.bincount(cell[here], value[here], n_cells)
                rows[:, :, begin + column] = summed.reshape(rows.shape[:2])
        fires = np.bincount(cell[known.on_panel[chosen]], minlength=n_cells)
        rows[:, :, FIRES] = fires.reshape(rows.shape[:2])
        rows[:, :, TOKENS] = np.bincount(self._group(self._measure_panel), minlength=self.n_groups)
        rows[:, :, TOKENS_MM] = self._squares(foretold, known.n_features)
        return rows

    def _squares(self, foretold: Foretold, n_features: int) -> Floats:
        """(n_features, n_groups) the squares of what is foretold, added up over the measured panel's tokens."""
        start, group, count = self._table
        n = (start[1:] - start[:-1])[foretold.token]
        found = np.zeros(n_features * self.n_groups)
        ends = np.cumsum(n)
        for low in range(0, len(n), max(1, GROUPS_AT_ONCE // max(1, self.n_groups))):
            part = slice(low, low + max(1, GROUPS_AT_ONCE // max(1, self.n_groups)))
            length = n[part]
            within = np.arange(int(length.sum())) - np.repeat(ends[part] - length - (ends[part] - length)[0], length)
            place = np.repeat(start[foretold.token[part]], length) + within
            cell = np.repeat(foretold.feature[part], length) * self.n_groups + group[place]
            found += np.bincount(cell, np.repeat(foretold.value[part] ** 2, length) * count[place], len(found))
        return found.reshape(n_features, self.n_groups)

    def _group(self, at: Places) -> Places:
        return self._of_piece[np.searchsorted(self._request.everything.passages.start, at, side="right") - 1]


def r2_of(tally: Floats, density: Floats) -> Floats:
    """(n_features,) what is explained, NaN where there is no firing. tally: (n_features, 11), summed over groups."""
    t = np.moveaxis(tally, -1, 0)
    fires, near = np.maximum(t[FIRES], 1), np.maximum(t[NEAR], 1)
    share = t[FAR] / fires
    n_tokens = np.maximum(t[TOKENS], 1)
    rate = part_density(t[FIRES], n_tokens, density)
    a, aa, am = (rate * ((1 - share) * t[NEAR + column] / near + t[FAR + column] / fires) for column in (1, 2, 3))
    spread = aa - a**2
    lost = aa - 2 * am + t[TOKENS_MM] / n_tokens
    known = (t[NEAR] > 0) & (spread > 0)
    return np.where(known, 1 - lost / np.where(known, spread, 1.0), np.nan)
