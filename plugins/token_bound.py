"""Says which features answer to the current token alone, whatever stands around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featuredb.audit.requests import AuditRequest, Judged
    from featuredb.audit.unigram import Explained
    from featuredb.audit.weighted import Weighted

TOKEN_BOUND = 0.8
"""Share of the variance that the token explains, from which on a feature is called token-bound."""

SURE = 0.5
"""What the low end of the interval has to be for that."""

LEAST = 20
"""Firings that have to be known in either half of the documents."""

N_TOKENS, N_FEW, N_EXAMPLES = 8, 20, 8

MOSTLY = 0.5
"""Share of the activation from which on a few tokens may stand for all in a label."""


class TokenBound:
    """The current token explains more than 0.8 of the activation's variance. This describes a feature and is no fault:
    a label that names tokens is then enough.

    The mean activation of each token is taken from one half of the documents and tried on the other, at the natural
    base rate. That is unigram R2; below 0.2 a feature answers to context. `of_few` is the share of the activation that
    comes from the 20 tokens with most of it. Whether the feature still fires in shuffled text is not tried.
    """

    name = "token-bound.v1"
    findings: tuple[str, ...] = ("token-bound",)
    options: tuple[str, ...] = ()
    describes = True

    def audit(self, request: AuditRequest) -> Iterator[Judged]:
        from featuredb.audit.unigram import Unigram
        from featuredb.audit.weighted import blocks
        from featuredb.errors import BadInput

        unigram = Unigram(request)
        if not unigram.n_groups:
            raise BadInput("no panel text is in the half of the documents that is audited", hint="ingest more text")
        for known in blocks(request):
            yield from _block(request, known, unigram.explain(known))


def _block(request: AuditRequest, known: Weighted, found: Explained) -> Iterator[Judged]:
    import numpy as np

    from featuredb.audit.requests import Judged
    from featuredb.search.scope import ENOUGH_FIRINGS

    asked = np.asarray(request.features)
    for feature in asked[(asked >= known.first) & (asked < known.last)].tolist():
        row = feature - known.first
        r2, low, high = float(found.r2[row]), float(found.low[row]), float(found.high[row])
        n = min(float(found.n_fitted[row]), float(found.n_measured[row]))
        if request.everything.n_fires[feature] < ENOUGH_FIRINGS or n < LEAST or not np.isfinite([r2, low, high]).all():
            continue
        flagged = r2 > TOKEN_BOUND and low > SURE
        evidence: dict[str, Any] = {"r2": min(r2, 1.0), "r2_low": min(low, 1.0), "r2_high": min(high, 1.0)}
        evidence |= _tokens(request, found, row)
        if flagged:
            evidence["examples"] = _examples(request, known, row)
        yield Judged(
            feature,
            float(np.clip(r2, 0, 1)),
            flagged=flagged,
            evidence=evidence,
            suggestion=_suggestion(evidence["of_few"]) if flagged else None,
        )


def _tokens(request: AuditRequest, found: Explained, row: int) -> dict[str, Any]:
    """The tokens that have most of a feature's activation, and what share of it a few have."""
    import numpy as np

    foretold, texts = found.foretold, request.everything.passages.texts
    low, high = np.searchsorted(foretold.key, [row * foretold.n_vocabulary, (row + 1) * foretold.n_vocabulary])
    order = low + np.argsort(-foretold.strength[low:high], kind="stable")
    tokens = [
        {
            "token": texts[foretold.token[each]],
            "share": float(foretold.strength[each]),
            "rate": float(foretold.rate[each]),
        }
        for each in order[:N_TOKENS].tolist()
    ]
    return {"of_few": float(foretold.strength[order[:N_FEW]].sum()), "tokens": tokens}


def _suggestion(of_few: float) -> str:
    if of_few >= MOSTLY:
        return "Name its tokens; the text around them hardly matters."
    return (
        f"Say what its tokens have in common; the text around them hardly matters. They are many: "
        f"the {N_FEW} strongest bring {of_few:.0%} of its activation."
    )


def _examples(request: AuditRequest, known: Weighted, row: int) -> list[int]:
    """Contexts in which it fires most strongly."""
    import numpy as np

    mine = slice(*np.searchsorted(known.feature, [row, row + 1]).tolist())
    strongest = known.at[mine][np.argsort(-known.activation[mine], kind="stable")[: 4 * N_EXAMPLES]]
    passages = request.everything.passages
    piece = np.searchsorted(passages.start, strongest, side="right") - 1
    return list(dict.fromkeys(passages.context[piece].tolist()))[:N_EXAMPLES]
