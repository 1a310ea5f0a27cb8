"""The capture's sparse encoding against the dictionary's own, entry by entry."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from featuredb.capture.encode import BLOCK, SparseEncoder, largest
from featuredb.dictionary import load_dictionary
from tests.small_ingest import random_dictionary, save_dictionary, tensors


@pytest.mark.parametrize(
    ("n_features", "k"), [(BLOCK * 40, 7), (BLOCK * 12, 3), (BLOCK * 12 + 1, 3), (BLOCK, 5), (4, 9)]
)
def test_the_largest_are_those_of_topk(n_features: int, k: int) -> None:
    pre = torch.randn(30, n_features, generator=torch.Generator().manual_seed(n_features))
    values, place = largest(pre, k)
    expected = torch.topk(pre, min(k, n_features), dim=1)
    torch.testing.assert_close(values.sort(dim=1, descending=True).values, expected.values, rtol=0, atol=0)
    torch.testing.assert_close(pre.gather(1, place), values, rtol=0, atol=0)
    assert place.sort(dim=1).values.equal(expected.indices.sort(dim=1).values)


def test_the_largest_of_rows_full_of_ties_are_still_the_largest() -> None:
    pre = torch.randint(0, 3, (50, BLOCK * 16), generator=torch.Generator().manual_seed(0)).float()
    values, place = largest(pre, 4)
    assert values.sort(dim=1, descending=True).values.equal(torch.topk(pre, 4, dim=1).values)
    assert all(len(set(row.tolist())) == 4 for row in place)


@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu", "gated"])
def test_sparse_encoding_is_the_dictionarys_own(tmp_path: Path, architecture: str) -> None:
    if architecture == "topk":
        folder = save_dictionary(tmp_path / "sae", architecture, 1, tensors(architecture, 0, BLOCK * 32))
    else:
        folder = random_dictionary(tmp_path / "sae", architecture)
    (dictionary,) = load_dictionary(str(folder))
    encoder = SparseEncoder(dictionary)
    encoder.chunk_rows = 7
    x = torch.randn(50, dictionary.d_in, generator=torch.Generator().manual_seed(1))
    found = encoder.encode(x)
    dense = torch.zeros(50, dictionary.n_features)
    dense[torch.from_numpy(found.row).long(), torch.from_numpy(found.feature).long()] = torch.from_numpy(
        found.activation
    )
    expected = dictionary.encode(x)
    assert (dense != 0).equal(expected != 0)
    torch.testing.assert_close(dense, expected, rtol=1e-6, atol=1e-6)
    assert len(encoder.encode(x[:0]).row) == 0
