"""A hook's moments: what makes a pattern a read-out, and how far any read-out can go with a feature."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from featuredb.concepts.methods import lda_with
from featuredb.store.moments import FILTER_RIDGE, Moments, read_moments

WIDTH = 12


@pytest.fixture(scope="module")
def stream() -> np.ndarray:
    """(n, WIDTH) vectors of a stream whose coordinates go together."""
    rng = np.random.default_rng(3)
    return rng.standard_normal((5_000, WIDTH)) @ rng.standard_normal((WIDTH, WIDTH)) + rng.standard_normal(WIDTH)


@pytest.fixture
def moments(stream: np.ndarray, tmp_path: Path) -> Moments:
    arrays = {"n": np.array(len(stream)), "mean": stream.mean(axis=0), "covariance": np.cov(stream.T, bias=True)}
    save_file(arrays, tmp_path / "hook.moments.safetensors")
    return read_moments(tmp_path / "hook.moments.safetensors")


def test_the_reach_is_the_multiple_correlation(stream: np.ndarray, moments: Moments) -> None:
    rng = np.random.default_rng(4)
    activation = np.maximum(stream @ rng.standard_normal((WIDTH, 5)) - 1, 0)
    centred = activation - activation.mean(axis=0)
    response = (centred.T @ (stream - stream.mean(axis=0)) / len(stream)) / activation.std(axis=0)[:, None]
    design = np.column_stack([stream, np.ones(len(stream))])
    fitted = design @ np.linalg.lstsq(design, activation, rcond=None)[0]
    expected = [np.corrcoef(fitted[:, f], activation[:, f])[0, 1] for f in range(5)]
    assert moments.reach(response.astype(np.float32)) == pytest.approx(expected, abs=1e-4)


def test_no_read_out_goes_with_a_feature_further_than_its_reach(stream: np.ndarray, moments: Moments) -> None:
    rng = np.random.default_rng(5)
    activation = np.maximum(stream @ rng.standard_normal(WIDTH), 0)
    response = np.cov(np.column_stack([activation, stream]).T, bias=True)[0, 1:] / activation.std()
    (reach,) = moments.reach(response[None].astype(np.float32))
    read_outs = rng.standard_normal((2_000, WIDTH))
    correlations = [np.corrcoef(stream @ v, activation)[0, 1] for v in read_outs]
    assert max(correlations) <= reach + 1e-6


def test_a_pattern_becomes_the_read_out_that_finds_it(stream: np.ndarray, moments: Moments) -> None:
    pattern = np.random.default_rng(6).standard_normal(WIDTH)
    read_out = moments.read_out_of(pattern)
    ridge = FILTER_RIDGE * np.trace(moments.covariance) / WIDTH
    assert (moments.covariance + ridge * np.eye(WIDTH)) @ read_out == pytest.approx(pattern)
    # Among read-outs with the same answer to the pattern, it is the one that hears least of all else.
    other = pattern * (read_out @ pattern) / (pattern @ pattern)
    assert moments.spread(read_out[None])[0] < moments.spread(other[None])[0]


def test_lda_takes_the_covariance_of_the_corpus(stream: np.ndarray, moments: Moments) -> None:
    positive, negative = stream[:7].astype(np.float32) + 1, stream[7:12].astype(np.float32)
    found = lda_with(moments).make(positive, negative)
    difference = positive.mean(axis=0, dtype=np.float64) - negative.mean(axis=0, dtype=np.float64)
    assert found == pytest.approx(moments.read_out_of(difference), rel=1e-5)
