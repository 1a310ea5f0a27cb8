"""Labels in words: what a feature fires on, a few examples, and what it pushes the output towards; from counts alone.

The form is always the same, and each part but the first may be missing:

    WHAT[, WHERE][: EXAMPLES][; pushes towards TOKENS]

Rule: nothing is said that the counts do not show.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featuredb.labels.fit import Floats, Mask, Panel, Sample
from featuredb.predicates.bank import BANK
from featuredb.predicates.choose import Choice
from featuredb.predicates.expression import Expression, counted, describe, parts, quote, quoted, sequences
from featuredb.predicates.lift import Families, Lift
from featuredb.predicates.tagged import Tagged

N_SET, N_EXAMPLES, N_PROMOTED = 4, 3, 2
"""How many tokens of a set, examples and promoted tokens a label names."""

SHARED = 0.8
"""The least share of firings that a trait told of a set of tokens has to cover."""

LIFTED = 2.5
"""How many times as often as elsewhere they have to have it."""

OUTSTANDING, CONFIRMED = 1.6, 1.15
"""How far a promoted token that is named has to stand above the last one listed; the second, where text confirms it."""

UNCLEAR = "no clear pattern"
"""How the label of a feature begins that no expression tells."""

FOLLOWS, FOLLOWS_MORE = 0.01, 3.0
"""Text confirms a promoted token that comes after that share of firings, and that many times as often as elsewhere."""

_NAMES = tuple(BANK)
_WIDE = np.array([predicate.wide for predicate in BANK.values()])
_OF_PIECES = np.array([name.startswith("piece.") for name in _NAMES])
_SAYS_LITTLE = np.array([name in ("space.led", "space.none") for name in _NAMES]) | (_OF_PIECES & ~_WIDE)
_WHOLE, _LETTERS = _NAMES.index("piece.whole"), _NAMES.index("piece.letters")
_OF_WORDS = [_NAMES.index(name) for name in ("piece.first", "piece.inner", "piece.last")]


class Wording:
    """Words labels for features of one half of the documents."""

    def __init__(self, tagged: Tagged, panel: Panel, families: Families) -> None:
        self._tagged = tagged
        self._base: Floats = tagged.rows(panel.at).mean(axis=0)
        self._token = Lift(families.token, panel.at, tagged.view.piece)
        self._word = Lift(families.word, panel.at, tagged.view.piece)
        self._following = families.after.unit
        self._n_panel = max(1, len(panel.at))
        self._unit_of: dict[str, int] = {}
        for unit in range(families.token.n_units):
            self._unit_of.setdefault(families.token.show(unit), unit)

    def label(self, sample: Sample, choice: Choice, promoted: Sequence[tuple[str, float]] = ()) -> str:
        """A feature's label by its choice of expression; where that tells little of it, the label says so.

        promoted: output tokens and their logits, highest first.
        """
        if not choice.clear:
            found = self.examples(sample, np.ones(len(sample.at), np.bool_), self._token)
            said = f": most often {', '.join(map(quote, found))}" if found else ""
            return f"{UNCLEAR}{said}{self._pushes(sample, promoted)}"
        weight = sample.weights()[choice.firing]
        share = weight @ self._tagged.rows(sample.at[choice.firing]) / max(float(weight.sum()), 1e-12)
        said = self._said(choice.expression, share)
        if not _names_tokens(choice.expression):
            whole = share[_OF_WORDS].sum() > 0.5
            examples = self.examples(sample, choice.firing, self._word if whole else self._token)
            said += f": {', '.join(map(quote, examples))}" if examples else ""
        return said + self._pushes(sample, promoted)

    def examples(self, sample: Sample, firing: Mask, lift: Lift) -> list[str]:
        """The tokens or words that stand out most among some firings. firing: (n,) of the sample's."""
        found = [lift.family.show(unit) for unit, _ in lift.lifted(sample, firing, 4 * N_EXAMPLES)]
        distinct = {quote(text): text for text in reversed(found)}
        return list(reversed(distinct.values()))[:N_EXAMPLES]

    def trait(self, share: NDArray[np.float64], *, wide: bool) -> str | None:
        """The predicate that most of some firings have in common and other tokens have not; None where none stands out.

        share: (P,) of the firings that each predicate holds of. wide: one that tells where, or one that tells what.
        """
        lift = share / np.maximum(self._base, 1e-4)
        fitting = (share >= SHARED) & (lift >= LIFTED) & (wide == _WIDE) & ~_SAYS_LITTLE
        if share[_WHOLE] >= SHARED:
            fitting &= ~_OF_PIECES  # they are called words already
        telling = np.where(fitting, share * np.log(np.maximum(lift, 1)), -1)
        best = int(telling.argmax())
        return _NAMES[best] if fitting[best] else None

    def _said(self, expression: Expression, share: NDArray[np.float64]) -> str:
        operator, operand = parts(expression)
        if operator not in ("token", "word", "sequence"):
            return describe(expression)
        found = self.trait(share, wide=True)
        where = f", {BANK[found].when}" if found else ""
        what = self.trait(share, wide=False) if len(operand) > 2 else None
        if what is not None:
            texts = ["".join(each) for each in operand] if operator == "sequence" else operand
            return f"{BANK[what].noun}{where}: {quoted(texts, N_SET)}"
        if operator == "sequence":
            return sequences(operand, N_SET) + where
        noun = "word" if operator == "word" or share[_WHOLE] >= SHARED else "token"
        if noun == "token" and share[_LETTERS] >= SHARED:
            noun = "word piece"
        return f"the {counted(noun, operand)} {quoted(operand, N_SET)}{where}"

    def _pushes(self, sample: Sample, promoted: Sequence[tuple[str, float]]) -> str:
        """Names the promoted tokens that stand out, if any do."""
        least = promoted[-1][1] if len(promoted) > 4 else 0.0
        if least <= 0:
            return ""
        weight = sample.weights()
        chosen = [
            text
            for text, value in promoted
            if text.strip() and value >= (CONFIRMED if self._comes_after(sample, weight, text) else OUTSTANDING) * least
        ]
        return f"; pushes towards {quoted(chosen[:N_PROMOTED])}" if chosen else ""

    def _comes_after(self, sample: Sample, weight: Floats, text: str) -> bool:
        """Whether a token comes after firings much more often than elsewhere."""
        unit = self._unit_of.get(text)
        if unit is None:
            return False
        share = float(weight[self._following[sample.at] == unit].sum())
        usual = max(1.0, float(self._token.index.count[unit])) / self._n_panel
        return share >= FOLLOWS and share >= FOLLOWS_MORE * usual


def _names_tokens(expression: Expression) -> bool:
    """Whether its description names the tokens themselves, and not only what stands before them."""
    operator, operand = parts(expression)
    if operator in ("all", "any"):
        return any(map(_names_tokens, operand))
    return operator in ("token", "word", "sequence")
