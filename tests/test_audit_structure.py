"""Rows of a store's dictionary, rates, and the checks of dead, under-sampled and dense features."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from featuredb.audit.directions import StoredDirections, nearest_rows
from featuredb.audit.gather import open_request
from featuredb.audit.rates import largest_rate, n_tokens, opposites
from featuredb.audit.requests import AuditRequest, Judged
from featuredb.errors import BadInput
from featuredb.labels.workshop import Workshop
from featuredb.plugins import Registry
from featuredb.store.refs import get_dictionary
from featuredb.store.segments import SegmentReader, SegmentRef
from featuredb.store.store import Store
from featuredb.store.vectors import Rows
from tests.small_store import N_TOKENS, build, decoder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with build(tmp_path / "small.fdb") as store:
        yield store


@pytest.fixture
def request_of_alpha(store: Store) -> Iterator[AuditRequest]:
    with open_request(store, SegmentReader(store), "alpha") as request:
        yield request


def directions(store: Store) -> StoredDirections:
    with store.reading() as session:
        segment = SegmentRef.newest(session, get_dictionary(session, "alpha"))
    return StoredDirections(Workshop(store, SegmentReader(store), segment))


def judged(name: str, request: AuditRequest) -> list[Judged]:
    return list(Registry.installed().check(name).audit(request))


def test_decoder_rows_are_those_of_the_weights(store: Store) -> None:
    rows = decoder("alpha")[:, 0]
    assert np.array_equal(directions(store).decoder([5, 2]), rows[[5, 2]])
    assert np.array_equal(directions(store).decoder(range(1, 4)), rows[1:4])


def test_without_an_encoder_the_decoder_is_the_encoder(store: Store) -> None:
    found = directions(store)
    assert np.array_equal(found.encoder([3]), found.decoder([3]))


def test_a_dictionary_without_weights_says_so(store: Store) -> None:
    store.paths.weights("alpha").unlink()
    with pytest.raises(BadInput, match="no weights of dictionary 'alpha'"):
        directions(store).nearest(2)


def test_nearest_are_those_of_all_cosines(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featuredb.audit.directions.AT_ONCE", 24)  # three rows at a time
    rows = decoder("alpha")[:, 0].astype(np.float64)
    unit = rows[1:] / np.linalg.norm(rows[1:], axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -2)
    found, near = nearest_rows(Rows(store.paths.weights("alpha"), "w_dec"), 7)
    assert np.array_equal(found[1:, :6], 1 + np.argsort(-cosine, axis=1)[:, :6])
    assert near[1:, :6] == pytest.approx(-np.sort(-cosine, axis=1)[:, :6], abs=1e-6)
    assert (found[0] == -1).all()
    assert (near[0] == 0).all()
    assert (found[:, 6] == -1).all()


def test_fewer_neighbours_are_the_first_of_more(store: Store) -> None:
    found = directions(store)
    few, many = found.nearest(2), found.nearest(5)
    assert np.array_equal(few[0], many[0][:, :2])
    assert np.array_equal(found.nearest(30)[0][:, :5], many[0])


@pytest.mark.parametrize(("count", "n"), [(0, 1_000), (1, 50), (7, 10_000), (150, 500_000), (199, 2_000_000), (3, 3)])
def test_the_largest_rate_is_that_of_the_exact_interval(count: int, n: int) -> None:
    exact = binomtest(count, n).proportion_ci(0.9, method="exact").high
    assert largest_rate(count, n) == pytest.approx(exact, rel=1e-6)


def test_opposites_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featuredb.audit.rates.BLOCK", 3)
    random = np.random.default_rng(0)

    class Random:
        reads = random.standard_normal((10, 4)).astype(np.float32)
        writes = random.standard_normal((10, 4)).astype(np.float32)

        def encoder(self, features: list[int]) -> np.ndarray:
            return self.reads[list(features)]

        def decoder(self, features: list[int]) -> np.ndarray:
            return self.writes[list(features)]

        def nearest(self, n: int) -> tuple[np.ndarray, np.ndarray]:
            raise NotImplementedError

    rows = Random()
    found = opposites(rows, [4, 0], 10)  # type: ignore[arg-type]
    for place, feature in enumerate((4, 0)):
        expected = np.zeros(10)
        for other in range(10):
            reads, writes = (
                float(a[feature] @ a[other]) / float(np.linalg.norm(a[feature]) * np.linalg.norm(a[other]))
                for a in (rows.reads, rows.writes)
            )
            expected[other] = reads * writes if reads < 0 and writes < 0 else 0
        assert found.strength[place] == pytest.approx(expected.max(), abs=1e-6)
        assert found.partner[place] == (expected.argmax() if expected.max() > 0 else -1)


def test_the_tokens_of_a_run_follow_from_rates(request_of_alpha: AuditRequest) -> None:
    assert n_tokens(request_of_alpha.everything) == N_TOKENS


def test_dead_is_the_feature_that_never_fired(request_of_alpha: AuditRequest) -> None:
    found = judged("dead", request_of_alpha)
    assert [one.feature for one in found if one.flagged] == [0]
    assert found[0].evidence["rate_at_most"] == pytest.approx(3 / N_TOKENS, rel=0.01)


def test_under_sampled_are_those_that_fired_fewer_than_200_times(request_of_alpha: AuditRequest) -> None:
    found = judged("under-sampled", request_of_alpha)
    assert [one.feature for one in found if one.flagged] == [1, 2, 3, 4, 5, 6, 7]
    scores = [one.score for one in found[1:]]
    assert scores == sorted(scores, reverse=True)
    assert "about 20,000 tokens" in str(found[1].suggestion)


def test_dense_are_those_that_fire_on_more_than_a_tenth(request_of_alpha: AuditRequest) -> None:
    request_of_alpha.everything.density[[3, 6]] = 0.3, 0.12
    found = judged("dense", request_of_alpha)
    assert [one.feature for one in found if one.flagged] == [3, 6]
    assert found[3].score == pytest.approx(0.3)


def test_a_dense_feature_names_its_opposite(store: Store, request_of_alpha: AuditRequest) -> None:
    from dataclasses import replace

    from featuredb.testing.truth.planted import PlantedDirections

    rows = directions(store).decoder([3])
    opposed = PlantedDirections(request_of_alpha.directions, {6: -rows[0]}, {6: -rows[0]}, request_of_alpha.everything)
    request_of_alpha.everything.density[3] = 0.3
    flagged = [one for one in judged("dense", replace(request_of_alpha, directions=opposed)) if one.flagged]
    assert [one.evidence["others"] for one in flagged] == [[6]]
    assert "feature 6, its opposite" in str(flagged[0].suggestion)


def test_without_weights_dense_features_are_told_all_the_same(store: Store, request_of_alpha: AuditRequest) -> None:
    store.paths.weights("alpha").unlink()
    request_of_alpha.everything.density[3] = 0.3
    assert [one.feature for one in judged("dense", request_of_alpha) if one.flagged] == [3]
