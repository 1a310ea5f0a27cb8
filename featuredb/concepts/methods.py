"""Ways to make one direction of two groups of vectors. Numbers in, numbers out, in float64 throughout.

Each takes positive (n, d) and negative (m, d) and gives a direction (d,) float32 along which positives score higher;
zeros where the groups give none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featuredb.store.moments import Moments

Floats = NDArray[np.float64]
Vectors32 = NDArray[np.float32]

NEWTON_STEPS = 100
CONJUGATE_STEPS = 500
GRADIENT = 1e-9
"""The probe is done when no entry of its gradient is larger than this share of the number of vectors."""


@dataclass(frozen=True, slots=True)
class Method:
    """A way to make a direction."""

    make: Callable[[Vectors32, Vectors32], Vectors32]
    least: int
    """The fewest texts a side that it is of use with."""
    least_to_fit: int
    """The fewest that it can be worked out from, as it is when a text is left out."""


def mean_difference(positive: Vectors32, negative: Vectors32) -> Vectors32:
    """The positive mean less the negative one, in the activations' own scale."""
    difference = positive.mean(axis=0, dtype=np.float64) - negative.mean(axis=0, dtype=np.float64)
    return _float32(difference)


def pca_of_pairs(positive: Vectors32, negative: Vectors32) -> Vectors32:
    """The first principal component of the differences of pairs, vector i of one side with vector i of the other.

    Of unit length, and turned so that the positive scores higher in most pairs. The differences are centred, as PCA
    does: what all pairs share is taken out, and what is left is how the pairs differ most.
    Source: `pca_diff` of repeng 0.4, whose directions these are.
    """
    differences = positive.astype(np.float64) - negative
    component = _first_component(differences - differences.mean(axis=0), np.abs(differences).max())
    agreement = float(np.sign(differences @ component).sum())
    return _turned(component, agreement, positive, negative)


def pca_of_groups(positive: Vectors32, negative: Vectors32) -> Vectors32:
    """The first principal component of both groups about the midpoint of their means, of unit length."""
    midpoint = (positive.mean(axis=0, dtype=np.float64) + negative.mean(axis=0, dtype=np.float64)) / 2
    centred = np.concatenate([positive, negative]) - midpoint
    component = _first_component(centred, max(float(np.abs(positive).max()), float(np.abs(negative).max())))
    return _turned(component, 0.0, positive, negative)


def probe(positive: Vectors32, negative: Vectors32) -> Vectors32:
    """The weights of a logistic regression, in the activations' own scale.

    Fitted to standardised vectors by the sum of the log losses and half the squared weights (C = 1), with an intercept
    that is not penalised. By Newton's method, each step found by conjugate gradients, so that no (d, d) matrix is made.
    """
    vectors = np.concatenate([positive, negative]).astype(np.float64)
    spread = vectors.std(axis=0)
    # What hardly varies beside its own size is rounding, which must not be blown up.
    varies = spread > 10 * np.finfo(np.float64).eps * np.abs(vectors).max(axis=0)
    spread = np.where(varies, spread, 1.0)
    standard = np.where(varies, (vectors - vectors.mean(axis=0)) / spread, 0.0)
    target = np.concatenate([np.ones(len(positive)), np.zeros(len(negative))])
    return _float32(_logistic(standard, target) / spread)


def lda(positive: Vectors32, negative: Vectors32) -> Vectors32:
    """The difference of the means through the inverse of the covariance within the groups, shrunk.

    Each group's covariance is that of its standardised vectors, shrunk towards the identity and scaled back, and the
    two are weighted by the groups' sizes. With fewer vectors than dimensions by Woodbury's identity, so that d costs
    what n does. Zeros where neither group varies.
    Source: Ledoit and Wolf (2004), Journal of Multivariate Analysis 88(2); the same as scikit-learn's
    LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").
    """
    n = len(positive) + len(negative)
    difference = positive.mean(axis=0, dtype=np.float64) - negative.mean(axis=0, dtype=np.float64)
    diagonal, rows = np.zeros(positive.shape[1]), []
    for group in (positive.astype(np.float64), negative.astype(np.float64)):
        centred = group - group.mean(axis=0)
        spread = np.sqrt((centred**2).mean(axis=0))
        spread[spread <= 10 * np.finfo(np.float64).eps * np.abs(group).max(axis=0)] = 1.0
        standard = centred / spread
        share, level = _ledoit_wolf(standard)
        weight = len(group) / n
        diagonal += weight * share * level * spread**2
        rows.append(np.sqrt(weight * (1 - share) / len(group)) * centred)
    stacked = np.concatenate(rows)
    if not (diagonal > 0).all():
        return _float32(_solved(diagonal, stacked, difference))
    if n >= len(diagonal):
        covariance = stacked.T @ stacked
        covariance[np.diag_indices_from(covariance)] += diagonal
        return _float32(np.linalg.solve(covariance, difference))
    scaled = stacked / diagonal
    inner = np.eye(n) + scaled @ stacked.T
    return _float32(difference / diagonal - scaled.T @ np.linalg.solve(inner, scaled @ difference))


def lda_with(moments: Moments) -> Method:
    """`lda`, with the covariance of a hook over a whole corpus in place of that of the texts.

    Some dozens of texts cannot tell a covariance of hundreds of dimensions; a corpus can. That it is the covariance
    of all tokens, not that within the groups, changes the length and not the direction (Sherman and Morrison).
    """

    def make(positive: Vectors32, negative: Vectors32) -> Vectors32:
        difference = positive.mean(axis=0, dtype=np.float64) - negative.mean(axis=0, dtype=np.float64)
        return _float32(moments.read_out_of(difference))

    return Method(make, least=1, least_to_fit=1)


METHODS: dict[str, Method] = {
    "mean-difference": Method(mean_difference, least=1, least_to_fit=1),
    "pca": Method(pca_of_groups, least=2, least_to_fit=1),
    "probe": Method(probe, least=3, least_to_fit=2),
    "lda": Method(lda, least=3, least_to_fit=2),
}
"""By the name users know; of `pca`, the one for texts that are no pairs."""

PCA_OF_PAIRS = Method(pca_of_pairs, least=2, least_to_fit=2)


def _first_component(rows: Floats, scale: float) -> Floats:
    """(d,) of unit length, where rows (n, d) vary most; zeros where they do not vary beside `scale`."""
    n, width = rows.shape
    # The smaller of the two products holds the same component; working through it costs a fraction.
    square = rows @ rows.T if n < width else rows.T @ rows
    values, vectors = np.linalg.eigh(square)
    if values[-1] <= (10 * np.finfo(np.float32).eps * scale) ** 2 * n:
        return np.zeros(width)
    found = rows.T @ vectors[:, -1] if n < width else vectors[:, -1]
    component: Floats = np.asarray(found / np.linalg.norm(found), dtype=np.float64)
    return component


def _turned(component: Floats, agreement: float, positive: Vectors32, negative: Vectors32) -> Vectors32:
    """The component, or its opposite where fewer pairs than not agree with it; where as many do, by the means."""
    if agreement == 0:
        agreement = float(mean_difference(positive, negative).astype(np.float64) @ component)
    return _float32(-component if agreement < 0 else component)


def _logistic(x: Floats, target: Floats) -> Floats:
    """(d,) weights, the intercept left out, that minimise sum log(1 + exp(-s z)) + |w|²/2 for rows x (n, d)."""
    n, width = x.shape
    weights, intercept = np.zeros(width), 0.0

    def loss(w: Floats, b: float) -> float:
        z = x @ w + b
        return float(np.logaddexp(0, z).sum() - target @ z + w @ w / 2)

    now = loss(weights, intercept)
    for _ in range(NEWTON_STEPS):
        share = 1 / (1 + np.exp(-np.clip(x @ weights + intercept, -500, 500)))
        gradient = np.append(x.T @ (share - target) + weights, (share - target).sum())
        if np.abs(gradient).max() <= GRADIENT * n:
            break
        step = _newton_step(x, share * (1 - share), gradient)
        slope, length = float(gradient @ step), 1.0
        while length > 1e-10:
            after = loss(weights + length * step[:-1], intercept + length * float(step[-1]))
            if after <= now + 1e-4 * length * slope:
                break
            length /= 2
        else:  # rounding is all that is left
            break
        weights, intercept, now = weights + length * step[:-1], intercept + length * float(step[-1]), after
    return weights


def _newton_step(x: Floats, curvature: Floats, gradient: Floats) -> Floats:
    """-H⁻¹ gradient by conjugate gradients, H = [x 1]' diag(curvature) [x 1] + the penalty; a small one on the 1."""

    def product(v: Floats) -> Floats:
        through = curvature * (x @ v[:-1] + v[-1])
        return np.append(x.T @ through + v[:-1], through.sum() + 1e-12 * v[-1])

    step, left = np.zeros_like(gradient), -gradient
    along, before = left.copy(), float(left @ left)
    enough = 1e-20 * before
    for _ in range(CONJUGATE_STEPS):
        if before <= enough:
            break
        moved = product(along)
        length = before / float(along @ moved)
        step += length * along
        left -= length * moved
        after = float(left @ left)
        along = left + (after / before) * along
        before = after
    return step


def _ledoit_wolf(x: Floats) -> tuple[float, float]:
    """The share of the identity in the shrunk covariance of centred rows (n, d), and the identity's factor."""
    n, width = x.shape
    squares = x**2
    level = float(squares.sum()) / (n * width)
    gram = x @ x.T if n < width else x.T @ x
    spread = float((gram**2).sum()) / n**2 - width * level**2  # squared distance of the covariance from the identity's
    noise = (float((squares.sum(axis=1) ** 2).sum()) / n - float((gram**2).sum()) / n**2) / n
    if noise <= 0 or spread <= 0:
        return 0.0, level
    return min(noise / spread, 1.0), level


def _solved(diagonal: Floats, rows: Floats, difference: Floats) -> Floats:
    """The solution of least length where the covariance has no inverse; zeros where there is no covariance."""
    if not rows.any() and not diagonal.any():
        return np.zeros_like(difference)
    covariance = rows.T @ rows + np.diag(diagonal)
    solution: Floats = np.asarray(np.linalg.lstsq(covariance, difference, rcond=None)[0], dtype=np.float64)
    return solution


def _float32(direction: Floats) -> Vectors32:
    as_kept: Vectors32 = direction.astype(np.float32)
    return as_kept
