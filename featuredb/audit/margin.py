"""Whether a feature's own label fits it better than labels of other features do: figures of several kinds as one.

1.  Every channel gives each label a figure on the same feature: the own label's, those of decoys, drawn from features
    that fire about as often, and those of rivals, the likeliest to be mistaken for it. What makes one feature harder
    than another falls out, for all of them meet the same firings.
2.  Figures become steps above the decoys' median: asinh of standard deviations. Those up to BEND and those beyond are
    weighed apart, for near the median steps are noise.
3.  Channels are weighed by what they are worth in this dictionary: a logistic regression tells features' own labels
    from decoys' labels. Wrong labels among the own ones cost it power, and do not mislead it, for they are decoys.
4.  The decoys' weighted sums are the null of a random label; `p_random` is the share of them that is as high. What is
    left of the own labels' sums when the share of wrong ones is taken off is the null of a sound label; `p_sound` is
    the share of that as low. A wrong label is as likely above the decoys' median as below, and a sound one hardly ever
    below, so the share of wrong ones is twice the share of own labels below it.
5.  Labels are ordered by their support: the sum, less what the best rival has more than it. A rival is no random
    label, so it takes no part in the nulls.

Rule: arrays in, arrays out; where figures come from is the channels' business. Sources: Storey (2002), JRSS B 64(3),
for the share of wrong ones; Efron (2004), JASA 99(465), for a null that is told by the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Mask = NDArray[np.bool_]

BEND = 1.5
"""Where steps begin to tell: asinh of 2.1 standard deviations."""

POOLED = 0.5
"""What the spread common to all features counts for beside a feature's own, when decoys are few."""

ENOUGH = 100
"""Features from which weights and the null of a sound label are told; where there are fewer, channels weigh alike."""

RIDGE = 1.0
"""How strongly weights are held to those of channels whose worth is not known."""

AT_ONCE, MOST_WEIGHED = 2_048, 20_000
"""Features looked at in one go, and those by which it is told what channels are worth."""

BELOW = 0.3
"""What steps up to BEND weigh beside those beyond, where it is not known."""


class Steps:
    """How far figures lie above the decoys' median, as asinh of standard deviations, those up to BEND and those beyond
    apart. What has no figure stands at the median.
    """

    def __init__(self, decoys: Floats32) -> None:
        """decoys: (F, C, m) figures, NaN where a label has none."""
        n, n_channels, _ = decoys.shape
        self._middle = np.zeros((n, n_channels))
        variance, count = np.zeros((n, n_channels)), np.zeros((n, n_channels), np.int64)
        for part in _parts(n):
            theirs = decoys[part].astype(np.float64)
            known = ~np.isnan(theirs)
            count[part] = known.sum(axis=2)
            self._middle[part] = _nanmedian(theirs)
            away = np.where(known, (theirs - self._middle[part][..., None]) ** 2, 0)
            variance[part] = away.sum(axis=2) / np.maximum(count[part], 1)
        common = np.array([_typical(variance[:, channel], count[:, channel]) for channel in range(n_channels)])
        self._spread = np.sqrt((1 - POOLED) * variance + POOLED * common) + 1e-9

    def of(self, values: Floats32, part: slice | NDArray[np.int64]) -> Floats:
        """(k, 2 C, m) of the figures of some features. values: (F, C, m)"""
        above = (values[part] - self._middle[part][..., None]) / self._spread[part][..., None]
        found = np.arcsinh(np.nan_to_num(above))
        return np.concatenate([np.minimum(found, BEND), np.maximum(found - BEND, 0)], axis=1)


def _parts(n: int) -> Iterator[slice]:
    return (slice(start, min(start + AT_ONCE, n)) for start in range(0, n, AT_ONCE))


def _nanmedian(values: Floats) -> Floats:
    """Medians along the last axis, quietly 0 where nothing is known."""
    if not values.shape[-1]:
        return np.zeros(values.shape[:-1])
    filled = np.where(np.isnan(values).all(axis=-1, keepdims=True), 0.0, values)
    found: Floats = np.nanmedian(filled, axis=-1)
    return found


def _typical(variance: Floats, count: NDArray[np.int64]) -> float:
    known = variance[count > 1]
    return float(np.median(known)) if len(known) else 1.0


def weights(own: Floats, decoys: Floats, there: Mask, usual: Floats) -> Floats:
    """(C,) what steps are worth, none below 0.

    own: (F, C); decoys: (F, C, m); there: (F, m) which decoys there are; usual: (C,) what steps are taken to be worth
    where too few labels tell.
    """
    n, n_channels, m = decoys.shape
    if n < ENOUGH or m == 0:
        return usual
    table = np.concatenate([own, np.moveaxis(decoys, 1, 2).reshape(-1, n_channels)])
    table = np.column_stack([table, np.ones(len(table))])
    right = np.arange(len(table)) < n
    counts = np.append(np.ones(n), there.ravel() / m)
    centre = np.append(usual, 0.0)
    hold = np.diag(np.append(np.full(n_channels, RIDGE), 0.0))
    found = np.zeros(n_channels + 1)
    for _ in range(50):  # Newton's method, by short steps
        chance = 1 / (1 + np.exp(-np.clip(table @ found, -30, 30)))
        slope = table.T @ (counts * (right - chance)) - hold @ (found - centre)
        curve = (table * (counts * chance * (1 - chance))[:, None]).T @ table + hold
        move = np.linalg.solve(curve, slope)
        found = found + move / max(1.0, float(np.abs(move).max()))
        if np.abs(move).max() < 1e-6:
            break
    return np.maximum(found[:-1], 0.0)


@dataclass(frozen=True)
class Margins:
    """What became of F features, each (F,)."""

    support: Floats
    p_random: Floats
    """Share of random labels whose sum is as high or higher."""
    p_sound: Floats
    """Share of sound labels whose sum is as low or lower; NaN where too few labels tell."""
    share_wrong: float
    """Of the own labels; NaN where too few tell."""
    best_rival: NDArray[np.int64]
    """Which rival, or decoy past the rivals, is supported best; -1 where there is none."""


def margins(own: Floats32, decoys: Floats32, rivals: Floats32, usual: Floats) -> Margins:
    """Own labels against decoys and rivals.

    own: (F, C) figures, higher fits better; decoys: (F, C, m); rivals: (F, C, r), NaN in all channels where there are
    fewer; usual: (C,) what channels are worth where too few labels tell. Some features at a time are looked at, and
    what channels are worth is told by MOST_WEIGHED of them, evenly chosen.
    """
    n, m, r = len(own), decoys.shape[2], rivals.shape[2]
    steps, own = Steps(decoys), own[..., None]
    some = np.unique(np.linspace(0, n - 1, min(n, MOST_WEIGHED)).round().astype(np.int64))
    there = np.asarray(~np.isnan(decoys).all(axis=1), np.bool_)
    weight = weights(
        steps.of(own, some)[..., 0], steps.of(decoys, some), there[some], np.concatenate([BELOW * usual, usual])
    )
    support, rival, best = np.zeros(n), np.full(n, -np.inf), np.full(n, -1)
    theirs = np.zeros((n, m))
    for part in _parts(n):
        support[part] = np.moveaxis(steps.of(own, part), 1, 2)[:, 0] @ weight
        against = np.moveaxis(steps.of(rivals, part), 1, 2) @ weight
        against[np.isnan(rivals[part]).all(axis=1)] = -np.inf
        others = np.moveaxis(steps.of(decoys, part), 1, 2) @ weight
        others[~there[part]] = -np.inf
        theirs[part] = others
        rival[part] = against.max(axis=1, initial=-np.inf)
        if m + r:
            best[part] = np.concatenate([against, others], axis=1).argmax(axis=1)
    p_random, p_sound, wrong = _placed(support, np.sort(theirs[np.isfinite(theirs)]))
    return Margins(support + np.minimum(support - rival, 0), p_random, p_sound, wrong, best)


def _placed(support: Floats, null: Floats) -> tuple[Floats, Floats, float]:
    """Among random labels and among sound ones, and the share of wrong ones. null: sorted, of random labels."""
    n = len(support)
    above = len(null) - np.searchsorted(null, support - 1e-12, side="left")
    p_random = (1 + above) / (1 + len(null))
    if n < ENOUGH or not len(null):
        return p_random, np.full(n, np.nan), float("nan")
    wrong = min(1.0, 2 * float(np.mean(p_random > 0.5)))
    return p_random, sound_tail(support, null, wrong), wrong


def sound_tail(support: Floats, null: Floats, wrong: float) -> Floats:
    """(F,) share of sound labels with a support as low as each. null: sorted, of random labels; wrong: their share."""
    order = np.argsort(support, kind="stable")
    ordered = support[order]
    all_below = np.searchsorted(ordered, ordered, side="right") / len(ordered)
    random_below = np.searchsorted(null, ordered, side="right") / len(null)
    sound = (all_below - wrong * random_below) / max(1e-9, 1 - wrong)
    tail = np.clip(np.maximum.accumulate(sound), 1 / (1 + len(ordered)), 1)
    found = np.empty(len(support))
    found[order] = tail
    return found
