"""Features that go with a vector: every figure against plain numpy over every token, and what an answer leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import func, select

import featuredb
from featuredb.database import FeatureDB
from featuredb.search.baseline import N_DRAWS
from featuredb.search.correlate import DEFAULT_MEASURES
from featuredb.store import vectors as store_vectors
from featuredb.store.catalog import BaselineRow, FileRow, SegmentRow
from tests.correlate_world import HOOK, READS, WRITTEN, World, world
from tests.small_ingest import N_FEATURES
from tests.tiny_models import WIDTH

AT_HOOK = ("before", "jump", "over", "top")
"""Dictionaries of the first model, all of which read one tensor."""


@pytest.fixture(scope="module")
def made() -> World:
    return world()


@pytest.fixture
def db(made: World, tmp_path: Path) -> Iterator[FeatureDB]:
    with made.copy(tmp_path / "store.fdb") as copied:
        yield copied


def draws(n: int, seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((n, WIDTH))


def cosines(rows: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """(F,) with each of (F, d) rows; NaN for a row of zeros."""
    with np.errstate(invalid="ignore"):
        return np.asarray(rows @ vector / np.linalg.norm(rows, axis=1) / np.linalg.norm(vector))


def reach(made: World, name: str) -> NDArray[np.float64]:
    """(F,) the correlation of each feature's activation with its best linear fit, by plain least squares."""
    oracle = made.oracles[name]
    x = oracle.x.astype(np.float64) - oracle.x.mean(axis=0, dtype=np.float64)
    acts = oracle.acts.astype(np.float64)
    fitted = x @ np.linalg.lstsq(x, acts - acts.mean(axis=0), rcond=None)[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(fitted.std(axis=0) / acts.std(axis=0))


def every(db: FeatureDB, vector: Any, name: str, **more: Any) -> dict[int, Any]:
    """Each feature's row, dead ones too."""
    found = db.correlate(vector, dictionaries=[name], hook=HOOK, limit=N_FEATURES, all_features=True, **more)
    return {row.index: row for row in found}


@pytest.mark.parametrize("name", AT_HOOK)
def test_correlation_is_pearsons_over_every_token(db: FeatureDB, made: World, name: str) -> None:
    for vector in draws(3):
        rows = every(db, vector, name, by="correlation")
        expected = made.pearson(name, vector)
        for index, row in rows.items():
            if np.isnan(expected[index]):
                assert (row.correlation, row.flags) == (None, ("dead",))
            else:
                assert row.correlation == pytest.approx(expected[index], abs=1e-4)
        assert len(rows) == N_FEATURES


@pytest.mark.parametrize("name", AT_HOOK)
def test_by_correlation_features_stand_by_its_share_of_the_largest_there_can_be(
    db: FeatureDB, made: World, name: str
) -> None:
    vector = draws(1, seed=8)[0]
    share = made.pearson(name, vector) / reach(made, name)
    found = db.correlate(vector, "correlation", [name], hook=HOOK, limit=N_FEATURES)
    assert [row.index for row in found] == [i for i in np.argsort(-share) if made.ranked(name)[i]]
    assert [row.score for row in found] == pytest.approx([share[row.index] for row in found], abs=1e-3)


@pytest.mark.parametrize("name", AT_HOOK)
def test_cosines_are_those_of_the_publishers_weights(db: FeatureDB, made: World, name: str) -> None:
    vector = draws(1)[0]
    weights = made.weights(name)
    decoder, encoder = cosines(weights["w_dec"], vector), cosines(weights["w_enc"].T, vector)
    for by in ("correlation", "encoder", *(() if name == "over" else ("cosine",))):
        rows = every(db, vector, name, by=by)
        for index, row in rows.items():
            assert row.cosine_encoder == pytest.approx(encoder[index], abs=1e-6)
            if name == "over" or np.isnan(decoder[index]):
                assert row.cosine_decoder is None
            else:
                assert row.cosine_decoder == pytest.approx(decoder[index], abs=1e-6)
        assert {row.hook for row in rows.values()} == {READS[name]}
    best = np.argsort(-encoder)[: len(rows)]
    assert [row.index for row in every(db, vector, name, by="encoder").values()] == best.tolist()


def test_dead_and_under_sampled_features_are_left_out(db: FeatureDB, made: World) -> None:
    said: list[str] = []
    vector = draws(1)[0]
    ranked = np.flatnonzero(made.ranked("top"))
    for by in ("correlation", "cosine", "encoder"):
        rows = db.correlate(vector, by, ["top"], hook=HOOK, limit=N_FEATURES, say=said.append)
        # A decoder of zeros has no cosine, and is no answer to be sorted by it.
        assert {row.index for row in rows} == set(ranked.tolist())
        assert all(not set(row.flags) & {"dead", "under-sampled"} for row in rows)
    n_left = N_FEATURES - len(ranked)
    assert 0 < n_left < N_FEATURES - 10
    assert (
        said == [f"{n_left} of 48 features fired on fewer than 200 tokens and are left out; --all ranks them too"] * 3
    )
    acts = made.oracles["top"].acts
    for index, row in every(db, vector, "top").items():
        n_fires = int((acts[:, index] != 0).sum())
        assert (row.n_fires, row.density) == (n_fires, pytest.approx(n_fires / len(acts)))
        assert ("dead" in row.flags) == (n_fires == 0)
        assert ("under-sampled" in row.flags) == (0 < n_fires < 200)


def test_one_call_searches_every_dictionary_at_the_tensor(db: FeatureDB, made: World) -> None:
    vector = draws(1, seed=4)[0]
    found = db.correlate(vector, hook=HOOK, dictionaries=AT_HOOK, limit=25)
    every_one = [
        (-score, name, index)
        for name in AT_HOOK
        for index, score in enumerate(made.pearson(name, vector) / reach(made, name))
        if made.ranked(name)[index]
    ]
    assert [(row.dictionary, row.index) for row in found] == [each[1:] for each in sorted(every_one)[:25]]
    assert {row.dictionary for row in found} == set(AT_HOOK)
    # The same tensor has another name.
    again = db.correlate(vector, hook="blocks.2.hook_resid_pre", dictionaries=AT_HOOK, limit=25)
    assert again == found


def test_a_transcoder_meets_a_vector_where_it_reads_and_where_it_writes(db: FeatureDB, made: World) -> None:
    vector = draws(1)[0]
    (read,) = db.correlate(vector, dictionaries=["over"], hook=HOOK, limit=1)
    assert read.cosine_decoder is None
    assert read.correlation is not None
    written = db.correlate(vector, dictionaries=["over"], hook=WRITTEN, limit=N_FEATURES)
    expected = cosines(made.weights("over")["w_dec"], vector)
    assert [row.index for row in written] == [i for i in np.argsort(-expected) if made.ranked("over")[i]]
    for row in written:
        assert row.cosine_decoder == pytest.approx(expected[row.index], abs=1e-6)
        assert (row.correlation, row.cosine_encoder, row.hook) == (None, None, WRITTEN)


def test_a_vector_of_no_known_hook_is_compared_with_all_of_its_width(db: FeatureDB) -> None:
    said: list[str] = []
    vector = draws(1)[0].tolist()
    found = db.correlate(vector, limit=200, say=said.append)
    assert {row.dictionary for row in found} == set(READS)
    assert any("nothing says at which hook vector was made" in text for text in said)
    assert {row.dictionary for row in db.correlate(vector, layers=[1], limit=200)} == set(READS) - {"before"}
    over = next(row for row in found if row.dictionary == "over")
    assert None not in (over.cosine_decoder, over.cosine_encoder, over.correlation)


def test_the_default_is_correlation_and_cosine_where_no_run_kept_moments(db: FeatureDB) -> None:
    vector = draws(1)[0]
    assert DEFAULT_MEASURES[0] == "correlation"
    assert db.correlate(vector, hook=HOOK, dictionaries=["top"]) == db.correlate(
        vector, "correlation", ["top"], hook=HOOK
    )
    with db.store.session() as session:
        for segment in session.scalars(select(SegmentRow)):
            if segment.dictionary.name == "jump":
                session.delete(segment)
    said: list[str] = []
    (row,) = db.correlate(vector, hook=HOOK, dictionaries=["jump"], limit=1, say=said.append)
    assert (row.correlation, row.n_fires, row.density, row.flags, said) == (None, None, None, (), [])
    assert row == db.correlate(vector, "cosine", ["jump"], hook=HOOK, limit=1)[0]
    both = db.correlate(vector, hook=HOOK, dictionaries=["top", "jump"], limit=100)
    scores = [row.score or 0.0 for row in both]
    assert scores == sorted(scores, reverse=True)
    assert [row.cosine_decoder for row in both] == scores
    mixed = db.correlate(vector, "correlation", ["top", "jump"], hook=HOOK, limit=100, say=said.append)
    assert {row.dictionary for row in mixed} == {"top"}
    assert said[0].startswith("left out: jump, which has no run that kept its hook's moments")


@pytest.mark.parametrize("by", ["correlation", "cosine", "encoder"])
def test_baseline_is_what_the_best_feature_scores_by_chance(db: FeatureDB, made: World, by: Any) -> None:
    vector = draws(1)[0]
    (row,) = db.correlate(vector, by, ["jump"], hook=HOOK, limit=1)
    oracle, ranked = made.oracles["jump"], made.ranked("jump")
    root = np.linalg.cholesky(oracle.covariance())
    many = draws(1000, seed=99) @ root.T
    weights = made.weights("jump")
    scores = {
        "correlation": lambda: made.pearson("jump", many),
        "cosine": lambda: np.stack([cosines(weights["w_dec"], v) for v in many]),
        "encoder": lambda: np.stack([cosines(weights["w_enc"].T, v) for v in many]),
    }[by]()
    best = scores[:, ranked].max(axis=1)
    assert row.baseline is not None
    low, high = np.percentile(best, [85, 99.5])
    assert low < row.baseline < high
    with db.store.reading() as session:
        (kept,) = session.scalars(select(BaselineRow))
        assert (kept.n, kept.figures["high"]) == (N_DRAWS, row.baseline)
        assert kept.figures["median"] == pytest.approx(np.median(best), abs=0.06)
        assert kept.run_id is not None
    assert db.correlate(-vector, by, ["jump"], hook=HOOK, limit=1)[0].baseline == row.baseline
    with db.store.session() as session:
        assert session.scalar(select(func.count()).select_from(BaselineRow)) == 1
        session.delete(session.scalars(select(BaselineRow)).one())
    assert db.correlate(vector, by, ["jump"], hook=HOOK, limit=1)[0].baseline == row.baseline


def test_a_store_that_cannot_be_written_is_answered_from(db: FeatureDB, monkeypatch: pytest.MonkeyPatch) -> None:
    from featuredb.errors import StoreUnusable
    from featuredb.store import Store

    expected = db.correlate(draws(1)[0], hook=HOOK, dictionaries=["top"])

    def refuse(_: Store) -> None:
        raise StoreUnusable("the disk cannot be written")

    monkeypatch.setattr(Store, "session", refuse)
    with featuredb.open(db.path) as other:
        assert other.correlate(draws(1)[0], hook=HOOK, dictionaries=["top"]) == expected


def test_labels_and_limits(db: FeatureDB) -> None:
    vector = draws(1)[0]
    (first, second) = db.correlate(vector, dictionaries=["top"], hook=HOOK, limit=2)
    db.add_label(second.feature, "what comes second")
    assert [row.label for row in db.correlate(vector, dictionaries=["top"], hook=HOOK, limit=2)] == [
        None,
        "what comes second",
    ]
    assert first.to_arrow().column_names == list(first.columns())


class TestIndices:
    """The answers of a store with indices are those without; the limit is lowered so that a small one needs them."""

    @pytest.fixture(autouse=True)
    def few_are_exact(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store_vectors, "EXACT_ROWS", 20)
        monkeypatch.setattr(store_vectors, "HOPELESS", 2)

    @pytest.mark.parametrize(
        ("by", "role"), [("encoder", "encoder-index"), ("correlation", "response-index"), ("cosine", "decoder-index")]
    )
    def test_an_index_is_made_on_first_need_and_registered(
        self, db: FeatureDB, by: Any, role: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        vectors = draws(4, seed=5)
        said: list[str] = []
        found = [db.correlate(each, by, ["top"], hook=HOOK, limit=5, say=said.append) for each in vectors]
        made = [text for text in said if "making it from 48 directions" in text]
        reason = "it is of an earlier form" if role == "decoder-index" else "there is none yet"
        assert len(made) == 1
        assert f": {reason};" in made[0]
        with db.store.reading() as session:
            rows = [row for row in session.scalars(select(FileRow)) if row.role == role and "/top." in f"/{row.path}"]
            rows += [row for row in session.scalars(select(FileRow)) if row.role == role and "/top/" in row.path]
            (row,) = rows
            assert row.dictionary_id is not None
            assert (row.run_id is not None) == (role == "response-index")
        assert [fault for fault in db.check() if fault.object == row.path] == []
        assert list(db.store.paths.work.iterdir()) == []
        monkeypatch.setattr(store_vectors, "EXACT_ROWS", 50_000)
        assert [db.correlate(each, by, ["top"], hook=HOOK, limit=5) for each in vectors] == found

    def test_an_index_that_is_not_its_vectors_is_made_again(self, db: FeatureDB, tmp_path: Path) -> None:
        vector = draws(1)[0]
        expected = db.correlate(vector, "encoder", ["top"], hook=HOOK)
        path = db.store.paths.encoder_index("top")
        whole = path.read_bytes()

        def asked() -> str:
            said: list[str] = []
            assert db.correlate(vector, "encoder", ["top"], hook=HOOK, say=said.append) == expected
            return next((text.split(": ")[1].split(";")[0] for text in said if "making" in text), "")

        assert asked() == ""
        path.unlink()
        assert asked() == "it is missing"
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert asked() == "it is not what was written"
        path.write_bytes(whole[:-50])
        assert asked() == "it is not what was written"
        with db.store.session() as session:
            weights = session.scalars(
                select(FileRow).where(FileRow.path == "dictionaries/top/weights.safetensors")
            ).one()
            right, weights.sha256 = weights.sha256, "0" * 64
        assert asked() == "it is of earlier directions"
        with db.store.session() as session:
            session.scalars(select(FileRow).where(FileRow.path == weights.path)).one().sha256 = right
        assert asked() == "it is of earlier directions"
        assert asked() == ""
        assert list(db.check()) == []

    def test_ingest_writes_them_and_they_go_with_their_dictionary(self, made: World, tmp_path: Path) -> None:
        from tests.small_ingest import request, save_corpus, texts

        corpus = save_corpus(tmp_path / "corpus.jsonl", texts(60))
        with featuredb.open(tmp_path / "store.fdb", create=True) as db:
            db.ingest(request(made.folder / "one", [made.folder / "top"], corpus))
            with db.store.reading() as session:
                roles = {row.role: row.path for row in session.scalars(select(FileRow)) if row.role.endswith("index")}
            assert set(roles) == {"decoder-index", "encoder-index", "response-index"}
            said: list[str] = []
            for by in ("correlation", "cosine", "encoder"):
                assert len(db.correlate(draws(1)[0], by, hook=HOOK, limit=3, say=said.append)) == 3
            assert not any("making" in text for text in said)
            assert list(db.check()) == []
            damaged = db.path / roles["response-index"]
            damaged.write_bytes(damaged.read_bytes()[::-1])
            assert [fault.object for fault in db.check()] == [roles["response-index"]]
            db.remove_dictionary("top")
            assert not any((db.path / path).exists() for path in roles.values())
            assert list(db.check()) == []

    def test_where_an_index_cannot_be_kept_every_direction_is_looked_at(
        self, db: FeatureDB, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from featuredb.errors import StoreUnusable
        from featuredb.store import indices

        expected = db.correlate(draws(1)[0], "encoder", ["top"], hook=HOOK)
        db.store.paths.encoder_index("top").unlink()

        def refuse(*_: object) -> None:
            raise StoreUnusable("no room left")

        monkeypatch.setattr(indices, "_make", refuse)
        said: list[str] = []
        assert db.correlate(draws(1)[0], "encoder", ["top"], hook=HOOK, say=said.append) == expected
        assert "dictionaries/top/encoder.faiss cannot be kept (no room left): every direction is looked at" in said[1]
