"""Says which features are another one over again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featuredb.audit.requests import AuditRequest, Judged

LOOKED_AT = 0.5
"""Decoder cosine from which on tokens are compared too."""


class Duplicate:
    """Two features of decoder cosine above 0.9 that fire together (correlation above 0.7, or Jaccard above 0.5), or
    that take turns on the same tokens."""

    name = "duplicate.v1"
    findings: tuple[str, ...] = ("duplicate",)
    options: tuple[str, ...] = ()

    def audit(self, request: AuditRequest) -> Iterator[Judged]:
        import numpy as np

        from featuredb.audit.pairs import Surroundings, contexts_of, duplicate_scores, near_pairs
        from featuredb.audit.requests import Judged

        pairs = near_pairs(request)
        overlap, near = np.zeros(len(pairs.ours)), pairs.cosine >= LOOKED_AT
        surroundings = Surroundings(request.panel, request.everything.passages)
        overlap[near] = surroundings.overlap(pairs.ours[near], pairs.theirs[near])
        scores, same = duplicate_scores(pairs, overlap)
        for feature, place in sorted(pairs.best(scores).items()):
            other = int(pairs.theirs[place])
            evidence = {
                "others": [other],
                "cosine": float(pairs.cosine[place]),
                "correlation": float(pairs.together.correlation[place]),
                "jaccard": float(pairs.together.jaccard[place]),
                "same_tokens": float(overlap[place]),
            }
            if not same[place]:
                yield Judged(feature, float(scores[place]), flagged=False, evidence=evidence)
                continue
            evidence["examples"] = contexts_of(request.panel, request.everything.passages, [feature, other])
            yield Judged(
                feature,
                float(scores[place]),
                flagged=True,
                evidence=evidence,
                suggestion=f"Count it and feature {other} as one, and give them one label.",
            )
