"""Labels by a causal language model that transformers runs here: nothing leaves the machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from featuredb.llm.doors import LOCAL_OPTIONS, estimate_labels, label_in_memory
from featuredb.llm.settings import INDIFFERENT

if TYPE_CHECKING:
    from featuredb.labels.requests import LabelRequest, Proposal
    from featuredb.llm.budget import Estimate


class Transformers:
    """`--option model=FOLDER`, or a Hugging Face id."""

    name = "transformers.v1"
    options = LOCAL_OPTIONS
    indifferent = INDIFFERENT

    def label(self, request: LabelRequest) -> Iterator[Proposal]:
        return label_in_memory(request)

    def estimate(self, request: LabelRequest) -> Estimate:
        """What it would ask at most; kept answers are not looked for, as that would load the model."""
        return estimate_labels(request, local=True)
