"""Which feature stands for a concept in truth: the one of the best F1 over tokens that no method has seen.

A feature says "this is one" where its activation is above a share of its largest, and the share is chosen on other
documents than those that judge it. Source: the coverage of Karvonen et al. (2024), arXiv:2408.00113, which takes the
best of thresholds at tenths of each feature's largest activation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.planted.documents import Marked

if TYPE_CHECKING:
    from featuredb.search.running import Loaded

N_SHARES = 10
GROUP = 16
"""Documents run at a time."""

Counts = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts over tokens; the last axis is the threshold, in tenths of a feature's largest activation."""

    firings: Counts
    """(F, 10) tokens on which each feature is above it."""
    hits: Counts
    """(C, F, 10) those of them that are of the concept."""
    tokens: Counts
    """(C,) tokens of the concept."""
    n: int

    def f1(self) -> Counts:
        """(C, F, 10), 0 where there is nothing to find and nothing found."""
        both = self.firings[None] + self.tokens[:, None, None]
        return np.divide(2 * self.hits, both, out=np.zeros_like(self.hits), where=both > 0)


@dataclass(frozen=True, slots=True)
class Truth:
    """What each feature has to do with each concept."""

    f1: Counts
    """(C, F) on the judging documents, at the threshold that is best on the tuning ones."""
    precision: Counts
    """(C, F) share of a feature's firings, all of them, that lie on tokens of the concept; 0 where it never fires."""
    tokens: Counts
    """(C,) tokens of the concept in the judging documents."""

    @staticmethod
    def of(tune: Tally, judge: Tally) -> Truth:
        best = tune.f1().argmax(axis=-1)
        f1 = np.take_along_axis(judge.f1(), best[..., None], axis=-1)[..., 0]
        hits = tune.hits[..., 0] + judge.hits[..., 0]
        firings = np.broadcast_to(tune.firings[:, 0] + judge.firings[:, 0], hits.shape)
        precision = np.divide(hits, firings, out=np.zeros_like(hits), where=firings > 0)
        return Truth(f1, precision, judge.tokens)


def tally(documents: Iterable[Marked], loaded: Loaded, largest: NDArray[np.float64], n_concepts: int) -> Tally:
    """Runs documents as the store's run did, each in contexts of its own, and counts where features fire.

    largest: (F,) each feature's largest activation, as the store knows it.
    """
    from scipy.sparse import csr_matrix

    n_columns = len(largest) * N_SHARES
    firings, hits, tokens, n = np.zeros(n_columns), np.zeros((n_concepts, n_columns)), np.zeros(n_concepts), 0
    for marks, row, feature, activation in _activations(documents, loaded):
        most = np.where(largest[feature] > 0, largest[feature], activation)  # a feature that the store's run never met
        share = activation / most
        step = np.minimum(share * N_SHARES, N_SHARES - 1).astype(np.int64)
        column = feature.astype(np.int64) * N_SHARES + step
        fires = csr_matrix((np.ones(len(row), np.float32), (row, column)), shape=(len(marks), n_columns))
        firings += np.bincount(column, minlength=n_columns)
        hits += (csr_matrix(marks.T.astype(np.float32)) @ fires).toarray()
        tokens += marks.sum(axis=0)
        n += len(marks)
    return Tally(_or_more(firings), _or_more(hits), tokens, n)


def _activations(
    documents: Iterable[Marked], loaded: Loaded
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]]:
    """The marks of some tokens (n, C), and what fires on them: row, feature, activation."""
    from featuredb.search.passes import cut, vectors

    hook = loaded.reading.hook
    waiting = iter(documents)
    while group := list(islice(waiting, GROUP)):
        texts = cut([document.text for document in group], loaded.model, loaded.reading.packing)
        marks = np.concatenate([document.marks for document in group])
        for rows, found in vectors(loaded.model, texts, [hook]):
            fired = loaded.encoder.encode(found[hook])
            yield marks[rows], fired.row.astype(np.int64), fired.feature, fired.activation


def _or_more(counts: Counts) -> Counts:
    """Counts by share turned into counts of that share or more."""
    folded = counts.reshape(*counts.shape[:-1], -1, N_SHARES)
    above: Counts = folded[..., ::-1].cumsum(axis=-1)[..., ::-1]
    return above
