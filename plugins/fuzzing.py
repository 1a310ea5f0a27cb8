"""Whether a judge that knows the label can tell marks on the tokens that fire from marks on others.

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


class Fuzzing:
    """`--option model=NAME --option endpoint=URL` names the judge; `endpoint=transformers` runs it here."""

    name = "fuzzing.v1"
    options = JUDGE_OPTIONS
    indifferent = INDIFFERENT

    def score(self, request: ScoreRequest) -> Iterator[Scored]:
        return judge(request, "fuzzing")

    def estimate(self, request: ScoreRequest) -> Estimate:
        """What it would ask at most. Sends nothing, and needs no key."""
        return estimate_scores(request, "fuzzing")
