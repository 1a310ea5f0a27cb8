"""Groups of features that are one thing of two dimensions are told from those that only lie near each other."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import mutual_info_score

from featuredb.audit import manifold
from featuredb.audit.manifold import find_groups, flatness, linked, mixture, planes, separability
from featuredb.plugins import Registry
from featuredb.testing.truth.manifolds import crowd, irreducible, order_of, rank_groups
from featuredb.testing.truth.synthetic import SyntheticWorld, synthetic_request
from featuredb.testing.truth.synthetic_world import Kind

GROUPS: tuple[tuple[Kind, int], ...] = (
    *(("circle", 7), ("circle", 12), ("line", 9)),
    *(("independent", 2),) * 12,
    *(("independent", 4), ("independent", 5), ("independent", 6)) * 2,
    *(("bundle", 4), ("bundle", 5), ("bundle", 6)) * 2,
)


@pytest.fixture(scope="module")
def planted() -> SyntheticWorld:
    return synthetic_request(1_003, crowd(8_192, GROUPS))


def points_on(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def test_rings_are_flagged_with_all_their_points_and_nothing_else_is(planted: SyntheticWorld) -> None:
    found = {one.feature: one for one in Registry.installed().check("manifold").audit(planted.request)}
    rings = [set(features) for kind, features in planted.groups if kind == "circle"]
    assert {feature for feature, one in found.items() if one.flagged} == set.union(*rings)
    for ring in rings:
        for feature in ring:
            one = found[feature]
            assert {feature, *one.evidence["others"]} == ring
            assert one.evidence["group"] == min(ring)
            assert one.q is not None
            assert one.q <= 0.05
            assert one.suggestion
            assert 0 < len(one.evidence["examples"]) <= 8


def test_rings_rank_first_and_independent_pairs_behind_the_first_tenth(planted: SyntheticWorld) -> None:
    check = Registry.installed().check("manifold")
    ranked = rank_groups(check, 1_003, crowd(8_192, GROUPS))
    assert {one.rank for one in ranked if one.kind == "circle"} == {1, 2}
    assert min(one.rank for one in ranked if (one.kind, one.size) == ("independent", 2)) > 0.1 * ranked[0].n_groups
    assert {one.rank for one in order_of(ranked, irreducible)} == set(range(1, len(GROUPS) + 1))


def test_groups_below_four_features_are_ranked_by_no_chance_and_never_flagged(planted: SyntheticWorld) -> None:
    request = planted.request
    groups = find_groups(request.panel, request.directions, range(request.panel.n_features))
    small = [one for one in groups if len(one.members) < 4]
    assert small
    assert all(np.isnan(one.p) and one.beyond == 0 and not one.flagged for one in small)


def test_features_that_fire_seldom_are_in_no_group(planted: SyntheticWorld) -> None:
    request = planted.request
    ring = next(features for kind, features in planted.groups if kind == "circle")
    groups = find_groups(
        request.panel, request.directions, [f for f in range(request.panel.n_features) if f != ring[0]]
    )
    assert all(ring[0] not in one.members for one in groups)
    assert any(set(one.members.tolist()) == set(ring[1:]) for one in groups)


def test_linked_features_are_the_connected_components_above_the_cosine() -> None:
    nearest = np.array([[1, 2], [2, -1], [0, 3], [4, -1], [3, -1], [5, -1]])
    cosine = np.array([[0.9, 0.4], [0.6, 0], [0.3, 0.49], [0.5, 0], [0.1, 0], [0.9, 0]])
    found = linked(nearest, cosine, np.ones(6, np.bool_))
    assert [one.tolist() for one in found][:2] == [[0, 1, 2], [3, 4]]
    assert [one.tolist() for one in linked(nearest, cosine, np.arange(6) != 1)][0] == [3, 4]


def test_a_component_that_is_too_large_is_cut_where_cosines_are_lowest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifold, "MOST_MEMBERS", 3)
    nearest = np.array([[1], [2], [3], [4], [5], [-1]])
    cosine = np.array([[0.9], [0.9], [0.52], [0.8], [0.8], [0]])
    found = linked(nearest, cosine, np.ones(6, np.bool_))
    assert [one.tolist() for one in found] == [[0, 1, 2], [3, 4, 5]]


def test_separability_is_the_least_mutual_information_over_rotations() -> None:
    random = np.random.default_rng(3)
    for points in (points_on(random.random(1_500) * 2 * np.pi), random.standard_normal((1_500, 2)) * [3, 0.1]):
        least = np.inf
        scaled = points / points.std(axis=0)
        for angle in np.pi / 2 * np.arange(25) / 25:
            turned = scaled @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            low, high = np.quantile(turned, [0.01, 0.99], axis=0)
            one, other = np.clip((turned - low) / (high - low) * 10, 0, 9).astype(int).T
            bias = (len(set(one.tolist())) - 1) * (len(set(other.tolist())) - 1) / (2 * len(one))
            least = min(least, (mutual_info_score(one, other) - bias) / np.log(2))
        assert separability(points) == pytest.approx(max(0, least), abs=1e-9)


def test_a_ring_is_inseparable_and_independent_axes_are_not() -> None:
    random = np.random.default_rng(4)
    assert separability(points_on(random.random(3_000) * 2 * np.pi)) > 0.8
    assert separability(random.random((3_000, 2))) < 0.05


def test_mixture_is_the_share_on_one_line_and_small_on_a_ring() -> None:
    random = np.random.default_rng(5)
    cross = np.where(random.random((3_000, 1)) < 0.6, [[1.0, 0.0]], [[0.0, 1.0]]) * random.standard_normal((3_000, 1))
    assert mixture(cross) > 0.55
    assert mixture(points_on(random.random(3_000) * 2 * np.pi)) < 0.25


def test_planes_finds_the_ring_behind_a_stronger_axis() -> None:
    random = np.random.default_rng(6)
    points = np.zeros((2_000, 8))
    points[:, 0] = 5 * random.standard_normal(2_000)
    points[:, 1:3] = points_on(random.random(2_000) * 2 * np.pi)
    assert planes(points)[2] == 2


def test_flatness_is_one_on_a_ring_nothing_on_a_line_and_a_share_of_the_members_otherwise() -> None:
    share = np.eye(8)[np.arange(800) % 8]
    values, axes = np.linalg.eigh(np.cov(share.T, bias=True))
    root = (axes * np.sqrt(np.maximum(values, 0))) @ axes.T
    rings = points_on(2 * np.pi * np.arange(8) / 8)
    line = np.outer(np.arange(8), [1.0, 0.0])
    found = flatness(root, np.stack([rows @ rows.T for rows in (rings, line, np.eye(8))]))
    np.testing.assert_allclose(found, [1, 0, 2 / 7], atol=1e-6)
    shifted = rings + [3.0, 5.0]
    assert flatness(root, shifted @ shifted.T) == pytest.approx(1, abs=1e-6)  # what all share counts for nothing


def test_the_score_falls_with_what_speaks_against_a_ring(planted: SyntheticWorld) -> None:
    request = planted.request
    groups = find_groups(request.panel, request.directions, range(request.panel.n_features))
    assert all(before.score >= after.score for before, after in pairwise(groups))
    assert all(0 <= one.score <= 1 for one in groups)


def test_the_same_seed_gives_the_same_figures(planted: SyntheticWorld) -> None:
    request = planted.request
    first, again = (find_groups(request.panel, request.directions, range(60), seed=1) for _ in range(2))
    assert [one.score for one in first] == [one.score for one in again]
    np.testing.assert_array_equal([one.p for one in first], [one.p for one in again])
