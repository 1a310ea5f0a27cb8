"""Directions: rows read through a memory map, and an index whose answers are those of an exact scan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from featuredb.errors import BadInput, NotFound, StoreUnusable
from featuredb.store import Store, vectors
from featuredb.store.index import CERTAIN, CodedIndex, Rotation
from featuredb.store.moments import read_moments
from featuredb.store.vectors import Rows, best_scores, exact_scores, highest, nearest, read_index, write_index
from tests.small_store import build, decoder

Matrix = NDArray[np.float32]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with build(tmp_path / "small.fdb") as small:
        yield small


def saved(folder: Path, rows: Matrix) -> Rows:
    save_file({"w": rows}, folder / "w.safetensors")
    return Rows(folder / "w.safetensors", "w")


def clustered(n: int, width: int, n_clusters: int, noise: float, seed: int = 0) -> Matrix:
    """Rows around centres: noise is the length of what is added to a centre of length 1."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((n_clusters, width)).astype(np.float32)
    rows = centres[random.integers(0, n_clusters, n)]
    rows += noise * random.standard_normal(rows.shape).astype(np.float32)
    return rows


def recall(rows: Matrix, found: list[list[int]], queries: Matrix, unit: bool, k: int = 10) -> float:
    """Share of the k best rows that were found, those as good as the last of them counted too."""
    scaled = rows / np.linalg.norm(rows, axis=1, keepdims=True) if unit else rows
    scores = queries.astype(np.float64) @ scaled.T.astype(np.float64)
    last = np.sort(scores, axis=1)[:, -k]
    hits = sum(
        int((mine[indices] >= least - 1e-6 * abs(least)).sum())
        for mine, indices, least in zip(scores, found, last, strict=True)
    )
    return hits / (k * len(queries))


def test_nearest_is_the_exact_order_of_cosines(store: Store) -> None:
    rows = Rows(store.paths.weights("alpha"), "w_dec")
    assert (len(rows), rows.width) == (8, 6)
    unit = decoder("alpha")[:, 0]
    query = unit[3] + 0.1 * unit[5]
    found = nearest(store.paths.decoder_index("alpha"), rows, query, 3, skip=[0, 2])
    lengths = np.linalg.norm(unit, axis=1)
    lengths[0] = 1
    cosines = unit @ query / lengths / np.linalg.norm(query)
    cosines[[0, 2]] = -2
    assert [neighbour.index for neighbour in found] == np.argsort(-cosines)[:3].tolist()
    np.testing.assert_allclose([n.cosine for n in found], np.sort(cosines)[::-1][:3], rtol=1e-5)


def test_a_query_that_cannot_be_compared_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, index = Rows(store.paths.weights("alpha"), "w_dec"), store.paths.decoder_index("alpha")
    for query, message in (([1.0], "1 numbers"), ([0.0] * 6, "zeros"), ([np.nan] * 6, "not finite")):
        with pytest.raises(BadInput, match=message):
            nearest(index, rows, query, 3)
    assert nearest(index, rows, [1.0] * 6, 3, skip=range(8)) == []
    monkeypatch.setattr(vectors, "EXACT_ROWS", 2)
    with pytest.raises(NotFound, match="no index"):
        nearest(store.path / "x.faiss", rows, [1.0] * 6, 3)
    with pytest.raises(StoreUnusable, match="does not belong to its vectors"):
        nearest(store.paths.decoder_index("beta"), rows, [1.0] * 6, 3)
    assert len(nearest(index, rows, [1.0] * 6, 3)) == 3, "an index of an earlier form stands in nobody's way"


def test_rows_of_every_type_and_of_columns(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file as save_torch

    exact = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    query = np.array([[1, 2, 0, -1]], np.float32)
    file = tmp_path / "rows.safetensors"
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        save_torch({"pad": torch.ones(3, dtype=torch.uint8), "w": exact.to(dtype)}, file)
        rows, columns = Rows(file, "w"), Rows(file, "w", columns=True)
        assert rows.take([2, 0]).tolist() == exact[[2, 0]].tolist()
        assert columns.take([3]).tolist() == exact.T[[3]].tolist()
        assert (len(rows), rows.width, len(columns), columns.width) == (3, 4, 4, 3)
        assert rows.products(query).tolist() == (query @ exact.numpy().T).tolist()
        assert columns.products(query[:, :3]).tolist() == (query[:, :3] @ exact.numpy()).tolist()
        np.testing.assert_allclose(rows.lengths(), np.linalg.norm(exact.numpy(), axis=1), rtol=1e-6)
        np.testing.assert_allclose(columns.lengths(), np.linalg.norm(exact.numpy(), axis=0), rtol=1e-6)
        assert np.concatenate([part for _, part in columns.chunks()]).tolist() == exact.T.tolist()
    save_torch({"w": torch.stack([exact, -exact], 1)}, file)
    assert Rows(file, "w").take([1]).tolist() == (-exact[[1]]).tolist()
    assert Rows(file, "w", output=0).take([1]).tolist() == exact[[1]].tolist()


def test_lengths_are_those_of_the_file_as_it_is_now(tmp_path: Path) -> None:
    rows = saved(tmp_path, np.ones((3, 4), np.float32))
    assert rows.lengths().tolist() == [2, 2, 2]
    (tmp_path / "w.safetensors").unlink()
    assert saved(tmp_path, np.full((3, 4), 2, np.float32)).lengths().tolist() == [4, 4, 4]


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 20, b"\x02" + bytes(7) + b"[]", b"\x02" + bytes(7) + b"{}"])
def test_a_broken_vector_file_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises((StoreUnusable, NotFound)):
        Rows(tmp_path / "w.safetensors", "w")


@pytest.fixture
def few_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds of a million rows, of as many as a test has time for."""
    monkeypatch.setattr(vectors, "EXACT_ROWS", 5_000)


@pytest.mark.usefixtures("few_are_exact")
@pytest.mark.parametrize("noise", [0.2, 0.7, 1.5], ids=["tight", "middling", "loose"])
def test_coded_index_finds_what_an_exact_scan_finds(tmp_path: Path, noise: float) -> None:
    rows = clustered(20_000, 128, 100, noise)
    mapped = saved(tmp_path, rows)
    write_index(mapped, tmp_path / "w.faiss")
    assert (tmp_path / "w.faiss").stat().st_size < rows.nbytes / 20
    queries = rows[::500] + 0.3 * np.random.default_rng(1).standard_normal((40, 128)).astype(np.float32)
    found = [[n.index for n in nearest(tmp_path / "w.faiss", mapped, query, 10)] for query in queries]
    assert recall(rows, found, queries, unit=True) == 1.0
    few = [[n.index for n in nearest(tmp_path / "w.faiss", mapped, query, 10, candidates=10)] for query in queries]
    assert recall(rows, few, queries, unit=True) < 1.0, "ten candidates would do: the data are too easy"


@pytest.mark.usefixtures("few_are_exact")
def test_an_index_looks_at_few_rows_where_they_stand_out_and_at_all_where_none_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    products: list[int] = []
    original = Rows.take

    def count(rows: Rows, indices: Any) -> Matrix:
        found = original(rows, indices)
        taken.append(len(found))
        return found

    clear = saved(tmp_path, clustered(20_000, 128, 2_000, 0.3))
    write_index(clear, tmp_path / "w.faiss")
    index = read_index(tmp_path / "w.faiss")
    monkeypatch.setattr(Rows, "take", count)

    def count_all(rows: Rows, queries: Matrix) -> Matrix:
        products.append(len(queries))
        return np.zeros((len(queries), len(rows)), np.float32)

    monkeypatch.setattr(Rows, "products", count_all)
    query = clear.take([5])[0]
    taken.clear()
    assert highest(clear, query, 10, unit=True, index=index)[0][0] == 5
    assert sum(taken) < 1_000
    assert products == []
    highest(clear, np.random.default_rng(2).standard_normal(128), 10, unit=True, index=index)
    assert products == [1]


@pytest.mark.usefixtures("few_are_exact")
def test_rows_of_any_length_are_found_by_inner_product(tmp_path: Path) -> None:
    """As response directions are: of every length, in a stream where a few coordinates are most of the variance."""
    random = np.random.default_rng(3)
    covariance = np.eye(64) + np.outer(v := random.standard_normal(64), v)
    covariance[[7, 20], [7, 20]] += 1_000
    save_file({"n": np.array([9]), "mean": np.zeros(64), "covariance": covariance}, tmp_path / "m.safetensors")
    moments = read_moments(tmp_path / "m.safetensors")
    white = clustered(20_000, 64, 2_000, 0.4, seed=4)
    white *= (random.uniform(0.05, 0.95, len(white)) / np.linalg.norm(white, axis=1)).astype(np.float32)[:, None]
    rows = (white @ moments.root.T).astype(np.float32)
    mapped = saved(tmp_path, rows)
    write_index(mapped, tmp_path / "w.faiss", unit=False, through=moments.of_responses())
    index = read_index(tmp_path / "w.faiss")
    read_outs = np.asarray(np.linalg.solve(moments.root.T, white[::700].T.astype(np.float64)).T, np.float64)
    read_outs /= moments.spread(read_outs)[:, None]
    found = []
    for read_out, seen in zip(read_outs, moments.of_read_outs(read_outs), strict=True):
        indices, scores = highest(mapped, read_out, 10, unit=False, index=index, seen=seen)
        np.testing.assert_allclose(scores, rows[indices].astype(np.float64) @ read_out, rtol=1e-9)
        assert scores[0] <= 1.0
        assert (np.diff(scores) <= 0).all()
        found.append(indices.tolist())
    assert recall(rows, found, read_outs.astype(np.float32), unit=False) == 1.0
    sample = np.arange(0, 20_000, 999)
    index_file = tmp_path / "w.faiss"
    assert vectors.index_fault(index_file, mapped, sample, unit=False, through=moments.of_responses()) is None
    assert vectors.index_fault(index_file, mapped, sample, unit=False) is not None


@pytest.mark.parametrize("kind", ["even", "loud", "one-sided", "sparse", "tight"])
def test_estimates_err_as_much_as_is_said_whatever_the_rows(tmp_path: Path, kind: str) -> None:
    random = np.random.default_rng(5)
    rows = random.standard_normal((4_000, 256)).astype(np.float32)
    if kind == "loud":
        rows[:, :3] *= 100
    elif kind == "one-sided":
        rows = np.abs(rows)
    elif kind == "sparse":
        rows *= random.random(rows.shape) < 0.02
        rows[:, 0] += 1e-3
    elif kind == "tight":
        rows = clustered(4_000, 256, 20, 0.2)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index = CodedIndex.build(lambda part: rows[part].copy(), len(rows), 256)
    errors = []
    for query in rows[::200] + 0.02 * random.standard_normal((20, 256)):
        proposal = index.propose(query, len(rows))
        assert proposal.ceiling == -np.inf
        exact = rows[proposal.index] @ query
        errors.append((exact - proposal.estimate) / (proposal.bound - proposal.estimate) * CERTAIN)
        part = index.propose(query, 100)
        missing = np.setdiff1d(np.arange(len(rows)), part.index)
        assert (rows[missing] @ query).max() <= part.ceiling
    spread = np.concatenate(errors)
    assert 0.8 < spread.std() < 1.1
    assert abs(spread.mean()) < 0.1
    assert (spread > CERTAIN).mean() < 3e-4


@pytest.mark.parametrize("width", [1, 2, 7, 48, 97])
def test_a_rotation_keeps_lengths_and_angles_at_any_width(width: int) -> None:
    rows = np.random.default_rng(6).standard_normal((50, width)).astype(np.float32)
    turned = Rotation.make(width)(rows)
    np.testing.assert_allclose(turned @ turned.T, rows @ rows.T, atol=1e-3)
    index = CodedIndex.build(lambda part: rows[part].copy(), 50, width)
    proposal = index.propose(rows[0], 50)
    assert set(proposal.index.tolist()) <= set(range(50))
    assert len(proposal.index) == 50 or proposal.ceiling > -np.inf


def test_what_an_index_has_saved_answers_as_before(tmp_path: Path) -> None:
    rows = clustered(3_000, 30, 50, 0.5)
    index = CodedIndex.build(lambda part: rows[part].copy(), len(rows), 30, of="these rows")
    index.save(tmp_path / "index")
    again = CodedIndex.load(tmp_path / "index")
    ours, theirs = index.propose(rows[7], 40), again.propose(rows[7], 40)
    assert (again.of, len(again), again.width) == ("these rows", 3_000, 30)
    assert ours.index.tolist() == theirs.index.tolist()
    assert ours.bound.tolist() == theirs.bound.tolist()
    (tmp_path / "index").write_bytes((tmp_path / "index").read_bytes()[:-100])
    with pytest.raises(StoreUnusable, match="cannot be read as an index"):
        read_index(tmp_path / "index")


def test_shards_are_one_index(monkeypatch: pytest.MonkeyPatch) -> None:
    from featuredb.store import index as module

    rows = clustered(5_000, 40, 100, 0.5)
    whole = CodedIndex.build(lambda part: rows[part].copy(), len(rows), 40).propose(rows[9], 5_000)
    monkeypatch.setattr(module, "SHARD_ROWS", 1_000)
    shards = CodedIndex.build(lambda part: rows[part].copy(), len(rows), 40)
    parts = shards.propose(rows[9], 5_000)
    assert sorted(parts.index.tolist()) == list(range(5_000))
    np.testing.assert_allclose(
        parts.estimate[np.argsort(parts.index)], whole.estimate[np.argsort(whole.index)], atol=1e-3
    )
    few = shards.propose(rows[9], 50)
    assert len(few.index) == 5 * 50
    missing = np.setdiff1d(np.arange(5_000), few.index)
    assert (rows[missing] @ rows[9]).max() <= few.ceiling


@pytest.mark.usefixtures("few_are_exact")
def test_only_rows_that_are_kept_are_answered(tmp_path: Path) -> None:
    rows = clustered(20_000, 64, 300, 0.4)
    mapped = saved(tmp_path, rows)
    write_index(mapped, tmp_path / "w.faiss")
    index = read_index(tmp_path / "w.faiss")
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for share in (0.9, 0.3, 0.02, 0.0003, 0.0):
        keep = np.random.default_rng(7).random(20_000) < share
        for how in (index, None):
            found, scores = highest(mapped, rows[3], 10, unit=True, keep=keep, index=how)
            expected = np.where(keep, unit @ unit[3], -2)
            best = np.argsort(-expected, kind="stable")[: min(10, keep.sum())]
            np.testing.assert_allclose(scores, expected[best], atol=1e-5)
            assert keep[found].all()
            assert len(found) == len(best)


def test_equal_scores_go_by_index(tmp_path: Path) -> None:
    rows = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    found, scores = highest(saved(tmp_path, rows), [0, 1, 0.5, 0], 7, unit=True)
    assert found.tolist() == [5, 6, 7, 8, 9, 10, 11]
    assert scores[:5].tolist() == [scores[0]] * 5


def test_exact_and_best_scores_are_plain_products(tmp_path: Path) -> None:
    rows = clustered(500, 20, 10, 0.5)
    rows[4] = 0
    mapped = saved(tmp_path, rows)
    queries = np.random.default_rng(8).standard_normal((6, 20))
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    lengths[4] = 1
    for unit in (True, False):
        scores = rows.astype(np.float64) @ queries[0] / (lengths * np.linalg.norm(queries[0]) if unit else 1)
        np.testing.assert_allclose(exact_scores(mapped, np.arange(500), queries[0], unit=unit), scores, rtol=1e-9)
        keep = np.arange(500) % 3 == 0
        best = (rows[keep].astype(np.float64) @ queries.T / (lengths[keep, None] if unit else 1)).max(axis=0)
        np.testing.assert_allclose(best_scores(mapped, queries, unit=unit, keep=keep), best, rtol=1e-5)
    assert best_scores(mapped, queries, unit=True, keep=np.zeros(500, bool)).tolist() == [-np.inf] * 6


def test_rows_that_are_not_finite_are_named(tmp_path: Path) -> None:
    rows = np.ones((4, 3), np.float32)
    rows[2, 1] = np.inf
    with pytest.raises(BadInput, match="row 2 is not finite"):
        write_index(rows, tmp_path / "w.faiss")
    assert not (tmp_path / "w.faiss").exists()
