"""Directions: rows read through a memory map, and an index whose answers are those of an exact scan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from featuredb.errors import BadInput, NotFound, StoreUnusable
from featuredb.store import Store
from featuredb.store.vectors import Rows, nearest, write_index
from tests.small_store import build, decoder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with build(tmp_path / "small.fdb") as small:
        yield small


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


def test_a_query_that_cannot_be_compared_is_refused(store: Store) -> None:
    rows, index = Rows(store.paths.weights("alpha"), "w_dec"), store.paths.decoder_index("alpha")
    for query, message in (([1.0], "1 numbers"), ([0.0] * 6, "zeros"), ([np.nan] * 6, "not finite")):
        with pytest.raises(BadInput, match=message):
            nearest(index, rows, query, 3)
    assert nearest(index, rows, [1.0] * 6, 3, skip=range(8)) == []
    with pytest.raises(NotFound, match="no index"):
        nearest(store.path / "x.faiss", rows, [1.0] * 6, 3)


def test_rows_of_every_type_and_of_columns(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file as save_torch

    exact = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    file = tmp_path / "rows.safetensors"
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        save_torch({"pad": torch.ones(3, dtype=torch.uint8), "w": exact.to(dtype)}, file)
        assert Rows(file, "w").take([2, 0]).tolist() == exact[[2, 0]].tolist()
        assert Rows(file, "w", columns=True).take([3]).tolist() == exact.T[[3]].tolist()
    save_torch({"w": torch.stack([exact, -exact], 1)}, file)
    assert Rows(file, "w").take([1]).tolist() == (-exact[[1]]).tolist()


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 20, b"\x02" + bytes(7) + b"[]", b"\x02" + bytes(7) + b"{}"])
def test_a_broken_vector_file_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises((StoreUnusable, NotFound)):
        Rows(tmp_path / "w.safetensors", "w")


def test_coded_index_finds_what_an_exact_scan_finds(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    centres = random.standard_normal((600, 256)).astype(np.float32)
    rows = centres[random.integers(0, 600, 60_000)]
    rows += 0.7 * random.standard_normal(rows.shape).astype(np.float32)
    save_file({"w": rows}, tmp_path / "w.safetensors")
    mapped = Rows(tmp_path / "w.safetensors", "w")
    write_index(mapped, tmp_path / "w.faiss")
    assert (tmp_path / "w.faiss").stat().st_size < rows.nbytes / 20
    queries = rows[::600] + 0.3 * random.standard_normal((100, 256)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    exact = np.argpartition(-(queries @ rows.T), 10, axis=1)[:, :10]
    found = [nearest(tmp_path / "w.faiss", mapped, query, 10) for query in queries]
    hits = sum(len({n.index for n in near} & set(best)) for near, best in zip(found, exact.tolist(), strict=True))
    assert hits / 1_000 >= 0.999


def test_rows_that_are_not_finite_are_named(tmp_path: Path) -> None:
    rows = np.ones((4, 3), np.float32)
    rows[2, 1] = np.inf
    with pytest.raises(BadInput, match="row 2 is not finite"):
        write_index(rows, tmp_path / "w.faiss")
    assert not (tmp_path / "w.faiss").exists()
