"""How well any label fits any feature of the audit half, told in several ways; each way is a channel.

A channel gives a figure to every label it can judge, higher for a better fit, and NaN to the others. Only figures of
one channel on one feature are ever compared. Rule: labels in, figures out; what they add up to is the margin's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.samples import Bits, Fits, Thinned, fits, look_up
from featuredb.errors import BadInput
from featuredb.predicates.bank import BANK
from featuredb.predicates.text import Mask

if TYPE_CHECKING:
    from featuredb.audit.lexical import Lexicon
    from featuredb.labels.fit import Panel
    from featuredb.labels.requests import LabelToScore
    from featuredb.predicates.tagged import Tagged

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

MOST_KEPT = 4_096
"""Labels whose tokens are kept as packed bits; the least recently used ones are worked out again."""

ENOUGH_FEATURES = 20
"""Features whose texts tell what all of them have in common."""

FAR = 1.5
"""Standard deviations above its mean over the bank from which a description is said to be near a label."""


class Channel(Protocol):
    """One way to tell how well labels fit features."""

    name: str

    def of(self, sample: Thinned, labels: Sequence[LabelToScore]) -> Floats:
        """(m,) a figure for each label on one feature; NaN where the channel has none."""
        ...


class Masked:
    """Pearson's correlation of the activation with the tokens that a label holds of, at the natural base rate."""

    def __init__(self, name: str, mask_of: Callable[[LabelToScore], Mask | None], panel: Panel) -> None:
        self.name = name
        self.mask_of = mask_of
        self._panel_at, self._n_tokens = panel.at, len(panel.at)
        self._kept: OrderedDict[tuple[int, str], tuple[Bits, int] | None] = OrderedDict()

    def of(self, sample: Thinned, labels: Sequence[LabelToScore]) -> Floats:
        found = np.full(len(labels), np.nan)
        figures, known = self.fits(sample, labels)
        found[known] = figures.pearson
        return found

    def fits(self, sample: Thinned, labels: Sequence[LabelToScore]) -> tuple[Fits, NDArray[np.int64]]:
        """All figures of the labels that hold of some tokens, and which of them those are."""
        packed = [self._packed(label) for label in labels]
        known = np.array([place for place, each in enumerate(packed) if each is not None], np.int64)
        held = np.array([each[1] for each in packed if each is not None], np.int64)
        x = look_up([each[0] for each in packed if each is not None], sample.at)
        return fits(sample, x, held, self._n_tokens), known

    def _packed(self, label: LabelToScore) -> tuple[Bits, int] | None:
        key = label.label_id, label.text
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        mask = self.mask_of(label)
        found = None if mask is None else (np.packbits(mask), int(np.count_nonzero(mask[self._panel_at])))
        self._kept[key] = found
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return found


def executable(tagged: Tagged) -> Callable[[LabelToScore], Mask | None]:
    """The tokens that a label's executable part holds of; None where it has none that can be used."""

    def mask(label: LabelToScore) -> Mask | None:
        if label.predicate is None:
            return None
        try:
            return tagged.holds(label.predicate)
        except BadInput:
            return None

    return mask


def named(lexicon: Lexicon) -> Callable[[LabelToScore], Mask | None]:
    """The tokens that a label's words name."""
    return lambda label: lexicon.holds(label.text)


class Meanings:
    """Vectors of labels' texts, less what all labels of the dictionary have in common."""

    def __init__(self, vectors: Mapping[str, Floats32], common: Floats32) -> None:
        """vectors: by text; common: (width,) the mean over the dictionary's labels."""
        self._vectors, self._common = vectors, common
        self._units: dict[str, Floats32] = {}

    def of(self, labels: Sequence[LabelToScore]) -> Floats32:
        """(m, width) unit rows."""
        for label in labels:
            if label.text not in self._units:
                self._units[label.text] = unit(self._vectors[label.text] - self._common)
        return np.stack([self._units[label.text] for label in labels])


class Near:
    """Cosine of a label with texts of a feature, less what all labels, and all features' texts, have in common."""

    def __init__(self, name: str, texts: Mapping[int, Floats32], meanings: Meanings) -> None:
        """texts: by feature, (width,) unit vectors; a feature without such texts is not there."""
        self.name = name
        self._texts, self._meanings = texts, meanings

    def of(self, sample: Thinned, labels: Sequence[LabelToScore]) -> Floats:
        text = self._texts.get(sample.feature)
        if text is None:
            return np.full(len(labels), np.nan)
        found: Floats = (self._meanings.of(labels) @ text).astype(np.float64)
        return found


class Described:
    """How well predicates fit a feature whose descriptions are near a label in meaning.

    A label without an executable part may yet say in other words what a predicate of the bank says; then the
    predicate's fit is the label's. Several near descriptions share what the label says.
    """

    name = "described"

    def __init__(self, profiles: Mapping[int, Floats32], vectors: Mapping[str, Floats32], common: Floats32) -> None:
        """profiles: by feature, (P,) correlation with each predicate; common: (width,) the descriptions' mean."""
        self._profiles, self._vectors = profiles, vectors
        self._common = common
        self._nouns = unit(np.stack([vectors[predicate.noun] for predicate in BANK.values()]) - common)
        self._whens = unit(np.stack([vectors[predicate.when] for predicate in BANK.values()]) - common)
        self._near: dict[str, Floats32] = {}

    def of(self, sample: Thinned, labels: Sequence[LabelToScore]) -> Floats:
        profile = self._profiles.get(sample.feature)
        if profile is None:
            return np.full(len(labels), np.nan)
        told = np.stack([self.near(label.text) for label in labels]) * profile
        # All that it is near together, and the one that fits best: some labels mean several predicates, some just one.
        found: Floats = (told.sum(axis=1) + np.maximum(told, 0).max(axis=1)).astype(np.float64)
        return found

    def near(self, text: str) -> Floats32:
        """(P,) which predicates a label is near in meaning: shares that add up to 1, or all 0."""
        if text not in self._near:
            vector = unit(self._vectors[text] - self._common)
            like = np.maximum(self._nouns @ vector, self._whens @ vector)
            above = np.maximum((like - like.mean()) / max(1e-6, float(like.std())) - FAR, 0)
            total = float(above.sum())
            self._near[text] = (above / total if total else above).astype(np.float32)
        return self._near[text]


def descriptions() -> list[str]:
    """All that the bank's predicates are called."""
    return [text for predicate in BANK.values() for text in (predicate.noun, predicate.when)]


def centred(vectors: Mapping[int, Floats32], common: Floats32) -> dict[int, Floats32]:
    """Unit vectors of what each feature's text has that not all have.

    common: (width,) taken for what they have in common where features are too few to tell.
    """
    if not vectors:
        return {}
    mean = np.mean(np.stack(list(vectors.values())), axis=0) if len(vectors) >= ENOUGH_FEATURES else common
    return {feature: unit(vector - mean) for feature, vector in vectors.items()}


def unit(rows: Floats32) -> Floats32:
    """Rows, or one, at unit length; those of zeros stay."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(length, 1e-12), np.float32)
