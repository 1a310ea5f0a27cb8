"""Says how late in the model a feature can first be read off, as a figure beside each feature."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from featuredb.audit.requests import AuditRequest, Judged

N_TOKENS = 50_000
"""Panel tokens whose vectors are read, at most; whole contexts."""

MOST_BYTES = 1 << 28
"""Of the vectors at all hooks together; FEWEST tokens are read though they take more."""

FEWEST = 1 << 11

LEAST = 20
"""Firings that a feature has to have in either half of these tokens."""


class Complexity:
    """How late in the model a linear map can read the feature off: 0 if the embedding tells as much as the dictionary's
    own hook, 1 if no hook before it tells anything. A figure, not a fault, so that nothing is flagged.

    Fitted on one half of the documents, measured on the other. Source: Fel et al. (2024), arXiv:2407.06076.
    """

    name = "complexity.v1"
    findings: tuple[str, ...] = ("complexity",)
    options: tuple[str, ...] = ()
    describes = True

    def audit(self, request: AuditRequest) -> Iterator[Judged]:
        import numpy as np

        from featuredb.audit.complexity import read_out
        from featuredb.audit.requests import Judged
        from featuredb.audit.weighted import audit_half
        from featuredb.search.scope import ENOUGH_FIRINGS

        if not len(request.panel.tokens):
            return
        columns = _columns(request)
        fitted = ~audit_half(request)[request.panel.tokens[columns]]
        if fitted.all() or not fitted.any():
            return
        layers = request.states.layers(request.panel.tokens[columns])
        found = read_out(layers, request.panel, columns, fitted, LEAST)
        for feature in request.features:
            k = float(found.complexity[feature])
            if request.everything.n_fires[feature] < ENOUGH_FIRINGS or not np.isfinite(k):
                continue
            by_hook = dict(zip(found.hooks, found.r2[:, feature].tolist(), strict=True))
            yield Judged(feature, min(1.0, max(0.0, k)), flagged=False, evidence={"r2": by_hook})


def _columns(request: AuditRequest) -> NDArray[np.int64]:
    """Columns of the panel: all tokens of contexts drawn by the seed, as many as there is room for; ascending."""
    import numpy as np

    tokens, passages = request.panel.tokens, request.everything.passages
    probe = request.states.layers(tokens[:1])
    room = max(FEWEST, min(N_TOKENS, MOST_BYTES // sum(vectors.nbytes for vectors in probe.values())))
    contexts, context = np.unique(
        passages.context[np.searchsorted(passages.start, tokens, side="right") - 1], return_inverse=True
    )
    order = np.random.default_rng((request.seed, len(contexts))).permutation(len(contexts))
    size = np.bincount(context, minlength=len(contexts))[order]
    chosen = order[np.cumsum(size) - size < room]
    return np.flatnonzero(np.isin(context, chosen)).astype(np.int64)
