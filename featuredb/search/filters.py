"""Which features an answer may be about: a filter over what is known of them, and the features that pass it.

Rule: figures, labels and scores only; no text is searched here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from featuredb.audit.checks import check_flag
from featuredb.audit.findings import flagged_features
from featuredb.errors import BadInput
from featuredb.labels.table import FAILED, shown_ids
from featuredb.search.scope import DENSE, ENOUGH_FIRINGS, chosen_dictionaries
from featuredb.store.catalog import DictionaryRow, LabelRow, ScoreRow
from featuredb.store.segments import SegmentReader, SegmentRef

FLAGS = ("dead", "under-sampled", "dense")
"""What a feature's figures can say against it; see `featuredb.search.scope.figure_flags`. Audits may find more."""

LEFT_OUT = ("dead", "under-sampled")
"""Flags of features that are left out unless they are asked for."""

ANY = (0.0, 1.0)

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FeatureFilter:
    """What a feature must be; all of it at once. Raises BadInput for what no feature can be."""

    dictionaries: tuple[str, ...] | None = None
    """Of one of these; None: any."""
    layers: tuple[int, ...] | None = None
    """Read at one of these; None: any."""
    density: tuple[float, float] = ANY
    """Firing on a share of the tokens between these, both included."""
    flags: tuple[str, ...] = ()
    """With every one of these."""
    without: tuple[str, ...] = ()
    """With none of these."""
    labelled: bool | None = None
    """With a label that can be shown, or without one."""
    min_score: float | None = None
    """With a shown label that has a score of at least this, by any scorer."""
    all_features: bool = False
    """Dead and under-sampled features as well, which are otherwise there only when `flags` asks for them."""

    def __post_init__(self) -> None:
        low, high = self.density
        if not 0 <= low <= high <= 1:
            raise BadInput(f"no density lies from {low:g} to {high:g}", hint="densities are shares from 0 to 1")
        for flag in (*self.flags, *self.without):
            if flag not in FLAGS:
                check_flag(flag, FLAGS)
        if both := set(self.flags) & set(self.without):
            raise BadInput(f"no feature is both {min(both)} and not {min(both)}")
        if self.min_score is not None and not math.isfinite(self.min_score):
            raise BadInput(f"{self.min_score} is no score to compare with")
        if self.labelled is False and self.min_score is not None:
            raise BadInput("a feature without a label has no score", hint="leave out one of the two")
        if any(layer < 0 for layer in self.layers or ()):
            raise BadInput(f"there is no layer {min(self.layers or ())}", hint="layers are counted from 0")

    @property
    def narrows(self) -> bool:
        """Whether it asks for anything, `all_features` aside."""
        return self != FeatureFilter(all_features=self.all_features)


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The features of one dictionary that a search may find."""

    dictionary_id: int
    name: str
    segment: SegmentRef
    density: NDArray[np.float64]
    """(n_features,) NaN where it is not known."""
    flagged: dict[str, Mask]
    """For each of FLAGS, (n_features,) whether a feature has it."""
    allowed: Mask
    """(n_features,) whether the filter lets each pass."""

    def flags(self, index: int) -> tuple[str, ...]:
        """The flags of a feature."""
        return tuple(flag for flag in FLAGS if self.flagged[flag][index])


class Scope:
    """The features that a filter lets pass, of all its dictionaries."""

    def __init__(self, dictionaries: Sequence[Candidates], n_left_out: int, n_features: int) -> None:
        self.dictionaries = tuple(dictionaries)
        self.n_left_out = n_left_out
        """Features that pass all else and are left out for being dead or under-sampled."""
        self._n_features = n_features
        self._by_id = {each.dictionary_id: each for each in dictionaries}
        self._by_name = {each.name: each for each in dictionaries}
        lengths = [len(each.allowed) for each in dictionaries]
        self._flat = np.concatenate([each.allowed for each in dictionaries] or [np.zeros(0, np.bool_)])
        self._start = np.full(max(self._by_id, default=0) + 2, -1, np.int64)
        for each, start in zip(dictionaries, np.cumsum([0, *lengths])[:-1].tolist(), strict=True):
            self._start[each.dictionary_id] = start

    @property
    def share(self) -> float:
        """How large a share of all the store's features pass."""
        return int(np.count_nonzero(self._flat)) / max(self._n_features, 1)

    def same(self, other: Scope) -> bool:
        """Whether the two let the same features pass."""
        return np.array_equal(self._start, other._start) and np.array_equal(self._flat, other._flat)

    def __getitem__(self, dictionary_id: int) -> Candidates:
        return self._by_id[dictionary_id]

    def named(self, name: str) -> Candidates:
        return self._by_name[name]

    def allows(self, dictionary_ids: NDArray[np.integer[Any]], indices: NDArray[np.integer[Any]]) -> Mask:
        """(n,) whether each of n features passes. Those of dictionaries that were not asked for do not."""
        if not len(self._flat):
            return np.zeros(len(indices), np.bool_)
        start = self._start[np.minimum(dictionary_ids, len(self._start) - 1)]
        passes: Mask = (start >= 0) & self._flat[np.minimum(start + indices, len(self._flat) - 1)]
        return passes


class Figures:
    """What is known of every feature by segment, read once: segments never change."""

    def __init__(self, reader: SegmentReader) -> None:
        self._reader = reader
        self._known: dict[str, tuple[NDArray[np.float64], dict[str, Mask]]] = {}

    def of(self, segment: SegmentRef) -> tuple[NDArray[np.float64], dict[str, Mask]]:
        """(n_features,) density, NaN where that is not known, and for each of FLAGS whether a feature has it."""
        if segment.path not in self._known:
            found = self._reader.figures(segment)
            n_fires = np.ma.filled(found["n_fires"].astype(np.int64), -1)
            density = np.ma.filled(found["density"].astype(np.float64), np.nan)
            self._known[segment.path] = density, flag_masks(n_fires, density)
        return self._known[segment.path]


def read_scope(session: Session, figures: Figures, wanted: FeatureFilter) -> Scope:
    """The features that pass a filter. Raises NotFound as `chosen_dictionaries` does.

    Of what is not known nothing is held against a feature: it has no flag, and passes where no density is asked for.
    """
    dictionaries, n_left_out = [], 0
    rows = chosen_dictionaries(session, wanted.dictionaries, wanted.layers)
    for row, segment in zip(rows, SegmentRef.newest_of(session, rows), strict=True):
        density, flagged = figures.of(segment)
        low, high = wanted.density
        allowed = np.ones(len(density), np.bool_) if (low, high) == ANY else (density >= low) & (density <= high)
        for flag in wanted.flags:
            allowed &= _has(session, row.id, flag, flagged, len(allowed))
        for flag in wanted.without:
            allowed &= ~_has(session, row.id, flag, flagged, len(allowed))
        if wanted.labelled is not None:
            allowed &= _labelled(session, row.id, len(allowed)) == wanted.labelled
        if wanted.min_score is not None:
            allowed &= _scored(session, row.id, len(allowed), wanted.min_score)
        if not wanted.all_features:
            for flag in set(LEFT_OUT) - set(wanted.flags):
                n_left_out += int(np.count_nonzero(allowed & flagged[flag]))
                allowed &= ~flagged[flag]
        dictionaries.append(Candidates(row.id, row.name, segment, density, flagged, allowed))
    n_features = session.scalar(select(func.sum(DictionaryRow.n_features))) or 0
    return Scope(dictionaries, n_left_out, n_features)


def flag_masks(n_fires: NDArray[Any], density: NDArray[Any]) -> dict[str, Mask]:
    """For each of FLAGS, (n_features,) whether `figure_flags` would give it; none where n_fires is -1, not known."""
    return {
        "dead": n_fires == 0,
        "under-sampled": (n_fires > 0) & (n_fires < ENOUGH_FIRINGS),
        "dense": (n_fires != 0) & (density > DENSE),
    }


def _has(session: Session, dictionary_id: int, flag: str, flagged: dict[str, Mask], n_features: int) -> Mask:
    """(n_features,) whether each has the flag: by its figures, or because an audit found it."""
    if flag in flagged:
        return flagged[flag]
    return _mask(flagged_features(session, dictionary_id, flag), n_features)


def _labelled(session: Session, dictionary_id: int, n_features: int) -> Mask:
    found = select(LabelRow.feature_index).where(
        LabelRow.dictionary_id == dictionary_id, LabelRow.status != FAILED, LabelRow.text.is_not(None)
    )
    return _mask(session.scalars(found.distinct()).all(), n_features)


def _scored(session: Session, dictionary_id: int, n_features: int, least: float) -> Mask:
    shown = shown_ids(dictionary_id).subquery()
    found = select(shown.c.feature_index).join(ScoreRow, ScoreRow.label_id == shown.c.id)
    return _mask(session.scalars(found.where(ScoreRow.value >= least)).all(), n_features)


def _mask(indices: Sequence[int], n_features: int) -> Mask:
    mask = np.zeros(n_features, np.bool_)
    mask[np.asarray(indices, np.int64)] = True
    return mask
