"""Says which features mean more than one thing, and what each of the meanings is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import bool_
    from numpy.typing import NDArray

    from featuredb.audit.meanings import Fell, Teller
    from featuredb.audit.requests import AuditRequest, Judged

STEEPNESS = 2.0
"""Of the score, per standard deviation."""

N_PLACES, N_EXAMPLES = 4, 8
"""Firings that are shown, of a meaning and of a feature."""


class Polysemantic:
    """To the model, some of its firings have no more in common with its others than tokens taken at random have: in
    clear parts it is polysemantic; without them it is scattered, which may be weak firings that mean little.

    Firings are compared by the model's vectors at the dictionary's input, centred and whitened. The tenth of them that
    is least like the others is looked at: the median of each one's cosines with them. The score is 0.5 where that is
    what random tokens have, and larger below. No label is needed, and no firing is looked at beyond a sample of 64.
    """

    name = "polysemantic.v1"
    findings: tuple[str, ...] = ("polysemantic", "scattered")
    options: tuple[str, ...] = ()

    def audit(self, request: AuditRequest) -> Iterator[Judged]:
        from featuredb.audit.meanings import Teller, fallen

        teller = None
        for fell in fallen(request):
            flagged = fell.spread.distance <= 0
            if flagged:
                teller = teller or Teller(request)
            yield _judged(request, fell, teller if flagged else None)


def _judged(request: AuditRequest, fell: Fell, teller: Teller | None) -> Judged:
    import math

    from featuredb.audit.meanings import outliers
    from featuredb.audit.requests import Judged
    from featuredb.audit.spread import ODD

    spread = fell.spread
    score = 1 / (1 + math.exp(min(60.0, STEEPNESS * spread.distance)))
    evidence: dict[str, Any] = {
        "likeness_of_oddest": spread.odd,
        "likeness_of_random": spread.random,
        "likeness_of_all": spread.alike,
        "sds_above_random": spread.distance,
        "n_firings": len(fell.at),
        "n_meanings": fell.n_meanings,
    }
    if teller is None:
        return Judged(fell.feature, score, flagged=False, evidence=evidence)
    apart = fell.n_meanings > 1
    part = fell.part if apart else outliers(fell, ODD)
    meanings = teller.meanings(fell, part)
    for number, meaning in enumerate(meanings):
        meaning["places"] = _places(request, fell, part == number)
    evidence |= {"n_meanings": len(meanings), "clear_parts": apart, "meanings": meanings}
    # In turns, and the rarest meaning first: what the others are is what its label says.
    turns = zip_longest(*(meaning["places"] for meaning in reversed(meanings)))
    evidence["examples"] = [place for turn in turns for place in turn if place is not None][:N_EXAMPLES]
    name = "polysemantic" if apart else "scattered"
    said = _suggestion(meanings, apart=apart)
    return Judged(fell.feature, score, flagged=True, name=name, evidence=evidence, suggestion=said)


def _places(request: AuditRequest, fell: Fell, mine: NDArray[bool_]) -> list[list[int]]:
    """Some firings as [context, position], those most like the others first, one of a context."""
    import numpy as np

    passages = request.everything.passages
    at = fell.at[mine][np.argsort(-fell.likeness[mine], kind="stable")]
    piece = np.searchsorted(passages.start, at, side="right") - 1
    position = passages.position[piece] + at - passages.start[piece]
    found: dict[int, int] = {}
    for context, place in zip(passages.context[piece].tolist(), position.tolist(), strict=True):
        found.setdefault(context, place)
    return [[context, place] for context, place in found.items()][:N_PLACES]


def _suggestion(meanings: list[dict[str, Any]], *, apart: bool) -> str:
    if apart:
        told = "; ".join(f"{each['share']:.0%}: {each['label']}" for each in meanings)
        return f"Label each meaning apart ({told})."
    # How many they are was chosen, not found.
    odd = meanings[-1]["label"]
    where = f" ({odd})" if '"' in odd or "'" in odd else ""
    return f"Its oddest firings{where} are unlike the others: see whether the label holds of them."
