"""Labels that several features have, and what tells those features apart.

Labels are one where their words are the same, case and spaces aside, where they have the same executable part, or
where their executable parts hold of nearly the same tokens.

Rule: labels and counts in, groups and contrasts out.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.panel import Fired
from featuredb.labels.requests import LabelToScore
from featuredb.predicates.lift import A0, SIGNIFICANT, log_odds
from featuredb.predicates.wording import UNCLEAR
from featuredb.store.passages import Passages

SAME_TOKENS = 0.9
"""Share of the tokens that either of two labels holds of and both do, from which on the labels are one."""

N_SKETCH = 6
"""Numbers that stand for the tokens a label holds of. Labels of 90% the same tokens have one in common in all but one
of a million cases (1 - 0.9)^6. Source: Broder (1997), On the resemblance and containment of documents."""

N_TOLD = 3
"""Tokens named on either side of a contrast."""

Mask = NDArray[np.bool_]
Places = NDArray[np.int64]
Floats = NDArray[np.float64]
Holds = Callable[[LabelToScore], Mask | None]


@dataclass(frozen=True)
class Shared:
    """Another feature whose label is the same, or nearly."""

    other: int
    how: str
    """"text", "predicate" or "tokens"."""
    likeness: float
    """1 for one text or predicate; else the share of tokens that both hold of."""


@dataclass(frozen=True)
class Sharers:
    """The features that have one feature's label, or nearly."""

    likest: tuple[Shared, ...]
    n: int
    """How many they are in all."""


def sharing(labels: Iterable[LabelToScore], holds: Holds, seed: int, most: int = 8) -> dict[int, Sharers]:
    """For each feature the others that have its label, the `most` likest of them by name; features without any are
    there too.

    holds: (N,) the tokens that a label holds of, or None where that cannot be told.
    """
    known = {label.feature: label for label in sorted(labels, key=lambda label: label.feature)}
    groups = _Groups()
    for feature, label in known.items():
        if label.text.startswith(UNCLEAR):
            continue  # it claims nothing that could be true of two features
        predicate = None if label.predicate is None else json.dumps(label.predicate, sort_keys=True)
        groups.add(feature, plain_text(label.text), predicate)
    for one, other, likeness in _near(groups.by_predicate, known, holds, seed):
        groups.near.setdefault(one, []).append((other, likeness))
        groups.near.setdefault(other, []).append((one, likeness))
    return {feature: groups.of(feature, most) for feature in known}


class _Groups:
    """Features by what makes their labels one. A group is kept once: its pairs may be more than memory holds."""

    def __init__(self) -> None:
        self.by_predicate: dict[str, list[int]] = {}
        self.near: dict[str, list[tuple[str, float]]] = {}
        """For each predicate those that hold of nearly the same tokens, and the share of the tokens."""
        self._by_text: dict[str, list[int]] = {}
        self._label: dict[int, tuple[str, str | None]] = {}
        self._n_both: Counter[tuple[str, str | None]] = Counter()

    def add(self, feature: int, text: str, predicate: str | None) -> None:
        """Features come in ascending order."""
        self._label[feature] = text, predicate
        self._n_both[text, predicate] += 1
        self._by_text.setdefault(text, []).append(feature)
        if predicate is not None:
            self.by_predicate.setdefault(predicate, []).append(feature)

    def of(self, feature: int, most: int) -> Sharers:
        if feature not in self._label:
            return Sharers((), 0)
        text, predicate = self._label[feature]
        mine = self._by_text[text]
        found = {other: Shared(other, "text", 1.0) for other in mine[: most + 1] if other != feature}
        n = len(mine) - 1
        if predicate is not None:
            for near, likeness in ((predicate, 1.0), *self.near.get(predicate, ())):
                how = "predicate" if near == predicate else "tokens"
                members = self.by_predicate[near]
                n += len(members) - self._n_both[text, near]
                others = (other for other in members if other not in found and self._label[other][0] != text)
                found |= {other: Shared(other, how, likeness) for other in islice(others, most)}
        likest = sorted(found.values(), key=lambda shared: (-shared.likeness, shared.other))
        return Sharers(tuple(likest[:most]), n)


def plain_text(text: str) -> str:
    """A label's words, without case, spaces and closing dots."""
    return re.sub(r"\s+", " ", text).strip().rstrip(".").casefold()


def _near(
    groups: Mapping[str, list[int]], labels: Mapping[int, LabelToScore], holds: Holds, seed: int
) -> Iterator[tuple[str, str, float]]:
    """Predicates that hold of SAME_TOKENS of the same tokens, with the share. groups: features by predicate."""
    by_sketch: dict[tuple[int, int], list[int]] = {}
    kept: dict[int, NDArray[np.int32]] = {}
    names = list(groups)
    orders: NDArray[np.int64] | None = None
    for number, name in enumerate(names):
        mask = holds(labels[groups[name][0]])
        if mask is None or not mask.any():
            continue
        if orders is None:
            random = np.random.default_rng((seed, 6))
            orders = np.stack([random.permutation(len(mask)) for _ in range(N_SKETCH)])
        kept[number] = at = np.flatnonzero(mask).astype(np.int32)
        for row, least in enumerate(orders[:, at].min(axis=1).tolist()):
            by_sketch.setdefault((row, least), []).append(number)
    pairs = {
        (one, other) for group in by_sketch.values() for place, one in enumerate(group) for other in group[place + 1 :]
    }
    for one, other in sorted(pairs):
        n_one, n_other = len(kept[one]), len(kept[other])
        if min(n_one, n_other) < SAME_TOKENS * max(n_one, n_other):
            continue  # too unlike in number to share so many
        both = len(np.intersect1d(kept[one], kept[other], assume_unique=True))
        likeness = both / (n_one + n_other - both)
        if likeness >= SAME_TOKENS:
            yield names[one], names[other], likeness


@dataclass(frozen=True)
class Contrast:
    """What tells one feature's firings from others'."""

    more: tuple[str, ...]
    """Tokens that it fires on more than they do, the clearest first."""
    less: tuple[str, ...]
    before: tuple[str, ...]
    """Tokens right before its firings, more than before theirs."""
    document: str | None
    """The document in which it fires more than they do, where one stands out."""
    overlap: float
    """Share of firings on the same tokens."""

    @property
    def says(self) -> bool:
        return bool(self.more or self.before or self.document)


class Contrasts:
    """Compares the firings of features on some of the panel's tokens."""

    def __init__(self, panel: Fired, passages: Passages, columns: Places) -> None:
        """passages: those that `panel` is of. columns: the panel's tokens that may be looked at."""
        self._panel, self._passages = panel, passages
        self._open = np.zeros(panel.n_tokens, np.bool_)
        self._open[columns] = True
        at, token = panel.tokens, passages.token
        piece = np.searchsorted(passages.start, at, side="right") - 1
        self._token = token[at].astype(np.int64)
        self._before = np.where(at > passages.start[piece], token[at - 1], -1).astype(np.int64)
        self._document = passages.document[piece].astype(np.int64)

    def of(self, feature: int, others: Iterable[int]) -> Contrast:
        """What tells a feature from some others, where it fires and they do not and the other way round."""
        ours = self._firings(feature)
        theirs = np.unique(np.concatenate([self._firings(other) for other in others]))
        more, less, overlap = _told(self._token, ours, theirs)
        before, _, _ = _told(self._before, ours, theirs)
        document, _, _ = _told(self._document, ours, theirs)
        texts = self._passages.texts
        return Contrast(
            more=tuple(texts[each] for each in more),
            less=tuple(texts[each] for each in less),
            before=tuple(texts[each] for each in before if each >= 0),
            document=self._passages.names[document[0]] if document else None,
            overlap=overlap,
        )

    def _firings(self, feature: int) -> Places:
        column = self._panel.of(feature)[0]
        return column[self._open[column]].astype(np.int64)


def _told(unit: Places, ours: Places, theirs: Places) -> tuple[list[int], list[int], float]:
    """Units more frequent among one set of firings than the other, and less; and the overlap of their shares."""
    kinds, kind = np.unique(unit[np.concatenate([ours, theirs])], return_inverse=True)
    if not len(ours) or not len(theirs):
        return [], [], 0.0
    a = np.asarray(np.bincount(kind[: len(ours)], minlength=len(kinds)), np.float64)
    b = np.asarray(np.bincount(kind[len(ours) :], minlength=len(kinds)), np.float64)
    prior = min(A0, len(ours), len(theirs)) * (a + b) / (a + b).sum()
    z = log_odds(a, b, prior)
    order = np.argsort(-z, kind="stable")
    more = [int(kinds[each]) for each in order[:N_TOLD] if z[each] > SIGNIFICANT]
    less = [int(kinds[each]) for each in order[::-1][:N_TOLD] if z[each] < -SIGNIFICANT]
    return more, less, float(np.minimum(a / a.sum(), b / b.sum()).sum())
