"""Says which features are silent on tokens that their label holds of, because another feature stands in for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featuredb.audit.absorption import Hole
    from featuredb.audit.requests import AuditRequest, Judged


N_EXAMPLES = 8
"""Silent places that are named, as [context, position]."""


class Absorbed:
    """A feature whose label holds of a kind of token on which it hardly fires, while another feature fires there and
    brings most of its direction: the token and the other feature are named. Judged on the half of the documents that no
    labeler has seen, and only where the label has a part that a program can check.

    Source: Chanin et al. (2024), arXiv:2409.14507; the share of the direction is SAEBench's.
    """

    name = "absorbed.v1"
    findings: tuple[str, ...] = ("absorbed",)
    options: tuple[str, ...] = ()

    def audit(self, request: AuditRequest) -> Iterator[Judged]:
        from featuredb.audit.absorption import CARRIED, absorptions
        from featuredb.audit.chance import RATE, benjamini_hochberg
        from featuredb.audit.requests import Judged
        from featuredb.predicates.tagged import Tagged

        found = absorptions(request, Tagged(request.audit.passages))
        rates = benjamini_hochberg([one.p for one in found.values()])
        for (feature, one), q in zip(found.items(), rates.tolist(), strict=True):
            label, hole = request.labels[feature], one.hole
            if hole is None:
                yield Judged(feature, one.score, flagged=False, p=one.p, q=q, label_id=label.label_id)
                continue
            flagged = q <= RATE and hole.carried >= CARRIED
            token = request.everything.passages.texts[hole.token]
            yield Judged(
                feature,
                one.score,
                flagged=flagged,
                p=one.p,
                q=q,
                evidence=_evidence(request, hole, token),
                suggestion=f"On {token!r} read feature {hole.absorber} for it, or say in the label that it is left out."
                if flagged
                else None,
                label_id=label.label_id,
            )


def _evidence(request: AuditRequest, hole: Hole, token: str) -> dict[str, Any]:
    import numpy as np

    passages = request.everything.passages
    at = request.panel.tokens[hole.silent[:N_EXAMPLES]]
    piece = np.searchsorted(passages.start, at, side="right") - 1
    position = passages.position[piece] + (at - passages.start[piece])
    return {
        "token": token,
        "others": [hole.absorber],
        "n_tokens": hole.n_tokens,
        "expected": hole.expected,
        "observed": hole.observed,
        "cosine": hole.cosine,
        "carried": hole.carried,
        "absorber_fires": hole.share,
        "examples": [list(pair) for pair in zip(passages.context[piece].tolist(), position.tolist(), strict=True)],
    }
