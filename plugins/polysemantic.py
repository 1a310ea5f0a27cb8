"""Says which features mean more than one thing, and what each of the meanings is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featuredb.audit.meanings import Fell, Teller
    from featuredb.audit.requests import AuditRequest, Judged

STEEPNESS = 2.0
"""Of the score, per standard deviation."""


class Polysemantic:
    """Some of the feature's firings have no more in common with its others than tokens taken at random have.

    Firings are compared by the model's vectors at the dictionary's input, centred and whitened. The tenth of them that
    is least like the others is looked at: the median of each one's cosines with them. The score is 0.5 where that is
    what random tokens have, and larger below. No label is needed, and no firing is looked at beyond a sample of 64.
    """

    name = "polysemantic.v1"
    findings: tuple[str, ...] = ("polysemantic",)
    options: tuple[str, ...] = ()

    def audit(self, request: AuditRequest) -> Iterator[Judged]:
        from featuredb.audit.meanings import Teller, fallen

        teller = None
        for fell in fallen(request):
            flagged = fell.spread.distance <= 0
            if flagged:
                teller = teller or Teller(request)
            yield _judged(fell, teller if flagged else None)


def _judged(fell: Fell, teller: Teller | None) -> Judged:
    import math

    from featuredb.audit.meanings import outliers
    from featuredb.audit.requests import Judged
    from featuredb.audit.spread import ODD

    spread = fell.spread
    score = 1 / (1 + math.exp(min(60.0, STEEPNESS * spread.distance)))
    evidence: dict[str, Any] = {
        "distance": spread.distance,
        "odd": spread.odd,
        "random": spread.random,
        "alike": spread.alike,
        "n_firings": len(fell.at),
        "n_meanings": fell.n_meanings,
    }
    if teller is None:
        return Judged(fell.feature, score, flagged=False, evidence=evidence)
    apart = fell.n_meanings > 1
    meanings = teller.meanings(fell, fell.part if apart else outliers(fell, ODD))
    evidence |= {"n_meanings": len(meanings), "meanings": meanings, "clear_parts": apart}
    evidence["examples"] = [context for each in meanings for context in each["examples"]][:8]
    return Judged(fell.feature, score, flagged=True, evidence=evidence, suggestion=_suggestion(meanings, apart=apart))


def _suggestion(meanings: list[dict[str, Any]], *, apart: bool) -> str:
    told = "; ".join(f"{each['share']:.0%}: {each['label']}" for each in meanings)
    if apart:
        return f"Label each meaning apart ({told})."
    return f"Some firings stand by themselves ({told}): see whether the label holds of them."
