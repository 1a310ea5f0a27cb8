"""The typed answers about labels: the labels themselves, and what labelers and scorers did. See `featuredb.records`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from featuredb.rows import Record


@dataclass(frozen=True, kw_only=True)
class LabelRow(Record):
    """One label of a feature, with where it came from."""

    feature: str
    text: str
    labeler: str
    status: str
    scores: tuple[dict[str, Any], ...] = ()
    """Each {scorer, value, low, high, n, failed, baseline, above_baseline, judge, reason, details}; above_baseline says
    whether the whole interval lies above the baseline, and is None where one of them is not known."""
    author: str | None = None
    note: str | None = None
    provenance: dict[str, Any] | None = None
    created_at: datetime | None = None
    id: int | None = None
    """Its number in the store, by which it is verified or removed."""
    predicate: dict[str, Any] | None = None
    """The part of it that a program can check."""


@dataclass(frozen=True, kw_only=True)
class LabelingRow(Record):
    """What one labeler did with a dictionary."""

    dictionary: str
    labeler: str
    labeled: int
    failed: int
    """Features it found no label for; each has a row that says why."""
    known: int
    """Features it had labeled before, with the same options."""
    under_sampled: int
    """Features that fire too seldom to be labeled."""


@dataclass(frozen=True, kw_only=True)
class EstimateRow(Record):
    """What a labeler would ask of a language model."""

    dictionary: str
    labeler: str
    features: int
    requests: int
    tokens_in: int
    tokens_out: int
    """At most."""
    cost: float | None = None
    """In the currency of the prices that were given; None without prices."""


@dataclass(frozen=True, kw_only=True)
class ScoringRow(Record):
    """What one scorer did with the labels of a dictionary."""

    dictionary: str
    scorer: str
    scored: int
    failed: int
    known: int
    under_sampled: int
    median: float | None = None
    """Of the scores of these labels that are there now."""
    median_baseline: float | None = None
    above_baseline: float | None = None
    """Share of these labels whose whole interval lies above its baseline."""


@dataclass(frozen=True, kw_only=True)
class ImportRow(Record):
    """What an import of labels did."""

    file: str
    """Or folder, as it was given."""
    dictionary: str | None
    """None for a file whose rows name several."""
    labels: int
    """New ones."""
    known: int = 0
    """Labels that were there already."""
    failed: int = 0
    """Those that could not be labels; each has a row that says why."""
    scores: int = 0
    features: int | None = None
    """Of a dictionary that the import brought, without weights; None where there was one to label."""
    examples: int | None = None
    warnings: tuple[str, ...] = ()
    """What a reader of it should know, such as batches that were missing."""


@dataclass(frozen=True, kw_only=True)
class ExportRow(Record):
    """What an export wrote."""

    dictionary: str
    format: str
    path: str
    features: int
    files: int
    bytes: int
