"""The labels of a dictionary, each held against decoys and rivals on its own feature, channel by channel.

Rule: what is compared with what; no judgement is made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featuredb.audit import held, meant
from featuredb.audit.directions import largest
from featuredb.audit.held import Held, OwnTokens
from featuredb.audit.lexical import Lexicon, usual_stems
from featuredb.audit.meant import Meant
from featuredb.audit.samples import thin
from featuredb.errors import BadInput
from featuredb.labels.decoys import Decoys
from featuredb.labels.fit import Panel
from featuredb.labels.requests import LabelToScore
from featuredb.predicates.bank import BANK
from featuredb.predicates.tagged import Tagged
from featuredb.progress import Progress

if TYPE_CHECKING:
    from featuredb.audit.requests import AuditRequest

N_DECOYS = 50
"""Labels of features that fire about as often."""

N_RIVALS = 8
"""Labels nearest in meaning to the own one, and as many of the features nearest in direction."""

MOST_RIVALLED = 150_000
"""Features above which there are no rivals: to find them takes time as the square of the features."""

FEW = 20
"""Labels of other features below which the bank's predicates, in words, stand in as decoys."""

AT_ONCE = 1 << 24
"""Cosines of labels held at a time."""

USUAL = {"executable": 1.5, "named": 1.0, "tokens": 1.0, "words": 0.4, "snippets": 0.4, "described": 1.0}
"""What channels are worth where a dictionary has too few labels to tell."""

CHANNELS = (*held.NAMES, *meant.NAMES)

TEXTUAL = meant.NAMES
"""Channels that need nothing of a label but its meaning."""

Floats32 = NDArray[np.float32]
Numbers = NDArray[np.int32]


@dataclass(frozen=True)
class Compared:
    """The figures of F labeled features in C channels."""

    features: tuple[int, ...]
    channels: tuple[str, ...]
    labels: tuple[LabelToScore, ...]
    """All that were met, by number."""
    met: Numbers
    """(F, 1 + N_DECOYS + 2 N_RIVALS) numbers of the labels each feature met, its own first; -1 for none."""
    figures: Floats32
    """(F, C, 1 + N_DECOYS + 2 N_RIVALS), NaN where a label has no figure."""
    own_tokens: tuple[OwnTokens | None, ...]
    """By feature; None where its label has none, or where figures of all labels were worked out before."""

    @property
    def own(self) -> Floats32:
        """(F, C)"""
        return self.figures[..., 0]

    @property
    def decoys(self) -> Floats32:
        """(F, C, N_DECOYS)"""
        return self.figures[..., 1 : 1 + N_DECOYS]

    @property
    def rivals(self) -> Floats32:
        """(F, C, 2 N_RIVALS)"""
        return self.figures[..., 1 + N_DECOYS :]

    def rival_labels(self, place: int) -> list[LabelToScore]:
        """Of one feature."""
        return [self.labels[number] for number in self.met[place, 1 + N_DECOYS :].tolist() if number >= 0]

    def other(self, place: int, which: int) -> LabelToScore | None:
        """The label a feature met as a rival, or, past all rivals, as a decoy; None where there is none."""
        if which < 0:
            return None
        n_rivals = 2 * N_RIVALS
        number = int(self.met[place, 1 + N_DECOYS + which if which < n_rivals else 1 + which - n_rivals])
        return self.labels[number] if number >= 0 else None


class Comparing:
    """All that is known of some features on the audit half, ready to hold labels against."""

    def __init__(self, request: AuditRequest, features: Sequence[int]) -> None:
        """features: labeled ones, sorted."""
        self._request = request
        self._all: Floats32 | None = None
        self.labels = request.labels
        self.everyone = (*request.labels.values(), *_stand_ins())
        self._number = {label.label_id: number for number, label in enumerate(request.labels.values())}
        evidence = request.audit
        self.tagged = Tagged(evidence.passages)
        self.panel = Panel(evidence.passages)
        self.thin = thin(evidence, features, request.seed, request.progress)
        self.features = self.thin.features
        lexicon = Lexicon(self.tagged, usual_stems(label.text for label in request.labels.values()))
        self.held = Held(self.tagged, lexicon, self.panel, self.thin)
        self.meant = Meant(request, self.everyone, self.thin)
        self.meant.read(self.tagged, self.panel, self.held.fitting)

    def compare(self, labels: Mapping[int, LabelToScore] | None = None) -> Compared:
        """Every feature's label against its decoys and rivals.

        labels: by feature, where they are given to other features than in the request.
        """
        met = self._met(self._request.labels if labels is None else labels)
        if self._all is None:
            figures, own = self._figures(met)
            return Compared(self.features, CHANNELS, self.everyone, met, figures, tuple(own))
        figures = np.take_along_axis(self._all, np.maximum(met, 0)[:, None, :], axis=2)
        figures = np.where(met[:, None, :] >= 0, figures, np.float32(np.nan))
        return Compared(self.features, CHANNELS, self.everyone, met, figures, (None,) * len(met))

    def remember(self) -> None:
        """Works out the figures of all labels on all features, for labels that change hands many times."""
        numbers = np.arange(len(self.everyone), dtype=np.int32)
        self._all, _ = self._figures(np.broadcast_to(numbers, (len(self.features), len(numbers))).copy())

    def meanings_of(self, labels: Sequence[LabelToScore]) -> Floats32:
        """(m, width) unit vectors of what some of the dictionary's labels mean that not all do."""
        return self.meant.units[[self._number[label.label_id] for label in labels]]

    def _nearest(self, labels: Mapping[int, LabelToScore], n: int) -> dict[int, list[int]]:
        """For each feature, n others or fewer whose labels are nearest to its own, each of another text."""
        first: dict[str, int] = {}
        for feature in sorted(labels):
            first.setdefault(labels[feature].text, feature)
        owners = np.array(list(first.values()), np.int64)
        place = {text: number for number, text in enumerate(first)}
        own = np.array([place[labels[feature].text] for feature in self.features], np.int64)
        vectors = self.meanings_of([labels[each] for each in owners.tolist()])
        found: dict[int, list[int]] = {}
        step = max(1, AT_ONCE // max(1, len(owners)))
        for start in range(0, len(own), step):
            mine = own[start : start + step]
            like = vectors[mine] @ vectors.T
            like[np.arange(len(mine)), mine] = -np.inf
            near, _ = largest(like, min(n, len(owners) - 1))
            found |= dict(zip(self.features[start : start + step], owners[near].tolist(), strict=True))
        return found

    def _figures(self, met: Numbers) -> tuple[Floats32, list[OwnTokens | None]]:
        """(F, C, k) figures of the labels that features meet, and what is known of the first of each."""
        found = np.full((len(met), len(CHANNELS), met.shape[1]), np.nan, np.float32)
        of_tokens, own = self.held.figures(self.everyone, met, self._request.progress)
        n = len(of_tokens)
        found[:, :n] = of_tokens.transpose(1, 0, 2)
        for place, numbers in enumerate(met):
            known = numbers >= 0
            found[place, n:, known] = self.meant.figures(place, numbers[known]).T
            if place % 1_024 == 1_023:
                self._request.progress(Progress("comparing labels", place + 1, len(met), "labels"))
        return found, own

    def _met(self, labels: Mapping[int, LabelToScore]) -> Numbers:
        """The numbers of the labels that each feature meets; see `Compared.met`."""
        request = self._request
        draw = Decoys(list(labels.values()), request.audit.density, request.seed).draw
        rivals = self._rivals(labels)
        found = np.full((len(self.features), 1 + N_DECOYS + 2 * N_RIVALS), -1, np.int32)
        for place, feature in enumerate(self.features):
            text = labels[feature].text
            decoys = [self._number[label.label_id] for label in draw(feature, N_DECOYS) if label.text != text]
            if len(decoys) < FEW:
                decoys += self._evenly_chosen(N_DECOYS - len(decoys))
            others = [self._number[labels[each].label_id] for each in rivals.get(feature, ())]
            found[place, 0] = self._number[labels[feature].label_id]
            found[place, 1 : 1 + len(decoys)] = decoys
            found[place, 1 + N_DECOYS : 1 + N_DECOYS + len(others)] = others
        return found

    def _evenly_chosen(self, n: int) -> list[int]:
        chosen = np.unique(np.linspace(0, len(BANK) - 1, n).round().astype(np.int64))
        return [len(self.labels) + int(each) for each in chosen]

    def _rivals(self, labels: Mapping[int, LabelToScore]) -> dict[int, list[int]]:
        """Features whose labels are likeliest to be mistaken for a feature's own: other texts, each once."""
        if len(self.features) > MOST_RIVALLED:
            return {}
        by_direction = self._by_direction()
        found = self._nearest(labels, N_RIVALS)
        for feature, near in found.items():
            like_it = [each for each in by_direction.get(feature, ()) if each in labels]
            near += [each for each in like_it if labels[each].text != labels[feature].text]
            found[feature] = list({labels[each].text: each for each in near}.values())
        return found

    def _by_direction(self) -> dict[int, list[int]]:
        try:
            nearest, _ = self._request.directions.nearest(N_RIVALS)
        except BadInput:
            return {}
        return {feature: nearest[feature].tolist() for feature in self.features if feature < len(nearest)}


def _stand_ins() -> list[LabelToScore]:
    """Labels of no feature: the predicates of the bank."""
    return [LabelToScore(-1, -1, predicate.noun, {"is": predicate.name}) for predicate in BANK.values()]
