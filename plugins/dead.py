"""Says which features never fired, and how rarely they may fire all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featuredb.audit.requests import AuditRequest, Judged


class Dead:
    """A feature without a firing in the whole run. Of another text it may tell something: only a rate is bounded."""

    name = "dead.v1"
    findings: tuple[str, ...] = ("dead",)
    options: tuple[str, ...] = ()
    describes = True

    def audit(self, request: AuditRequest) -> Iterator[Judged]:
        from featuredb.audit.rates import largest_rate, n_tokens
        from featuredb.audit.requests import Judged

        n = n_tokens(request.everything)
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
                suggestion=f"It may fire on other text, on fewer than {bound:.1g} of the tokens; do not label it.",
            )
