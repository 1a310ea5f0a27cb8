"""Expressions that may tell where a feature fires: the best of each form, by kappa over one part of the documents.

Forms: a predicate; a set of tokens, words, beginnings or ends of words, pairs of tokens, or of tokens or words beside;
two predicates (both, either, one but not the other); a set and a predicate. Rule: counts decide here; nothing is
checked on other text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from featuredb.labels.fit import PRIOR, Floats, Mask, Places, Sample, kappa
from featuredb.predicates.bank import BANK
from featuredb.predicates.expression import Expression
from featuredb.predicates.lift import Family, Lift, UnitIndex, UnitSet
from featuredb.predicates.tagged import Tagged

NAMES = tuple(BANK)

N_PARTNERS = 40
"""Predicates that are tried in twos."""

PROMISING = 0.5
"""Sets are tried with a predicate where they reach this share of the best kappa so far."""

SIZE_LEVELS = ((1, 0.0), (2, 0.5), (5, 1.0), (1 << 30, 3.0))
"""Up to how many units a set is how far from simple: one token is as simple as a predicate, five simpler than two."""

Join = Literal["alone", "both", "either", "but"]


@dataclass(frozen=True)
class Candidate:
    """One or two parts: a set, a predicate by its place in the bank, or a set before a predicate."""

    join: Join
    parts: tuple[int | UnitSet, ...]
    kappa: float
    """On the part of the documents it was found on."""

    @cached_property
    def level(self) -> float:
        """How far from simple it is."""
        first = self.parts[0]
        level = {"alone": 0.0, "both": 2.0, "either": 3.0, "but": 3.0}[self.join]
        if isinstance(first, UnitSet):
            size = len(first.units)
            level += next(found for most, found in SIZE_LEVELS if size <= most) + (first.family.name == "pair")
        return level

    @property
    def expression(self) -> Expression:
        said: list[Expression] = [
            {"is": NAMES[part]} if isinstance(part, int) else part.expression for part in self.parts
        ]
        if self.join == "alone":
            return said[0]
        if self.join == "either":
            return {"any": said}
        return {"all": [said[0], {"not": said[1]} if self.join == "but" else said[1]]}

    def holds(self, bank: NDArray[np.bool_], units: dict[str, NDArray[np.int32]]) -> Mask:
        """(m,) where it holds, of m tokens. bank: (P, m) where each predicate does; units: by family, (m,)."""
        first, *rest = (
            bank[part] if isinstance(part, int) else among(part, units[part.family.name]) for part in self.parts
        )
        return first if not rest else _JOINED[self.join](first, rest[0])

    def places(self, bank: NDArray[np.bool_], index: dict[str, UnitIndex]) -> Places:
        """The same as indices of those tokens, in no order. index: by family, over the m tokens."""
        first = self.parts[0]
        if isinstance(first, int):
            return np.flatnonzero(self.holds(bank, {}))
        found = index[first.family.name].places(first.units)
        if self.join == "alone":
            return found
        second = self.parts[1]
        assert isinstance(second, int)
        narrowed: Places = found[bank[second][found] != (self.join == "but")]
        return narrowed


_JOINED = {"both": np.logical_and, "either": np.logical_or, "but": np.greater}


def among(part: UnitSet, units: NDArray[np.int32]) -> Mask:
    """Whether each unit is one of a set's; -1 never is."""
    table = np.zeros(part.family.n_units + 1, np.bool_)
    table[list(part.units)] = True
    found: Mask = table[units]
    return found


class Search:
    """Finds candidates on some of the panel's tokens."""

    def __init__(self, tagged: Tagged, panel_at: Places, families: Sequence[Family]) -> None:
        """panel_at: the tokens of the panel that count."""
        self._n_panel = len(panel_at)
        rows = tagged.rows(panel_at)
        self._rows = rows
        counted = rows.astype(np.float32)
        self._both: Floats = (counted.T @ counted).astype(np.float64)
        """(P, P) tokens of the panel that two predicates hold of."""
        self._count: Floats = np.diag(self._both).copy()
        self._families = families
        self._lifts = [Lift(family, panel_at, tagged.view.piece) for family in families]
        self._index = {lift.family.name: lift.index for lift in self._lifts}

    def candidates(self, sample: Sample, rows: NDArray[np.uint8], kept: Mask) -> list[Candidate]:
        """The best of each form. rows: (n, P) the bank at the sample's firings; kept: those of them that count."""
        weight = sample.strengths(kept)
        used = np.flatnonzero(weight > 0)
        if not len(used):
            return []
        known = _Known(self, sample, rows[used].astype(np.float32), weight[used], sample.on_panel[used])
        found = [*known.alone(), *known.twos()]
        sets = [each for lift in self._lifts for each in _sets(lift.sets(sample, weight, kept))]
        found += [Candidate("alone", (each,), each.kappa) for each in sets]
        best = max(each.kappa for each in found)
        for each in sets:
            if each.kappa >= PROMISING * best:
                firing = among(each, each.family.unit[sample.at[used]])
                found += known.with_predicate(each, firing, self._index[each.family.name].places(each.units))
        return found


def _sets(by_size: dict[int, UnitSet]) -> Iterator[UnitSet]:
    """The best set of each level."""
    low = 0
    for high, _ in SIZE_LEVELS:
        fitting = [found for size, found in by_size.items() if low < size <= high]
        if fitting:
            yield max(fitting, key=lambda each: each.kappa)
        low = high


class _Known:
    """The counts of one feature's firings under every predicate."""

    def __init__(
        self, search: Search, sample: Sample, rows: NDArray[np.float32], weight: Floats, on_panel: Mask
    ) -> None:
        self._search = search
        self._density = sample.density
        self._rows = rows
        self._weight = weight.astype(np.float32)
        self._on_panel = on_panel.astype(np.float32)
        self._n_silent = search._n_panel - float(on_panel.sum()) + 2 * PRIOR
        self._r: Floats = (self._weight @ rows).astype(np.float64)
        self._s: Floats = (search._count - self._on_panel @ rows + PRIOR) / self._n_silent

    def _kappa(self, r: Floats, s: Floats) -> Floats:
        both = self._density * r
        return kappa(both, both + (1 - self._density) * s, self._density)

    def alone(self) -> Iterator[Candidate]:
        """The two best predicates."""
        skill = self._kappa(self._r, self._s)
        for place in np.argsort(-skill)[:2].tolist():
            yield Candidate("alone", (place,), float(skill[place]))

    def twos(self) -> Iterator[Candidate]:
        """The best two predicates, for each way of joining them."""
        chosen = self._partners()
        r, s = self._r[chosen], self._s[chosen]
        part = self._rows[:, chosen]
        both_r = (part * self._weight[:, None]).T @ part
        fires = (part * self._on_panel[:, None]).T @ part
        both_s = (self._search._both[np.ix_(chosen, chosen)] - fires + PRIOR) / self._n_silent
        forms: tuple[tuple[Join, Floats, Floats], ...] = (
            ("both", both_r, both_s),
            ("either", r[:, None] + r - both_r, s[:, None] + s - both_s),
            ("but", r[:, None] - both_r, np.maximum(s[:, None] - both_s, PRIOR / self._n_silent)),
        )
        for join, joined_r, joined_s in forms:
            skill = self._kappa(joined_r, joined_s)
            np.fill_diagonal(skill, -1)
            first, second = np.unravel_index(int(skill.argmax()), skill.shape)
            parts = (int(chosen[first]), int(chosen[second]))
            yield Candidate(join, parts, float(skill[first, second]))

    def with_predicate(self, found: UnitSet, firing: Mask, panel: Places) -> Iterator[Candidate]:
        """The set with the predicate that narrows it best, and with the one that it is best taken out of."""
        """firing: (n,) which of the firings it holds of; panel: the tokens of the panel it holds of."""
        marked = firing.astype(np.float32)
        both = np.stack([self._weight, self._on_panel])[:, firing] @ self._rows[firing]
        r, fires = both[0].astype(np.float64), both[1]
        there = self._search._rows[panel].sum(axis=0, dtype=np.int64)
        s = (there - fires + PRIOR) / self._n_silent
        whole_r = float(self._weight @ marked)
        whole_s = (len(panel) - float(self._on_panel @ marked) + PRIOR) / self._n_silent
        forms: tuple[tuple[Join, Floats, Floats], ...] = (
            ("both", r, s),
            ("but", whole_r - r, np.maximum(whole_s - s, PRIOR / self._n_silent)),
        )
        for join, joined_r, joined_s in forms:
            skill = self._kappa(joined_r, joined_s)
            place = int(skill.argmax())
            yield Candidate(join, (found, place), float(skill[place]))

    def _partners(self) -> NDArray[np.int64]:
        """Predicates worth trying in twos: those with the best F1, and those that firings have most more often."""
        skill = self._kappa(self._r, self._s)
        first = np.argsort(-skill)[: N_PARTNERS // 2]
        lift = np.argsort(-(self._r - self._s))[: N_PARTNERS // 2]
        found: NDArray[np.int64] = np.unique(np.concatenate([first, lift]))
        return found
