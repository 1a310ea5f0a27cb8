"""The typed answers of featuredb. Each says itself as a row of plain values; nothing here reads a store or prints.

Field names are a promise to other programs: fields may be added, none renamed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from featuredb.label_records import LabelRow
from featuredb.rows import Record


@dataclass(frozen=True, kw_only=True)
class OfFeature(Record):
    """What any answer about a feature says of it."""

    derived: ClassVar[tuple[str, ...]] = ("feature",)

    dictionary: str
    index: int
    label: str | None
    """The label shown, by the rule of `featuredb.labels`; None where it has none."""
    flags: tuple[str, ...] = ()
    """Names of its findings."""

    @property
    def feature(self) -> str:
        """Its written name, "dictionary/index"."""
        return f"{self.dictionary}/{self.index}"


@dataclass(frozen=True, kw_only=True)
class TokenWeight(Record):
    """An output token that a feature's decoder row raises or lowers."""

    token: str
    value: float
    """The decoder row through the model's unembedding, the final norm's gain folded in; logits per unit activation."""


@dataclass(frozen=True, kw_only=True)
class HistogramBin(Record):
    """How many activations lie in [low, high)."""

    low: float
    high: float
    count: int


@dataclass(frozen=True, kw_only=True)
class FindingRow(OfFeature):
    """What one check says of one feature."""

    check: str
    """The finding's name, such as "mislabelled"."""
    score: float
    """How far the feature is from sound, 0 to 1; to be compared within one check."""
    evidence: dict[str, Any] | None = None
    """Figures; `examples`, ids of contexts; `others`, features it has to do with."""
    suggestion: str | None = None
    p: float | None = None
    """Chance of such a score where nothing is wrong; None where a definition was applied."""
    q: float | None = None
    """False discovery rate at which it is still flagged."""
    flagged: bool = True
    judged: str | None = None
    """Text of the label it speaks of; None where it speaks of none."""
    plugin: str | None = None
    """The check, with its version."""
    verdict: str | None = None
    """What a person said of it last: "confirmed" or "dismissed"."""
    note: str | None = None
    """Why they said it."""
    created_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class FindingCard(FindingRow):
    """A finding with what it means and the text it is from."""

    meaning: str
    """What the check looks for, in words."""
    examples: tuple[ExampleRow, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AuditRow(Record):
    """What one check did in an audit."""

    dictionary: str
    check: str
    judged: int
    """Features it could judge."""
    flagged: int
    reason: str | None = None
    """Why it judged nothing, where it could not."""


@dataclass(frozen=True, kw_only=True)
class SimilarFeature(OfFeature):
    """A feature near another; figures that do not apply are None."""

    cosine_decoder: float | None = None
    cosine_encoder: float | None = None
    correlation: float | None = None
    """Pearson's, of the two features' activations over the shared panel's tokens."""
    auroc: float | None = None
    auroc_low: float | None = None
    auroc_high: float | None = None
    jaccard: float | None = None
    """Tokens of the shared panel on which both fire, as a share of those on which either does."""
    n_together: int | None = None
    """Those tokens."""


@dataclass(frozen=True, kw_only=True)
class CorrelatedFeature(OfFeature):
    """A feature beside a vector or concept; figures that do not apply are None."""

    cosine_decoder: float | None = None
    cosine_encoder: float | None = None
    correlation: float | None = None
    """Pearson's, of the concept's read-out with the activation, over every counted token of the run."""
    auroc: float | None = None
    """Of the activation in telling the concept's positive texts from its negative ones; None without texts."""
    auroc_low: float | None = None
    auroc_high: float | None = None
    """Ends of its 95% interval."""
    score: float | None = None
    """What the answer is sorted by. By a cosine, that. By correlation, its share of the largest that any read-out has
    with the feature. By AUROC, how far that lies above one half times the surprise, in bits, that the feature fires."""
    baseline: float | None = None
    """What the figure that was asked for (correlation, a cosine, auroc) is for the best feature of this dictionary, at
    most, for 95 in 100 random directions, or deals of the texts' signs: one below it says nothing."""
    hook: str | None = None
    """Where the vector is compared with the dictionary."""
    density: float | None = None
    n_fires: int | None = None


@dataclass(frozen=True, kw_only=True)
class FoundFeature(OfFeature):
    """A feature that a search found, and why."""

    score: float
    """What the answer is sorted by: reciprocal ranks, summed over the ways in which it was found."""
    matched: tuple[str, ...]
    """In which ways: of "label", "meaning" and "example", the best rank first."""
    text: str
    """What matched: the label, or the example's text around it."""
    ranks: dict[str, int]
    """Its rank from 1 in each of those ways."""
    similarity: float | None = None
    """Cosine of the label's meaning with the query's, where it was found by meaning."""
    density: float | None = None
    n_matching: int | None = None
    """Contexts among its examples whose text matches, where it was found by example."""
    n_at_peak: int | None = None
    """Those in which what matches covers the token it fires on most."""
    n_examples: int | None = None
    """Contexts among its examples."""


@dataclass(frozen=True, kw_only=True)
class ConceptDirection(Record):
    """The direction of a concept at one hook."""

    concept: str
    hook: str
    width: int
    norm: float
    auroc: float | None = None
    """On texts left out of its making; None without texts."""
    auroc_low: float | None = None
    auroc_high: float | None = None
    n_held_out: int | None = None


@dataclass(frozen=True, kw_only=True)
class ConceptRow(Record):
    """A named direction and the texts behind it."""

    concept: str
    model: str | None
    method: str
    hooks: tuple[str, ...]
    n_positive: int
    n_negative: int
    auroc: float | None = None
    """The best of its hooks', on texts left out; None without texts."""
    settings: dict[str, Any] | None = None
    directions: tuple[ConceptDirection, ...] = ()
    created_at: datetime | None = None
    positive: tuple[str, ...] = ()
    """Its positive texts, where the answer is about this one concept; a list of concepts leaves them out."""
    negative: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader of its figures should know: texts cut into several rows, conventions applied to a file."""


@dataclass(frozen=True, kw_only=True)
class ExampleRow(Record):
    """One kept context of a feature: the tokens around its peak."""

    kind: str
    """"top" or "sample"."""
    rank: int
    """From 0, the strongest first, within its kind."""
    context: int
    position: int
    """Of the peak, in the context."""
    activation: float
    """At the peak."""
    tokens: tuple[str, ...]
    """Display text of the window's tokens."""
    activations: tuple[float, ...]
    """One per token of the window."""
    window_start: int = 0
    """Position in the context of the window's first token, so that the peak is tokens[position - window_start]."""
    document: str | None = None
    """Name of the document the window is from."""

    @property
    def peak(self) -> int:
        """Index of the peak in `tokens`."""
        return min(max(self.position - self.window_start, 0), max(len(self.tokens) - 1, 0))


@dataclass(frozen=True, kw_only=True)
class FeatureCard(OfFeature):
    """Everything a store knows of one feature."""

    n_fires: int | None
    """None where it is not known, as of dictionaries that others published."""
    density: float | None
    """Share of the counted tokens on which it fires."""
    max_activation: float | None
    mean_activation: float | None
    """Over the tokens where it fires; 0 where it never does."""
    histogram: tuple[HistogramBin, ...]
    promoted: tuple[TokenWeight, ...]
    suppressed: tuple[TokenWeight, ...]
    labels: tuple[LabelRow, ...]
    findings: tuple[FindingRow, ...]
    similar: tuple[SimilarFeature, ...]
    examples: tuple[ExampleRow, ...]
    n_tokens: int | None = None
    """Counted tokens of the runs behind these figures."""
    hook: str | None = None
    model: str | None = None

    def _repr_html_(self) -> str:
        from featuredb.notebook import card_html

        return card_html(self)


@dataclass(frozen=True, kw_only=True)
class FiredFeature(OfFeature):
    """A feature that fires on a text, or on several."""

    activation: float
    """Its largest on the text; or its mean over the tokens, or that at the last one, where that was asked for. Of a
    contrast, the mean of this over the texts."""
    token: str
    """The token it is largest on, or the last one where that was asked for."""
    position: int
    """That token's index in `tokens`."""
    activations: tuple[float, ...]
    """One per token of the text; 0 at special tokens, which never count."""
    score: float
    """What the answer is sorted by: activation weighed against how often the feature fires anyway."""
    tokens: tuple[str, ...]
    """Display text of the text's tokens."""
    text: int = 0
    """Which of the texts all this is of: the one on which it says most, counted from 0."""
    n_texts: int = 1
    """On how many of the texts it fires."""
    activation_contrast: float | None = None
    """Its activation on the texts that were contrasted; None where none were."""
    density: float | None = None
    """Share of the run's tokens on which it fires."""


@dataclass(frozen=True, kw_only=True)
class TokenFeature(OfFeature):
    """A feature that fires at a token."""

    activation: float
    score: float
    """As of a text, by the activation at this token."""


@dataclass(frozen=True, kw_only=True)
class TextTokens(Record):
    """A text token by token."""

    text: int
    """Which of the texts, counted from 0."""
    model: str
    tokens: tuple[str, ...]
    """Display text of the tokens."""
    fired: tuple[FiredFeature, ...]
    """The features that say most of the whole text."""
    strongest: tuple[tuple[TokenFeature, ...], ...]
    """For each token, the features that say most there; none where none fires."""


@dataclass(frozen=True, kw_only=True)
class ModelRow(Record):
    model: str
    source: str
    architecture: str
    n_layers: int
    d_model: int
    fingerprint: str
    created_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class DictionaryRow(Record):
    dictionary: str
    model: str | None
    hook: str
    n_features: int
    kind: str
    runs: int
    n_tokens: int
    """Counted tokens over its runs."""
    source: str | None = None
    plugin: str | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class CorpusRow(Record):
    corpus: str
    spec: str
    plugin: str
    runs: int
    created_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class RunRow(Record):
    run: str
    """Its key: a hash of everything that changes its result."""
    model: str
    corpus: str
    dictionaries: tuple[str, ...]
    n_tokens: int
    n_contexts: int
    context_length: int
    packing: str
    seed: int
    created_at: datetime | None = None
    notes: tuple[str, ...] = ()
    """What a reader of its figures should know: settings that differ from the dictionary's training, rows skipped."""


@dataclass(frozen=True, kw_only=True)
class FaultRow(Record):
    """Something in a store that is not as the catalog says."""

    object: str
    fault: str


@dataclass(frozen=True, kw_only=True)
class Tour(Record):
    """What the demo ends in: the run, the features one text fires, and the cards of two of them."""

    run: RunRow
    text: str
    fired: tuple[FiredFeature, ...]
    cards: tuple[FeatureCard, ...]
