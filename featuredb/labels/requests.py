"""What labelers and scorers are asked, and what they answer. Records only: nothing is read or computed here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from featuredb.labels.evidence import Evidence
from featuredb.progress import ProgressReport, silent

if TYPE_CHECKING:
    from featuredb.labels.answers import AnswerCache
    from featuredb.labels.workshop import Workshop


@dataclass(frozen=True)
class LabelRequest:
    """Which features to label, and all that may be known of them."""

    evidence: Evidence
    """The labeling half."""
    features: Sequence[int]
    """Sorted; features with too few firings are left out before."""
    workshop: Workshop
    """The model, the dictionary's vectors, neighbours, an embedder: loaded when first asked for."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Only names that the plugin lists in `options`."""
    seed: int = 0
    answers: AnswerCache | None = None
    """Answers of language models, kept by the hash of what was asked."""
    progress: ProgressReport = silent


@dataclass(frozen=True)
class Proposal:
    """One label, or why there is none."""

    feature: int
    text: str | None
    predicate: dict[str, Any] | None = None
    """The part of the label that a program can check: an expression of `featuredb.predicates`."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """What it was made from, as JSON can say it: `examples` (context ids), figures, prompt hash, model, seed."""
    failed: str | None = None
    """Why there is no text; then `text` is None."""


@dataclass(frozen=True)
class LabelToScore:
    """A label as a scorer sees it."""

    label_id: int
    feature: int
    text: str
    predicate: dict[str, Any] | None


@dataclass(frozen=True)
class ScoreRequest:
    """Which labels to score, and all that may be used for it."""

    evidence: Evidence
    """The scoring half."""
    labels: Sequence[LabelToScore]
    """By feature; features with too few firings are left out before."""
    decoys: Callable[[int, int], list[LabelToScore]]
    """decoys(feature, n): labels of up to n other features of about the same density, drawn by the seed."""
    workshop: Workshop
    options: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    answers: AnswerCache | None = None
    progress: ProgressReport = silent


@dataclass(frozen=True)
class Scored:
    """One figure of one label, or why there is none."""

    label_id: int
    value: float | None
    low: float | None = None
    high: float | None = None
    """Ends of its 95% interval."""
    n: int | None = None
    """How many tokens, contexts or answers it is from."""
    failed_answers: int = 0
    """Of those asked for, how many gave nothing that could be used."""
    baseline: float | None = None
    """The same figure for another feature's label under the same draw."""
    judge: str | None = None
    """The model that answered, where one did."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Further figures, such as {"precision": 0.8, "recall": 0.4}."""
    failed: str | None = None
    """Why there is no figure; then `value` is None."""
