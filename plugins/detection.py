"""Whether a judge that knows the label can tell texts in which the feature fires from texts in which it is silent.

Source: Paulo et al. (2025), Automatically Interpreting Millions of Features in Large Language Models, arXiv:2410.13928.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from featuredb.llm.doors import JUDGE_OPTIONS, estimate_scores, judge
from featuredb.llm.settings import INDIFFERENT

if TYPE_CHECKING:
    from featuredb.labels.requests import Scored, ScoreRequest
    from featuredb.llm.budget import Estimate


class Detection:
    """`--option model=NAME --option endpoint=URL` names the judge; `endpoint=transformers` runs it here."""

    name = "detection.v1"
    options = JUDGE_OPTIONS
    indifferent = INDIFFERENT

    def score(self, request: ScoreRequest) -> Iterator[Scored]:
        return judge(request, "detection")

    def estimate(self, request: ScoreRequest) -> Estimate:
        """What it would ask at most. Sends nothing, and needs no key."""
        return estimate_scores(request, "detection")
