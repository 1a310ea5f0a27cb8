"""Labels a feature by what it makes the model say: output tokens raised by its decoder row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from featuredb.errors import BadInput
from featuredb.labels.requests import Proposal

if TYPE_CHECKING:
    from featuredb.labels.requests import LabelRequest

N_TOKENS = 5


class Promotes:
    """The tokens raised most: by the decoder row through the unembedding, or with by=steering, by running the model
    with the row added. It says what a feature does, not what it fires on, so it has no predicate."""

    name = "promotes.v1"
    options = ("by",)

    def label(self, request: LabelRequest) -> Iterator[Proposal]:
        by = request.options.get("by", "unembedding")
        if by not in ("unembedding", "steering"):
            raise BadInput(f"promotes has no way {by!r}", hint="by=unembedding or by=steering")
        effects = None
        if by == "steering":
            from featuredb.labels.effects import Effects

            effects = Effects(request.workshop, request.evidence, request.seed)
        for feature in request.features:
            if effects is None:
                raised = request.workshop.promoted(feature)[:N_TOKENS]
            else:
                raised = effects.raised(feature, N_TOKENS)
            # Pieces that differ in a space or in case alone say one thing.
            words = list(dict.fromkeys(text.strip() or text for text, value in raised if value > 0))
            provenance = {"by": by, "tokens": [[text, round(value, 4)] for text, value in raised]}
            if not words:
                yield Proposal(feature, None, provenance=provenance, failed="no output token is raised")
                continue
            listed = ", ".join(json.dumps(word, ensure_ascii=False) for word in words)
            yield Proposal(feature, f"pushes towards {listed}", provenance=provenance)
