"""All known firings of many features at once, weighted so that they stand for every firing of the run.

Rule: the weights of `featuredb.labels.fit.Sample`, for a block of features together; what they mean is a check's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featuredb.labels.fit import near_firings, window_firings
from featuredb.store.passages import PanelFirings

if TYPE_CHECKING:
    from featuredb.audit.requests import AuditRequest

BLOCK = 512
"""Features worked on at a time."""

PRIOR_FIRINGS = 5.0
"""What the run's density counts for beside the firings seen on a part of the panel, when that part's is worked out."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Weighted:
    """n known firings of features first to last (left out), by feature: those on the panel, then those of windows."""

    first: int
    last: int
    feature: NDArray[np.int64]
    """(n,) counted from `first`, ascending."""
    at: Places
    """(n,) places of `everything.passages`."""
    activation: Floats
    near: Mask
    """(n,) whether it lies in the window that an example of its context would have."""
    on_panel: Mask

    @property
    def n_features(self) -> int:
        return self.last - self.first

    def count(self, chosen: Mask) -> Floats:
        """(n_features,) how many of each one's firings are chosen."""
        return np.bincount(self.feature[chosen], minlength=self.n_features).astype(np.float64)

    def weights(self, chosen: Mask) -> Floats:
        """(n,) what each chosen firing counts for; of a feature they add up to 1, or to 0 where none is chosen."""
        near, far = chosen & self.near, chosen & ~self.near
        share = self.count(far) / np.maximum(1, self.count(chosen & self.on_panel))
        weight = np.where(near, ((1 - share) / np.maximum(1, self.count(near)))[self.feature], 0.0)
        weight += np.where(far, (share / np.maximum(1, self.count(far)))[self.feature], 0.0)
        total = np.bincount(self.feature, weight, self.n_features)
        return np.asarray(weight / np.where(total > 0, total, 1.0)[self.feature], np.float64)


def blocks(request: AuditRequest, size: int = BLOCK) -> Iterator[Weighted]:
    """The firings of all features that are asked for, some features at a time."""
    asked = np.asarray(request.features)
    for first in range(0, request.panel.n_features, size):
        last = min(first + size, request.panel.n_features)
        if ((asked >= first) & (asked < last)).any():
            yield weighted(request, first, last)


def weighted(request: AuditRequest, first: int, last: int) -> Weighted:
    """What is known of features first to last (left out), in all documents."""
    fired, passages = request.panel, request.everything.passages
    part = slice(int(fired.start[first]), int(fired.start[last]))
    panel = PanelFirings(fired.feature[part], fired.tokens[fired.column[part]], fired.activation[part])
    owner, at, activation = window_firings(request.everything.examples(first, last), passages)
    feature = np.concatenate([panel.feature, owner]).astype(np.int64) - first
    order = np.argsort(feature, kind="stable")
    n_panel = len(panel.at)
    return Weighted(
        first=first,
        last=last,
        feature=feature[order],
        at=np.concatenate([panel.at, at])[order],
        activation=np.concatenate([panel.activation, activation])[order].astype(np.float64),
        near=np.concatenate([near_firings(panel, passages), np.ones(len(at), np.bool_)])[order],
        on_panel=order < n_panel,
    )


def audit_half(request: AuditRequest) -> Mask:
    """(N,) whether each token of `everything` lies in a document of the audit half."""
    passages = request.everything.passages
    kept = np.isin(passages.document, np.unique(request.audit.passages.document))
    return np.repeat(kept, np.diff(passages.start))


def part_density(seen: Floats, n_tokens: Floats | float, density: Floats) -> Floats:
    """P(fires) in a part of the documents: of what was seen on its panel, drawn to the run's where that is little.

    seen: firings on the panel's tokens of that part, (...); density: (...) of the run.
    """
    known = np.nan_to_num(density) > 0
    safe = np.where(known, density, 1.0)
    return np.where(known, (seen + PRIOR_FIRINGS) / (n_tokens + PRIOR_FIRINGS / safe), 0.0)
