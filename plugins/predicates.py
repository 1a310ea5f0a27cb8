"""Labels features with what a program can check: the predicate, or two, that best tells where each fires."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featuredb.labels.requests import LabelRequest, Proposal

LEAST_F1 = 0.2
"""Of all firings and all tokens that the expression holds of; below it, it is no label of the feature."""


class Predicates:
    """One predicate, two of them, or a set of tokens, chosen by F1 at the natural base rate, corrected for chance."""

    name = "predicates.v1"
    options: tuple[str, ...] = ()

    def label(self, request: LabelRequest) -> Iterator[Proposal]:
        from featuredb.labels.fit import samples_of
        from featuredb.labels.requests import Proposal
        from featuredb.predicates.choose import Chooser
        from featuredb.predicates.expression import describe

        chooser = Chooser(request.evidence, request.seed)
        for sample in samples_of(request.evidence, request.features):
            choice = chooser.choose(sample)
            if choice is None:
                yield Proposal(sample.feature, None, failed="no text of the labeling half where it fires")
                continue
            provenance = choice.provenance(sample, request.evidence.passages) | {"seed": request.seed}
            if not choice.clear or choice.f1 < LEAST_F1:
                reason = f"no predicate tells it: F1 is {choice.f1:.2f} at best"
                yield Proposal(sample.feature, None, provenance=provenance, failed=reason)
                continue
            figures = f"precision {choice.precision:.2f}, recall {choice.recall:.2f}"
            text = f"{describe(choice.expression)} ({figures})"
            yield Proposal(sample.feature, text, choice.expression, provenance)
