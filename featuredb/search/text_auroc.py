"""How well each feature of a dictionary tells a concept's positive texts from its negative ones.

The texts are run as the concept was made, and each gives one value a feature: its activation at the last token, its
mean over the tokens, or its largest on any, by which of them spoke for the concept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from numpy.typing import NDArray

from featuredb.concepts.auroc import auroc_columns
from featuredb.concepts.states import states
from featuredb.concepts.texts import Texts
from featuredb.progress import ProgressReport, silent

if TYPE_CHECKING:
    from featuredb.search.running import Loaded

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Token = Literal["last", "mean", "all"]

BLOCK_VALUES = 1 << 24
"""Values, one a text and feature, that are held at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """AUROCs of some features, as `auroc_columns` gives them; every array is (n,)."""

    value: Floats
    low: Floats
    high: Floats
    difference: Floats
    """The mean on the positive texts less that on the negative ones, over the deviation within both; 0 where both are
    the same, infinite where neither varies."""


class TextValues:
    """One value of each text for each feature of a dictionary, where it is not zero."""

    def __init__(self, text: Indices, feature: Indices, value: Floats, positive: NDArray[np.bool_]) -> None:
        order = np.argsort(feature, kind="stable")
        self._text, self._feature, self._value = text[order], feature[order], value[order]
        self.positive = positive
        """(n_texts,)"""

    @staticmethod
    def of(loaded: Loaded, texts: Texts, token: Token, chat: bool, report: ProgressReport = silent) -> TextValues:
        """Runs the texts through the model and the dictionary. Raises BadInput as `states` does."""
        import torch

        every = [*texts.positive, *texts.negative]
        hook = loaded.reading.hook
        # The mean is of activations, not the activation of the mean: every token is encoded.
        taken = "last" if token == "last" else "all"
        found = states(loaded.model, every, [hook], token=cast(Token, taken), chat=chat, progress=report)[hook]
        owner = np.repeat(np.arange(len(every)), [len(vectors) for vectors in found])
        vectors = torch.from_numpy(np.concatenate(found)).to(loaded.model.device)
        fired = loaded.encoder.encode(vectors)
        text = owner[fired.row]
        n_features = loaded.encoder.dictionary.n_features
        pairs, pair = np.unique(text * n_features + fired.feature, return_inverse=True)
        value = np.zeros(len(pairs))
        if token == "mean":
            np.add.at(value, pair, fired.activation)
            value /= np.array([len(vectors) for vectors in found])[pairs // n_features]
        else:
            np.maximum.at(value, pair, fired.activation)
        positive = np.arange(len(every)) < len(texts.positive)
        return TextValues(pairs // n_features, pairs % n_features, value, positive)

    def firing(self) -> Indices:
        """The features that fire on some text, by index."""
        return np.unique(self._feature)

    def table(self, features: Indices) -> Floats:
        """(n_texts, n) the values of some features, sorted by index."""
        first, past = np.searchsorted(self._feature, features), np.searchsorted(self._feature, features, side="right")
        table = np.zeros((len(self.positive), len(features)))
        for column, (start, end) in enumerate(zip(first.tolist(), past.tolist(), strict=True)):
            table[self._text[start:end], column] = self._value[start:end]
        return table

    def told(self, features: Indices) -> Told:
        """The AUROCs of some features, in the order given."""
        parts = []
        step = max(1, BLOCK_VALUES // len(self.positive))
        for start in range(0, len(features), step):
            table = self.table(features[start : start + step])
            parts.append((*auroc_columns(table, self.positive), _difference(table, self.positive)))
        if not parts:
            return Told(*np.zeros((4, 0)))
        return Told(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _difference(table: Floats, positive: NDArray[np.bool_]) -> Floats:
    ours, theirs = table[positive], table[~positive]
    apart = ours.mean(axis=0) - theirs.mean(axis=0)
    within = (ours.var(axis=0) * len(ours) + theirs.var(axis=0) * len(theirs)) / len(table)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(apart == 0, 0.0, apart / np.sqrt(within))
