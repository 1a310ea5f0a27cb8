"""What stands out where a feature fires, as short lists of tokens and words: texts whose meaning a label can be near.

Rule: counts over firings and the panel; nothing is embedded here, and no label is seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.samples import Thinned
from featuredb.labels.fit import Floats, Panel
from featuredb.predicates.expression import quote
from featuredb.predicates.lift import Families, Family

N_LISTED = 8
"""Tokens or words in a list."""


@dataclass(frozen=True)
class Lists:
    """Two texts of one feature, each perhaps empty."""

    tokens: str
    words: str
    """Whole words that it fires on a piece of."""


class Lister:
    """Lists what stands out for features of one half of the documents."""

    def __init__(self, families: Families, panel: Panel) -> None:
        self._token, self._word = families.token, families.word
        self._base = {family.name: _shares(family, panel) for family in (self._token, self._word)}

    def of(self, sample: Thinned) -> Lists:
        weight = sample.strengths
        return Lists(
            tokens=self._list(self._token, self._token.unit[sample.at], weight),
            words=self._list(self._word, self._word.unit[sample.at], weight),
        )

    def _list(self, family: Family, units: NDArray[np.int32], weight: Floats) -> str:
        """The units that add most to the distance between where it fires and all text, the first one most."""
        known = units >= 0
        distinct, place = np.unique(units[known], return_inverse=True)
        share = np.bincount(place, weight[known], len(distinct))
        # Each unit's part of the Kullback-Leibler divergence.
        gain = share * np.log(np.maximum(share, 1e-12) / self._base[family.name][distinct])
        order = np.lexsort((distinct, -gain))[:N_LISTED]
        found = [quote(family.show(int(distinct[each])))[1:-1] for each in order if gain[each] > 0]
        return ", ".join(dict.fromkeys(found))


def _shares(family: Family, panel: Panel) -> Floats:
    """(n_units,) how often each is met on the panel; half a token is added to each."""
    units = family.unit[panel.at]
    counts = np.bincount(units[units >= 0], minlength=family.n_units) + 0.5
    found: Floats = counts / counts.sum()
    return found
