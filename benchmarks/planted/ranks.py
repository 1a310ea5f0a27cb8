"""Where each order of `correlate` puts the feature that stands for a concept in truth.

Rule: concepts are made and features ranked by the product's own public calls, as a user makes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.planted.truth import Truth

if TYPE_CHECKING:
    from featuredb.concepts.choices import MethodName
    from featuredb.database import FeatureDB
    from featuredb.records import CorrelatedFeature
    from featuredb.search.correlate import Measure

FIRST, TOP = 10, 5
COSINES: dict[Measure | None, str] = {"cosine": "cosine_decoder", "encoder": "cosine_encoder"}


@dataclass(frozen=True, slots=True)
class Order:
    """A way to rank features for a concept."""

    title: str
    method: MethodName
    """Of making the direction."""
    by: Measure | None
    """What is sorted by; None: whatever the product sorts by when it is not told."""
    asked: bool = False
    """Whether a figure is asked of it."""


ORDERS = (
    Order("cosine, mean difference", "mean-difference", "cosine", asked=True),
    Order("cosine, LDA", "lda", "cosine", asked=True),
    Order("correlation, mean difference", "mean-difference", "correlation", asked=True),
    Order("correlation, LDA", "lda", "correlation", asked=True),
    Order("AUROC", "mean-difference", "auroc", asked=True),
    Order("encoder cosine, mean difference", "mean-difference", "encoder"),
    Order("encoder cosine, LDA", "lda", "encoder"),
    Order("cosine, pca", "pca", "cosine"),
    Order("correlation, pca", "pca", "correlation"),
    Order("cosine, probe", "probe", "cosine"),
    Order("correlation, probe", "probe", "correlation"),
)
DEFAULT = Order("as it comes", "mean-difference", None)


@dataclass(frozen=True, slots=True)
class Placed:
    """What one order made of one concept with one choice of texts."""

    order: Order
    concept: int
    seed: int
    rank: int
    """Of the best feature by F1, from 1; one past the last where it is not in the answer."""
    precision: float
    """Mean precision of the first ten features: the share of their firings that lie on tokens of the concept."""


def place(
    db: FeatureDB,
    folder: Path,
    texts: tuple[Sequence[str], Sequence[str]],
    orders: Sequence[Order],
    truth: Truth,
    best: int,
    concept: int,
    seed: int,
) -> Iterator[Placed]:
    """Makes the concept of texts by every method that is needed, and ranks by every order."""
    n_features = truth.f1.shape[1]
    for method in dict.fromkeys(order.method for order in orders):
        name = add(db, folder, texts, method)
        wanted = {order.by: order for order in orders if order.method == method}
        for by, features in rankings(db, name, list(wanted), n_features):
            rank = features.index(best) + 1 if best in features else n_features + 1
            precision = float(np.mean(truth.precision[concept, features[:FIRST]]))
            yield Placed(wanted[by], concept, seed, rank, precision)


def rankings(
    db: FeatureDB, name: str, wanted: Sequence[Measure | None], limit: int
) -> Iterator[tuple[Measure | None, list[int]]]:
    """The features in each order. Every row tells both cosines, whatever it is sorted by, so those of one answer are
    sorted here by them: the texts need not run again for each, and a test holds it to what `correlate` answers."""
    told: list[CorrelatedFeature] = []
    for by in sorted(wanted, key=lambda by: by in COSINES):
        if by in COSINES and told:
            column = COSINES[by]
            rows = sorted(told, key=lambda row: (-getattr(row, column), row.index))
        else:
            rows = list(db.correlate(name, by=by, limit=limit))
            told = rows if by == "correlation" else told
        yield by, [row.index for row in rows]


def add(db: FeatureDB, folder: Path, texts: tuple[Sequence[str], Sequence[str]], method: MethodName) -> str:
    """The name of the concept made of positive and negative texts, which takes the place of the last one."""
    from featuredb.concepts.request import ConceptRequest

    positive, negative = (
        _written(folder / f"planted-{side}.jsonl", lines)
        for side, lines in zip(("positive", "negative"), texts, strict=True)
    )
    name = f"planted-{method}"
    db.concepts.add(ConceptRequest(name, (positive,), (negative,), method=method, token="last", replace=True))
    return name


def _written(path: Path, texts: Sequence[str]) -> str:
    """The path of a file with those texts, which may hold line ends."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return str(path)
