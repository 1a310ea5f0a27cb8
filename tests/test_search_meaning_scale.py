"""Labels by meaning where there are too many to look at each: the same answer through an index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import insert, select

from featuredb.store import Store
from featuredb.store.catalog import DictionaryRow, LabelEmbeddingRow, LabelRow
from tests.small_store import build
from tests.test_search_meaning import Asker
from tests.toy_embedder import WIDTH


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with build(tmp_path / "small.fdb") as small:
        yield small


def test_sixty_thousand_labels_are_searched_through_an_index_as_if_one_by_one(store: Store) -> None:
    n, draw = 60_000, np.random.default_rng(0)
    centres = draw.standard_normal((300, WIDTH), np.float32)
    vectors = centres[draw.integers(300, size=n)] + 0.3 * draw.standard_normal((n, WIDTH), np.float32)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    with store.session() as session:
        owners = {row.name: row.id for row in session.scalars(select(DictionaryRow))}
        labels = [
            {
                "id": number + 1,
                "dictionary_id": owners["alpha" if number % 3 else "beta"],
                "feature_index": number % 5,
                "text": f"label {number}",
                "labeler": "x",
                "status": "proposed",
                "provenance": {},
            }
            for number in range(n)
        ]
        session.execute(insert(LabelRow), labels)
        rows = [
            {"label_id": number + 1, "embedder": "toy.v1:words", "vector": vectors[number].tobytes()}
            for number in range(n)
        ]
        session.execute(insert(LabelEmbeddingRow), rows)
    asker = Asker(store)
    asker("comma")
    current = asker.search._known[asker.model.id]
    assert current.vectors.index_file is not None
    assert current.vectors.index_file.exists()
    query = vectors[draw.integers(n)].astype(np.float32)
    cosines = vectors.astype(np.float64) @ query
    for keep in (np.ones(n, np.bool_), np.arange(n) % 3 == 0, np.arange(n) % 1_000 == 0):
        found, similar = current.vectors.nearest(query, 20, keep)
        expected = np.where(keep, cosines, -2)
        best = np.argsort(-expected, kind="stable")[:20]
        assert similar == pytest.approx(expected[best], abs=2e-3)
        assert set(found.tolist()) == set(best.tolist())
    # Where all that may be answered is far away, the answer is whole, and next to exact.
    far = np.argsort(np.argsort(cosines)) < n // 4
    found, similar = current.vectors.nearest(query, 20, far)
    assert far[found].all()
    assert similar == pytest.approx(np.sort(cosines[far])[::-1][:20], abs=0.02)
