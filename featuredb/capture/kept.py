"""The contexts kept for each feature: those of smallest key, whatever order they come in.

With the key "strongest first" that is the exact top k; with the key "hash of (seed, feature, context)" it is a
uniform sample without replacement. Both are the same reducer, because the k smallest of a union are among the k
smallest of its parts. Equal keys fall to the earlier context.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featuredb.capture.firings import Firings
from featuredb.capture.hashing import hash_visits
from featuredb.store.layout import RADIUS

WIDTH = 2 * RADIUS + 1
EMPTY = np.uint64(2**64 - 1)

ARRAYS = ("key", "context", "position", "activation", "window")
Windows = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Entries:
    """Candidates for keeping, one for each (feature, context) pair."""

    feature: NDArray[np.int32]
    key: NDArray[np.uint64]
    context: NDArray[np.int64]
    position: NDArray[np.int32]
    activation: NDArray[np.float32]

    def take(self, which: NDArray[np.int64]) -> Entries:
        return Entries(
            self.feature[which], self.key[which], self.context[which], self.position[which], self.activation[which]
        )


class KeptContexts:
    """For each of (n_features,) features the k contexts of smallest key, with the activations around the strongest
    token as shares of it in 1/255 (at least 1 where the feature fires)."""

    def __init__(self, n_features: int, k: int) -> None:
        self.k = k
        self.key = np.full((n_features, k), EMPTY, dtype=np.uint64)
        self.context = np.zeros((n_features, k), dtype=np.int64)
        self.position = np.zeros((n_features, k), dtype=np.int32)
        self.activation = np.zeros((n_features, k), dtype=np.float32)
        self.window = np.zeros((n_features, k, WIDTH), dtype=np.uint8)

    def add(self, firings: Firings, key: NDArray[np.uint64]) -> None:
        """key: one for each of `firings.visits`."""
        visits = firings.visits
        hopeful = np.flatnonzero(key <= self._worst(visits.feature))
        entries = Entries(
            visits.feature[hopeful],
            key[hopeful],
            visits.context[hopeful],
            visits.position[hopeful],
            visits.activation[hopeful],
        )
        self._take_best(entries, lambda chosen: windows_of(firings, hopeful[chosen]))

    def merge(self, other: KeptContexts) -> None:
        feature, slot = np.nonzero(other.key != EMPTY)
        entries = Entries(
            feature.astype(np.int32),
            other.key[feature, slot],
            other.context[feature, slot],
            other.position[feature, slot],
            other.activation[feature, slot],
        )
        self._take_best(entries, lambda chosen: other.window[feature[chosen], slot[chosen]])

    def _worst(self, feature: NDArray[np.int32]) -> NDArray[np.uint64]:
        """The key to beat, for each of some features; EMPTY while a feature has room."""
        return self.key[feature, -1] if self.k else np.zeros(len(feature), dtype=np.uint64)

    def _take_best(self, new: Entries, windows: Callable[[NDArray[np.int64]], Windows]) -> None:
        """Keeps the k best of what is held and what is new. windows: the windows of some of the new entries."""
        if len(new.feature) == 0 or self.k == 0:
            return
        touched = np.unique(new.feature)
        held_at, slot = np.nonzero(self.key[touched] != EMPTY)
        held = touched[held_at]
        n_held = len(held)
        pool = Entries(
            np.concatenate([held, new.feature]),
            np.concatenate([self.key[held, slot], new.key]),
            np.concatenate([self.context[held, slot], new.context]),
            np.concatenate([self.position[held, slot], new.position]),
            np.concatenate([self.activation[held, slot], new.activation]),
        )
        winners, rank = first_k(pool.feature, pool.key, pool.context, self.k)
        was_held = winners < n_held
        stay, come = winners[was_held], winners[~was_held] - n_held
        window = np.empty((len(winners), WIDTH), dtype=np.uint8)
        window[was_held] = self.window[held[stay], slot[stay]]
        window[~was_held] = windows(come)
        best = pool.take(winners)
        self.key[touched] = EMPTY
        self.key[best.feature, rank] = best.key
        self.context[best.feature, rank] = best.context
        self.position[best.feature, rank] = best.position
        self.activation[best.feature, rank] = best.activation
        self.window[best.feature, rank] = window

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        return {name: getattr(self, name) for name in ARRAYS}

    def load(self, arrays: dict[str, NDArray[np.generic]]) -> None:
        for name in ARRAYS:
            setattr(self, name, arrays[name])


def strongest_first(firings: Firings) -> NDArray[np.uint64]:
    """Keys that keep the strongest visits: the bits of a positive float32 grow with it."""
    bits = np.abs(firings.visits.activation).view(np.uint32).astype(np.uint64)
    return (np.uint64(0xFFFFFFFF) - bits) << np.uint64(32)


def hash_order(firings: Firings, seed: int) -> NDArray[np.uint64]:
    """Keys that keep a uniform sample of the visits."""
    return hash_visits(seed, firings.visits.feature, firings.visits.context)


def first_k(
    feature: NDArray[np.int32], key: NDArray[np.uint64], context: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The entries that are among the first k of their feature by (key, context), in that order, and their ranks.

    Sorting one 64-bit word is several times faster than sorting by three columns, so features and the leading 40 bits
    of the key share a word, and the few entries whose words are equal are put in order afterwards.
    """
    word = (feature.astype(np.uint64) << np.uint64(40)) | (key >> np.uint64(24))
    order = np.argsort(word)
    ordered = word[order]
    equal = ordered[1:] == ordered[:-1]
    if equal.any():
        tied = np.flatnonzero(np.concatenate([equal, [False]]) | np.concatenate([[False], equal]))
        among = order[tied]
        order[tied] = among[np.lexsort((context[among], key[among], word[among]))]
    sorted_feature = feature[order]
    starts = np.concatenate([[0], np.flatnonzero(sorted_feature[1:] != sorted_feature[:-1]) + 1])
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    kept = rank < k
    return order[kept], rank[kept]


def windows_of(firings: Firings, chosen: NDArray[np.int64]) -> Windows:
    """(len(chosen), WIDTH) activations around the strongest token of some visits, never past their document."""
    visits = firings.visits
    n = visits.n[chosen]
    visit = np.repeat(np.arange(len(chosen)), n)
    within = np.arange(len(visit)) - np.repeat(np.cumsum(n) - n, n)
    firing = visits.first[chosen][visit] + within
    position = firings.position[firing]
    place = position - visits.position[chosen][visit] + RADIUS
    inside = (
        (place >= 0)
        & (place < WIDTH)
        & (position >= visits.low[chosen][visit])
        & (position < visits.high[chosen][visit])
    )
    share = firings.magnitude[firing] / np.abs(visits.activation[chosen])[visit]
    window = np.zeros((len(chosen), WIDTH), dtype=np.uint8)
    window[visit[inside], place[inside]] = np.maximum(1, np.rint(255 * share[inside])).astype(np.uint8)
    return window
