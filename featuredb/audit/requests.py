"""What a check is asked, and what it answers. Records and protocols only: nothing is read or computed here.

A check sees a dictionary through the protocols below, so that features planted in a run are audited by the same code
as those of a store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featuredb.labels.evidence import Firings
from featuredb.labels.requests import LabelToScore
from featuredb.progress import ProgressReport, silent

if TYPE_CHECKING:
    from featuredb.audit.panel import Fired
    from featuredb.plugins import TextEmbedding

Floats32 = NDArray[np.float32]
Places = NDArray[np.int64]


class Directions(Protocol):
    """A dictionary's rows. Raises BadInput where there are no weights."""

    def decoder(self, features: Sequence[int]) -> Floats32:
        """(len(features), d_out) decoder rows, as long as they are."""
        ...

    def encoder(self, features: Sequence[int]) -> Floats32:
        """(len(features), d_in) encoder rows."""
        ...

    def nearest(self, n: int) -> tuple[NDArray[np.int64], Floats32]:
        """(n_features, n) the features whose decoder rows point most nearly the same way, nearest first, with their
        cosines; -1 and 0 where there are none. Worked out once."""
        ...


class States(Protocol):
    """The model's vectors at the dictionary's input. Raises BadInput where the model cannot be run."""

    def at(self, places: Places) -> Floats32:
        """(len(places), d_in) at places of `everything.passages`, which is the numbering of `Request.everything`.

        The contexts that hold them are run through the model, each once; what was worked out is kept.
        """
        ...

    def layers(self, places: Places) -> Mapping[str, Floats32]:
        """The same at every residual hook up to the dictionary's own, by hook, the earliest first."""
        ...


class Texts(Protocol):
    """Embeds texts and keeps what it has embedded; `featuredb.labels.workshop.Workshop` is one."""

    @property
    def embedder(self) -> TextEmbedding: ...

    def embed(self, texts: Sequence[str]) -> Floats32:
        """(len(texts), width) unit vectors."""
        ...


@dataclass(frozen=True)
class AuditRequest:
    """Which features to audit, and all that may be used for it."""

    features: Sequence[int]
    """Sorted. Others may be read to compare with, and none but these may be answered for."""
    everything: Firings
    """All documents: for what concerns no label."""
    audit: Firings
    """The half that no labeler has seen: all that a label is judged by."""
    labeling: Firings
    """The other half: where a better label may be looked for. Its places are numbered in its own passages."""
    panel: Fired
    """Every firing on the panel's tokens of all documents, of all features; places as in `everything`."""
    labels: Mapping[int, LabelToScore]
    """The label to be judged of each labeled feature of the dictionary, asked for or not."""
    directions: Directions
    states: States
    texts: Texts
    scores: Callable[[int], Mapping[str, float]] = lambda label_id: {}
    """scores(label_id): what scorers made of a label, {"detection": 0.7}; for channels that need a judge."""
    options: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    progress: ProgressReport = silent


@dataclass(frozen=True)
class Judged:
    """What a check makes of one feature: flagged or not."""

    feature: int
    score: float
    """How far it is from sound, 0 to 1; among one check's answers a larger one is worse."""
    flagged: bool
    """Whether it is a finding."""
    p: float | None = None
    """Chance of such a score where nothing is wrong, corrected for the number of features where `q` says so."""
    q: float | None = None
    """False discovery rate at which it is still flagged (Benjamini and Hochberg), where the check has one."""
    name: str | None = None
    """Of the finding, one of the check's `findings`, where it has several, such as "too-broad"; None: the first."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """What it is from, as JSON can say it: figures; `examples`, ids of contexts; `others`, indices of other features.
    For a feature that is not flagged a few figures are enough."""
    suggestion: str | None = None
    """What to do, in a sentence: a better label, or which feature to look at."""
    label_id: int | None = None
    """The label it speaks of, where it speaks of one."""
