"""Groups of features that together make one thing of more than one dimension, such as the days of the week on a ring.

    1. Features whose decoder rows point nearly the same way are linked to their nearest, and the components are groups.
    2. What a group adds up to on the panel's tokens is looked at in planes of its principal components: `separability`
       is the mutual information of the two axes under the rotation that has least of it, `mixture` the largest share of
       tokens near one line. Source of both, and of 1: Engels et al. (2025), arXiv:2405.14860.
    3. `flatness` says how far the members' directions lie evenly in one plane: 1 on a ring, near 0 on a line, and low
       where each has a direction of its own. Chance gives what the same firings have with other features' directions.

Rule: arrays of firings and rows in, groups with figures out; which of them are worth a flag is the check's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.chance import RATE, benjamini_hochberg, empirical_p

if TYPE_CHECKING:
    from featuredb.audit.panel import Fired
    from featuredb.audit.requests import Directions

N_NEAREST, LEAST_COSINE = 2, 0.5
"""A feature is linked to this many nearest, where their cosine is at least so large. Source: Engels et al."""

MOST_MEMBERS = 32
"""Of a group; larger components are cut where the cosines are lowest."""

LEAST_TOKENS = 200
"""Panel tokens on which some member fires, below which a group is not judged."""

MOST_TOKENS = 2_000
"""Of a group's tokens that are looked at, drawn where there are more."""

N_PLANES = 4
N_BINS = 10
N_ROTATIONS = 25
"""Within a right angle, past which the same axes come again; 100 in a full turn, as Engels et al. have."""

NEAR = 0.1
"""How near a line a token counts as on it: a share of the root mean square distance from that line."""

LEAST_TESTED = 4
"""Members below which flatness says nothing: three directions always lie in a plane."""

LEAST_BITS, LEAST_BEYOND = 0.3, 0.5
"""Of a group that is flagged: (1 - mixture) times separability, and how much of the way from chance to a ring its
flatness is. Over many tokens the least excess is above chance, and no more than that."""

BY_CHANCE = 0.1
"""Part of its bits that is a group's score where it is no flatter than chance has it."""

FEWEST_DRAWS, MANY_DRAWS, MOST_DRAWS = 199, 9_999, 200_000
"""Groups that may be flagged get more than the fewest: so many that a p value can be small enough beside all others."""

ENOUGH_ABOVE, AT_ONCE = 10, 500
"""Draws end when so many are as flat as the group."""

Floats = NDArray[np.float64]
Members = NDArray[np.int64]


@dataclass(frozen=True)
class GroupFound:
    """One group of features and its figures."""

    members: Members
    """Ascending."""
    n_tokens: int
    """Panel tokens on which some member fires."""
    separability: float
    """Bits, of the plane below."""
    mixture: float
    """0 to 1, of the plane below."""
    plane: int
    """Which two principal components: 1 for the first and second."""
    flatness: float
    by_chance: float
    """Mean flatness where other features' directions stand in; NaN where that is not tested."""
    p: float
    """Chance of such flatness; NaN where that is not tested."""
    q: float = float("nan")
    """False discovery rate among the groups tested."""

    @property
    def irreducible(self) -> float:
        """(1 - mixture) times separability, in bits: what Engels et al. rank by."""
        return (1 - self.mixture) * self.separability

    @property
    def flagged(self) -> bool:
        """Whether it lies in a plane above chance, and there is neither two things apart nor a mixture of lines."""
        return bool(self.q <= RATE and self.irreducible >= LEAST_BITS and self.beyond >= LEAST_BEYOND)

    @property
    def beyond(self) -> float:
        """0 to 1: how much of the way from chance to a ring its flatness is; 0 where that is not tested."""
        return 0.0 if np.isnan(self.by_chance) else _beyond(self.flatness, self.by_chance)

    @property
    def score(self) -> float:
        """0 to 1: the bits above as a share of the most there can be, in full on a ring and in part by chance."""
        share = float(np.clip(self.irreducible / np.log2(N_BINS), 0, 1))
        return share * (BY_CHANCE + (1 - BY_CHANCE) * self.beyond)


def find_groups(
    fired: Fired, directions: Directions, features: Sequence[int] | NDArray[np.int64], seed: int = 0
) -> list[GroupFound]:
    """The groups among some features, those that can be judged, the highest score first.

    Random draws are by `seed` and a group's first member. Raises BadInput where the directions have no weights.
    """
    allowed = np.zeros(fired.n_features, np.bool_)
    allowed[np.asarray(features, np.int64)] = True
    found = []
    groups = linked(*directions.nearest(N_NEAREST), allowed)
    pool = _Pool.of(directions, np.flatnonzero(allowed), sum(len(one) >= LEAST_TESTED for one in groups), seed)
    for members in groups:
        one = judge_group(fired, np.asarray(directions.decoder(members.tolist()), np.float64), members, pool)
        found += [one] if one is not None else []
    q = benjamini_hochberg([one.p for one in found])
    found = [replace(one, q=float(rate)) for one, rate in zip(found, q, strict=True)]
    return sorted(found, key=lambda one: (-one.score, -one.irreducible, int(one.members[0])))


def linked(nearest: NDArray[np.int64], cosines: NDArray[np.floating[Any]], allowed: NDArray[np.bool_]) -> list[Members]:
    """Groups of two features or more, none in two of them.

    nearest, cosines: (F, n) as Directions.nearest gives. allowed: (F,) features that may be in a group.
    """
    ours = np.repeat(np.arange(len(nearest)), nearest.shape[1])
    theirs, cosine = nearest.ravel(), cosines.ravel()
    keep = (theirs >= 0) & (cosine >= LEAST_COSINE)
    keep &= allowed[ours] & allowed[np.maximum(theirs, 0)]
    edges = np.stack([ours[keep], theirs[keep]], axis=1)
    return sorted(
        _components(edges, cosine[keep].astype(np.float64), LEAST_COSINE), key=lambda members: int(members[0])
    )


def _components(edges: NDArray[np.int64], cosine: Floats, least: float) -> Iterator[Members]:
    """Connected components; those too large again with the weaker links gone."""
    root = {int(feature): int(feature) for feature in np.unique(edges)}

    def find(feature: int) -> int:
        while root[feature] != feature:
            root[feature] = root[root[feature]]
            feature = root[feature]
        return feature

    for ours, theirs in edges.tolist():
        root[find(ours)] = find(theirs)
    parts: dict[int, list[int]] = {}
    for feature in root:
        parts.setdefault(find(feature), []).append(feature)
    for members in parts.values():
        if len(members) <= MOST_MEMBERS:
            yield np.array(sorted(members), np.int64)
        elif least < 1:
            higher = least + 0.05
            inside = np.isin(edges[:, 0], members) & (cosine >= higher)
            yield from _components(edges[inside], cosine[inside], higher)


def judge_group(fired: Fired, rows: Floats, members: Members, pool: _Pool) -> GroupFound | None:
    """A group's figures; None where its members fire too seldom. rows: (k, d) their decoder rows."""
    gram = _unit(rows) @ _unit(rows).T
    random = np.random.default_rng((pool.seed, int(members[0])))
    strength, n_tokens = _strengths(fired, members, random)
    if n_tokens < LEAST_TOKENS:
        return None
    separate, mixed, plane = planes(strength @ _square_root(gram))  # as the sums of rows, in k dimensions
    share = np.abs(strength) / np.abs(strength).sum(axis=1, keepdims=True)
    root = _square_root(np.cov(share.T, bias=True))
    flat = float(flatness(root, gram))
    by_chance, p = float("nan"), float("nan")
    if len(members) >= LEAST_TESTED and len(pool.gram):
        null = _chance(root, gram, pool, flat, random)
        by_chance, p = float(null.mean()), empirical_p(flat, null)
    return GroupFound(members, n_tokens, separate, mixed, plane, flat, by_chance, p)


def _strengths(fired: Fired, members: Members, random: np.random.Generator) -> tuple[Floats, int]:
    """(n, k) activations on tokens where some member fires, and how many such tokens there are."""
    each = [fired.of(feature) for feature in members.tolist()]
    tokens = np.unique(np.concatenate([column for column, _ in each]))
    n = len(tokens)
    if n > MOST_TOKENS:
        tokens = np.sort(random.choice(tokens, MOST_TOKENS, replace=False))
    strength = np.zeros((len(tokens), len(members)))
    for place, (column, activation) in enumerate(each):
        at = np.searchsorted(tokens, column)
        there = (at < len(tokens)) & (tokens[np.minimum(at, len(tokens) - 1)] == column)
        strength[at[there], place] = activation[there]
    return strength, n


def planes(points: Floats) -> tuple[float, float, int]:
    """Separability, mixture and number of the plane of principal components where (1 - mixture) * separability is
    largest; points: (n, d)."""
    centred = points - points.mean(axis=0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    n_axes = min(int(np.count_nonzero(values > 1e-4 * max(values[0], 1e-12))), N_PLANES + 1)
    scores = centred @ axes[:n_axes].T
    best = (0.0, 1.0, 1)
    for plane in range(n_axes - 1):
        flat = scores[:, plane : plane + 2]
        found = (separability(flat), mixture(flat), plane + 1)
        if (1 - found[1]) * found[0] > (1 - best[1]) * best[0]:
            best = found
    return best


def separability(points: Floats) -> float:
    """Least mutual information of the two axes over rotations, in bits, less what so few points give by chance.

    points: (n, 2). Each axis is in 10 equal bins between the hundredth and the last hundredth of the points.
    """
    points = points / np.maximum(points.std(axis=0), 1e-12)
    angle = np.pi / 2 * np.arange(N_ROTATIONS) / N_ROTATIONS
    one = _binned(np.outer(np.cos(angle), points[:, 0]) + np.outer(np.sin(angle), points[:, 1]))
    other = _binned(np.outer(np.cos(angle), points[:, 1]) - np.outer(np.sin(angle), points[:, 0]))
    cell = (np.arange(N_ROTATIONS)[:, None] * N_BINS + one) * N_BINS + other
    count = np.bincount(cell.ravel(), minlength=N_ROTATIONS * N_BINS**2).reshape(N_ROTATIONS, N_BINS, N_BINS)
    joint = count / len(points)
    rows, columns = joint.sum(axis=2, keepdims=True), joint.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.where(joint > 0, joint * np.log2(joint / (rows * columns)), 0).sum(axis=(1, 2))
    used = ((rows > 0).sum(axis=(1, 2)) - 1) * ((columns > 0).sum(axis=(1, 2)) - 1)
    return float(max(0.0, (bits - used / (2 * np.log(2) * len(points))).min()))


def _binned(values: Floats) -> NDArray[np.int64]:
    low, high = np.quantile(values, [0.01, 0.99], axis=1, keepdims=True)
    place = (values - low) / np.maximum(high - low, 1e-12) * N_BINS
    return np.asarray(np.clip(place, 0, N_BINS - 1), np.int64)


def mixture(points: Floats) -> float:
    """The largest share of points, (n, 2), within 0.1 root mean squares of one line, of any direction and place."""
    points = (points - points.mean(axis=0)) / np.maximum(points.std(axis=0), 1e-12)
    angle = np.pi * np.arange(2 * N_ROTATIONS) / (2 * N_ROTATIONS)
    offset = np.linspace(-3, 3, 61)
    best = 0
    for values in np.outer(np.cos(angle), points[:, 0]) + np.outer(np.sin(angle), points[:, 1]):
        spread = max(float(values.std()), 1e-12)
        ordered = np.sort(values / spread)
        reach = NEAR * np.sqrt(1 + offset**2)
        inside = np.searchsorted(ordered, offset + reach) - np.searchsorted(ordered, offset - reach)
        best = max(best, int(inside.max()))
    return best / len(points)


def flatness(root: Floats, gram: Floats) -> Floats:
    """Twice the second largest variance of a mean of the rows as a share of all, over the last two axes of `gram`.

    root: (k, k) square root of the covariance of the members' shares in what fires, which add up to 1; so what the rows
    have in common counts for nothing. gram: (..., k, k) inner products of the rows.
    """
    values = np.linalg.eigvalsh(root @ gram @ root)
    total = np.maximum(values.sum(axis=-1), 1e-12)
    return np.asarray(2 * values[..., -2] / total, np.float64)


def _square_root(covariance: Floats) -> Floats:
    values, axes = np.linalg.eigh(covariance)
    return np.asarray((axes * np.sqrt(np.maximum(values, 0))) @ axes.T, np.float64)


@dataclass(frozen=True)
class _Pool:
    """Directions that stand in for a group's own: those of up to MOST features, less their mean, of length 1."""

    gram: Floats
    """(n, n) their inner products."""
    n_draws: int
    """For a group, at most."""
    seed: int

    MOST: ClassVar[int] = 2_000

    @classmethod
    def of(cls, directions: Directions, features: NDArray[np.int64], n_groups: int, seed: int) -> _Pool:
        n_draws = min(max(MANY_DRAWS, round(2 * n_groups / RATE)), MOST_DRAWS)
        if len(features) < MOST_MEMBERS:  # too few to stand in for anything
            return cls(np.zeros((0, 0)), n_draws, seed)
        random = np.random.default_rng((seed, 20_263))
        if len(features) > cls.MOST:
            features = np.sort(random.choice(features, cls.MOST, replace=False))
        rows = _unit(np.asarray(directions.decoder(features.tolist()), np.float64))
        rows = _unit(rows - rows.mean(axis=0))
        return cls(rows @ rows.T, n_draws, seed)


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float64)


def _chance(root: Floats, gram: Floats, pool: _Pool, flat: float, random: np.random.Generator) -> Floats:
    """Flatness of the same shares with other directions, each as far from their mean as the one it stands for."""
    k = len(gram)
    far = np.sqrt(np.maximum(gram.diagonal() - 2 * gram.mean(axis=0) + gram.mean(), 0))
    draws = np.zeros(0)
    while len(draws) < pool.n_draws:
        n_more = min(AT_ONCE, pool.n_draws - len(draws)) if len(draws) else FEWEST_DRAWS
        chosen = np.argpartition(random.random((n_more, len(pool.gram))), k - 1, axis=1)[:, :k]
        other = pool.gram[chosen[:, :, None], chosen[:, None, :]]
        draws = np.concatenate([draws, flatness(root, other * np.outer(far, far))])
        if np.count_nonzero(draws >= flat) >= ENOUGH_ABOVE or _beyond(flat, float(draws.mean())) < LEAST_BEYOND:
            break
    return draws


def _beyond(flat: float, by_chance: float) -> float:
    return float(np.clip((flat - by_chance) / max(1 - by_chance, 1e-9), 0, 1))
