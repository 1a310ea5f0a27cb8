"""Says which features fired too seldom for anything else to be said of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featuredb.audit.requests import AuditRequest, Judged


class UnderSampled:
    """It fired, but fewer than 200 times in the run: too seldom to tell what it means.

    Source: the least at which Delphi scores a feature; Paulo et al. (2025), arXiv:2410.13928.
    """

    name = "under-sampled.v1"
    findings: tuple[str, ...] = ("under-sampled",)
    options: tuple[str, ...] = ()
    describes = True

    def audit(self, request: AuditRequest) -> Iterator[Judged]:
        from featuredb.audit.rates import largest_rate, n_tokens
        from featuredb.audit.requests import Judged
        from featuredb.errors import BadInput
        from featuredb.search.scope import ENOUGH_FIRINGS

        n = n_tokens(request.everything)
        if not n:
            raise BadInput("how many tokens these features were tried on is not known", hint="ingest text for them")
        for feature in request.features:
            count = int(request.everything.n_fires[feature])
            if not 0 < count < ENOUGH_FIRINGS:
                yield Judged(feature, 0.0, flagged=False)
                continue
            bound = largest_rate(count, n)
            yield Judged(
                feature,
                1 - count / ENOUGH_FIRINGS,
                flagged=True,
                evidence={"n_fires": count, "n_tokens": n, "rate_at_most": bound},
                suggestion=f"Read about {_rounded(n * ENOUGH_FIRINGS / count)} tokens to judge it; "
                "until then trust no label or score of it.",
            )


def _rounded(n: float) -> str:
    """A number of tokens, to two figures."""
    return f"{int(float(f'{n:.1e}')):,}"
