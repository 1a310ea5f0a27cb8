"""Says which features fire on other things early in a context or document than late."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import bool_
    from numpy.typing import NDArray

    from featuredb.audit.drift import Axis
    from featuredb.audit.requests import AuditRequest, Judged

SWITCHED = 0.2
"""Share of the firings that has to have changed sides."""

N_TOKENS, N_SAID = 6, 3
"""Tokens whose rates are told, and said in words."""


class Drifting:
    """The same tokens of the same documents set it off more often early in a context or document than late, or the
    other way round: a label made from one side may not hold on the other.

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
                "switched_share": switched,
                "switched_at_cut": float(found.at_cut[row]),
                "sds_from_chance": float(found.z[row]),
            }
            if flagged:
                evidence |= evident.of(feature, axis, cut)
            changes = evidence.get("tokens", [])
            yield Judged(
                feature,
                float(found.score[row]),
                flagged=flagged,
                p=float(found.p[row]),
                q=float(found.q[row]),
                evidence=evidence,
                suggestion=_suggestion(changes, where) if flagged else None,
            )


class _Evidence:
    """What shows a drift. The model is run if it can be."""

    def __init__(self, request: AuditRequest) -> None:
        self._request = request
        self._background: dict[tuple[str, int], Any] = {}
        self._matched: dict[tuple[str, int], NDArray[bool_]] = {}

    def of(self, feature: int, axis: Axis, cut: int) -> dict[str, Any]:
        import numpy as np

        from featuredb.audit.drift_evidence import sides, state_shift, token_shift, told

        request = self._request
        random = np.random.default_rng((request.seed, feature))
        found = sides(request, feature, axis.early[cut])
        shift, p = token_shift(request, found, random)
        evidence = told(request, found) | {"token_js": shift, "token_js_p": p}
        evidence["tokens"] = self._changes(feature, axis, cut)
        background = self._states(axis, cut)
        z = state_shift(request.states, found, background, random) if background is not None else None
        return evidence | ({"state_z": z} if z is not None else {})

    def _changes(self, feature: int, axis: Axis, cut: int) -> list[dict[str, Any]]:
        """The tokens of which its rate changes most, with the share of them it fires on early and late, in documents
        that have them on both sides."""
        import numpy as np

        passages, panel = self._request.everything.passages, self._request.panel
        token, n = passages.token[panel.tokens], len(passages.texts)
        early, open_ = axis.early[cut], self._both(axis, cut)
        column = panel.of(feature)[0]
        column = column[open_[column]]
        fires = np.stack([np.bincount(token[column[early[column] == side]], minlength=n) for side in (True, False)])
        met = np.stack([np.bincount(token[open_ & (early == side)], minlength=n) for side in (True, False)])
        rate = fires / np.maximum(met, 1)
        off = np.abs(fires[0] - fires.sum(axis=0) * met[0] / np.maximum(met.sum(axis=0), 1))
        order = np.argsort(-off, kind="stable")[:N_TOKENS]
        return [
            {"token": passages.texts[each], "early": float(rate[0, each]), "late": float(rate[1, each])}
            for each in order.tolist()
            if off[each] > 0
        ]

    def _both(self, axis: Axis, cut: int) -> NDArray[bool_]:
        """(n panel tokens,) whether the token is met early and late in its document."""
        import numpy as np

        key = (axis.name, cut)
        if key not in self._matched:
            passages, tokens, early = self._request.everything.passages, self._request.panel.tokens, axis.early[cut]
            piece = np.searchsorted(passages.start, tokens, side="right") - 1
            stratum = passages.document[piece].astype(np.int64) * len(passages.texts) + passages.token[tokens]
            _, stratum, n = np.unique(stratum, return_inverse=True, return_counts=True)
            share = np.bincount(stratum, early) / n
            self._matched[key] = ((share > 0) & (share < 1))[stratum]
        return self._matched[key]

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


def _suggestion(changes: list[dict[str, Any]], where: str) -> str:
    """What it answers to more before the cut, and after it; where all goes one way, only that."""
    from featuredb.predicates.expression import quoted

    more = [
        [one["token"] for one in changes if (one["early"] > one["late"]) == side][:N_SAID] for side in (True, False)
    ]
    if all(more):
        return f"Label it apart: before {where} it fires more on {quoted(more[0])}, after it more on {quoted(more[1])}."
    side, tokens = ("before", more[0]) if more[0] else ("after", more[1])
    if not tokens:
        return f"Label it apart before and after {where}."
    return f"Say in its label that it fires more {side} {where}: on {quoted(tokens)}, for one."
