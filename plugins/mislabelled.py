"""Says which labels are wrong, too narrow or too broad, and what a better one would be."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featuredb.audit.comparing import Comparing
    from featuredb.audit.requests import AuditRequest, Judged
    from featuredb.audit.verdicts import Judgement, Verdict

N_BESIDE = 300
"""Labeled features that are judged beside a few asked for, so that it is known what sound labels are like."""

N_EXAMPLES = 8


class Mislabelled:
    """A label that fits its feature no better than labels of other features do, while another label fits it well; or
    one that leaves out most of what the feature fires on, or takes in much that it does not.

    Its own label is held against those of 50 features that fire about as often, and against the likeliest to be
    mistaken for it, on documents that no labeler saw: by the tokens its words and its executable part hold of, and by
    meaning. Sources: Oikarinen et al. (2025), arXiv:2506.05774; Paulo et al. (2025), arXiv:2410.13928.
    """

    name = "mislabelled.v2"
    findings: tuple[str, ...] = ("mislabelled", "too-narrow", "too-broad")
    options: tuple[str, ...] = ()

    def audit(self, request: AuditRequest) -> Iterator[Judged]:
        import numpy as np

        from featuredb.audit.comparing import Comparing
        from featuredb.audit.verdicts import judge_margins, verdicts
        from featuredb.search.scope import ENOUGH_FIRINGS

        fires = request.audit.n_fires
        judgeable = [each for each in sorted(request.labels) if fires[each] >= ENOUGH_FIRINGS]
        asked = set(request.features) & set(judgeable)
        if not asked:
            return
        beside = [each for each in judgeable if each not in asked]
        if len(asked) >= N_BESIDE:
            beside = []
        drawn = np.random.default_rng((request.seed, len(judgeable))).permutation(beside)[:N_BESIDE]
        comparing = Comparing(request, sorted({*asked, *map(int, drawn)}))
        judgement = judge_margins(comparing.compare())
        for verdict in verdicts(request, comparing, judgement, asked):
            yield _judged(request, comparing, judgement, verdict)


def _judged(request: AuditRequest, comparing: Comparing, judgement: Judgement, verdict: Verdict) -> Judged:
    import math

    from featuredb.audit.requests import Judged

    label = request.labels[verdict.feature]
    evidence: dict[str, object] = {"support": round(verdict.support, 4), "p_random": round(verdict.p_random, 5)}
    if verdict.deciles:
        evidence["by_decile"] = [round(share, 3) for share in verdict.deciles]
    score = 1 / (1 + math.exp(min(max(verdict.support, -30), 30)))
    if verdict.better is not None:
        own, other = verdict.better.own, verdict.better.fit
        evidence |= _evidence(request, comparing, judgement, verdict)
        if verdict.finding != "mislabelled":
            score = max(score, 1 - max(own.pearson, 0.0) / max(other.pearson, 1e-6))
    return Judged(
        verdict.feature,
        score,
        flagged=verdict.finding is not None,
        p=verdict.p_sound if math.isfinite(verdict.p_sound) else None,
        q=verdict.q,
        name=verdict.finding,
        evidence=evidence,
        suggestion=_suggestion(verdict),
        label_id=label.label_id,
    )


def _evidence(request: AuditRequest, comparing: Comparing, judgement: Judgement, verdict: Verdict) -> dict[str, object]:
    """What a finding is from."""
    import numpy as np

    better, feature = verdict.better, verdict.feature
    assert better is not None
    compared = judgement.compared
    place = bisect_left(compared.features, feature)
    channels = {
        name: {"own": round(float(own), 4), "others": round(float(np.nanmedian(others)), 4)}
        for name, own, others in zip(compared.channels, compared.own[place], compared.decoys[place], strict=True)
        if np.isfinite(own) and np.isfinite(others).any()
    }
    sample = comparing.thin[place]
    passages = request.audit.passages
    piece = np.searchsorted(passages.start, sample.at[::-1], side="right") - 1
    beaten_by = compared.other(place, int(judgement.best_rival[place]))
    evidence: dict[str, object] = {
        "channels": channels,
        "own": better.own.said,
        "better": {"text": better.label.text, "predicate": better.label.predicate, **better.fit.said},
        "examples": list(dict.fromkeys(passages.context[piece].tolist()))[:N_EXAMPLES],
        "scores": dict(request.scores(request.labels[feature].label_id)),
    }
    if verdict.deciles:
        evidence["right_at_the_top"] = verdict.top_only
    if beaten_by is not None:
        evidence |= {"nearest_other": beaten_by.text}
        evidence |= {"others": [beaten_by.feature]} if beaten_by.feature >= 0 else {}
    return evidence


def _suggestion(verdict: Verdict) -> str | None:
    better = verdict.better
    if verdict.finding is None or better is None:
        return None
    said = f"{better.label.text} ({better.fit.pearson:.2f} against {better.own.pearson:.2f})"
    if verdict.finding == "too-narrow":
        return f"Of its firings the label holds of {better.own.recall:.0%}. Wider: {said}"
    if verdict.finding == "too-broad":
        return f"Of the tokens the label holds of, it fires on {better.own.precision:.0%}. Narrower: {said}"
    top = "The label is right at the top and wrong below. " if verdict.top_only else ""
    return f"{top}A label that fits better: {said}"
