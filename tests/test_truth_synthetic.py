"""Synthetic worlds are what they say: words tell trees, absorbed features are silent, trained ones are near truth."""

from __future__ import annotations

import numpy as np
import pytest

from featuredb.audit.panel import Fired
from featuredb.predicates import Tagged
from featuredb.testing.truth.planted import known_firings
from featuredb.testing.truth.synthetic import SyntheticWorld, synthetic_request
from featuredb.testing.truth.synthetic_trained import agreement, trained_request
from featuredb.testing.truth.synthetic_world import Shape, World, draw_world

SMALL = Shape(
    n_tokens=8_192,
    width=64,
    n_trees=3,
    n_free=10,
    groups=(("circle", 7), ("line", 6), ("independent", 2), ("bundle", 3)),
    group_rate=0.03,
)


@pytest.fixture(scope="module")
def world() -> World:
    return draw_world(7, SMALL)


@pytest.fixture(scope="module")
def planted(world: World) -> SyntheticWorld:
    return synthetic_request(7, world=world)


def fires(fired: Fired, feature: int) -> np.ndarray:
    found = np.zeros(fired.n_tokens, np.bool_)
    found[fired.of(feature)[0]] = True
    return found


def test_a_tree_feature_fires_on_its_words_and_on_nothing_else(world: World) -> None:
    for feature, words in world.words.items():
        assert np.array_equal(fires(world.true, feature), np.isin(world.passages.token, words))


def test_children_fire_only_with_their_parent_and_one_at_a_time(world: World) -> None:
    for parent, children in world.children.items():
        each = np.stack([fires(world.true, child) for child in children])
        assert each.sum(axis=0).max() <= 1
        assert not (each.any(axis=0) & ~fires(world.true, parent)).any()


def test_points_of_a_ring_fire_one_at_a_time_and_independent_features_now_and_then_together(world: World) -> None:
    together = {g.kind: np.sum([fires(world.true, f) for f in g.features], axis=0) for g in world.groups}
    assert max(together["circle"].max(), together["line"].max(), together["bundle"].max()) == 1
    assert together["independent"].max() == 2


def test_directions_of_a_ring_lie_in_a_plane_beside_what_they_share(world: World) -> None:
    for kind, n_large in (("circle", 2), ("line", 1), ("bundle", 2)):
        (group,) = [group for group in world.groups if group.kind == kind]
        rows = world.vectors[list(group.features)]
        spread = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
        assert spread[:n_large].sum() > 0.9 * spread.sum()
        assert spread[: n_large - 1].sum() < 0.9 * spread.sum()


def test_hidden_vectors_are_the_sums_of_what_fires(world: World) -> None:
    dense = np.zeros((world.true.n_tokens, world.true.n_features), np.float32)
    dense[world.true.column, world.true.feature] = world.true.activation
    places = np.array([5, 0, 8_191, 5])
    np.testing.assert_allclose(world.hidden(places), dense[places] @ world.vectors, rtol=1e-5, atol=1e-6)


def test_the_same_seed_gives_the_same_world_and_another_seed_another(world: World) -> None:
    again, other = draw_world(7, SMALL), draw_world(8, SMALL)
    assert np.array_equal(again.true.activation, world.true.activation)
    assert np.array_equal(again.vectors, world.vectors)
    assert not np.array_equal(other.vectors, world.vectors)


def test_an_absorbed_feature_is_silent_on_the_words_named_and_on_no_others_of_its_concept(
    planted: SyntheticWorld,
) -> None:
    assert planted.absorptions
    tagged = Tagged(planted.request.everything.passages)
    for one in planted.absorptions:
        label = planted.request.labels[one.feature].predicate
        assert label is not None
        silent = tagged.holds({"token": list(one.words)})
        assert silent.any()
        assert np.array_equal(fires(planted.request.panel, one.feature), tagged.holds(label) & ~silent)
        assert not (silent & ~fires(planted.request.panel, one.absorber)).any()


def test_little_of_the_hidden_vectors_is_lost_by_absorption(planted: SyntheticWorld, world: World) -> None:
    hidden = world.hidden(np.arange(world.true.n_tokens))
    found, fired = np.zeros_like(hidden), planted.request.panel
    rows = planted.request.directions.decoder(range(fired.n_features))
    np.add.at(found, fired.column, rows[fired.feature] * fired.activation[:, None])
    assert ((found - hidden) ** 2).sum() < 0.05 * ((hidden - hidden.mean(axis=0)) ** 2).sum()


def test_the_halves_are_parts_of_all_documents_and_share_none(planted: SyntheticWorld) -> None:
    request = planted.request
    halves = set(request.audit.passages.document.tolist()), set(request.labeling.passages.document.tolist())
    assert not halves[0] & halves[1]
    assert halves[0] | halves[1] == set(request.everything.passages.document.tolist())
    for half in (request.audit, request.labeling):
        passages, feature = half.passages, 0
        words = planted.words[feature]
        absorbed = {word for one in planted.absorptions if one.feature == feature for word in one.words}
        at, _ = half.panel(feature, feature + 1).of(feature)
        spoken = np.array([passages.texts[token] for token in passages.token.tolist()])
        assert np.array_equal(at, np.flatnonzero(np.isin(spoken, sorted(set(words) - absorbed))))


def test_examples_and_neighbours_are_there_as_of_a_store(planted: SyntheticWorld) -> None:
    request = planted.request
    known = known_firings(request.everything, 3)
    assert np.array_equal(known.at, request.panel.places(3))
    examples = request.audit.examples(2, 4)
    assert set(examples.feature.tolist()) == {2, 3}
    peaks = examples.at[examples.of(3).start : examples.of(3).stop]
    assert np.isin(peaks, request.audit.panel(3, 4).at).all()
    near, cosine = request.directions.nearest(4)
    unit = request.directions.decoder(range(len(near)))
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    np.testing.assert_allclose(cosine, np.einsum("fd,fnd->fn", unit, unit[near]), atol=1e-5)
    assert (near != np.arange(len(near))[:, None]).all()


def test_a_trained_dictionary_finds_much_of_the_truth_and_more_than_an_untrained_one(world: World) -> None:
    trained = trained_request(7, world=world, n_steps=400)
    untrained = trained_request(7, world=world, n_steps=1)
    assert (trained.stands_for >= 0).mean() > 0.3 > (untrained.stands_for >= 0).mean()
    (f1, mcc), (f1_untrained, mcc_untrained) = agreement(trained), agreement(untrained)
    assert f1 > f1_untrained + 0.2
    assert mcc > mcc_untrained + 0.1


def test_the_true_dictionary_agrees_with_itself_but_for_what_is_absorbed(world: World) -> None:
    assert agreement(synthetic_request(7, world=world, absorbing=0)) == pytest.approx((1, 1), abs=1e-5)
    f1, mcc = agreement(synthetic_request(7, world=world, absorbing=1))
    assert 0.8 < f1 < 1
    assert 0.8 < mcc < 1


def test_a_trained_dictionary_misses_what_it_is_said_to_have_absorbed(world: World) -> None:
    trained = trained_request(7, world=world, n_steps=400, k=2)
    tagged, fired = Tagged(trained.request.everything.passages), trained.request.panel
    assert trained.absorptions
    for one in trained.absorptions:
        lost = tagged.holds({"token": list(one.words)})
        rest = tagged.holds({"token": sorted(set(trained.words[one.feature]) - set(one.words))})
        assert fires(fired, one.feature)[lost].mean() < 0.2
        assert fires(fired, one.feature)[rest].mean() > fires(fired, one.feature)[lost].mean()
        assert fires(fired, one.absorber)[lost].mean() > 0.2
