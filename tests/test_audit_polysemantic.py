"""Features of one, two and three meanings, made of vectors and of text whose meanings are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from featuredb.audit.meanings import MOST, Teller, fell, places_of, space_of
from featuredb.audit.panel import Fired
from featuredb.audit.requests import AuditRequest, Judged
from featuredb.audit.spread import Space, likeness_ratio, parts, spread
from featuredb.plugins import Registry
from featuredb.testing.truth.merged import merge
from tests.planted_run import PlantedRun, contexts_of

WIDTH, LENGTH, N_CONTEXTS, N_TOPICS = 24, 50, 400, 24
NOISE = 0.3


def topics(seed: int = 0) -> NDArray[np.float32]:
    """(N_TOPICS, WIDTH) directions that have nothing in common."""
    return np.asarray(np.linalg.qr(np.random.default_rng(seed).normal(size=(WIDTH, N_TOPICS)))[0].T, np.float32)


def vectors(topic: NDArray[Any], seed: int) -> NDArray[np.float32]:
    """(n, WIDTH) about a topic each, some of them weakly."""
    random = np.random.default_rng(seed)
    strength = random.uniform(2, 4, (len(topic), 1))
    made = strength * topics()[topic] + NOISE * random.normal(size=(len(topic), WIDTH))
    return np.asarray(made + 3.0, np.float32)


def firings(*counts: int) -> NDArray[np.int64]:
    """The topic of each firing."""
    return np.repeat(np.arange(len(counts)), counts)


@pytest.fixture(scope="module")
def space() -> Space:
    return Space.of(vectors(np.random.default_rng(1).integers(0, N_TOPICS, 4_000), 2))


def test_whitened_vectors_have_no_direction_of_their_own(space: Space) -> None:
    drawn = vectors(np.random.default_rng(3).integers(0, N_TOPICS, 4_000), 4)
    white = (drawn - space.mean) @ space.whiten
    assert np.abs(white.mean(axis=0)).max() < 0.15
    variance = np.linalg.eigvalsh(np.cov(white.T))
    assert variance[-1] < 1.3
    assert variance[-1] / variance[0] < 2
    assert np.linalg.norm(space.units(drawn), axis=1) == pytest.approx(1, abs=1e-5)


def test_odd_firings_are_told_from_those_of_one_meaning(space: Space) -> None:
    one, tenth, half = (
        [spread(space.units(vectors(firings(*counts), seed)), space.anything).distance for seed in range(20)]
        for counts in ((64,), (58, 6), (36, 28))
    )
    assert min(one) > 0
    assert max(tenth) < min(one)
    assert max(half) < min(one)
    assert max(half) < 0.5


def test_likeness_is_the_median_cosine_with_the_others(space: Space) -> None:
    units = space.units(vectors(firings(20, 10), 5))
    found = spread(units, space.anything)
    cosine = units @ units.T
    likeness = sorted(float(np.median(np.delete(cosine[row], row))) for row in range(30))
    assert found.odd == pytest.approx(np.mean(likeness[:3]), abs=1e-6)
    assert found.alike == pytest.approx((cosine.sum() - 30) / (30 * 29), abs=1e-5)
    random = np.median(space.anything @ units.T, axis=1)
    assert found.random == pytest.approx(random.mean(), abs=1e-6)


@pytest.mark.parametrize("counts", [(64,), (40, 24), (30, 20, 14), (16, 16, 16, 16)])
def test_parts_are_the_meanings(space: Space, counts: tuple[int, ...]) -> None:
    for seed in range(5):
        topic = firings(*counts)
        order = np.random.default_rng(seed).permutation(len(topic))
        found = parts(space.units(vectors(topic[order], seed)))
        assert adjusted_rand_score(topic[order], found) > 0.9
        assert (np.diff(np.bincount(found)) <= 0).all()


def test_a_ratio_of_likeness_is_one_within_a_meaning_and_none_between_two(space: Space) -> None:
    one = np.arange(64) % 2 == 0
    assert likeness_ratio(space.units(vectors(firings(64), 6)), one) == pytest.approx(1, abs=0.1)
    assert abs(likeness_ratio(space.units(vectors(firings(32, 32), 6)), np.arange(64) < 32)) < 0.1


class World:
    """Contexts of one topic each; features that fire on a topic's tokens, of which the vectors are known."""

    def __init__(self) -> None:
        random = np.random.default_rng(7)
        self.topic = np.repeat(random.integers(0, N_TOPICS, N_CONTEXTS), LENGTH)
        token = self.topic * 2 + random.integers(0, 2, len(self.topic))
        text = contexts_of(token, LENGTH, [f" t{number}" for number in range(2 * N_TOPICS)])
        acts = np.zeros((len(self.topic), N_TOPICS + 2), np.float32)
        fires = random.random(len(self.topic)) < 0.7
        acts[np.flatnonzero(fires), self.topic[fires]] = random.uniform(1, 3, int(fires.sum()))
        seldom = acts[:, 1] * (np.arange(len(acts)) // LENGTH % 2)
        acts[:, N_TOPICS] = np.maximum(acts[:, 0], seldom)
        acts[:60, N_TOPICS + 1] = acts[:60].max(axis=1)
        self.run = PlantedRun(text, acts, n_panel=N_CONTEXTS, n_samples=16)
        self.vectors = vectors(self.topic, 8)

    def request(self) -> AuditRequest:
        run = cast(Any, self.run)
        states = SimpleNamespace(at=lambda places: self.vectors[places])
        return AuditRequest(
            features=range(N_TOPICS + 2),
            everything=run,
            audit=run,
            labeling=run,
            panel=Fired.read(run),
            labels={},
            directions=cast(Any, None),
            states=cast(Any, states),
            texts=cast(Any, None),
        )


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def judged(world: World) -> dict[int, Judged]:
    return {each.feature: each for each in Registry.installed().check("polysemantic").audit(world.request())}


def test_the_merged_feature_alone_is_flagged_with_both_its_meanings(judged: dict[int, Judged], world: World) -> None:
    assert [feature for feature, each in judged.items() if each.flagged] == [N_TOPICS]
    found = judged[N_TOPICS]
    assert max(judged.values(), key=lambda each: each.score) is found
    assert found.evidence["n_meanings"] == 2
    labels = sorted(each["label"] for each in found.evidence["meanings"])
    assert [set(label.split(", ")) for label in labels] == [{'"t0"', '"t1"'}, {'"t2"', '"t3"'}]
    for meaning in found.evidence["meanings"]:
        of = {int(world.topic[context * LENGTH]) for context in meaning["examples"]}
        assert of == ({0} if '"t0"' in meaning["label"] else {1})
    assert sum(each["share"] for each in found.evidence["meanings"]) == pytest.approx(1)
    assert found.suggestion is not None
    assert '"t0"' in found.suggestion


def test_a_feature_that_fires_too_seldom_is_left_out(judged: dict[int, Judged]) -> None:
    assert N_TOPICS + 1 not in judged
    assert len(judged) == N_TOPICS + 1


def test_firings_are_drawn_from_as_many_contexts_as_there_are(world: World) -> None:
    request = world.request()
    at = places_of(request, 3)
    fires = request.panel.places(3)
    assert np.isin(at, fires).all()
    assert len(at) == MOST
    assert (np.diff(at) > 0).all()
    assert len(np.unique(at // LENGTH)) == min(MOST, len(np.unique(fires // LENGTH)))


def test_a_merge_has_the_shares_asked_for(world: World) -> None:
    request = world.request()
    plant = merge(request, (4, 5, 6), (0.5, 0.3, 0.2), seed=0)
    share = np.bincount(world.topic[plant.at], minlength=N_TOPICS)[[4, 5, 6]] / len(plant.at)
    assert share == pytest.approx([0.5, 0.3, 0.2], abs=0.01)
    assert plant.activation.max() <= 1
    assert (np.diff(plant.at) > 0).all()


def test_a_label_names_what_stands_near_where_the_tokens_say_nothing(world: World) -> None:
    request = world.request()
    teller = Teller(request)
    places = request.panel.places(9)[:40]
    assert set(teller.label(places).split(", ")) == {'"t18"', '"t19"'}
    scattered = np.arange(0, len(world.topic), 997)
    assert "t18" not in teller.label(scattered)
    space = space_of(request)
    found = fell(9, places, space.units(world.vectors[places]), space)
    (meaning,) = teller.meanings(found, found.part)
    assert meaning["share"] == 1
