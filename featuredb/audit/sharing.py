"""Labels that several features have, and what tells those features apart.

Labels are one where their words are the same, case and spaces aside, where they have the same executable part, or
where their executable parts hold of nearly the same tokens.

Rule: labels and counts in, groups and contrasts out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

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


def sharing(labels: Iterable[LabelToScore], holds: Holds, seed: int) -> dict[int, list[Shared]]:
    """For each feature the others that have its label, the likest first; features without any are there too.

    holds: (N,) the tokens that a label holds of, or None where that cannot be told.
    """
    known = {label.feature: label for label in labels}
    found: dict[int, dict[int, Shared]] = {feature: {} for feature in known}
    by_text: dict[str, list[int]] = {}
    by_predicate: dict[str, list[int]] = {}
    for feature, label in known.items():
        if label.text.startswith(UNCLEAR):
            continue  # it claims nothing that could be true of two features
        by_text.setdefault(plain_text(label.text), []).append(feature)
        if label.predicate is not None:
            by_predicate.setdefault(json.dumps(label.predicate, sort_keys=True), []).append(feature)
    near = _near(by_predicate, known, holds, seed)
    for how, groups in (("tokens", near), ("predicate", _of_one(by_predicate)), ("text", _of_one(by_text))):
        for one, other, likeness in groups:
            found[one][other] = Shared(other, how, likeness)
            found[other][one] = Shared(one, how, likeness)
    return {
        feature: sorted(others.values(), key=lambda shared: (-shared.likeness, shared.other))
        for feature, others in found.items()
    }


def plain_text(text: str) -> str:
    """A label's words, without case, spaces and closing dots."""
    return re.sub(r"\s+", " ", text).strip().rstrip(".").casefold()


def _of_one(groups: Mapping[str, list[int]]) -> Iterable[tuple[int, int, float]]:
    for members in groups.values():
        for place, one in enumerate(members):
            yield from ((one, other, 1.0) for other in members[place + 1 :])


def _near(
    groups: Mapping[str, list[int]], labels: Mapping[int, LabelToScore], holds: Holds, seed: int
) -> Iterable[tuple[int, int, float]]:
    """Features of different predicates that hold of SAME_TOKENS of the same tokens."""
    by_sketch: dict[tuple[int, int], list[int]] = {}
    kept: dict[int, tuple[NDArray[np.uint8], int]] = {}
    members = list(groups.values())
    orders: NDArray[np.int64] | None = None
    for number, group in enumerate(members):
        mask = holds(labels[group[0]])
        if mask is None or not mask.any():
            continue
        if orders is None:
            random = np.random.default_rng((seed, 6))
            orders = np.stack([random.permutation(len(mask)) for _ in range(N_SKETCH)])
        at = np.flatnonzero(mask)
        kept[number] = np.packbits(mask), len(at)
        for row, least in enumerate(orders[:, at].min(axis=1).tolist()):
            by_sketch.setdefault((row, least), []).append(number)
    pairs = {
        (one, other) for group in by_sketch.values() for place, one in enumerate(group) for other in group[place + 1 :]
    }
    for one, other in sorted(pairs):
        (a, n_a), (b, n_b) = kept[one], kept[other]
        both = int(np.bitwise_count(a & b).sum())
        likeness = both / (n_a + n_b - both)
        if likeness >= SAME_TOKENS:
            yield from ((x, y, likeness) for x in members[one] for y in members[other])


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
