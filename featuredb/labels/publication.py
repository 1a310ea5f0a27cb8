"""What others publish about features, in one form for all publishers. Records only: nothing is read or written here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featuredb.database import FeatureDB


@dataclass(frozen=True)
class PublishedScore:
    """A figure that a publisher states of a label."""

    scorer: str
    value: float
    n: int | None = None
    failed: int | None = None
    baseline: float | None = None
    judge: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishedLabel:
    """A label and where it came from."""

    text: str
    labeler: str
    """As the publisher names it, such as "oai_token-act-pair"."""
    model: str | None = None
    """The language model that wrote it."""
    author: str | None = None
    scores: tuple[PublishedScore, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the publisher says of it, kept for the way back."""


@dataclass(frozen=True)
class PublishedExample:
    """A text that the feature fires on."""

    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    source: str | None = None
    """Where the text is from."""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishedFeature:
    """All that is published of one feature."""

    index: int
    density: float | None = None
    max_activation: float | None = None
    promoted: tuple[tuple[str, float], ...] = ()
    suppressed: tuple[tuple[str, float], ...] = ()
    examples: tuple[PublishedExample, ...] = ()
    labels: tuple[PublishedLabel, ...] = ()
    vector: tuple[float, ...] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Publication:
    """A dictionary as somebody published it, without its weights."""

    name: str
    """What to call the dictionary, such as "gpt2-small-8-res-jb"."""
    publisher: str
    """Such as "neuronpedia"."""
    model: str
    hook: str | None
    n_features: int
    features: Iterable[PublishedFeature]
    """By index, each once; may be read from disk as it is asked for."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    """What a reader of it should know: batches that are missing, rows that were repeated."""


@dataclass(frozen=True)
class ExportRequest:
    """What to write out."""

    db: FeatureDB
    dictionary: str
    n_examples: int = 24
    labels_only: bool = False
