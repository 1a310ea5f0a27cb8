"""Features whose context dependence is known: meanings that change along a context, tokens without context, and none.

Rule: what is planted, and text in which nothing can drift. Figures are a benchmark's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featuredb.audit.panel import Fired
from featuredb.audit.requests import AuditRequest, Places
from featuredb.labels.evidence import Firings
from featuredb.store.passages import Examples, PanelFirings, Passages
from featuredb.testing.truth.planted import Known, Plant

CHUNK = 16
"""Tokens that stay together when text is rearranged."""

LEAST = 0.05
"""Of the largest mean, what a token's mean has to be for a token-bound plant to fire on it."""


def switch(feature: int, early: Known, late: Known, passages: Passages, where: tuple[int, float], seed: int) -> Plant:
    """A feature that means `early` before a position of the context, and from there on partly `late`.

    where: that position, and the share of the firings from there on that are of `late`; 1 is a whole switch. Both are
    scaled to the same largest activation.
    """
    position, share = where
    random = np.random.default_rng((seed, feature))
    before, after = _position(passages, early.at) < position, _position(passages, late.at) >= position
    n_kept = round((1 - share) * np.count_nonzero(~before))
    kept = np.flatnonzero(~before)
    kept = np.sort(random.permutation(kept)[:n_kept])
    wanted = round(share * np.count_nonzero(~before)) if share < 1 else np.count_nonzero(after)
    new = np.sort(random.permutation(np.flatnonzero(after))[:wanted])
    mine = np.concatenate([np.flatnonzero(before), kept])
    at = np.concatenate([early.at[mine], late.at[new]])
    largest = early.activation.max(initial=0) / max(float(late.activation.max(initial=0)), 1e-9)
    activation = np.concatenate([early.activation[mine], late.activation[new] * largest])
    # Where both fire, the stronger stands.
    order = np.lexsort((-activation, at))
    at, activation = at[order], activation[order].astype(np.float32)
    first = np.append(True, at[1:] != at[:-1])[: len(at)]
    return Plant(feature, at[first], activation[first])


def token_part(feature: int, of: int, request: AuditRequest) -> Plant:
    """A feature that on the panel does what the mean of another says for the token, whatever stands around it."""
    means, token, _ = _means(request, of)
    value = means[token]
    fires = value >= LEAST * value.max(initial=0)
    return Plant(feature, request.panel.tokens[fires], value[fires].astype(np.float32))


def context_part(feature: int, of: int, request: AuditRequest) -> Plant:
    """A feature that on the panel does what another does beyond its token's mean, and is silent where it does less."""
    means, token, (column, activation) = _means(request, of)
    value = activation - means[token[column]]
    return Plant(feature, request.panel.tokens[column[value > 0]], value[value > 0].astype(np.float32))


def rearranged(request: AuditRequest, seed: int, topical: float = 0.0) -> AuditRequest:
    """The panel's text in pieces of CHUNK tokens put elsewhere, so that no feature can drift: what it fires on is the
    same everywhere.

    topical: how often a piece lies where its document's topic does: one topic at the beginning of contexts and
    documents, the other later. 0 lays all at random; at 1 early and late text share no document.
    """
    random = np.random.default_rng((20_261, seed))
    passages = request.everything.passages
    places, made = _moved(passages, random, topical)
    everything = Rearranged(request.everything, request.panel, made, places)
    return replace(request, everything=everything, audit=everything, labeling=everything, panel=Fired.read(everything))


class Few:
    """The first n features of a dictionary: enough to plant beside, and quicker to read than all."""

    def __init__(self, base: Firings, n: int) -> None:
        self._base, self.n_features, self.passages = base, n, base.passages
        self.n_fires, self.density, self.largest = base.n_fires[:n], base.density[:n], base.largest[:n]

    def panel(self, first: int, last: int) -> PanelFirings:
        return self._base.panel(first, min(last, self.n_features))

    def examples(self, first: int, last: int) -> Examples:
        return self._base.examples(first, min(last, self.n_features))


def few(request: AuditRequest, n: int) -> AuditRequest:
    """The request with the first n features alone."""
    everything = Few(request.everything, n)
    return replace(
        request,
        features=[feature for feature in request.features if feature < n],
        everything=everything,
        audit=Few(request.audit, n),
        labeling=Few(request.labeling, n),
        panel=Fired.read(everything),
    )


class Rearranged:
    """The panel's firings of a dictionary on its text put elsewhere; there are no examples."""

    def __init__(self, base: Firings, fired: Fired, passages: Passages, places: Places) -> None:
        """places: (N,) the new place of each of the old ones, -1 for those left out."""
        self.n_fires, self.density, self.largest = base.n_fires, base.density, base.largest
        self.n_features = fired.n_features
        self.passages = passages
        self._fired, self._places = fired, places

    def panel(self, first: int, last: int) -> PanelFirings:
        fired = self._fired
        part = slice(int(fired.start[first]), int(fired.start[min(last, fired.n_features)]))
        feature, at = fired.feature[part], self._places[fired.tokens[fired.column[part]]]
        order = np.lexsort((at, feature))
        return PanelFirings(feature[order], at[order], fired.activation[part][order])

    def examples(self, first: int, last: int) -> Examples:
        none = np.zeros(0, np.int64)
        return Examples(
            feature=none.astype(np.int32),
            kind=none.astype(np.uint8),
            rank=none.astype(np.int32),
            at=none,
            activation=none.astype(np.float32),
            low=none,
            high=none,
            shares=none.astype(np.float32),
            first=np.zeros(1, np.int64),
        )


def auroc(bad: ArrayLike, good: ArrayLike) -> float:
    """The chance that a bad one's score is larger than a good one's, ties counted half."""
    ours, theirs = np.asarray(bad, np.float64), np.sort(np.asarray(good, np.float64))
    below = np.searchsorted(theirs, ours, side="left") + np.searchsorted(theirs, ours, side="right")
    return float(below.mean() / (2 * len(theirs)))


def _position(passages: Passages, at: Places) -> Places:
    piece = np.searchsorted(passages.start, at, side="right") - 1
    return np.asarray(passages.position[piece] + at - passages.start[piece], np.int64)


def _means(
    request: AuditRequest, feature: int
) -> tuple[NDArray[np.float64], NDArray[np.int32], tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """The mean of each token id on the panel, the ids of the panel's tokens, and the feature's firings there."""
    fired = request.panel
    token = request.everything.passages.token[fired.tokens]
    column, activation = fired.of(feature)
    n = np.bincount(token)
    return np.bincount(token[column], activation, len(n)) / np.maximum(n, 1), token, (column, activation)


def _topic(passages: Passages, random: np.random.Generator) -> NDArray[np.bool_]:
    """(n pieces,) which of two topics each one's document has: the sides of a direction in which documents differ."""
    numbers, which = np.unique(passages.document, return_inverse=True)
    tokens, token = np.unique(passages.token, return_inverse=True)
    cell = which.ravel()[passages.piece] * len(tokens) + token.ravel()
    counts = np.bincount(cell, minlength=len(numbers) * len(tokens)).reshape(len(numbers), len(tokens))
    share = np.sqrt(counts / np.maximum(1, counts.sum(axis=1, keepdims=True)))
    u, s, _ = np.linalg.svd(share - share.mean(axis=0), full_matrices=False)
    n = min(4, u.shape[1])
    along = (u[:, :n] * s[:n]) @ random.normal(size=n)
    side: NDArray[np.bool_] = (along > np.median(along))[which.ravel()]
    return side


def _moved(passages: Passages, random: np.random.Generator, topical: float) -> tuple[Places, Passages]:
    """Where each old place went, and the text so arranged."""
    size = np.diff(passages.start)
    topic = _topic(passages, random)
    begins, piece = list[int](), list[int]()
    for number in np.flatnonzero(passages.panel).tolist():
        here = range(int(passages.start[number]), int(passages.start[number]) + int(size[number]), CHUNK)
        begins += here
        piece += [number] * len(here)
    owner, begin = np.array(piece), np.array(begins)
    length = np.minimum(CHUNK, passages.start[owner + 1] - begin)
    wanted = random.random(len(owner))
    own = random.random(len(owner)) < topical
    wanted = np.where(own, np.where(topic[owner], wanted / 2, (wanted + 1) / 2), wanted)
    slots = max(1, int((passages.position + size).max()) // CHUNK)
    n_contexts = -(-len(owner) // slots)
    rank = np.argsort(np.argsort(wanted, kind="stable"), kind="stable")
    slot, context = rank // n_contexts, rank % n_contexts
    order = np.lexsort((slot, context))
    owner, begin, length = owner[order], begin[order], length[order]
    start = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    old = np.repeat(begin - start[:-1], length) + np.arange(int(start[-1]))
    places = np.full(passages.n_tokens, -1, np.int64)
    places[old] = np.arange(len(old))
    document = passages.document[owner]
    made = Passages(
        token=passages.token[old],
        start=start,
        context=context[order].astype(np.int32),
        position=(1 + CHUNK * slot[order]).astype(np.int32),
        document=document,
        offset=(CHUNK * _ranks(document, wanted[order])).astype(np.int32),
        panel=np.ones(len(owner), np.bool_),
        names=passages.names,
        texts=passages.texts,
    )
    return places, made


def _ranks(group: NDArray[np.int32], value: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n,) the place of each value among those of its group."""
    order = np.lexsort((value, group))
    sorted_group = group[order]
    first = np.searchsorted(sorted_group, sorted_group, side="left")
    found = np.zeros(len(group), np.int64)
    found[order] = np.arange(len(group)) - first
    return found
