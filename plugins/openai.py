"""Labels by a language model behind any endpoint that speaks the OpenAI chat completions API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from featuredb.llm.doors import LABEL_OPTIONS, estimate_labels, label_by_endpoint
from featuredb.llm.settings import INDIFFERENT

if TYPE_CHECKING:
    from featuredb.labels.requests import LabelRequest, Proposal
    from featuredb.llm.budget import Estimate


class OpenAI:
    """`--option model=NAME --option endpoint=URL`; the key is read from OPENAI_API_KEY, or from `key_env`."""

    name = "openai.v1"
    options = LABEL_OPTIONS
    indifferent = INDIFFERENT

    def label(self, request: LabelRequest) -> Iterator[Proposal]:
        return label_by_endpoint(request)

    def estimate(self, request: LabelRequest) -> Estimate:
        """What it would ask at most. Sends nothing, and needs no key."""
        return estimate_labels(request)
