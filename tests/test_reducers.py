"""The reducers against ten lines of plain numpy, and against themselves under every split and order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from featuredb.capture.firings import Firings, Rows
from featuredb.capture.hashing import hash_contexts, hash_visits
from featuredb.capture.kept import EMPTY, first_k
from featuredb.capture.moments import HookMoments
from featuredb.capture.panel import PanelContexts
from featuredb.capture.request import CaptureSettings
from featuredb.capture.state import FeatureReducers
from featuredb.capture.statistics import N_BINS
from featuredb.store.layout import LOWEST_EXPONENT, RADIUS

N_FEATURES, LENGTH, WIDTH, N_CONTEXTS = 7, 12, 5, 14
SETTINGS = CaptureSettings(n_examples=3, n_samples=4, n_panel=5, seed=11)


@dataclass
class Text:
    """A made-up corpus: activations (contexts, positions, features) and vectors (contexts, positions, width)."""

    activation: NDArray[np.float32]
    x: NDArray[np.float32]

    @staticmethod
    def random(seed: int) -> Text:
        rng = np.random.default_rng(seed)
        activation = rng.exponential(size=(N_CONTEXTS, LENGTH, N_FEATURES)).astype(np.float32)
        # Few distinct values, so that ties are common; feature 6 stays dead.
        activation = np.round(activation, 1) * (rng.random(activation.shape) < 0.15)
        activation[:, :, 6] = 0
        return Text(activation.astype(np.float32), rng.normal(3, 1, (N_CONTEXTS, LENGTH, WIDTH)).astype(np.float32))


def half(position: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bounds of two documents, positions 0-4 and 5-11, that share each context."""
    low = np.where(position < 5, 0, 5)
    return low, np.where(position < 5, 5, LENGTH)


class Reducing:
    """One set of reducers, fed any contexts in any order."""

    def __init__(self, text: Text, folder: Path) -> None:
        self.text = text
        self.reducers = FeatureReducers((N_FEATURES, WIDTH), SETTINGS, folder / f"panel{id(self)}.bin")
        self.panel = PanelContexts(SETTINGS.n_panel, SETTINGS.seed)
        self.shift = np.full(WIDTH, 2.5, dtype=np.float32)
        self.hook = HookMoments(self.shift)

    def feed(self, contexts: list[int]) -> None:
        position = np.tile(np.arange(LENGTH), len(contexts))
        low, high = half(position)
        rows = Rows(
            np.repeat(np.array(contexts, dtype=np.int64), LENGTH),
            position.astype(np.int32),
            low.astype(np.int32),
            high.astype(np.int32),
        )
        dense = self.text.activation[contexts].reshape(-1, N_FEATURES)
        row, feature = np.nonzero(dense)
        shuffled = np.random.default_rng(len(row)).permutation(len(row))
        triples = feature[shuffled].astype(np.int32), row[shuffled].astype(np.int32), dense[row, feature][shuffled]
        firings = Firings.sort(N_FEATURES, *triples, rows)
        centred = torch.from_numpy(self.text.x[contexts].reshape(-1, WIDTH) - self.shift)
        self.reducers.add(firings, centred, self.panel.add(np.array(contexts, dtype=np.int64)))
        self.hook.add(centred)

    def merge(self, other: Reducing) -> None:
        self.reducers.merge(other.reducers)
        self.panel.merge(other.panel)
        self.hook.merge(other.hook)

    def result(self) -> dict[str, NDArray[np.generic]]:
        found = {name: array for name, array in self.reducers.arrays().items() if name != "panel/ends"}
        parts = list(self.reducers.panel.read(self.panel.context, N_FEATURES))
        records = np.concatenate(parts) if parts else np.empty(0)
        return found | {"panel": records, "panel/context": self.panel.context, "scatter": self.hook.scatter}


def whole(text: Text, folder: Path) -> Reducing:
    reducing = Reducing(text, folder)
    reducing.feed(list(range(N_CONTEXTS)))
    return reducing


def assert_same(found: dict[str, NDArray[np.generic]], expected: dict[str, NDArray[np.generic]]) -> None:
    for name, array in expected.items():
        if name in ("statistics/total", "statistics/total_squares", "cross/sums", "scatter"):
            sums = np.asarray(found[name], dtype=np.float64), np.asarray(array, dtype=np.float64)
            np.testing.assert_allclose(*sums, rtol=1e-6, atol=1e-5, err_msg=name)
        elif name.startswith(("top/", "sample/")) and not name.endswith("key"):
            kept = expected[name.split("/")[0] + "/key"] != EMPTY
            np.testing.assert_array_equal(found[name][kept], array[kept], err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.fixture
def text() -> Text:
    return Text.random(0)


def test_statistics_equal_plain_numpy(text: Text, tmp_path: Path) -> None:
    figures = whole(text, tmp_path).reducers.statistics
    flat = text.activation.reshape(-1, N_FEATURES).astype(np.float64)
    fires = flat > 0
    np.testing.assert_array_equal(figures.n_fires, fires.sum(0))
    np.testing.assert_array_equal(figures.n_contexts, (text.activation > 0).any(1).sum(0))
    np.testing.assert_array_equal(figures.maximum, flat.max(0).astype(np.float32))
    np.testing.assert_allclose(figures.deviation(len(flat)), flat.std(0), rtol=1e-9)
    for feature in range(6):
        values = flat[fires[:, feature], feature]
        np.testing.assert_allclose(figures.mean()[feature], values.mean(), rtol=1e-9)
        np.testing.assert_allclose(figures.m2()[feature], ((values - values.mean()) ** 2).sum(), rtol=1e-6)
        bins = np.clip(np.floor(np.log2(values)) - LOWEST_EXPONENT, 0, N_BINS - 1).astype(int)
        np.testing.assert_array_equal(figures.histogram[feature], np.bincount(bins, minlength=N_BINS))


def test_top_contexts_are_the_strongest_each_once_at_its_first_strongest_token(text: Text, tmp_path: Path) -> None:
    top = whole(text, tmp_path).reducers.top
    for feature in range(N_FEATURES):
        peaks = text.activation[:, :, feature].max(1)
        order = [int(c) for c in np.lexsort((np.arange(N_CONTEXTS), -peaks)) if peaks[c] > 0][:3]
        held = top.key[feature] != EMPTY
        assert top.context[feature, held].tolist() == order
        assert top.position[feature, held].tolist() == [int(text.activation[c, :, feature].argmax()) for c in order]
        assert top.activation[feature, held].tolist() == [float(peaks[c]) for c in order]


def test_windows_hold_shares_of_the_peak_inside_the_peaks_document_only(text: Text, tmp_path: Path) -> None:
    for kept in (whole(text, tmp_path).reducers.top, whole(text, tmp_path).reducers.sample):
        for feature, slot in zip(*np.nonzero(kept.key != EMPTY), strict=True):
            peak = int(kept.position[feature, slot])
            values = text.activation[kept.context[feature, slot], :, feature]
            low, high = (int(bound) for bound in half(np.array(peak)))
            expected = np.zeros(2 * RADIUS + 1, dtype=np.uint8)
            for position in range(low, high):
                if values[position] > 0:
                    expected[position - peak + RADIUS] = max(1, round(255 * float(values[position] / values[peak])))
            np.testing.assert_array_equal(kept.window[feature, slot], expected)


def test_the_sample_is_the_smallest_hashes_among_contexts_where_the_feature_fires(text: Text, tmp_path: Path) -> None:
    sample = whole(text, tmp_path).reducers.sample
    for feature in range(N_FEATURES):
        firing = np.flatnonzero((text.activation[:, :, feature] > 0).any(1))
        hashes = hash_visits(SETTINGS.seed, np.full(len(firing), feature, dtype=np.int32), firing.astype(np.int64))
        expected = firing[np.argsort(hashes)][:4]
        held = sample.key[feature] != EMPTY
        assert sample.context[feature, held].tolist() == expected.tolist()


def test_the_panel_keeps_every_firing_of_the_contexts_of_smallest_hash(text: Text, tmp_path: Path) -> None:
    result = whole(text, tmp_path).result()
    hashes = hash_contexts(SETTINGS.seed, np.arange(N_CONTEXTS))
    chosen = np.sort(np.argsort(hashes)[:5])
    np.testing.assert_array_equal(result["panel/context"], chosen)
    expected = [
        (feature, context, position, float(text.activation[context, position, feature]))
        for feature in range(N_FEATURES)
        for context in chosen
        for position in range(LENGTH)
        if text.activation[context, position, feature] > 0
    ]
    assert [tuple(record) for record in result["panel"].tolist()] == expected


def test_responses_give_the_pearson_correlation_of_any_read_out(text: Text, tmp_path: Path) -> None:
    reducing = whole(text, tmp_path)
    figures, n = reducing.reducers.statistics, N_CONTEXTS * LENGTH
    response = reducing.reducers.cross.response(reducing.hook, figures.total, figures.deviation(n))
    read_out = np.random.default_rng(5).normal(size=WIDTH)
    closed = response @ read_out / np.sqrt(read_out @ reducing.hook.covariance() @ read_out)
    x, flat = text.x.reshape(-1, WIDTH), text.activation.reshape(-1, N_FEATURES)
    for feature in range(6):
        assert closed[feature] == pytest.approx(np.corrcoef(x @ read_out, flat[:, feature])[0, 1], abs=1e-5)
    assert closed[6] == 0
    np.testing.assert_allclose(reducing.hook.mean(), x.mean(0), rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    order=st.permutations(range(N_CONTEXTS)),
    cuts=st.lists(st.integers(0, N_CONTEXTS), max_size=5),
)
def test_any_order_and_any_blocks_give_the_same(seed: int, order: list[int], cuts: list[int]) -> None:
    with TemporaryDirectory() as name:
        text, folder = Text.random(seed), Path(name)
        split = Reducing(text, folder)
        edges = [0, *sorted(cuts), N_CONTEXTS]
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            if low < high:
                split.feed(order[low:high])
        assert_same(split.result(), whole(text, folder).result())


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shard=st.lists(st.integers(0, 2), min_size=N_CONTEXTS, max_size=N_CONTEXTS),
    left_first=st.booleans(),
    swap=st.booleans(),
)
def test_any_tree_of_merges_gives_the_same(seed: int, shard: list[int], left_first: bool, swap: bool) -> None:
    """merge(a, b) = merge(b, a), and merge(merge(a, b), c) = merge(a, merge(b, c))."""
    with TemporaryDirectory() as name:
        text, folder = Text.random(seed), Path(name)
        parts = [Reducing(text, folder) for _ in range(3)]
        for number, part in enumerate(parts):
            if mine := [context for context in range(N_CONTEXTS) if shard[context] == number]:
                part.feed(mine)
        a, b, c = reversed(parts) if swap else parts
        if left_first:
            a.merge(b)
            a.merge(c)
        else:
            b.merge(c)
            a.merge(b)
        assert_same(a.result(), whole(text, folder).result())


@given(
    entries=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([1, 2, 2**24, 2**24 + 1, 2**63]), st.integers(0, 50)),
        min_size=1,
        max_size=40,
        unique_by=lambda entry: (entry[0], entry[2]),
    ),
    k=st.integers(1, 5),
)
def test_first_k_equals_sorting_by_three_columns(entries: list[tuple[int, int, int]], k: int) -> None:
    feature = np.array([entry[0] for entry in entries], dtype=np.int32)
    key = np.array([entry[1] for entry in entries], dtype=np.uint64)
    context = np.array([entry[2] for entry in entries], dtype=np.int64)
    order, rank = first_k(feature, key, context, k)
    expected: list[tuple[tuple[int, int, int], int]] = []
    for f in range(4):
        mine = sorted(entry for entry in entries if entry[0] == f)
        expected += [(entry, place) for place, entry in enumerate(mine[:k])]
    assert [
        ((int(feature[i]), int(key[i]), int(context[i])), int(r)) for i, r in zip(order, rank, strict=True)
    ] == expected


def test_a_state_read_back_goes_on_as_if_never_written(text: Text, tmp_path: Path) -> None:
    first = Reducing(text, tmp_path)
    first.feed(list(range(8)))
    arrays = {name: array.copy() for name, array in first.reducers.arrays().items()}
    first.feed([12, 13])  # written after the checkpoint, and to be forgotten
    again = Reducing(text, tmp_path)
    again.reducers = FeatureReducers((N_FEATURES, WIDTH), SETTINGS, first.reducers.panel.path)
    again.reducers.load(arrays)
    again.panel.add(np.arange(8))
    again.hook.add(torch.from_numpy(text.x[:8].reshape(-1, WIDTH) - again.shift))
    again.feed(list(range(8, N_CONTEXTS)))
    assert_same(again.result(), whole(text, tmp_path).result())


def test_nothing_is_kept_when_nothing_is_asked_for(text: Text, tmp_path: Path) -> None:
    reducing = whole(text, tmp_path)
    reducing.reducers = FeatureReducers((N_FEATURES, WIDTH), CaptureSettings(0, 0, 0), tmp_path / "none.bin")
    reducing.panel = PanelContexts(0, 0)
    reducing.feed([0, 1])
    assert reducing.reducers.top.key.shape == (N_FEATURES, 0)
    assert reducing.result()["panel"].size == 0
    assert reducing.reducers.statistics.n_fires.sum() > 0
