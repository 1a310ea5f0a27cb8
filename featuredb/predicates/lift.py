"""Which tokens, words and pairs of tokens stand out where a feature fires, and the sets of them that tell it best.

Rule: counts in, sets out, for one feature at a time; whether a set is a good label is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from featuredb.labels.fit import Floats, Mask, Places, Sample, kappa
from featuredb.predicates.expression import MAX_LENGTH, Expression
from featuredb.predicates.tagged import Tagged, has_affix

A0 = 500.0
"""Weight of the prior, in tokens: how many firings it takes to outweigh what all text says of a token."""

DOUBT = 0.5
"""Standard errors by which the firings of each unit are counted fewer than were seen."""

SIGNIFICANT = 1.96
"""Standard errors that a unit's log odds have to stand above those elsewhere."""

SIZES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64)
"""How many tokens or words a set may hold."""

Ids = NDArray[np.int32]


def log_odds(firing: Floats, silent: Floats, prior: Floats) -> Floats:
    """(n,) how far each unit's log odds among firings lie above those elsewhere, in standard errors.

    firing, silent: (n,) counts; prior: (n,) the unit's share of all text times A0.
    Source: the informative Dirichlet prior of Monroe, Colaresi and Quinn (2008), Political Analysis 16(4).
    """
    one, other = firing + prior, silent + prior
    rest_one = max(1e-9, firing.sum() + A0) - one
    rest_other = max(1e-9, silent.sum() + A0) - other
    difference = np.log(one / np.maximum(rest_one, 1e-9)) - np.log(other / np.maximum(rest_other, 1e-9))
    found: Floats = difference / np.sqrt(1 / one + 1 / other)
    return found


@dataclass(frozen=True)
class Family:
    """One way to cut text into units: every token of the passages is, or has before it, one unit or none."""

    name: str
    unit: Ids
    """(N,) the unit of each token; -1 where it has none."""
    n_units: int
    say: Callable[[Sequence[int]], Expression]
    """The expression that holds of some units."""
    show: Callable[[int], str]
    """One unit's text."""


class Families:
    """Tokens, words, pairs of tokens and the token before, over the passages of one half."""

    def __init__(self, tagged: Tagged) -> None:
        self._tagged = tagged
        self._texts = tagged.passages.texts

    @cached_property
    def all(self) -> tuple[Family, ...]:
        near = (self.token, self.word, self.before, self.after, self.pair, self.follows)
        return *near, *(self.affix(side, n) for side in ("begins", "ends") for n in (2, 3))

    @cached_property
    def token(self) -> Family:
        texts = self._texts
        distinct, unit = np.unique(self._tagged.passages.token, return_inverse=True)
        ids = distinct.tolist()
        return Family(
            "token",
            unit.astype(np.int32),
            len(ids),
            lambda units: {"token": [texts[ids[each]] for each in units]},
            lambda each: texts[ids[each]],
        )

    @cached_property
    def before(self) -> Family:
        """The token before, in the same piece."""
        token = self.token
        unit = np.full(len(token.unit), -1, np.int32)
        unit[1:] = token.unit[:-1]
        unit[self._tagged.view.within == 0] = -1
        return Family("before", unit, token.n_units, lambda units: {"before": token.say(units)}, token.show)

    @cached_property
    def after(self) -> Family:
        """The token after, in the same piece."""
        token = self.token
        unit = np.full(len(token.unit), -1, np.int32)
        unit[:-1] = token.unit[1:]
        unit[self._tagged.passages.start[1:] - 1] = -1
        return Family("after", unit, token.n_units, lambda units: {"after": token.say(units)}, token.show)

    @cached_property
    def pair(self) -> Family:
        """A token with the one before it."""
        this, before = self.token, self.before
        whole = before.unit >= 0
        key = before.unit[whole].astype(np.int64) * this.n_units + this.unit[whole]
        distinct, found = np.unique(key, return_inverse=True)
        unit = np.full(len(this.unit), -1, np.int32)
        unit[whole] = found

        def parts(each: int) -> list[str]:
            return [this.show(int(distinct[each]) // this.n_units), this.show(int(distinct[each]) % this.n_units)]

        return Family(
            "pair",
            unit,
            len(distinct),
            lambda units: {"sequence": [parts(each) for each in units]},
            lambda each: "".join(parts(each)),
        )

    @cached_property
    def word(self) -> Family:
        """The whole word, of letters alone, that a token is a piece of."""
        return self._of_words("word", self._tagged.view.word, lambda word: word if len(word) <= MAX_LENGTH else None)

    @cached_property
    def follows(self) -> Family:
        """The word before that one."""
        return self._of_words(
            "follows", self._tagged.view.word_before, lambda word: word if len(word) <= MAX_LENGTH else None
        )

    def affix(self, side: Literal["begins", "ends"], n: int) -> Family:
        """The first or last n letters of a longer word, in lower case."""

        def cut(word: str) -> str | None:
            part = word[:n].lower() if side == "begins" else word[-n:].lower()
            return part if len(part) == n and has_affix(word, side, [part]) else None

        return self._of_words(side, self._tagged.view.word, cut, f"{side} {n}")

    def _of_words(self, operator: str, words: Ids, cut: Callable[[str], str | None], name: str | None = None) -> Family:
        """A family whose units are parts of words. words: (N,) each token's, by number in the text's words."""
        runs = self._tagged.view.text.words
        known: dict[str, int] = {}
        parts = [cut(string) for string in runs.strings]
        numbers = np.array([-1 if part is None else known.setdefault(part, len(known)) for part in parts], np.int32)
        strings = list(known)
        of_word = np.append(numbers[runs.string], -1) if len(numbers) else np.array([-1])
        return Family(
            name or operator,
            of_word[words].astype(np.int32),
            len(strings),
            lambda units: {operator: [strings[each] for each in units]},
            lambda each: strings[each],
        )


@dataclass(frozen=True)
class UnitSet:
    """Some units of a family that tell where a feature fires, the one that tells most first."""

    family: Family
    units: tuple[int, ...]
    kappa: float

    @property
    def expression(self) -> Expression:
        return self.family.say(self.units)


class UnitIndex:
    """Where each unit of a family is, among some tokens."""

    def __init__(self, family: Family, tokens: Places) -> None:
        units = family.unit[tokens]
        self._order: Places = np.argsort(units, kind="stable")
        self._first: Places = np.searchsorted(units[self._order], np.arange(family.n_units + 1))
        self.count: Floats = np.diff(self._first).astype(np.float64)
        """(n_units,) how many of the tokens have each unit."""

    def places(self, units: Sequence[int]) -> Places:
        """The tokens that have one of some units, as indices into `tokens`."""
        return np.concatenate([self._order[self._first[each] : self._first[each + 1]] for each in units])


class Lift:
    """Finds the sets of one family's units, by counts over some tokens of the panel."""

    def __init__(self, family: Family, panel: Places, piece: Ids) -> None:
        """panel: the tokens of the panel that count. piece: (N,) the piece of a document that each token lies in."""
        self.family = family
        self._piece = piece
        self.index = UnitIndex(family, panel)
        self._on_panel = self.index.count
        self._n_panel = len(panel)

    def sets(self, sample: Sample, weight: Floats, kept: Mask) -> dict[int, UnitSet]:
        """For each of SIZES the set of that many units with the highest kappa, by size.

        weight: (n,) of the sample's firings; kept: those of them in the part of the text that is counted.
        """
        units, r, silent, n_silent = self._counts(sample, weight, kept)
        if not len(units):
            return {}
        # Of thousands of rare units some fire once by chance: none counts for all that was seen of it.
        seen = self._seen(sample, kept, units)
        r = sample.density * r * (1 - DOUBT / np.sqrt(seen))
        d, s = sample.density, (1 - sample.density) * silent / n_silent
        doubt = (1 - d) * 0.5 / n_silent
        # kappa = 2 (r - d b) / (d + b - 2 d b), for b the share of tokens a set holds of, is highest for the set of the
        # units with r > (d + kappa (1 - 2 d) / 2) b; found by going on from a guess. The same for F1 has Lipton, Elkan
        # and Naryanaswamy (2014), ECML.
        best, b = 0.0, r + s + doubt
        for _ in range(20):
            chosen = r > (d + best * (0.5 - d)) * b
            both, held = float(r[chosen].sum()), float(b[chosen].sum())
            found = 2 * (both - d * held) / (d + held - 2 * d * held)
            if found <= best + 1e-9:
                break
            best = found
        gain = r - (d + best * (0.5 - d)) * b
        order = np.lexsort((units, -gain))[: max(SIZES)]
        order = order[gain[order] > 0]
        skill = kappa(np.cumsum(r[order]), np.cumsum((r + s)[order]), d)
        picked = units[order].tolist()
        return {n: UnitSet(self.family, tuple(picked[:n]), float(skill[n - 1])) for n in SIZES if n <= len(picked)}

    def lifted(self, sample: Sample, kept: Mask, n: int) -> list[tuple[int, float]]:
        """The n units with the highest log odds, activation-weighted, and those; only ones above 1.96."""
        weight = sample.weights(kept)
        strength = np.abs(sample.activation.astype(np.float64))
        mean = float(weight @ strength)
        units, r, silent, _ = self._counts(sample, weight * strength / max(mean, 1e-12), kept)
        if not len(units):
            return []
        firing = r * kept.sum()
        prior = A0 * (self._on_panel[units] + 0.5) / (self._n_panel + 0.5 * self.family.n_units)
        # All other units are one more, so that the odds are those among all text.
        rest = np.append(silent, max(0.0, self._n_panel - silent.sum()))
        z = log_odds(np.append(firing, 0.0), rest, np.append(prior, max(1e-9, A0 - prior.sum())))[:-1]
        order = np.lexsort((units, -z))[:n]
        return [(int(units[place]), float(z[place])) for place in order if z[place] > SIGNIFICANT]

    def leading(self, sample: Sample, units: Sequence[int]) -> UnitSet:
        """Of the sets that the first one, two, ... of some units make, the one with the highest kappa."""
        kept = np.ones(len(sample.at), np.bool_)
        known, r, silent, n_silent = self._counts(sample, sample.weights(), kept)
        place = np.searchsorted(known, units)
        r, s = sample.density * r[place], (1 - sample.density) * silent[place] / n_silent
        skill = kappa(np.cumsum(r), np.cumsum(r + s), sample.density)
        best = int(skill.argmax())
        return UnitSet(self.family, tuple(units[: best + 1]), float(skill[best]))

    def _counts(self, sample: Sample, weight: Floats, kept: Mask) -> tuple[Places, Floats, Floats, float]:
        """The units of the firings, their weight, how many silent panel tokens have each, and how many there are."""
        unit = self.family.unit[sample.at]
        used = kept & (unit >= 0)
        units, place = np.unique(unit[used], return_inverse=True)
        r = np.bincount(place, weight[used], len(units))
        fires = np.bincount(place, sample.on_panel[used].astype(np.float64), len(units))
        n_silent = max(1.0, self._n_panel - float((kept & sample.on_panel).sum()))
        silent: Floats = np.maximum(self._on_panel[units] - fires, 0)
        return units.astype(np.int64), r.astype(np.float64), silent, n_silent

    def _seen(self, sample: Sample, kept: Mask, units: Places) -> Floats:
        """(len(units),) in how many pieces of documents each unit fires: in one piece, firings come in runs."""
        at = sample.at[kept]
        unit = self.family.unit[at]
        place = np.searchsorted(units, unit[unit >= 0])
        both = np.unique(place.astype(np.int64) << 32 | self._piece[at[unit >= 0]])
        return np.bincount(both >> 32, minlength=len(units)).astype(np.float64)
