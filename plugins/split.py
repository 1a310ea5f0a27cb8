"""Says which features are a part of one that the dictionary has split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featuredb.audit.requests import AuditRequest, Judged


class Split:
    """Two features that point nearly the same way and never fire together, yet fire on the same tokens or between the
    same tokens, more so than features of their density do by chance, or have one label.

    Where a set of tokens tells the two together better than either alone, the gain is told. Source: the jump of
    k-sparse probes of Chanin et al. (2024), arXiv:2409.14507.
    """

    name = "split.v1"
    findings: tuple[str, ...] = ("split",)
    options: tuple[str, ...] = ()

    def audit(self, request: AuditRequest) -> Iterator[Judged]:
        import numpy as np

        from featuredb.audit.chance import RATE, benjamini_hochberg
        from featuredb.audit.pairs import DUPLICATE, SPLIT, Pairs, Surroundings, chance_alike, near_pairs, split_scores
        from featuredb.audit.requests import Judged

        pairs = near_pairs(request)
        surroundings = Surroundings(request.panel, request.everything.passages)
        alike, p = surroundings.alike(pairs.ours, pairs.theirs), np.full(len(pairs.ours), np.nan)
        able = np.flatnonzero(pairs.disjoint & (pairs.cosine >= SPLIT) & (pairs.cosine <= DUPLICATE))
        part = Pairs(
            pairs.ours[able],
            pairs.theirs[able],
            pairs.cosine[able],
            request.panel.together(pairs.ours[able], pairs.theirs[able]),
        )
        _, p[able] = chance_alike(surroundings, request.directions, request.panel, part, request.seed)
        # Of several partners the likeliest is taken: its chance counts as often as there were.
        tried = np.bincount(pairs.ours[able], minlength=request.everything.n_features)
        p = np.minimum(p * np.maximum(tried[pairs.ours], 1), 1)
        scores = split_scores(pairs, alike)
        best = pairs.best(scores)
        q = dict(zip(best, benjamini_hochberg([p[place] for place in best.values()]), strict=True))
        possible = set(able.tolist())
        for feature, place in sorted(best.items()):
            other = int(pairs.theirs[place])
            same_label = _same_label(request, feature, other)
            evidence: dict[str, Any] = {
                "others": [other],
                "cosine": float(pairs.cosine[place]),
                "jaccard": float(pairs.together.jaccard[place]),
                "alike": float(alike[place]),
                "same_label": same_label,
            }
            flagged = place in possible and (bool(q[feature] <= RATE) or same_label)
            yield Judged(
                feature,
                float(scores[place]),
                flagged=flagged,
                p=float(p[place]) if place in possible else None,
                q=float(q[feature]) if place in possible else None,
                evidence=evidence | (_more(request, surroundings, feature, other) if flagged else {}),
                suggestion=f"Read it with feature {other}: the two look like parts of one." if flagged else None,
            )


def _same_label(request: AuditRequest, one: int, other: int) -> bool:
    ours, theirs = request.labels.get(one), request.labels.get(other)
    if ours is None or theirs is None:
        return False
    return ours.text == theirs.text or (ours.predicate is not None and ours.predicate == theirs.predicate)


def _more(request: AuditRequest, surroundings: Any, one: int, other: int) -> dict[str, Any]:
    from featuredb.audit.pairs import contexts_of

    union, alone = surroundings.jump(one, other)
    contexts = contexts_of(request.panel, request.everything.passages, [one, other])
    return {"f1_of_both": union, "f1_of_the_better": alone, "examples": contexts}
