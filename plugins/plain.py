"""Labels features with one plain sentence each: what it fires on, a few examples, what it pushes towards; no model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featuredb.labels.requests import LabelRequest, Proposal


class Plain:
    """The best predicate in words, with the tokens that stand out and the output tokens the feature promotes."""

    name = "plain.v1"
    options: tuple[str, ...] = ()

    def label(self, request: LabelRequest) -> Iterator[Proposal]:
        from featuredb.labels.fit import samples_of
        from featuredb.labels.requests import Proposal
        from featuredb.predicates.choose import Chooser
        from featuredb.predicates.wording import Wording

        chooser = Chooser(request.evidence, request.seed)
        wording = Wording(chooser.tagged, chooser.panel, chooser.families)
        for sample in samples_of(request.evidence, request.features):
            choice = chooser.choose(sample)
            if choice is None:
                yield Proposal(sample.feature, None, failed="no text of the labeling half where it fires")
                continue
            promoted = request.workshop.promoted(sample.feature)
            provenance = choice.provenance(sample, request.evidence.passages) | {"seed": request.seed}
            text = wording.label(sample, choice, promoted)
            yield Proposal(sample.feature, text, choice.expression, provenance)
