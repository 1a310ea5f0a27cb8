"""The expression that best tells where a feature fires, found on one part of the documents and checked on the rest.

1.  Three documents in five propose: the best expressions of each form, by kappa, which is F1 at the natural base rate
    corrected for chance; strong firings count for more than weak ones.
2.  The other two decide. From the simplest on, an expression less simple takes the place of the one before it when its
    kappa there is higher by more than the error of the difference, which is known from drawing documents anew, and by
    more than LEAST_GAIN a level. What is told of the expression's precision and recall is also from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featuredb.labels.evidence import Firings
from featuredb.labels.fit import (
    FAR,
    FAR_A,
    FAR_AX,
    FAR_X,
    FIRES,
    FIRES_X,
    NEAR,
    NEAR_A,
    NEAR_AX,
    NEAR_X,
    TOKENS,
    TOKENS_X,
    Draws,
    Floats,
    Mask,
    Panel,
    Sample,
    figures,
    strong_kappa,
)
from featuredb.predicates.candidates import Candidate, Search
from featuredb.predicates.expression import Expression
from featuredb.predicates.lift import Families, UnitIndex
from featuredb.predicates.tagged import Tagged
from featuredb.store.passages import Passages

LEAST_GAIN = 0.02
"""Kappa that an expression has to add for each level that it is less simple: what a reader has to read more."""

LEAST_KAPPA = 0.2
"""Below it an expression tells too little of what a feature does at its strongest to be its label."""

ENOUGH_FIRINGS = 10
"""Firings that each part must know; where one knows fewer, nothing is held back, and the simplest are the choice."""

N_JUDGED = 3
"""Expressions of one level that are held against the best so far."""

N_DRAWS = 100
"""Draws of documents by which the error of a difference is known."""


@dataclass(frozen=True)
class Choice:
    """What was found for one feature."""

    expression: Expression
    f1: float
    precision: float
    recall: float
    kappa: float
    """On the documents held back, or on all where none were."""
    held_back: bool
    n_firing: int
    """Firings those figures are from."""
    firing: Mask
    """(n,) which of the sample's firings it holds of."""

    @property
    def clear(self) -> bool:
        """Whether it tells enough of the feature to be its label."""
        return self.kappa >= LEAST_KAPPA

    def provenance(self, sample: Sample, passages: Passages) -> dict[str, Any]:
        """What the choice is from and how good it is, as JSON can say it."""
        return {
            "f1": round(self.f1, 4),
            "precision": round(self.precision, 4),
            "recall": round(self.recall, 4),
            "kappa": round(self.kappa, 4),
            "held_back": self.held_back,
            "n_firing": self.n_firing,
            "examples": sample.contexts(passages),
        }


class Chooser:
    """Chooses expressions for features of one half of the documents."""

    def __init__(self, evidence: Firings, seed: int = 0) -> None:
        self.tagged = tagged = Tagged(evidence.passages)
        self.panel = panel = Panel(evidence.passages)
        self.families = Families(tagged)
        self.group = panel.group[panel.at]
        """(n_panel,) the document, or context, of each token of the panel."""
        self.tokens: Floats = np.bincount(self.group, minlength=panel.n_groups).astype(np.float64)
        self.draws = Draws(panel.n_groups, seed, N_DRAWS)
        self.bank: NDArray[np.bool_] = np.ascontiguousarray(tagged.rows(panel.at).T).view(np.bool_)
        """(P, n_panel)"""
        self.index = {family.name: UnitIndex(family, panel.at) for family in self.families.all}
        random = np.random.default_rng((seed, panel.n_groups))
        self._proposes: Mask = random.permutation(panel.n_groups) % 5 < 3
        self._part = Search(tagged, panel.at[self._proposes[self.group]], self.families.all)
        self._whole = Search(tagged, panel.at, self.families.all)

    def choose(self, sample: Sample) -> Choice | None:
        """The best expression for a feature; None where no firing of it is known."""
        if not len(sample.at):
            return None
        group = self.panel.group[sample.at]
        proposing = self._proposes[group]
        held_back = min(int(proposing.sum()), int((~proposing).sum())) >= ENOUGH_FIRINGS
        rows = self.tagged.rows(sample.at)
        if held_back:
            found = self._part.candidates(sample, rows, proposing)
            judging = ~self._proposes
        else:
            found = [
                each for each in self._whole.candidates(sample, rows, np.ones(len(group), np.bool_)) if not each.level
            ]
            judging = np.ones(len(self._proposes), np.bool_)
        judge = _Judge(self, sample, rows, judging)
        best = max((each for each in found if not each.level), key=lambda each: each.kappa)
        for level in sorted({each.level for each in found}):
            same = sorted((each for each in found if each.level == level), key=lambda each: -each.kappa)
            for other in same[:N_JUDGED]:
                if judge.prefers(other, best):
                    best = other
        total = judge.tally(best).sum(axis=0)
        told = figures(total, sample.density)
        units = {family.name: family.unit[sample.at] for family in self.families.all}
        return Choice(
            expression=best.expression,
            f1=float(told.f1),
            precision=float(told.precision),
            recall=float(told.recall),
            kappa=float(strong_kappa(total, sample.density)),
            held_back=held_back,
            n_firing=judge.n_firing,
            firing=best.holds(rows.T.view(np.bool_), units),
        )


class _Judge:
    """Holds candidates of one feature against each other on the documents that decide."""

    def __init__(self, chooser: Chooser, sample: Sample, rows: NDArray[np.uint8], judging: Mask) -> None:
        """judging: (n_groups,) documents that decide."""
        self._chooser = chooser
        self._density = sample.density
        group = chooser.panel.group[sample.at]
        used = judging[group]
        self.n_firing = int(used.sum())
        self._judging = judging
        self._bank = rows[used].T.view(np.bool_)
        self._units = {family.name: family.unit[sample.at[used]] for family in chooser.families.all}
        self._group, self._near, self._on_panel = group[used], sample.near[used], sample.on_panel[used]
        self._a = np.abs(sample.activation[used].astype(np.float64))
        # Columns that are the same whatever the candidate.
        self._common = np.zeros((len(judging), 14))
        self._count(np.ones(self.n_firing, np.bool_), self._common, (NEAR, FAR, NEAR_A, FAR_A, FIRES))
        self._common[judging, TOKENS] = chooser.tokens[judging]
        # By the candidate's id(): all of them are alive as long as their judge is.
        self._known: dict[int, Floats] = {}
        self._kappas: dict[int, float] = {}
        self._draws: dict[int, Floats] = {}

    def prefers(self, other: Candidate, best: Candidate) -> bool:
        """Whether `other` is better than `best` by more than can be chance."""
        gain = self._kappa(other) - self._kappa(best)
        if gain <= LEAST_GAIN * (other.level - best.level):
            return False
        return gain > float(np.std(self._drawn(other) - self._drawn(best)))

    def _kappa(self, candidate: Candidate) -> float:
        if id(candidate) not in self._kappas:
            self._kappas[id(candidate)] = float(strong_kappa(self.tally(candidate).sum(axis=0), self._density))
        return self._kappas[id(candidate)]

    def _drawn(self, candidate: Candidate) -> Floats:
        """(n,) its kappa under every draw."""
        if id(candidate) not in self._draws:
            self._draws[id(candidate)] = self._chooser.draws.strong_kappa(self.tally(candidate), self._density)
        return self._draws[id(candidate)]

    def tally(self, candidate: Candidate) -> Floats:
        """(n_groups, 14) as Panel.tally has it, without squares, of the documents that decide."""
        if id(candidate) not in self._known:
            chooser, tally = self._chooser, self._common.copy()
            firing = candidate.holds(self._bank, self._units)
            self._count(firing, tally, (NEAR_X, FAR_X, NEAR_AX, FAR_AX, FIRES_X))
            there = chooser.group[candidate.places(chooser.bank, chooser.index)]
            tally[:, TOKENS_X] = np.where(self._judging, np.bincount(there, minlength=len(tally)), 0)
            self._known[id(candidate)] = tally
        return self._known[id(candidate)]

    def _count(self, firing: Mask, tally: Floats, columns: tuple[int, int, int, int, int]) -> None:
        """Counts some firings into columns: near, far, strength of near, of far, and on the panel."""
        n = len(tally)
        key = 2 * self._group[firing] + ~self._near[firing]
        tally[:, columns[:2]] = np.bincount(key, minlength=2 * n).reshape(n, 2)
        tally[:, columns[2:4]] = np.bincount(key, self._a[firing], 2 * n).reshape(n, 2)
        tally[:, columns[4]] = np.bincount(self._group[firing & self._on_panel], minlength=n)
