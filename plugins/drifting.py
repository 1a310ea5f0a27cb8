"""Says which features fire on other things early in a context or document than late."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featuredb.audit.drift import Axis
    from featuredb.audit.requests import AuditRequest, Judged

SWITCHED = 0.2
"""Share of the firings that has to have changed sides."""


class Drifting:
    """It fires on other tokens early in a context or document than late, though the same tokens stand in both.

    Compared are firing rates of the same token in the same document before and after a cut, so that a change of topic
    counts for nothing. Beside them: how far its tokens differ, and the model's states where it fires. A false discovery
    rate of 5%, and a fifth of the firings at least.
    """

    name = "drifting.v1"
    findings: tuple[str, ...] = ("drifting",)
    options: tuple[str, ...] = ()

    def audit(self, request: AuditRequest) -> Iterator[Judged]:
        from featuredb.audit.chance import RATE
        from featuredb.audit.drifting import drifts
        from featuredb.audit.requests import Judged

        found = drifts(request)
        evident = _Evidence(request)
        for row, feature in enumerate(found.feature.tolist()):
            axis, cut = found.axes[int(found.along[row])], int(found.cut[row])
            switched = float(found.switched[row])
            flagged = bool(found.q[row] < RATE) and switched > SWITCHED
            where = f"{axis.cuts[cut]} of the {axis.name}"
            evidence: dict[str, Any] = {
                "cut": where,
                "switched": switched,
                "at_cut": float(found.at_cut[row]),
                "z": float(found.z[row]),
            }
            if flagged:
                evidence |= evident.of(feature, axis, cut)
            yield Judged(
                feature,
                float(found.score[row]),
                flagged=flagged,
                p=float(found.p[row]),
                q=float(found.q[row]),
                evidence=evidence,
                suggestion=f"Label it apart before and after {where}." if flagged else None,
            )


class _Evidence:
    """What shows a drift. The model is run if it can be."""

    def __init__(self, request: AuditRequest) -> None:
        self._request = request
        self._background: dict[tuple[str, int], Any] = {}

    def of(self, feature: int, axis: Axis, cut: int) -> dict[str, Any]:
        import numpy as np

        from featuredb.audit.drift_evidence import sides, state_shift, token_shift, told

        request = self._request
        random = np.random.default_rng((request.seed, feature))
        found = sides(request, feature, axis.early[cut])
        shift, p = token_shift(request, found, random)
        evidence = told(request, found) | {"token_js": shift, "token_js_p": p}
        background = self._states(axis, cut)
        z = state_shift(request.states, found, background, random) if background is not None else None
        return evidence | ({"state_z": z} if z is not None else {})

    def _states(self, axis: Axis, cut: int) -> Any:
        """The mean states before and after a cut; None where the model cannot be run."""
        import numpy as np

        from featuredb.audit.drift_evidence import mean_states
        from featuredb.errors import BadInput

        key = (axis.name, cut)
        if key not in self._background:
            request = self._request
            random = np.random.default_rng((request.seed, cut))
            try:
                self._background[key] = mean_states(request.states, request.panel.tokens, axis.early[cut], random)
            except BadInput:
                self._background[key] = None
        return self._background[key]
