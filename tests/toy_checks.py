"""A check that does as its options say, for tests of what is done with findings."""

from __future__ import annotations

from collections.abc import Iterator

from featuredb.audit.requests import AuditRequest, Judged
from featuredb.errors import BadInput


class Suspicious:
    """Flags the features that `flag` names, and looks at labels where `labels` is set.

    Its options also make it break, answer twice, or give what is no score.
    """

    name = "suspicious.v1"
    findings = ("suspicious", "very-suspicious")
    options = ("flag", "very", "labels", "break", "twice", "score", "refuse", "unknown", "stop")

    def audit(self, request: AuditRequest) -> Iterator[Judged]:
        given = request.options
        if "refuse" in given:
            raise BadInput("there is nothing to look at")
        for feature in request.features:
            if given.get("stop") == str(feature):
                raise KeyboardInterrupt
            if given.get("break") == str(feature):
                raise RuntimeError("the toy broke")
            label = request.labels.get(feature) if "labels" in given else None
            yield Judged(
                feature=feature,
                score=float(given.get("score", feature / 100)),
                flagged=str(feature) in (given.get("flag", ""), given.get("very", "")),
                q=0.01,
                name="very-suspicious" if str(feature) == given.get("very") else given.get("unknown"),
                evidence={"examples": [0, 1], "others": [1, 2], "figure": 0.5},
                suggestion="look again",
                label_id=None if label is None else label.label_id,
            )
            if given.get("twice") == str(feature):
                yield Judged(feature, 0.0, False)


class Describing:
    """Says of every feature that it is one."""

    name = "describing.v1"
    findings = ("describing",)
    options = ()
    describes = True

    def audit(self, request: AuditRequest) -> Iterator[Judged]:
        for feature in request.features:
            yield Judged(feature, 1.0, flagged=True)


class Doubting:
    """Doubts the labels of features whose number is even, half of them as too broad."""

    name = "mislabelled.v1"
    findings = ("mislabelled", "too-narrow", "too-broad")
    options = ()

    def audit(self, request: AuditRequest) -> Iterator[Judged]:
        for feature, label in request.labels.items():
            yield Judged(
                feature=feature,
                score=0.9 if feature % 2 == 0 else 0.1,
                flagged=feature % 2 == 0,
                q=0.001,
                name="too-broad" if feature % 4 == 0 else "mislabelled",
                evidence={"by_decile": [place / 10 for place in range(1, 11)], "examples": [[0, 5]], "own": 0.25},
                suggestion="rather 'x < y'",
                label_id=label.label_id,
            )
