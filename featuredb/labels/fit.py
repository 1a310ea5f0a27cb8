"""How well an expression tells where a feature fires, at the natural base rate: over tokens drawn uniformly.

On the panel, a uniform sample of contexts, every firing is known; but a feature that fires on one token in 100,000
fires there a few times at most. More of its firings are known from the uniform sample of the contexts in which it
fires, of which only a window around the strongest token is kept. The two are put together as follows.

1.  A firing is *near* when it lies in the window of its context's strongest firing, in the same document, and *far*
    otherwise. The contexts of the sample and of the panel together are a uniform sample of the contexts with a firing,
    since both are chosen by hashes that know nothing of the text; so are their near firings of all near ones.
2.  Far firings are seen on the panel alone, and so is q, the share of firings that are far. For any figure g,

        E[g | fires] = (1 - q) mean(g over near firings) + q mean(g over the panel's far firings).

    A feature without a firing on the panel is taken to have q = 0.
3.  P(fires) = D is counted over every token of the run, and P(x | silent) = s, for an expression x, over the panel's
    silent tokens. With r = P(x | fires) all else follows, for every token either fires or does not:

        P(x) = D r + (1 - D) s       precision = D r / P(x)       recall = r
        E[a] = D E[a | fires]        E[a x] = D E[a x | fires]    and Pearson's correlation of a and x from these.

    An expression seen on no silent token need not hold of none: half a token is added to the count (Jeffreys' prior),
    which weighs only where D times the panel is a handful of tokens.

In a context that documents of both halves share, the strongest firing in this half stands for the strongest one.
Source of the score: Oikarinen et al. (2025), arXiv:2506.05774, where Pearson's correlation, F1 and average precision
over all tokens notice labels that are too narrow or too broad, and figures over balanced samples do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from featuredb.labels.evidence import Firings
from featuredb.store.layout import RADIUS
from featuredb.store.passages import Examples, PanelFirings, Passages

BLOCK = 256
"""Features read from a segment at a time."""

PRIOR = 0.5
"""Silent tokens that an expression is taken to hold of beside those seen."""

N_DRAWS = 400
"""Draws of the bootstrap."""

N_CONTEXTS = 20
"""Contexts that a label's provenance names."""

ENOUGH_DOCUMENTS = 20
"""Documents with panel tokens from which documents are drawn anew; where there are fewer, contexts are."""

Mask = NDArray[np.bool_]
Places = NDArray[np.int64]
Floats = NDArray[np.float64]

NEAR, NEAR_X, NEAR_A, NEAR_AA, NEAR_AX, FAR, FAR_X, FAR_A, FAR_AA, FAR_AX, FIRES, FIRES_X, TOKENS, TOKENS_X = range(14)
"""Columns of a tally: near firings, those the expression holds of, activations, their squares, and those it holds of;
the same of far firings; all firings on the panel, and those it holds of; the panel's tokens, and those it holds of."""


@dataclass(frozen=True)
class Sample:
    """Firings of one feature that together stand for all of them: n of them, near and far."""

    feature: int
    density: float
    """P(fires), over the whole run."""
    at: Places
    """(n,) indices into `Passages.token`."""
    activation: NDArray[np.float32]
    near: Mask
    on_panel: Mask

    def weights(self, kept: Mask | None = None) -> Floats:
        """(n,) what each firing counts for, so that a weighted mean is one over all firings; they add up to 1.

        kept: only these firings are used; the others weigh nothing.
        """
        kept = np.ones(len(self.at), np.bool_) if kept is None else kept
        near, far, panel = kept & self.near, kept & ~self.near, kept & self.on_panel
        share = far.sum() / panel.sum() if panel.any() else 0.0
        weight = np.zeros(len(self.at))
        weight[near] = (1 - share) / max(1, near.sum())
        weight[far] = share / max(1, far.sum())
        return weight

    def strengths(self, kept: Mask | None = None) -> Floats:
        """(n,) the same with each firing counted by its activation."""
        weight = self.weights(kept) * np.abs(self.activation.astype(np.float64))
        total = float(weight.sum())
        return weight / total if total else weight

    @cached_property
    def total(self) -> Floats:
        """(14,) a tally's columns that are the same whatever the expression; zeros in the others."""
        found = np.zeros(14)
        a = self.activation.astype(np.float64)
        for first, chosen in ((NEAR, self.near), (FAR, ~self.near)):
            mine = a[chosen]
            found[first], found[first + 2], found[first + 3] = len(mine), mine.sum(), (mine * mine).sum()
        found[FIRES] = np.count_nonzero(self.on_panel)
        return found

    def contexts(self, passages: Passages, most: int = N_CONTEXTS) -> list[int]:
        """Some of the contexts the firings are from, the strongest first."""
        strongest = self.at[np.argsort(-np.abs(self.activation), kind="stable")[: 4 * most]]
        piece = np.searchsorted(passages.start, strongest, side="right") - 1
        return list(dict.fromkeys(passages.context[piece].tolist()))[:most]


class Samples:
    """Reads the firings of features, a block of them at a time; in order of index it reads least."""

    def __init__(self, evidence: Firings) -> None:
        self._evidence = evidence
        self._block = -1
        self._near: Mask = np.zeros(0, np.bool_)
        self._panel: PanelFirings
        self._windows: tuple[NDArray[np.int32], Places, NDArray[np.float32]]

    def of(self, feature: int) -> Sample:
        first = feature - feature % BLOCK
        if first != self._block:
            last = min(first + BLOCK, self._evidence.n_features)
            passages = self._evidence.passages
            self._panel = self._evidence.panel(first, last)
            self._near = near_firings(self._panel, passages)
            self._windows = window_firings(self._evidence.examples(first, last), passages)
            self._block = first
        low, high = np.searchsorted(self._panel.feature, [feature, feature + 1])
        owner, at, activation = self._windows
        start, stop = np.searchsorted(owner, [feature, feature + 1])
        n, m = high - low, stop - start
        return Sample(
            feature=feature,
            density=float(self._evidence.density[feature]),
            at=np.concatenate([self._panel.at[low:high], at[start:stop]]),
            activation=np.concatenate([self._panel.activation[low:high], activation[start:stop]]),
            near=np.concatenate([self._near[low:high], np.ones(m, np.bool_)]),
            on_panel=np.arange(n + m) < n,
        )


def near_firings(panel: PanelFirings, passages: Passages) -> Mask:
    """Whether each firing on the panel lies within the window that an example of its context would have."""
    n = len(panel.at)
    if n == 0:
        return np.zeros(0, np.bool_)
    piece = np.searchsorted(passages.start, panel.at, side="right") - 1
    context = passages.context[piece]
    size = np.abs(panel.activation)
    first = np.flatnonzero(
        np.concatenate([[True], (panel.feature[1:] != panel.feature[:-1]) | (context[1:] != context[:-1])])
    )
    count = np.diff(np.append(first, n))
    visit = np.repeat(np.arange(len(first)), count)
    strongest = np.flatnonzero(size == np.maximum.reduceat(size, first)[visit])
    peak = strongest[np.searchsorted(visit[strongest], np.arange(len(first)))][visit]
    near: Mask = (piece == piece[peak]) & (np.abs(panel.at - panel.at[peak]) <= RADIUS)
    return near


def window_firings(examples: Examples, passages: Passages) -> tuple[NDArray[np.int32], Places, NDArray[np.float32]]:
    """Firings in the windows of the uniform sample: features, places and activations.

    Those of contexts on the panel are left out, for there they are known anyway.
    """
    piece = np.searchsorted(passages.start, examples.at, side="right") - 1
    on_panel = passages.panel[piece] if len(piece) else np.zeros(0, np.bool_)
    wanted = np.flatnonzero((examples.kind == 1) & ~on_panel)
    length = (examples.high - examples.low)[wanted]
    within = np.arange(int(length.sum())) - np.repeat(np.cumsum(length) - length, length)
    owner = np.repeat(wanted, length)
    share = examples.shares[examples.first[owner] + within]
    fires = share > 0
    owner, within, share = owner[fires], within[fires], share[fires]
    return examples.feature[owner], examples.low[owner] + within, share * examples.activation[owner]


class Panel:
    """The panel's tokens, and what is drawn anew for an interval: documents, or contexts where documents are few."""

    def __init__(self, passages: Passages) -> None:
        self.passages = passages
        self.at: Places = np.flatnonzero(passages.on_panel)
        documents = np.unique(passages.document[passages.panel])
        self.by_document = len(documents) >= ENOUGH_DOCUMENTS
        groups = passages.document if self.by_document else passages.context
        numbers, of_piece = np.unique(groups, return_inverse=True)
        self.n_groups = len(numbers)
        self._of_piece: Places = of_piece.ravel().astype(np.int64)

    @cached_property
    def group(self) -> Places:
        """(N,) what each token is drawn with."""
        return self._of_piece[self.passages.piece]

    @cached_property
    def _tokens(self) -> Floats:
        return np.bincount(self.group[self.at], minlength=self.n_groups).astype(np.float64)

    def tally(self, sample: Sample, holds: Mask) -> Floats:
        """(n_groups, 14) what an expression and a feature have in common, by document or context.

        holds: (N,) where the expression holds.
        """
        group, near, panel = self.group[sample.at], sample.near, sample.on_panel
        rows = np.zeros((self.n_groups, 14))
        for column, value in enumerate(_values(sample, holds)):
            rows[:, NEAR + column] = np.bincount(group[near], value[near], self.n_groups)
            rows[:, FAR + column] = np.bincount(group[~near], value[~near], self.n_groups)
            if column < 2:
                rows[:, FIRES + column] = np.bincount(group[panel], value[panel], self.n_groups)
        rows[:, TOKENS] = self._tokens
        rows[:, TOKENS_X] = np.bincount(self.group[self.at[holds[self.at]]], minlength=self.n_groups)
        return rows

    def total(self, sample: Sample, holds: Mask, n_held: int | None = None) -> Floats:
        """(14,) the tally of all groups together. n_held: of the panel's tokens it holds of, where that is known."""
        total = sample.total.copy()
        # Only firings that it holds of are looked at: of another feature's label, most often few.
        hit = np.flatnonzero(holds[sample.at])
        near, a = sample.near[hit], sample.activation[hit].astype(np.float64)
        total[NEAR_X] = n_near = np.count_nonzero(near)
        total[FAR_X] = len(hit) - n_near
        total[NEAR_AX], total[FAR_AX] = a[near].sum(), a[~near].sum()
        total[FIRES_X] = np.count_nonzero(sample.on_panel[hit])
        total[TOKENS] = len(self.at)
        total[TOKENS_X] = np.count_nonzero(holds[self.at]) if n_held is None else n_held
        return total


def _values(sample: Sample, holds: Mask) -> tuple[Floats, ...]:
    """What is added up over firings, (n,) each: one, x, a, a a, a x."""
    x = holds[sample.at].astype(np.float64)
    a = sample.activation.astype(np.float64)
    return np.ones(len(a)), x, a, a * a, a * x


@dataclass(frozen=True)
class Figures:
    """What a tally says; each of its shape, without the columns."""

    recall: Floats
    precision: Floats
    f1: Floats
    pearson: Floats
    """0 where the expression, or the feature, is the same everywhere."""
    base: Floats
    """P(x)."""


def figures(tally: Floats, density: float, prior: float | Floats = PRIOR) -> Figures:
    """What tallies say, by the derivation above. tally: (..., 14), summed over groups; prior: (...)."""
    t, mean, silent = _means(tally, prior)
    recall, a, aa, ax = mean(NEAR_X, FAR_X), mean(NEAR_A, FAR_A), mean(NEAR_AA, FAR_AA), mean(NEAR_AX, FAR_AX)
    both = density * recall
    base = both + (1 - density) * silent
    spread = base * (1 - base) * np.maximum(density * aa - (density * a) ** 2, 0)
    return Figures(
        recall=recall,
        precision=_over(both, base),
        f1=_over(2 * both, density + base),
        pearson=np.clip(_over(density * ax - base * density * a, np.sqrt(spread)), -1, 1),
        base=base,
    )


def strong_kappa(tally: Floats, density: float, prior: float | Floats = PRIOR) -> Floats:
    """Kappa with each firing counted by its activation, in units of the feature's mean. Arguments as of `figures`.

    A weak firing is worth less than a strong one: what a feature does at its strongest says most of what it is.
    """
    _, mean, silent = _means(tally, prior)
    strong = density * _over(mean(NEAR_AX, FAR_AX), mean(NEAR_A, FAR_A))
    return kappa(strong, strong + (1 - density) * silent, density)


def _means(tally: Floats, prior: float | Floats) -> tuple[Floats, Callable[[int, int], Floats], Floats]:
    """The tally's columns first, what gives a mean over firings by its two columns, and P(x | silent)."""
    t = tally.transpose(-1, *range(tally.ndim - 1))
    fires, near = np.maximum(t[FIRES], 1), np.maximum(t[NEAR], 1)
    share = t[FAR] / fires

    def mean(of_near: int, of_far: int) -> Floats:
        value: Floats = (1 - share) * t[of_near] / near + t[of_far] / fires
        return value

    silent: Floats = (t[TOKENS_X] - t[FIRES_X] + prior) / (t[TOKENS] - t[FIRES] + 2 * np.asarray(prior))
    return t, mean, silent


def kappa(both: Floats, base: Floats, density: float) -> Floats:
    """F1 less that of chance, as a share of what is left to gain: Cohen's kappa of firing and an expression.

    both: P(fires and x); base: P(x); density: P(fires). An expression as frequent that knows nothing of the feature has
    F1 = 2 D P(x) / (D + P(x)), which for one that nearly always holds is not far from the best there is.
    Source: Warrens (2008), Psychometrika 73(4): Dice's coefficient, which F1 is, corrected for chance is kappa.
    """
    return 2 * (both - density * base) / (density + base - 2 * density * base)


def _over(above: Floats, below: Floats) -> Floats:
    """A quotient, 0 where it has no value."""
    quotient: Floats = np.divide(above, below, out=np.zeros(np.shape(below)), where=np.asarray(below) > 0)
    return quotient


class Draws:
    """The same documents drawn anew for every label, so that intervals of two can be held against each other."""

    def __init__(self, n_groups: int, seed: int, n: int = N_DRAWS) -> None:
        random = np.random.default_rng((seed, n_groups))
        equal = np.full(n_groups, 1 / max(1, n_groups))
        self.counts: Floats = random.multinomial(n_groups, equal, size=n).astype(np.float64)
        """(n, n_groups) how often each is drawn."""
        # An expression that no silent token carries would else have an interval of no width.
        self.prior: Floats = random.gamma(PRIOR, size=n)

    def figures(self, tally: Floats, density: float) -> Figures:
        """Of every draw. tally: (n_groups, 14)."""
        return figures(self.counts @ tally, density, self.prior)

    def strong_kappa(self, tally: Floats, density: float) -> Floats:
        """(n,) of every draw."""
        return strong_kappa(self.counts @ tally, density, self.prior)


@dataclass(frozen=True)
class Fit:
    """How well one expression tells where one feature fires."""

    pearson: float
    low: float
    high: float
    """Ends of the 95% interval of the correlation."""
    f1: float
    precision: float
    recall: float
    average_precision: float
    base: float
    """The share of tokens that the expression holds of."""
    n_firing: int
    """Firings that are known, near and far."""
    n_tokens: int
    """Tokens of the panel."""


def fit(sample: Sample, holds: Mask, panel: Panel, draws: Draws) -> Fit:
    """All figures of one expression and feature. holds: (N,) where the expression holds."""
    tally = panel.tally(sample, holds)
    found = figures(tally.sum(axis=0), sample.density)
    drawn = draws.figures(tally, sample.density).pearson
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Fit(
        pearson=float(found.pearson),
        low=float(min(low, found.pearson)),
        high=float(max(high, found.pearson)),
        f1=float(found.f1),
        precision=float(found.precision),
        recall=float(found.recall),
        average_precision=average_precision(sample, holds, float(found.base)),
        base=float(found.base),
        n_firing=len(sample.at),
        n_tokens=len(panel.at),
    )


def average_precision(sample: Sample, holds: Mask, base: float) -> float:
    """The mean precision of finding what the expression holds of by the feature's activation, silent tokens last.

    base: P(x). As sklearn.metrics.average_precision_score has it, with every token of the run in the ranking.
    """
    if base <= 0:
        return 0.0
    order = np.argsort(-sample.activation, kind="stable")
    mass = sample.density * sample.weights()[order]
    hit = np.cumsum(mass * holds[sample.at[order]])
    activation = sample.activation[order]
    last = np.append(activation[1:] != activation[:-1], True) if len(activation) else np.zeros(0, np.bool_)
    fires = hit[last], np.cumsum(mass)[last]
    gain = np.diff(fires[0], prepend=0.0)
    found = float((gain * _over(fires[0], fires[1])).sum())
    rest = max(0.0, base - (float(hit[-1]) if len(hit) else 0.0))
    return (found + rest * base) / base


def samples_of(evidence: Firings, features: Sequence[int]) -> Iterator[Sample]:
    """The samples of some features, in the order they are given."""
    reader = Samples(evidence)
    for feature in features:
        yield reader.of(feature)
