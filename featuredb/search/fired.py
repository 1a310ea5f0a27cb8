"""What a dictionary's activations on some texts come to: for each text and feature one figure, its peak and its score.

Rule: arrays in, arrays out. Nothing is loaded, named or written here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from featuredb.capture.encode import Activations
from featuredb.errors import BadInput, nearest
from featuredb.search.passes import CutTexts
from featuredb.search.running import Figures

By = Literal["max", "mean", "last"]
"""What a feature is taken to do on a text: its largest activation, its mean over the tokens, or that at the last."""

SAME = 0.01
"""Activations on both sides of a contrast that differ by less than this share of the larger count as equal: the same
text run in another batch differs by rounding, which bfloat16 makes visible."""


@dataclass(frozen=True, slots=True, eq=False)
class Fired:
    """What fires on some texts; an entry for each text and each feature that fires on it, by text, then feature."""

    text: NDArray[np.int64]
    feature: NDArray[np.int64]
    value: NDArray[np.float64]
    """By the measure that was asked for; may be 0 at the last token."""
    largest: NDArray[np.float64]
    """Size of its largest activation on the text."""
    peak: NDArray[np.int64]
    """The row of that one, the first of several."""
    start: NDArray[np.int64]
    """(n + 1,) rows and activations of entry i are those from start[i] up to start[i + 1], by row."""
    row: NDArray[np.int64]
    activation: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.feature)

    def along(self, entry: int, texts: CutTexts) -> NDArray[np.float32]:
        """The feature's activation at each token of the entry's text."""
        first, end = texts.starts[self.text[entry]], texts.starts[self.text[entry] + 1]
        part = slice(self.start[entry], self.start[entry + 1])
        activations = np.zeros(end - first, dtype=np.float32)
        activations[self.row[part] - first] = self.activation[part]
        return activations

    def at(self, entry: int, by: By, texts: CutTexts) -> int:
        """The row that stands for the entry: its peak, or the text's last token."""
        return int(texts.last[self.text[entry]] if by == "last" else self.peak[entry])


def check_by(by: str) -> None:
    """Raises BadInput for a measure that there is not."""
    if by not in get_args(By):
        raise BadInput(f"no measure {by!r}", hint=nearest(by, get_args(By), otherwise="max, mean or last"))


def fired(found: Activations, n_features: int, texts: CutTexts, by: By) -> Fired:
    """found: a dictionary's activations by row of the texts, in any order."""
    row = found.row.astype(np.int64)
    # One number tells text, feature and row, in this order, for one sort is several times faster than three.
    text = np.searchsorted(texts.starts, row, side="right") - 1
    key = (text * n_features + found.feature) * texts.n_rows + row
    order = np.argsort(key)
    row, activation = row[order], found.activation[order]
    group = key[order] // texts.n_rows
    first = np.flatnonzero(np.diff(group, prepend=-1))
    start = np.append(first, len(group))
    size = np.abs(activation)
    largest = np.maximum.reduceat(size, first) if len(first) else size
    # The first row of each entry at which the size is the largest.
    entry = np.repeat(np.arange(len(first)), np.diff(start))
    at_largest = np.flatnonzero(size == largest[entry])
    peak = at_largest[np.diff(entry[at_largest], prepend=-1) > 0]
    text, feature = np.divmod(group[first], n_features)
    return Fired(
        text=text,
        feature=feature,
        value=_values(activation, row, text, first, start, peak, texts, by),
        largest=largest.astype(np.float64),
        peak=row[peak],
        start=start,
        row=row,
        activation=activation,
    )


def _values(
    activation: NDArray[np.float32],
    row: NDArray[np.int64],
    text: NDArray[np.int64],
    first: NDArray[np.int64],
    start: NDArray[np.int64],
    peak: NDArray[np.int64],
    texts: CutTexts,
    by: By,
) -> NDArray[np.float64]:
    if by == "max" or not len(first):
        return activation[peak].astype(np.float64)
    if by == "mean":
        summed: NDArray[np.float64] = np.add.reduceat(activation.astype(np.float64), first)
        return summed / texts.n_ordinary[text]
    last = start[1:] - 1  # rows of an entry are in order
    return np.where(row[last] == texts.last[text], activation[last], 0).astype(np.float64)


def scores(
    value: NDArray[np.float64], feature: NDArray[np.int64], largest: NDArray[np.float64], figures: Figures
) -> NDArray[np.float64]:
    """What some values say: each as a share of the largest activation its feature is known to have, times its surprise.

    largest: the largest met here, which is what is known where it passes the run's.
    """
    known = np.maximum(np.maximum(figures.largest[feature], largest), np.finfo(np.float32).tiny)
    score: NDArray[np.float64] = np.abs(value) / known * figures.surprise[feature]
    return score


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Features in order, the first the one that says most; ties by index."""

    feature: NDArray[np.int64]
    entry: NDArray[np.int64]
    """Of the text that each is shown on."""
    value: NDArray[np.float64]
    contrast: NDArray[np.float64] | None
    """The value on the other side; None where there is none."""
    score: NDArray[np.float64]
    n_texts: NDArray[np.int64]
    """On how many texts it fires."""

    def head(self, n: int | None) -> Ranked:
        """The first n; all where None."""
        return self if n is None else self._taken(np.arange(len(self.feature))[:n])

    def only(self, features: NDArray[np.int64]) -> Ranked:
        """Those among some features."""
        return self._taken(np.flatnonzero(np.isin(self.feature, features)))

    def _taken(self, places: NDArray[np.int64]) -> Ranked:
        return Ranked(
            self.feature[places],
            self.entry[places],
            self.value[places],
            None if self.contrast is None else self.contrast[places],
            self.score[places],
            self.n_texts[places],
        )


def rank(here: Fired, figures: Figures, text: int | None = None) -> Ranked:
    """Each feature by its best score on any of the texts, and the first text on which it has that.

    text: look at this one alone.
    """
    entries = np.flatnonzero(here.value != 0 if text is None else (here.value != 0) & (here.text == text))
    feature, value = here.feature[entries], here.value[entries]
    score = scores(value, feature, here.largest[entries], figures)
    order = np.lexsort((here.text[entries], -score, feature))
    starts = np.flatnonzero(np.diff(feature[order], prepend=-1))
    n_texts = np.diff(starts, append=len(order))
    best = order[starts]
    found = feature[best]
    by_score = np.lexsort((found, -score[best]))
    best = best[by_score]
    return Ranked(found[by_score], entries[best], value[best], None, score[best], n_texts[by_score])
