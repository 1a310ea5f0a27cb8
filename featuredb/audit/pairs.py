"""Features that are two of a kind: the same one twice, or one that is split in two.

Both kinds of pair point nearly the same way. Duplicates fire together, or take turns on the same tokens; the halves of
a split feature keep apart and fire in the same surroundings or on the same tokens, more alike than features of such
density are.

Rule: cosines, counts and shares of tokens; what they are called is a check's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.panel import Fired, Together
from featuredb.audit.requests import AuditRequest, Directions
from featuredb.search.scope import ENOUGH_FIRINGS
from featuredb.store.passages import Passages

N_NEAR = 4
"""Features looked at beside each: those whose decoder rows are nearest."""

DUPLICATE, CORRELATED, TOGETHER, SAME_TOKENS = 0.9, 0.7, 0.5, 0.5
"""Least decoder cosine of duplicates, and with it the least correlation of activations, share of firings in common
(Jaccard), or overlap of the tokens that they fire on."""

SPLIT, APART = 0.4, 0.05
"""Least decoder cosine of the parts of a split feature, and the largest share of firings in common."""

WIDTH = 256
"""Numbers into which tokens are folded in profiles."""

N_DRAWS, N_LIKE = 500, 250
"""Features of about the same density that chance is taken from, and how far from one they may stand by density."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """m pairs of features, by the first one."""

    ours: Places
    theirs: Places
    cosine: Floats
    """Of their decoder rows."""
    together: Together

    @property
    def disjoint(self) -> Mask:
        """(m,) whether they hardly ever fire together, and less than by chance."""
        n = self.together.fired.n_fires
        chance = n[self.ours] * n[self.theirs] / max(1, self.together.fired.n_tokens)
        return np.asarray((self.together.jaccard < APART) & (self.together.n_both < chance), np.bool_)

    def best(self, scores: Floats) -> dict[int, int]:
        """The pair of highest score for each feature that has one, by feature; ties by place."""
        order = np.lexsort((-np.arange(len(scores)), scores, self.ours))
        last = np.append(self.ours[order][1:] != self.ours[order][:-1], True) if len(order) else np.zeros(0, np.bool_)
        return {int(self.ours[each]): int(each) for each in order[last]}


def near_pairs(request: AuditRequest) -> Pairs:
    """Each feature asked for that fires often enough, with the N_NEAR others nearest to it that do."""
    enough = (request.everything.n_fires >= ENOUGH_FIRINGS) & (request.panel.n_fires > 0)
    asked = np.array([each for each in request.features if enough[each]], np.int64)
    theirs, cosine = request.directions.nearest(N_NEAR)
    ours, others = np.repeat(asked, theirs.shape[1]), theirs[asked].ravel()
    near = np.asarray(cosine[asked].ravel(), np.float64)
    kept = (others >= 0) & enough[others]
    ours, others, near = ours[kept], others[kept], near[kept]
    return Pairs(ours, others, near, request.panel.together(ours, others))


class Surroundings:
    """The tokens that features fire on, after and before: shares of each kind, folded into WIDTH numbers a family."""

    def __init__(self, panel: Fired, passages: Passages) -> None:
        self._panel = panel
        at, token = panel.tokens, passages.token
        piece = np.searchsorted(passages.start, at, side="right") - 1
        before = np.where(at > passages.start[piece], token[at - 1], -1)
        after = np.where(at + 1 < passages.start[piece + 1], token[np.minimum(at + 1, len(token) - 1)], -1)
        self.families = (token[at], before, after)
        """(n_tokens,) ids of each panel token, of the one before and the one after, -1 for none."""

    def alike(self, ours: Places, theirs: Places) -> Floats:
        """(m,) how much two features fire on the same tokens, or between the same tokens, whichever is more; 0 to 1.

        Bhattacharyya coefficients of the shares of tokens; that of the token before and of the one after are averaged.
        """
        found = np.zeros(len(ours))
        for first in range(0, len(ours), 8_192):
            part = slice(first, first + 8_192)
            own, before, after = (
                np.einsum("ij,ij->i", each[ours[part]], each[theirs[part]], dtype=np.float32) for each in self._profiles
            )
            found[part] = np.maximum(own, (before + after) / 2)
        return found

    def overlap(self, ours: Places, theirs: Places) -> Floats:
        """(m,) share of their firings that two features have on the same tokens, 0 to 1."""
        token = self.families[0]
        found = np.zeros(len(ours))
        for place, (one, other) in enumerate(zip(ours.tolist(), theirs.tolist(), strict=True)):
            a, b = token[self._panel.of(one)[0]], token[self._panel.of(other)[0]]
            kinds, kind = np.unique(np.concatenate([a, b]), return_inverse=True)
            shares = (np.bincount(part, minlength=len(kinds)) for part in (kind[: len(a)], kind[len(a) :]))
            one_share, other_share = (share / max(1, share.sum()) for share in shares)
            found[place] = np.minimum(one_share, other_share).sum()
        return found

    def jump(self, one: int, other: int) -> tuple[float, float]:
        """How well the best set of tokens tells where either of two features fires, and how well where the better one
        does: F1, of tokens, tokens before or tokens after, whichever gains most.

        Source: the jump of a k-sparse probe from one feature to two, which marks splits; Chanin et al. (2024).
        """
        a, b = self._panel.of(one)[0], self._panel.of(other)[0]
        either = np.union1d(a, b)
        gains = []
        for token, total in zip(self.families, self._totals, strict=True):
            alone = max(_best_f1(token[a] + 1, total), _best_f1(token[b] + 1, total))
            gains.append((_best_f1(token[either] + 1, total), alone))
        return max(gains, key=lambda pair: pair[0] - pair[1])

    @cached_property
    def _totals(self) -> list[Places]:
        return [np.bincount(token + 1) for token in self.families]

    @cached_property
    def _profiles(self) -> list[NDArray[np.float16]]:
        """(n_features, WIDTH) of each family, roots of shares."""
        panel = self._panel
        made = [np.zeros((panel.n_features, WIDTH), np.float16) for _ in self.families]
        for token, rows in zip(self.families, made, strict=True):
            # Fibonacci hashing: neighbouring ids fall apart.
            folded = (token.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(56)
            for first in range(0, panel.n_features, 4_096):
                last = min(first + 4_096, panel.n_features)
                part = slice(int(panel.start[first]), int(panel.start[last]))
                key = (panel.feature[part].astype(np.int64) - first) * WIDTH + folded[panel.column[part]].astype(
                    np.int64
                )
                count = np.bincount(key, minlength=(last - first) * WIDTH).reshape(-1, WIDTH).astype(np.float32)
                rows[first:last] = np.sqrt(count / np.maximum(count.sum(axis=1, keepdims=True), 1))
        return made


def _best_f1(tokens: Places, total: Places) -> float:
    """The highest F1 of any set of tokens. tokens: numbers of those fired on; total: how often each occurs."""
    count = np.bincount(tokens, minlength=len(total))
    seen = np.flatnonzero(count)
    order = seen[np.argsort(-count[seen] / total[seen], kind="stable")]
    hit, held = np.cumsum(count[order]), np.cumsum(total[order])
    return float((2 * hit / (held + len(tokens))).max()) if len(order) else 0.0


def chance_alike(
    surroundings: Surroundings, directions: Directions, panel: Fired, pairs: Pairs, seed: int
) -> tuple[Floats, Floats]:
    """(m,) how alike the features of each pair are, and the chance p of as much between the first one and a feature of
    about the second one's density that does not point its way.

    p is empirical, over N_DRAWS features drawn by the seed and the first feature.
    """
    alike, p = surroundings.alike(pairs.ours, pairs.theirs), np.ones(len(pairs.ours))
    fires = np.flatnonzero(panel.n_fires > 0)
    by_density = fires[np.argsort(panel.n_fires[fires], kind="stable")]
    rank = np.zeros(panel.n_features, np.int64)
    rank[by_density] = np.arange(len(by_density))
    near, _ = directions.nearest(16)
    for place, (one, other) in enumerate(zip(pairs.ours.tolist(), pairs.theirs.tolist(), strict=True)):
        around = by_density[max(0, rank[other] - N_LIKE) : rank[other] + N_LIKE + 1]
        around = around[~np.isin(around, [one, *near[one].tolist()])]
        drawn = np.random.default_rng((seed, one, other)).permutation(around)[:N_DRAWS]
        null = surroundings.alike(np.full(len(drawn), one), drawn)
        p[place] = (1 + np.count_nonzero(null >= alike[place])) / (1 + len(null))
    return alike, p


def duplicate_scores(pairs: Pairs, overlap: Floats) -> tuple[Floats, Mask]:
    """(m,) how nearly two features are one, 0 to 1, and whether they are. overlap: of the tokens they fire on."""
    together = pairs.together
    shared = np.maximum.reduce([together.correlation, together.jaccard, overlap, np.zeros(len(overlap))])
    same = (together.correlation > CORRELATED) | (together.jaccard > TOGETHER)
    # Duplicates in a dictionary that fires few features at a time take turns.
    same |= pairs.disjoint & (overlap > SAME_TOKENS)
    scores = np.clip(pairs.cosine, 0, 1) * (3 + np.minimum(shared, 1)) / 4
    return np.asarray(scores, np.float64), np.asarray((pairs.cosine > DUPLICATE) & same, np.bool_)


def split_scores(pairs: Pairs, alike: Floats) -> Floats:
    """(m,) how much two features look like parts of one, 0 to 1; 0 where they fire together."""
    scores = np.clip(pairs.cosine, 0, 1) * (3 + np.minimum(alike, 1)) / 4
    return np.asarray(np.where(pairs.disjoint, scores, 0), np.float64)


def contexts_of(panel: Fired, passages: Passages, features: Sequence[int], most: int = 8) -> list[int]:
    """Contexts in which some features fire most strongly on the panel, from each in turn, most of them at most."""
    found: list[int] = []
    for feature in features:
        column, activation = panel.of(feature)
        strongest = panel.tokens[column[np.argsort(-activation, kind="stable")[: 4 * most]]]
        piece = np.searchsorted(passages.start, strongest, side="right") - 1
        own = [each for each in dict.fromkeys(passages.context[piece].tolist()) if each not in found]
        found += own[: most // len(features)]
    return found
