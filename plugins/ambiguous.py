"""Says which labels are those of several features, and what tells the features apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import bool_
    from numpy.typing import NDArray

    from featuredb.audit.requests import AuditRequest, Judged
    from featuredb.audit.sharing import Contrast
    from featuredb.labels.requests import LabelToScore

N_OTHERS = 8
"""Features of one label that are named."""

N_LABELS = 3
"""Of which the labels are told."""


class Ambiguous:
    """Another feature has this label too: the same words (text), the same rule behind them (predicate), or one that
    holds of nearly the same tokens (tokens). So it does not tell which of them is meant.

    What tells the features apart is read off the half of the documents that no labeler has seen.
    """

    name = "ambiguous.v1"
    findings: tuple[str, ...] = ("ambiguous",)
    options: tuple[str, ...] = ()

    def audit(self, request: AuditRequest) -> Iterator[Judged]:
        from featuredb.audit.absorption import columns_of
        from featuredb.audit.pairs import contexts_of
        from featuredb.audit.requests import Judged
        from featuredb.audit.sharing import Contrasts, sharing
        from featuredb.errors import BadInput
        from featuredb.predicates.tagged import Tagged
        from featuredb.search.scope import ENOUGH_FIRINGS

        tagged = Tagged(request.audit.passages)
        on_panel = request.audit.passages.on_panel

        def holds(label: LabelToScore) -> NDArray[bool_] | None:
            try:
                return tagged.holds(label.predicate)[on_panel] if label.predicate is not None else None
            except BadInput:  # a label of an older bank of predicates
                return None

        enough = request.everything.n_fires >= ENOUGH_FIRINGS
        labels = [label for feature, label in sorted(request.labels.items()) if enough[feature]]
        shared = sharing(labels, holds, request.seed, N_OTHERS)
        columns = columns_of(request.panel, request.everything, request.audit)
        contrasts = Contrasts(request.panel, request.everything.passages, columns)
        for feature in request.features:
            if feature not in shared:
                continue
            label, others = request.labels[feature], shared[feature].likest
            if not others:
                yield Judged(feature, 0.0, flagged=False, label_id=label.label_id)
                continue
            names = [one.other for one in others]
            contrast = contrasts.of(feature, names)
            yield Judged(
                feature,
                others[0].likeness,
                flagged=True,
                evidence=_evidence(contrast)
                | {
                    "others": names,
                    "n_others": shared[feature].n,
                    "same": others[0].how,
                    "their_labels": [request.labels[one].text for one in names[:N_LABELS]],
                    "examples": contexts_of(request.panel, request.everything.passages, [feature, names[0]]),
                },
                suggestion=_suggestion(contrast, names, label.text),
                label_id=label.label_id,
            )


def _evidence(contrast: Contrast) -> dict[str, Any]:
    return {
        "fires_more_on": list(contrast.more),
        "fires_less_on": list(contrast.less),
        "fires_more_after": list(contrast.before),
        "fires_more_in": contrast.document,
        "same_tokens": contrast.overlap,
    }


def _suggestion(contrast: Contrast, names: list[int], label: str) -> str:
    from featuredb.predicates.expression import quote

    them = f"feature {names[0]}" if len(names) == 1 else f"features {', '.join(map(str, names[:3]))}"
    # What the label says already tells nobody more.
    new = [token for token in dict.fromkeys(map(quote, contrast.more)) if token not in label]
    before = list(dict.fromkeys(map(quote, contrast.before)))
    told = [f"on {', '.join(new)}"] if new else []
    told += [f"after {', '.join(before)}"] if before else []
    told += [f"in {contrast.document}"] if contrast.document and not told else []
    if told:
        return f"Say in the label what tells it from {them}: it fires more {' and '.join(told)}."
    return f"Nothing that was counted tells it from {them}: see whether they are one."
