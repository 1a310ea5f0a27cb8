"""What the tokens that labels hold of tell of features: their firings, and how much else those tokens are.

A label's tokens are worked out once, and every feature that meets the label is looked at then: what is kept at a time
is one label's. Rule: labels by number, features by place; what is compared with what is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.samples import Fits, Fitting, Thin
from featuredb.errors import BadInput
from featuredb.predicates.text import Mask
from featuredb.progress import Progress, ProgressReport, silent

if TYPE_CHECKING:
    from featuredb.audit.lexical import Lexicon
    from featuredb.labels.fit import Panel
    from featuredb.labels.requests import LabelToScore
    from featuredb.predicates.tagged import Tagged

Floats32 = NDArray[np.float32]
Numbers = NDArray[np.int32]

NAMES = ("executable", "named")
"""Pearson's correlation of the activation with the tokens that a label's executable part holds of, and with those that
its words name, at the natural base rate."""


@dataclass(frozen=True)
class OwnTokens:
    """The tokens a label holds of, by its executable part or else by its words, on the feature it belongs to."""

    holds: Mask
    """(n,) whether it holds of each of the feature's thinned firings."""
    base: float
    """The share of all tokens it holds of."""
    recall: float
    precision: float
    f1: float
    executable: bool


class Held:
    """Looks up the tokens of labels where features fire."""

    def __init__(self, tagged: Tagged, lexicon: Lexicon, panel: Panel, thin: Thin) -> None:
        self._tagged, self._lexicon = tagged, lexicon
        self._panel_at = panel.at
        self._thin = thin
        self.fitting = Fitting(thin, len(panel.at))

    def executable(self, label: LabelToScore) -> Mask | None:
        """(N,) the tokens that a label's executable part holds of; None where it has none that can be used."""
        if label.predicate is None:
            return None
        try:
            return self._tagged.holds(label.predicate)
        except BadInput:
            return None

    def named(self, label: LabelToScore) -> Mask | None:
        """(N,) the tokens that a label's words name; None where they name none that occurs."""
        return self._lexicon.holds(label.text)

    def tokens(self, label: LabelToScore) -> Mask | None:
        """(N,) the tokens a label holds of: by its executable part, or else by the words it names."""
        mask = self.executable(label)
        return self.named(label) if mask is None else mask

    def figures(
        self, labels: Sequence[LabelToScore], met: Numbers, progress: ProgressReport = silent
    ) -> tuple[Floats32, list[OwnTokens | None]]:
        """(2, F, k) figures of the labels that F features meet, NaN where there are none; and each one's own tokens.

        met: (F, k) numbers of labels, -1 for none; a feature's own label stands first.
        """
        found = np.full((len(NAMES), *met.shape), np.nan, np.float32)
        own: list[OwnTokens | None] = [None] * len(met)
        ways: tuple[Callable[[LabelToScore], Mask | None], ...] = (self.executable, self.named)
        order = np.argsort(met, axis=None, kind="stable")
        bounds = np.searchsorted(met.ravel()[order], np.arange(len(labels) + 1))
        for number, label in enumerate(labels):
            if number % 1_024 == 1_023:
                progress(Progress("comparing the tokens of labels", number + 1, len(labels), "labels"))
            places, columns = np.divmod(order[bounds[number] : bounds[number + 1]], met.shape[1])
            if not len(places):
                continue
            for way, mask_of in enumerate(ways):
                mask = mask_of(label)
                if mask is None:
                    continue
                n_held = int(np.count_nonzero(mask[self._panel_at]))
                fits = self.fitting.of_mask(places, mask, n_held)
                found[way, places, columns] = fits.pearson
                for each in np.flatnonzero(columns == 0).tolist():
                    if own[places[each]] is None:
                        base = n_held / max(1, len(self._panel_at))
                        own[places[each]] = self._own(int(places[each]), mask, base, fits, each, way == 0)
        return found, own

    def _own(self, place: int, mask: Mask, base: float, fits: Fits, each: int, executable: bool) -> OwnTokens:
        return OwnTokens(
            holds=mask[self._thin[place].at],
            base=base,
            recall=float(fits.recall[each]),
            precision=float(fits.precision[each]),
            f1=float(fits.f1[each]),
            executable=executable,
        )
