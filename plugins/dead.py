"""Says which features never fired, and how rarely they may fire all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featuredb.audit.requests import AuditRequest, Judged


class Dead:
    """It never fired in the whole run. On other text it may: only its rate is bounded."""

    name = "dead.v1"
    findings: tuple[str, ...] = ("dead",)
    options: tuple[str, ...] = ()
    describes = True

    def audit(self, request: AuditRequest) -> Iterator[Judged]:
        from featuredb.audit.rates import largest_rate, n_tokens
        from featuredb.audit.requests import Judged
        from featuredb.errors import BadInput

        n = n_tokens(request.everything)
        if not n:
            # A publication may leave out how often its features fired: not known is not never.
            raise BadInput("how many tokens these features were tried on is not known", hint="ingest text for them")
        bound = largest_rate(0, n)
        for feature in request.features:
            if request.everything.n_fires[feature]:
                yield Judged(feature, 0.0, flagged=False)
                continue
            yield Judged(
                feature,
                1.0,
                flagged=True,
                evidence={"n_tokens": n, "rate_at_most": bound},
                suggestion=f"Do not label it. On such text it fires less than once in {_rounded(1 / bound)} tokens.",
            )


def _rounded(n: float) -> str:
    """A number of tokens, to two figures."""
    return f"{int(float(f'{n:.1e}')):,}"
