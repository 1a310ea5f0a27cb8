"""Planted features: what is put in is what every part of the request then shows, in either half of the documents."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

import featuredb
from featuredb.audit.gather import open_request
from featuredb.audit.requests import AuditRequest
from featuredb.labels.evidence import Firings
from featuredb.labels.split import half_of
from featuredb.store.segments import SegmentReader
from featuredb.testing.truth.planted import Held, Plant, known_firings, planted_request
from tests.small_ingest import small_store

FEATURE = 3


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditRequest]:
    path = small_store(tmp_path_factory.mktemp("planted"))
    with featuredb.open(path) as db, open_request(db.store, SegmentReader(db.store), "top") as opened:
        yield opened


def sampled(firings: Firings) -> NDArray[np.int64]:
    """Peaks of the uniform sample off the panel."""
    examples, passages = firings.examples(FEATURE, FEATURE + 1), firings.passages
    at = examples.at[examples.kind == 1]
    return np.sort(at[~passages.on_panel[at]])


def test_a_feature_planted_as_it_is_stays_as_it_is(real: AuditRequest) -> None:
    known = known_firings(real.everything, FEATURE)
    planted = planted_request(real, [Plant(FEATURE, known.at, known.activation)])
    for name in ("everything", "audit", "labeling"):
        before, after = getattr(real, name), getattr(planted, name)
        np.testing.assert_array_equal(after.panel(0, 9).at, before.panel(0, 9).at)
        np.testing.assert_allclose(after.panel(0, 9).activation, before.panel(0, 9).activation)
        np.testing.assert_array_equal(sampled(after), sampled(before))
        others = after.examples(0, 9)
        assert set(others.feature) == set(before.examples(0, 9).feature)
        np.testing.assert_allclose(others.first[-1], len(others.shares))
    np.testing.assert_array_equal(planted.panel.start, real.panel.start)


def test_a_planted_feature_is_seen_in_its_half_alone(real: AuditRequest) -> None:
    passages = real.everything.passages
    at = np.flatnonzero(passages.on_panel)[::7].astype(np.int64)
    new = real.everything.n_features
    planted = planted_request(real, [Plant(new, at, np.linspace(1, 2, len(at)).astype(np.float32))])
    assert planted.everything.n_features == new + 1
    assert new in planted.features
    np.testing.assert_array_equal(planted.panel.places(new), at)
    assert planted.everything.density[new] == len(at) / np.count_nonzero(passages.on_panel)
    assert planted.everything.largest[new] == 2
    found = 0
    for half, firings in (("scoring", planted.audit), ("labeling", planted.labeling)):
        here = firings.panel(new, new + 1)
        mine = firings.passages
        documents = {mine.names[number] for number in mine.document[mine.piece[here.at]].tolist()}
        assert {half_of(name) for name in documents} <= {half}
        tokens = mine.token[here.at]
        found += len(tokens)
    assert found == len(at)


def test_windows_of_planted_examples_hold_the_planted_activations(real: AuditRequest) -> None:
    known = known_firings(real.everything, FEATURE)
    planted = planted_request(real, [Plant(FEATURE, known.at, known.activation)])
    examples = planted.everything.examples(FEATURE, FEATURE + 1)
    value = dict(zip(known.at.tolist(), known.activation.tolist(), strict=True))
    for number in range(len(examples.at)):
        window = examples.window(number)
        places = range(int(examples.low[number]), int(examples.high[number]))
        wanted = [value.get(place, 0.0) for place in places]
        np.testing.assert_allclose(window, wanted, atol=float(examples.activation[number]) / 255 + 1e-6)
        assert examples.activation[number] == value[int(examples.at[number])]


def test_planted_rows_take_part_in_what_is_nearest(real: AuditRequest) -> None:
    row = real.directions.decoder([FEATURE])[0]
    known = known_firings(real.everything, FEATURE)
    new = real.everything.n_features
    planted = planted_request(real, [Plant(new, known.at, known.activation)], decoder={new: 2 * row})
    near, cosine = planted.directions.nearest(1)
    assert near[new, 0] == FEATURE
    assert near[FEATURE, 0] == new
    assert cosine[new, 0] == pytest.approx(1, abs=1e-5)


def test_firings_held_in_memory_are_those_that_are_read(real: AuditRequest) -> None:
    held = Held(real.audit)
    for first, last in ((0, 9), (3, 4), (5, held.n_features)):
        np.testing.assert_array_equal(held.panel(first, last).at, real.audit.panel(first, last).at)
        ours, theirs = held.examples(first, last), real.audit.examples(first, last)
        np.testing.assert_array_equal(ours.at, theirs.at)
        np.testing.assert_array_equal(ours.shares, theirs.shares)
        np.testing.assert_array_equal(ours.first, theirs.first)


def test_pairs_on_the_panel_agree_with_dense_arithmetic(real: AuditRequest) -> None:
    fired = real.panel
    dense: NDArray[np.float64] = np.zeros((fired.n_features, fired.n_tokens))
    for feature in range(fired.n_features):
        columns, activation = fired.of(feature)
        dense[feature, columns] = activation
    alive = np.flatnonzero(fired.n_fires > 3)[:8]
    ours, theirs = (side.ravel() for side in np.meshgrid(alive, alive))
    together = fired.together(ours, theirs)
    on = dense > 0
    np.testing.assert_array_equal(together.n_both, [(on[a] & on[b]).sum() for a, b in zip(ours, theirs, strict=True)])
    np.testing.assert_allclose(together.correlation, np.corrcoef(dense[alive]).ravel(), atol=1e-6)
    start, owner, activation = fired.by_token
    token = 5
    mine = slice(start[token], start[token + 1])
    np.testing.assert_array_equal(owner[mine], np.flatnonzero(on[:, token]))
    np.testing.assert_allclose(activation[mine], dense[:, token][on[:, token]])
