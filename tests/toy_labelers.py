"""A labeler and a scorer that do as their options say, for tests of what is done with their answers."""

from __future__ import annotations

from collections.abc import Iterator

from featuredb.labels.requests import LabelRequest, Proposal, Scored, ScoreRequest


class Toy:
    """Labels features by their number; `fail` and `break` name a feature at which it fails, or breaks down."""

    name = "toy.v1"
    options = ("fail", "break", "text")
    indifferent = ("fail", "break")

    def label(self, request: LabelRequest) -> Iterator[Proposal]:
        assert request.evidence.half == "labeling"
        for feature in request.features:
            if request.options.get("break") == str(feature):
                raise RuntimeError("the toy broke")
            if request.options.get("fail") == str(feature):
                yield Proposal(feature, None, failed="nothing to say")
            else:
                yield Proposal(feature, request.options.get("text", f"toy {feature}"), provenance={"examples": [1, 2]})


class Known:
    """Scores every label with the figure its option gives; none for the feature that `fail` names."""

    name = "embedding.v1"
    options = ("value", "fail", "break")
    indifferent = ("fail", "break")

    def score(self, request: ScoreRequest) -> Iterator[Scored]:
        assert request.evidence.half == "scoring"
        for label in request.labels:
            if request.options.get("break") == str(label.feature):
                raise RuntimeError("the scorer broke")
            if request.options.get("fail") == str(label.feature):
                yield Scored(label.label_id, None, failed="no answer")
            else:
                decoys = request.decoys(label.feature, 3)
                assert label.feature not in [decoy.feature for decoy in decoys]
                value = float(request.options.get("value", "0.75"))
                yield Scored(label.label_id, value, value - 0.1, value + 0.1, n=9, baseline=0.5)
