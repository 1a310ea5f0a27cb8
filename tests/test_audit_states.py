"""The model's vectors at kept places, against the activations that the ingest stored and transformers itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import featuredb
from featuredb.audit.gather import open_request
from featuredb.audit.requests import AuditRequest
from featuredb.audit.states import ModelStates
from featuredb.capture.request import PackingKind
from featuredb.errors import BadInput
from featuredb.labels.workshop import Workshop
from featuredb.store.refs import get_dictionary
from featuredb.store.segments import SegmentReader, SegmentRef
from tests.small_ingest import small_store

HALF_PRECISION = 2e-3


@pytest.fixture(scope="module", params=["concat", "document"], name="packing")
def _packing(request: pytest.FixtureRequest) -> PackingKind:
    kind: PackingKind = request.param
    return kind


@pytest.fixture(scope="module")
def store(packing: PackingKind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_store(tmp_path_factory.mktemp("states"), 40, packing=packing)


@pytest.fixture(scope="module")
def db(store: Path) -> Iterator[featuredb.FeatureDB]:
    with featuredb.open(store) as opened:
        yield opened


@pytest.fixture(scope="module")
def asked(db: featuredb.FeatureDB) -> Iterator[AuditRequest]:
    reader = SegmentReader(db.store)
    with open_request(db.store, reader, "top") as opened:
        yield opened
    reader.close()


@pytest.fixture(scope="module")
def workshop(db: featuredb.FeatureDB) -> Iterator[Workshop]:
    reader = SegmentReader(db.store)
    with db.store.reading() as session:
        segment = SegmentRef.newest(session, get_dictionary(session, "top"))
    yield Workshop(db.store, reader, segment)
    reader.close()


def test_the_dictionary_encodes_them_to_what_the_run_stored(asked: AuditRequest, workshop: Workshop) -> None:
    everything = asked.everything
    for found in (everything.panel(0, everything.n_features), everything.examples(0, everything.n_features)):
        vectors = asked.states.at(found.at)
        encoded = workshop.dictionary.encode(torch.from_numpy(vectors)).numpy()
        own = encoded[np.arange(len(found.at)), found.feature]
        close = np.isclose(own, found.activation, rtol=20 * HALF_PRECISION, atol=20 * HALF_PRECISION)
        assert close.mean() > 0.99  # one that is barely among the k largest may lose its place to rounding
        assert len(found.at) > 100


def test_layers_are_the_hidden_states_of_transformers(asked: AuditRequest, workshop: Workshop) -> None:
    passages = asked.everything.passages
    places = np.random.default_rng(0).permutation(passages.n_tokens)[:50]
    found = asked.states.layers(places)
    assert list(found) == ["layers.0.resid_pre", "layers.0.resid_post", "layers.1.resid_post"]
    model = workshop.model
    for row, place in enumerate(places.tolist()):
        piece = int(passages.piece[place])
        (ids,) = workshop.contexts([int(passages.context[piece])])
        with torch.inference_mode():
            output = model.module(torch.tensor([ids]), output_hidden_states=True)
        position = int(passages.position[piece] + place - passages.start[piece])
        for hidden, vectors in zip(output.hidden_states, found.values(), strict=False):
            assert vectors[row] == pytest.approx(hidden[0, position].numpy(), abs=1e-5)
    near = pytest.approx(found["layers.1.resid_post"], rel=HALF_PRECISION, abs=HALF_PRECISION)
    assert asked.states.at(places) == near


def test_they_do_not_depend_on_the_order_or_the_room_to_keep_them(
    asked: AuditRequest, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featuredb.audit.states.BATCH_TOKENS", 200)
    monkeypatch.setattr("featuredb.audit.states.IN_MEMORY", 0)
    everything = asked.everything
    places = np.random.default_rng(1).permutation(everything.passages.n_tokens)[:300]
    expected = asked.states.at(places)
    scarce = ModelStates(workshop, everything, most_bytes=1)
    assert scarce.at(places) == pytest.approx(expected, rel=1e-2, abs=1e-3)
    assert not scarce._kept.has.all()
    again = scarce.at(places[::-1])
    assert again == pytest.approx(expected[::-1], rel=1e-2, abs=1e-3)


def test_a_model_that_is_gone_is_bad_input(store: Path, tmp_path: Path) -> None:
    model = store.parent / "model"
    model.rename(tmp_path / "model")
    try:
        with featuredb.open(store) as db:
            reader = SegmentReader(db.store)
            with open_request(db.store, reader, "top") as opened, pytest.raises(BadInput, match="model"):
                opened.states.at(np.array([0]))
            reader.close()
    finally:
        (tmp_path / "model").rename(model)
