"""Says which features fire by place: at the beginning of contexts or documents, say, whatever stands there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featuredb.audit.positions import Axis, Placed
    from featuredb.audit.requests import AuditRequest, Judged

BITS = 0.05
"""Mutual information of firing and place from which on a feature is position-bound.
Source: Gurnee et al. (2024), arXiv:2401.12181, who find few such features."""

GAIN = 1.0
"""Bits a firing that do as well: those of a feature that fires in half of all places and nowhere else. Rare features
never reach BITS, whatever they do."""

LEAST = 20
"""Pieces of text that a feature has to fire in."""


class PositionBound:
    """Where a token stands, in its context or document, tells much of whether the feature fires. This describes a
    feature and is no fault: a label that says where is then true.

    Flagged from 0.05 bits of mutual information a token, or 1 bit a firing, beyond chance at a false discovery rate
    of 5%. Places are bins of doubling width, in the context and in the document. The score is 1 - 2^-gain: the share of
    places that the feature leaves out.
    """

    name = "position-bound.v1"
    findings: tuple[str, ...] = ("position-bound",)
    options: tuple[str, ...] = ()
    describes = True

    def audit(self, request: AuditRequest) -> Iterator[Judged]:
        import numpy as np

        from featuredb.audit.chance import benjamini_hochberg
        from featuredb.audit.positions import axes, placed
        from featuredb.audit.weighted import blocks
        from featuredb.search.scope import ENOUGH_FIRINGS

        both = axes(request.everything.passages, request.panel.tokens)
        asked = set(request.features)
        rows: list[tuple[int, list[Placed], int]] = []
        for known in blocks(request):
            found = [placed(known, axis, request.everything.density[known.first : known.last]) for axis in both]
            enough = request.everything.n_fires[known.first : known.last] >= ENOUGH_FIRINGS
            enough &= found[0].n_clusters >= LEAST
            rows += [
                (known.first + row, found, row) for row in np.flatnonzero(enough).tolist() if known.first + row in asked
            ]
        p = np.array([min(1.0, 2 * min(one.p[row] for one in found)) for _, found, row in rows])
        q = benjamini_hochberg(p)
        for (feature, found, row), chance, rate in zip(rows, p.tolist(), q.tolist(), strict=True):
            yield _judged(feature, both, found, row, (chance, rate))


def _judged(feature: int, both: Sequence[Axis], found: list[Placed], row: int, chance: tuple[float, float]) -> Judged:
    from featuredb.audit.chance import RATE
    from featuredb.audit.requests import Judged

    gains = [float(one.gain[row]) for one in found]
    most = gains.index(max(gains))
    axis, one = both[most], found[most]
    mi = max(float(each.mi[row]) for each in found)
    flagged = chance[1] < RATE and (mi > BITS or gains[most] > GAIN)
    evidence: dict[str, Any] = {"bits_a_token": mi, "bits_a_firing": gains[most], "along": axis.name}
    if flagged:
        evidence["density"] = {
            _bin(axis, number): float(value) for number, value in enumerate(one.density[row].tolist())
        }
    often = int(one.density[row].argmax())
    return Judged(
        feature,
        1 - 2.0 ** -gains[most],
        flagged=flagged,
        p=chance[0],
        q=chance[1],
        evidence=evidence,
        suggestion=_suggestion(axis, often, float(one.density[row][often])) if flagged else None,
    )


def _suggestion(axis: Axis, number: int, density: float) -> str:
    where = f"tokens {_bin(axis, number)} of a {axis.name}"
    return f"Say in its label that it fires most at {where}: on {density:.1%} of them."


def _bin(axis: Axis, number: int) -> str:
    low = int(axis.edges[number])
    return f"{low} to {int(axis.edges[number + 1]) - 1}" if number + 1 < len(axis.edges) else f"{low} on"
