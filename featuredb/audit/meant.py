"""What labels mean beside what features are told by: the nearness of texts, without a look at any token.

A feature is told by lists of what stands out where it fires, by snippets, and by how well each predicate of the bank
fits it. Texts are embedded a block of features at a time, and only means are kept. Rule: labels by number, features by
place; figures of one channel on one feature are all that is ever compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.lexical import ENOUGH_LABELS
from featuredb.audit.listed import Lister
from featuredb.labels.snippets import SnippetMaker
from featuredb.predicates.bank import BANK
from featuredb.predicates.lift import Families
from featuredb.progress import Progress

if TYPE_CHECKING:
    from featuredb.audit.requests import AuditRequest
    from featuredb.audit.samples import Fitting, Thin
    from featuredb.labels.fit import Panel
    from featuredb.labels.requests import LabelToScore
    from featuredb.predicates.tagged import Tagged

Floats32 = NDArray[np.float32]
Numbers = NDArray[np.int32]

NEAR = ("tokens", "words", "snippets")
"""Cosines of a label with texts of a feature, less what all labels, and all features' texts, have in common."""

NAMES = (*NEAR, "described")
"""The last: how well predicates fit a feature whose descriptions are near a label in meaning."""

N_SNIPPETS = 2
"""Texts of a feature's firings that are embedded. They tell a label that shares no word with what it stands for."""

ENOUGH_FEATURES = 20
"""Features whose texts tell what all of them have in common."""

FAR = 1.5
"""Standard deviations above its mean over the bank from which a description is said to be near a label."""

AT_ONCE, TEXTS_AT_ONCE = 1_024, 8_192
"""Features whose texts are held at a time, and texts that are embedded in one go."""


class Meant:
    """Labels and features as vectors, and what the ones say of the others."""

    def __init__(self, request: AuditRequest, labels: Sequence[LabelToScore], thin: Thin) -> None:
        """labels: those that come first are the dictionary's own, as many as the request has."""
        self._request = request
        vectors = self._embedded([label.text for label in labels])
        described = self._embedded([text for predicate in BANK.values() for text in (predicate.noun, predicate.when)])
        own = vectors[: len(request.labels)]
        # A few labels are no measure of what labels have in common.
        common = _mean(own if len(own) >= ENOUGH_LABELS else np.concatenate([own, described]))
        self.units = unit(vectors - common)
        """(L, width) what each label means that not all do."""
        self._near = near_descriptions(vectors, described)
        self._common = common
        self._thin = thin

    def read(self, tagged: Tagged, panel: Panel, fitting: Fitting) -> None:
        """Works out what the features are told by."""
        thin, width = self._thin, self.units.shape[1]
        means = np.zeros((len(thin), width, len(NEAR)), np.float32)
        known = np.zeros((len(NEAR), len(thin)), np.bool_)
        lister = Lister(Families(tagged), panel)
        for start in range(0, len(thin), AT_ONCE):
            places = range(start, min(start + AT_ONCE, len(thin)))
            told = self._told(lister, places)
            vectors = self._vectors([text for kinds in told for texts in kinds for text in texts])
            for place, kinds in zip(places, told, strict=True):
                for kind, texts in enumerate(kinds):
                    if texts:
                        means[place, :, kind] = _mean(np.stack([vectors[text] for text in texts]))
                        known[kind, place] = True
            self._request.progress(Progress("embedding texts", places.stop, len(thin), "features"))
        for kind in range(len(NEAR)):
            mine = means[..., kind]
            enough = int(known[kind].sum()) >= ENOUGH_FEATURES
            mine[:] = unit(mine - (_mean(mine[known[kind]]) if enough else self._common))
        self._texts: Floats32 = means
        self._unknown = ~known
        held = tagged.rows(panel.at).sum(axis=0, dtype=np.int64)
        self._profiles = np.zeros((len(thin), len(BANK)), np.float32)
        for place in range(len(thin)):
            x = tagged.rows(thin[place].at).T.view(np.bool_)
            self._profiles[place] = fitting.of_one(place, x, held).pearson

    def figures(self, place: int, numbers: Numbers) -> Floats32:
        """(4, k) figures of some labels on one feature; NaN where the feature has no such texts."""
        found = np.empty((len(NAMES), len(numbers)), np.float32)
        found[:-1] = (self.units[numbers] @ self._texts[place]).T
        found[:-1][self._unknown[:, place]] = np.nan
        told = self._near[numbers] * self._profiles[place]
        # All that it is near together, and the one that fits best: some labels mean several predicates, some just one.
        found[-1] = told.sum(axis=1) + np.maximum(told, 0).max(axis=1)
        return found

    def _told(self, lister: Lister, places: Sequence[int]) -> list[tuple[list[str], ...]]:
        """The texts each feature is told by, in the order of NEAR."""
        snippets = SnippetMaker(self._request.audit, N_SNIPPETS, 0, self._request.seed)
        found = []
        for place in places:
            sample = self._thin[place]
            lists = lister.of(sample)
            told = ([lists.tokens], [lists.words], snippets.texts(snippets.firing(sample.feature)))
            found.append(tuple([text for text in texts if text] for texts in told))
        return found

    def _embedded(self, texts: Sequence[str]) -> Floats32:
        vectors = self._vectors(texts)
        return np.stack([vectors[text] for text in texts])

    def _vectors(self, texts: Sequence[str]) -> dict[str, Floats32]:
        new = list(dict.fromkeys(texts))
        found: dict[str, Floats32] = {}
        for start in range(0, len(new), TEXTS_AT_ONCE):
            part = new[start : start + TEXTS_AT_ONCE]
            found |= dict(zip(part, self._request.texts.embed(part), strict=True))
            if len(new) > TEXTS_AT_ONCE:
                self._request.progress(Progress("embedding labels", start + len(part), len(new), "labels"))
        return found


def near_descriptions(vectors: Floats32, described: Floats32) -> Floats32:
    """(L, P) which predicates of the bank labels are near in meaning: shares that add up to 1, or all 0.

    A label without an executable part may yet say in other words what a predicate of the bank says; then the
    predicate's fit is the label's. Several near descriptions share what the label says.
    vectors: (L, width) of labels; described: (2 P, width) of what predicates are called, noun and clause in turn.
    """
    common = _mean(described)
    rows = unit(described - common)
    found = np.zeros((len(vectors), len(rows) // 2), np.float32)
    for start in range(0, len(vectors), AT_ONCE):
        like = unit(vectors[start : start + AT_ONCE] - common) @ rows.T
        like = np.maximum(like[:, ::2], like[:, 1::2])
        deviation = np.maximum(like.std(axis=1, keepdims=True), 1e-6)
        above = np.maximum((like - like.mean(axis=1, keepdims=True)) / deviation - FAR, 0)
        total = above.sum(axis=1, keepdims=True)
        found[start : start + AT_ONCE] = above / np.where(total > 0, total, 1)
    return found


def unit(rows: Floats32) -> Floats32:
    """Rows at unit length; those of zeros stay."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(length, 1e-12), np.float32)


def _mean(rows: Floats32) -> Floats32:
    found: Floats32 = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    return found
