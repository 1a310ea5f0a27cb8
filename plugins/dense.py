"""Says which features fire on more than a tenth of all tokens, and which are halves of one direction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featuredb.audit.requests import AuditRequest, Judged


class Dense:
    """It fires on more than a tenth of all tokens. How strongly it fires may tell more of it than where; and some have
    an opposite, so that the two together say how far along one direction a token lies, either way.

    Source: Sun et al. (2025), arXiv:2506.15679.
    """

    name = "dense.v1"
    findings: tuple[str, ...] = ("dense",)
    options: tuple[str, ...] = ()
    describes = True

    def audit(self, request: AuditRequest) -> Iterator[Judged]:
        from featuredb.audit.requests import Judged
        from featuredb.search.scope import DENSE

        density = request.everything.density
        partners = _partners(request, [each for each in request.features if density[each] > DENSE])
        for feature in request.features:
            share = float(density[feature])
            if not share > DENSE:
                yield Judged(feature, share if share >= 0 else 0.0, flagged=False)
                continue
            partner, strength = partners.get(feature, (-1, 0.0))
            yield Judged(
                feature,
                min(share, 1.0),
                flagged=True,
                evidence={"density": share} | ({"others": [partner], "antipodality": strength} if partner >= 0 else {}),
                suggestion=_suggestion(share, partner),
            )


def _partners(request: AuditRequest, dense: list[int]) -> dict[int, tuple[int, float]]:
    """The opposite of each dense feature that has one, and how nearly it is that; none where there are no weights."""
    from featuredb.audit.rates import ANTIPODAL, opposites
    from featuredb.errors import BadInput

    try:
        found = opposites(request.directions, dense, request.everything.n_features)
    except BadInput:
        return {}
    return {
        feature: (partner, strength)
        for feature, partner, strength in zip(dense, found.partner.tolist(), found.strength.tolist(), strict=True)
        if strength > ANTIPODAL
    }


def _suggestion(share: float, partner: int) -> str:
    if partner >= 0:
        return f"Read it with feature {partner}, its opposite: the two look like one direction."
    return f"It fires on {share:.0%} of all tokens: look for what its activation grows with, beside what it fires on."
