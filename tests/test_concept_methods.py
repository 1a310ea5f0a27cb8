"""Directions against others' own: repeng's algorithm restated, scikit-learn's LDA, logistic regression and PCA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featuredb.concepts.heldout import folds, held_out
from featuredb.concepts.methods import (
    METHODS,
    PCA_OF_PAIRS,
    lda,
    mean_difference,
    pca_of_groups,
    pca_of_pairs,
    probe,
)
from featuredb.concepts.texts import Texts

SHAPES = [(20, 20, 64), (7, 11, 200), (3, 3, 10), (200, 150, 24), (20, 20, 2000)]


def groups(n: int, m: int, width: int, seed: int = 0) -> tuple[Any, Any]:
    """Vectors as a model gives them: dimensions of very different spread, a large common mean, one real difference."""
    rng = np.random.default_rng(seed)
    spread, mean = rng.uniform(0.05, 5, width), 3 * rng.standard_normal(width)
    positive = mean + spread * rng.standard_normal((n, width))
    positive[:, : width // 4] += 0.5
    return positive.astype(np.float32), (mean + spread * rng.standard_normal((m, width))).astype(np.float32)


def repeng(positive: Any, negative: Any) -> Any:
    """What repeng 0.4 does with the hidden states of pairs: PCA of the differences, the sign that most pairs want."""
    from sklearn.decomposition import PCA

    component = PCA(n_components=1, whiten=False).fit(positive - negative).components_.astype(np.float32)[0]
    ours, theirs = positive @ component, negative @ component
    return -component if np.mean(ours < theirs) > np.mean(ours > theirs) else component


def both(positive: Any, negative: Any) -> tuple[Any, Any]:
    return np.concatenate([positive, negative]).astype(np.float64), np.arange(len(positive) + len(negative)) < len(
        positive
    )


@pytest.mark.parametrize(("n", "m", "width"), SHAPES)
def test_mean_difference_is_that_of_the_means(n: int, m: int, width: int) -> None:
    positive, negative = groups(n, m, width)
    expected = positive.astype(np.float64).mean(0) - negative.astype(np.float64).mean(0)
    assert mean_difference(positive, negative) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n", "width"), [(21, 64), (3, 10), (41, 8), (13, 500)])
def test_pca_of_pairs_is_repengs(n: int, width: int, seed: int) -> None:
    # An odd number of pairs: where as many want one sign as the other, repeng's is an accident of the solver.
    positive, negative = groups(n, n, width, seed)
    found = pca_of_pairs(positive, negative)
    assert found == pytest.approx(repeng(positive, negative), abs=2e-5)
    assert np.linalg.norm(found) == pytest.approx(1)


def test_pca_of_groups_is_the_first_axis_about_the_midpoint() -> None:
    positive, negative = groups(9, 14, 40)
    midpoint = (positive.mean(0, dtype=np.float64) + negative.mean(0, dtype=np.float64)) / 2
    axis = np.linalg.svd(both(positive, negative)[0] - midpoint)[2][0]
    axis *= np.sign(axis @ mean_difference(positive, negative))
    assert pca_of_groups(positive, negative) == pytest.approx(axis, abs=1e-5)


@pytest.mark.parametrize(("n", "m", "width"), [shape for shape in SHAPES if shape[2] <= 200])
def test_lda_is_scikit_learns(n: int, m: int, width: int) -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    positive, negative = groups(n, m, width)
    x, y = both(positive, negative)
    expected = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x, y).coef_[0]
    assert lda(positive, negative) == pytest.approx(expected, rel=1e-4, abs=1e-6 * np.abs(expected).max())


def test_lda_of_many_dimensions_solves_the_whole_system() -> None:
    from sklearn.covariance import ledoit_wolf
    from sklearn.preprocessing import StandardScaler

    positive, negative = groups(20, 15, 1500)
    covariance = np.zeros((1500, 1500))
    for group in (positive, negative):
        scaler = StandardScaler()
        shrunk = ledoit_wolf(scaler.fit_transform(group.astype(np.float64)))[0]
        covariance += len(group) / 35 * np.outer(scaler.scale_, scaler.scale_) * shrunk
    difference = positive.mean(0, dtype=np.float64) - negative.mean(0, dtype=np.float64)
    assert covariance @ lda(positive, negative) == pytest.approx(difference, abs=1e-4 * np.abs(difference).max())


@pytest.mark.parametrize(("n", "m", "width"), SHAPES)
def test_probe_is_scikit_learns(n: int, m: int, width: int) -> None:
    from sklearn.linear_model import LogisticRegression

    positive, negative = groups(n, m, width)
    x, y = both(positive, negative)
    standard = (x - x.mean(0)) / x.std(0)
    expected = LogisticRegression(C=1.0, tol=1e-12, max_iter=100_000).fit(standard, y).coef_[0] / x.std(0)
    assert probe(positive, negative) == pytest.approx(expected, rel=1e-4, abs=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("method", [mean_difference, pca_of_groups, pca_of_pairs, probe, lda])
@given(seed=st.integers(0, 10_000), n=st.integers(3, 8), width=st.integers(1, 12))
def test_directions_are_finite_and_point_to_the_positive(method: Any, seed: int, n: int, width: int) -> None:
    positive, negative = groups(n, n, width, seed)
    direction = method(positive, negative)
    assert direction.dtype == np.float32
    assert direction.shape == (width,)
    assert np.isfinite(direction).all()
    if method is not pca_of_pairs:  # which goes by the majority of pairs, as repeng does
        difference = positive.mean(0, dtype=np.float64) - negative.mean(0, dtype=np.float64)
        assert float(direction @ difference) >= -1e-5


@pytest.mark.parametrize("method", [mean_difference, pca_of_groups, pca_of_pairs, probe, lda])
def test_alike_vectors_give_no_direction(method: Any) -> None:
    same = np.full((4, 6), 0.1, dtype=np.float32)
    assert not method(same, same).any()


def test_pairs_that_all_differ_alike_leave_pca_nothing() -> None:
    positive, negative = groups(6, 6, 10)
    negative = positive - np.float32(1)
    assert not pca_of_pairs(positive, negative).any()


@pytest.mark.parametrize("method", [probe, lda])
def test_a_dimension_that_never_varies_does_not_matter(method: Any) -> None:
    positive, negative = groups(8, 9, 12)
    positive[:, 3] = negative[:, 3] = 1e4
    direction = method(positive, negative)
    assert np.isfinite(direction).all()
    assert direction[3] == 0


def texts(n: int, m: int) -> Texts:
    return Texts(tuple(f"p{i}" for i in range(n)), tuple(f"n{i}" for i in range(m)))


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 100))
def test_every_fold_has_both_sides_in_nearly_the_same_shares(n: int, m: int, seed: int) -> None:
    fold = folds(texts(n, m), paired=False, seed=seed)
    if min(n, m) < 2:
        assert fold is None
        return
    assert fold is not None
    n_folds = min(5, n, m)
    for side in (fold[:n], fold[n:]):
        counts = np.bincount(side, minlength=n_folds)
        assert len(counts) == n_folds
        assert counts.max() - counts.min() <= 1


def test_pairs_stay_together_and_the_same_text_is_in_one_fold() -> None:
    fold = folds(texts(12, 12), paired=True, seed=3)
    assert fold is not None
    assert (fold[:12] == fold[12:]).all()
    shared = Texts(("a", "b", "c", "d"), ("x", "x", "y", "z"))
    fold = folds(shared, paired=True, seed=0)
    assert fold is not None
    assert fold[0] == fold[1]
    again = folds(Texts(("a", "a", "b", "c"), ("x", "y", "z")), paired=False, seed=0)
    assert again is not None
    assert again[0] == again[1]


def test_the_seed_decides_the_folds() -> None:
    one, same, other = (folds(texts(20, 20), paired=False, seed=seed) for seed in (1, 1, 2))
    assert one is not None
    assert same is not None
    assert other is not None
    assert (one == same).all()
    assert (one != other).any()


@pytest.mark.parametrize("name", METHODS)
def test_texts_of_nothing_in_common_are_told_apart_by_chance_alone(name: str) -> None:
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        vectors = [(rng.standard_normal((1, 30)) + 9).astype(np.float32) for _ in range(24)]
        fold = folds(texts(12, 12), paired=False, seed=seed)
        found.append(held_out(METHODS[name], vectors[:12], vectors[12:], fold)["auroc"])
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)


def test_pairs_that_are_alike_but_for_the_concept_are_not_scored_against_it() -> None:
    rng = np.random.default_rng(0)
    about = 5 * rng.standard_normal((15, 40))  # what a pair is about, much larger than what its texts differ in
    shift = np.zeros(40)
    shift[0] = 1
    positive, negative = ((about + sign * shift).astype(np.float32) for sign in (1, -1))
    vectors = [row[None] for row in positive], [row[None] for row in negative]
    method = METHODS["lda"]
    together = held_out(method, *vectors, folds(texts(15, 15), paired=True, seed=0))["auroc"]
    apart = held_out(method, *vectors, folds(texts(15, 15), paired=False, seed=0))["auroc"]
    assert apart < 0.4
    assert together > 0.6


def test_a_held_out_text_is_scored_by_a_direction_made_without_it() -> None:
    positive, negative = groups(6, 7, 20)
    fold = folds(texts(6, 7), paired=False, seed=0)
    assert fold is not None
    right = total = 0.0
    for each in range(5):
        inside = fold == each
        direction = mean_difference(positive[~inside[:6]], negative[~inside[6:]])
        x, y = positive[inside[:6]] @ direction, negative[inside[6:]] @ direction
        right += (x[:, None] > y).sum()
        total += len(x) * len(y)
    method = METHODS["mean-difference"]
    found = held_out(method, [row[None] for row in positive], [row[None] for row in negative], fold)
    assert found["auroc"] == pytest.approx(right / total)
    assert (found["n_held_out"], found["n_positive"], found["n_negative"]) == (13, 6, 7)


def test_too_few_to_leave_out_have_no_figure() -> None:
    positive, negative = groups(2, 2, 5)
    vectors = [row[None] for row in positive], [row[None] for row in negative]
    fold = folds(texts(2, 2), paired=True, seed=0)
    assert held_out(PCA_OF_PAIRS, *vectors, fold)["auroc"] is None
    assert held_out(METHODS["mean-difference"], *vectors, folds(texts(1, 1), paired=False, seed=0))["auroc"] is None
    assert held_out(METHODS["mean-difference"], *vectors, fold)["auroc"] is not None
