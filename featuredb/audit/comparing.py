"""The labels of a dictionary, each held against decoys and rivals on its own feature, channel by channel.

Rule: what is compared with what, and in which order, so that memory stays bounded; no judgement is made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.channels import (
    Channel,
    Described,
    Masked,
    Meanings,
    Near,
    centred,
    descriptions,
    executable,
    named,
)
from featuredb.audit.lexical import ENOUGH_LABELS, Lexicon, usual_stems
from featuredb.audit.listed import Lister
from featuredb.audit.samples import Thinned, fits, thin
from featuredb.errors import BadInput
from featuredb.labels.decoys import Decoys
from featuredb.labels.fit import Panel
from featuredb.labels.requests import LabelToScore
from featuredb.labels.snippets import SnippetMaker
from featuredb.predicates.bank import BANK
from featuredb.predicates.lift import Families
from featuredb.predicates.tagged import Tagged
from featuredb.progress import Progress

if TYPE_CHECKING:
    from featuredb.audit.requests import AuditRequest

N_DECOYS = 50
"""Labels of features that fire about as often."""

N_RIVALS = 8
"""Labels nearest in meaning to the own one, and as many of the features nearest in direction."""

MOST_RIVALLED = 20_000
"""Features above which there are no rivals: they lie all over the dictionary, where decoys lie side by side."""

N_SNIPPETS = 5
"""Texts of a feature's firings that are embedded."""

FEW = 20
"""Labels of other features below which the bank's predicates, in words, stand in as decoys."""

AT_ONCE = 1_024
"""Texts embedded, or labels compared, in one go."""

USUAL = {"executable": 1.5, "named": 1.0, "tokens": 1.0, "words": 0.4, "around": 0.3, "snippets": 0.4, "described": 1.0}
"""What channels are worth where a dictionary has too few labels to tell."""

TEXTUAL = ("tokens", "words", "around", "snippets", "described")
"""Channels that need nothing of a label but its meaning."""

Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class Compared:
    """The figures of F labeled features in C channels."""

    features: tuple[int, ...]
    channels: tuple[str, ...]
    own: Floats32
    """(F, C), NaN where a label has no figure."""
    decoys: Floats32
    """(F, C, N_DECOYS)"""
    rivals: Floats32
    """(F, C, 2 N_RIVALS), NaN where there are fewer."""
    decoy_labels: tuple[tuple[LabelToScore, ...], ...]
    rival_labels: tuple[tuple[LabelToScore, ...], ...]


class Comparing:
    """All that is known of some features on the audit half, ready to hold labels against."""

    def __init__(self, request: AuditRequest, features: Sequence[int]) -> None:
        """features: labeled ones, sorted."""
        self._request = request
        self._remembered: Floats32 | None = None
        self._column: dict[int, int] = {}
        self._row: dict[int, int] = {}
        self.labels = request.labels
        evidence = request.audit
        self.tagged = Tagged(evidence.passages)
        self.panel = Panel(evidence.passages)
        known = thin(evidence, features, request.seed, request.progress)
        self.samples: dict[int, Thinned] = {each: sample for each, sample in known.items() if len(sample.at)}
        self.features = tuple(self.samples)
        lexicon = Lexicon(self.tagged, usual_stems(label.text for label in request.labels.values()))
        self.executable = Masked("executable", executable(self.tagged), self.panel)
        self.named = Masked("named", named(lexicon), self.panel)
        self.channels: tuple[Channel, ...] = (self.executable, self.named, *self._textual())

    def compare(self, labels: Mapping[int, LabelToScore] | None = None) -> Compared:
        """Every feature's label against its decoys and rivals.

        labels: by feature, where they are given to other features than in the request.
        """
        request, names = self._request, tuple(channel.name for channel in self.channels)
        labels = request.labels if labels is None else labels
        density = request.audit.density
        draw = Decoys(list(labels.values()), density, request.seed).draw
        rivals = self._rivals(labels)
        n, m, r = len(self.features), N_DECOYS, 2 * N_RIVALS
        own = np.full((n, len(names)), np.nan, np.float32)
        theirs = np.full((n, len(names), m + r), np.nan, np.float32)
        decoy_labels: list[tuple[LabelToScore, ...]] = [()] * n
        # By density, so that the decoys of one feature are those of the next.
        for done, place in enumerate(np.argsort(density[list(self.features)], kind="stable").tolist()):
            feature = self.features[place]
            decoys = draw(feature, m)
            decoys = decoys if len(decoys) >= FEW else [*decoys, *_stand_ins(m - len(decoys))]
            decoy_labels[place] = tuple(decoys)
            met = [labels[feature], *decoys, *rivals[feature]]
            found = self.figures(feature, met)
            own[place] = found[:, 0]
            theirs[place, :, : len(decoys)] = found[:, 1 : 1 + len(decoys)]
            theirs[place, :, m : m + len(rivals[feature])] = found[:, 1 + len(decoys) :]
            if done % 256 == 255:
                request.progress(Progress("comparing labels", done + 1, n, "labels"))
        return Compared(
            self.features,
            names,
            own,
            theirs[..., :m],
            theirs[..., m:],
            tuple(decoy_labels),
            tuple(tuple(rivals[feature]) for feature in self.features),
        )

    def figures(self, feature: int, labels: Sequence[LabelToScore]) -> Floats32:
        """(C, m) figures of any labels whose texts are embedded."""
        if self._remembered is not None and all(label.label_id in self._column for label in labels):
            columns = [self._column[label.label_id] for label in labels]
            found: Floats32 = self._remembered[self._row[feature]][:, columns]
            return found
        sample = self.samples[feature]
        return np.stack([channel.of(sample, labels) for channel in self.channels]).astype(np.float32)

    def remember(self) -> None:
        """Works out the figures of all labels on all features, for labels that change hands many times."""
        labels = list(self.labels.values())
        table = np.stack([self.figures(feature, labels) for feature in self.features])
        self._remembered = table
        self._column = {label.label_id: place for place, label in enumerate(labels)}
        self._row = {feature: place for place, feature in enumerate(self.features)}

    def embed(self, texts: Sequence[str]) -> None:
        """Adds vectors of further labels."""
        new = [text for text in dict.fromkeys(texts) if text not in self.vectors]
        for start in range(0, len(new), AT_ONCE):
            part = new[start : start + AT_ONCE]
            self.vectors |= dict(zip(part, self._request.texts.embed(part), strict=True))
            self._request.progress(Progress("embedding texts", start + len(part), len(new), "texts"))

    def _textual(self) -> list[Channel]:
        request = self._request
        texts = self._texts_of_features()
        labels = [label.text for label in request.labels.values()]
        self.vectors: dict[str, Floats32] = {}
        kept = [*labels, *descriptions()]
        of_features = [text for found in texts.values() for part in found.values() for text in part]
        self.embed([*kept, *of_features])
        # A few labels are no measure of what labels have in common.
        usual = labels if len(labels) >= ENOUGH_LABELS else [*labels, *descriptions()]
        common = np.mean([self.vectors[text] for text in usual], axis=0)
        self.meanings = Meanings(self.vectors, common)
        channels: list[Channel] = []
        for name in ("tokens", "words", "around", "snippets"):
            means = {
                feature: np.mean([self.vectors[text] for text in found[name]], axis=0)
                for feature, found in texts.items()
                if found[name]
            }
            channels.append(Near(name, centred(means, common), self.meanings))
        keep = set(kept)
        for text in of_features:
            if text not in keep:
                self.vectors.pop(text, None)
        held = self.tagged.rows(self.panel.at).sum(axis=0, dtype=np.int64)
        profiles = {
            feature: fits(
                sample, self.tagged.rows(sample.at).T.view(np.bool_), held, len(self.panel.at)
            ).pearson.astype(np.float32)
            for feature, sample in self.samples.items()
        }
        nouns = np.mean([self.vectors[text] for text in descriptions()], axis=0)
        channels.append(Described(profiles, self.vectors, nouns))
        return channels

    def _texts_of_features(self) -> dict[int, dict[str, list[str]]]:
        """The texts each feature is told by."""
        snippets = SnippetMaker(self._request.audit, N_SNIPPETS, 0, self._request.seed)
        lister = Lister(Families(self.tagged), self.panel)
        found = {}
        for feature, sample in self.samples.items():
            lists = lister.of(sample)
            around = snippets.texts(snippets.firing(feature))
            found[feature] = {
                "tokens": [lists.tokens] if lists.tokens else [],
                "words": [lists.words] if lists.words else [],
                "around": [lists.around] if lists.around else [],
                "snippets": [text for text in around if text],
            }
        return found

    def _rivals(self, labels: Mapping[int, LabelToScore]) -> dict[int, list[LabelToScore]]:
        """Labels of other features that are likeliest to be mistaken for a feature's own: other texts, each once."""
        if len(self.features) > MOST_RIVALLED:
            return {feature: [] for feature in self.features}
        owners = np.array(sorted(labels), np.int64)
        vectors = self.meanings.of([labels[each] for each in owners.tolist()])
        by_direction = self._by_direction()
        found = {}
        for start in range(0, len(self.features), AT_ONCE):
            part = self.features[start : start + AT_ONCE]
            like = self.meanings.of([labels[each] for each in part]) @ vectors.T
            nearest = np.argsort(-like, axis=1, kind="stable")[:, : 2 * N_RIVALS]
            for feature, row in zip(part, owners[nearest].tolist(), strict=True):
                own = labels[feature].text
                near = [labels[each] for each in row if labels[each].text != own][:N_RIVALS]
                like_it = [labels[each] for each in by_direction.get(feature, ()) if each in labels]
                near += [each for each in like_it if each.text != own]
                found[feature] = list({label.text: label for label in near}.values())
        return found

    def _by_direction(self) -> dict[int, list[int]]:
        try:
            nearest, _ = self._request.directions.nearest(N_RIVALS)
        except BadInput:
            return {}
        return {feature: nearest[feature].tolist() for feature in self.features if feature < len(nearest)}


def _stand_ins(n: int) -> list[LabelToScore]:
    """Labels of no feature: predicates of the bank, evenly chosen."""
    chosen = np.unique(np.linspace(0, len(BANK) - 1, n).round().astype(np.int64)).tolist()
    predicates = list(BANK.values())
    return [LabelToScore(-1, -1, predicates[each].noun, {"is": predicates[each].name}) for each in chosen]
