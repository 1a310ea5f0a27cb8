"""The features nearest another: by their directions in the model, or by when they fire.

Directions are compared between dictionaries of one model and width; when features fire, between runs whose panels hold
the same tokens, of whatever models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from featuredb.errors import BadInput
from featuredb.labels.table import shown_labels
from featuredb.progress import ProgressReport, silent
from featuredb.records import SimilarFeature
from featuredb.search.cofiring import CoFiring, cofiring, why_not
from featuredb.search.scope import ENOUGH_FIRINGS
from featuredb.search.spaces import Floats, Indices, Mask, Say, Side, Space, read_places, unheard
from featuredb.store.refs import FeatureRef, get_feature
from featuredb.store.segments import SegmentReader
from featuredb.store.store import Store

Nearness = Literal["decoder", "encoder", "cofiring"]
NEARNESSES: tuple[Nearness, ...] = get_args(Nearness)


@dataclass(frozen=True)
class SimilarQuery:
    """What is asked. Checked when made."""

    feature: str
    """dictionary/index"""
    by: Nearness = "decoder"
    dictionaries: Sequence[str] | None = None
    """Where to look; None: in its own."""
    everywhere: bool = False
    """Look in every dictionary that can be compared."""
    limit: int = 20
    all_features: bool = False
    """Rank dead and under-sampled features too."""

    def __post_init__(self) -> None:
        if self.by not in NEARNESSES:
            raise BadInput(f"cannot compare by {self.by!r}", hint=f"one of {', '.join(NEARNESSES)}")
        if self.limit < 1:
            raise BadInput(f"cannot list {self.limit} features", hint="at least 1")
        if self.dictionaries is not None and self.everywhere:
            raise BadInput("dictionaries are named, and all are asked for", hint="leave one of the two out")
        if self.dictionaries is not None and not self.dictionaries:
            raise BadInput("no dictionary is named", hint="name one, or leave the choice out for the feature's own")


@dataclass(frozen=True, slots=True, eq=False)
class _Near:
    """The nearest features of one dictionary, the nearest first."""

    space: Space
    index: Indices
    score: Floats
    tie: Floats
    cofiring: CoFiring | None
    """Where it was worked out already."""


@dataclass(frozen=True, slots=True)
class _Together:
    """Figures of firing together; None where they are not known."""

    correlation: float | None
    jaccard: float | None
    n: int | None


@dataclass(frozen=True, slots=True, eq=False)
class _Asking:
    store: Store
    reader: SegmentReader
    query: SimilarQuery
    own: Space
    index: int

    def keep(self, space: Space) -> Mask:
        """The features that may be answered."""
        n = space.place.n_features
        keep = np.ones(n, np.bool_) if self.query.all_features else space.ranked.copy()
        if space.place.name == self.own.place.name:
            keep[self.index] = False
        return keep


def similar(
    store: Store, reader: SegmentReader, query: SimilarQuery, say: Say = unheard, report: ProgressReport = silent
) -> list[SimilarFeature]:
    """The features nearest to one, nearest first; ties by dictionary and index.

    By co-firing that is by their Jaccard index on the panel's tokens, and then by their correlation there.
    say: told, in sentences, what a reader of the answer should know.
    Raises NotFound for what is not there, BadInput for a feature without a direction and for dictionaries that were
    named and cannot be compared.
    """
    ref = FeatureRef.parse(query.feature)
    names = None if query.everywhere else list(query.dictionaries or (ref.dictionary,))
    with store.reading() as session:
        _, index = get_feature(session, ref)
        (own_place,) = read_places(session, [ref.dictionary])
        places = read_places(session, names)
    asking = _Asking(store, reader, query, Space(store, reader, own_place, say, report), index)
    spaces = [Space(store, reader, place, say, report) for place in places]
    near = _by_cofiring(asking, spaces) if query.by == "cofiring" else _by_direction(asking, spaces, query.by)
    _say_left_out(query, [each.space for each in near], say)
    chosen = sorted(
        (-score, -tie, each.space.place.name, number, owner, place)
        for owner, each in enumerate(near)
        for place, (score, tie, number) in enumerate(
            zip(each.score.tolist(), each.tie.tolist(), each.index.tolist(), strict=True)
        )
    )[: query.limit]
    rows: dict[tuple[int, int], SimilarFeature] = {}
    for owner, each in enumerate(near):
        mine = [place for *_, other, place in chosen if other == owner]
        rows |= {(owner, place): row for place, row in zip(mine, _rows(asking, each, mine), strict=True)}
    return [rows[owner, place] for *_, owner, place in chosen]


def _by_direction(asking: _Asking, spaces: Sequence[Space], side: Side) -> list[_Near]:
    able = _comparable(asking, spaces, lambda space: _other_direction(asking.own, space, side))
    vector = _direction(asking, side)
    if not vector.any():
        raise BadInput(
            f"the {side} of {asking.query.feature} is zero: it has no direction",
            hint=f"`featuredb show {asking.query.feature}` shows what there is of it",
        )
    near = []
    for space in able:
        index, score = space.highest(side, vector, asking.query.limit, asking.keep(space))
        near.append(_Near(space, index, score, np.zeros(len(index)), None))
    return near


def _by_cofiring(asking: _Asking, spaces: Sequence[Space]) -> list[_Near]:
    own = asking.own.place
    able = _comparable(asking, spaces, lambda space: why_not(asking.reader, own, space.place))
    near, n_own = [], 0
    for space in able:
        found = cofiring(asking.reader, own, asking.index, space.place)
        n_own = max(n_own, found.n_own)
        correlation = np.nan_to_num(found.correlation, nan=-2.0)
        order = np.lexsort((found.feature, -correlation, -found.jaccard))
        order = order[asking.keep(space)[found.feature[order]] & (found.n_together[order] > 0)][: asking.query.limit]
        near.append(_Near(space, found.feature[order], found.jaccard[order], correlation[order], found))
    if not n_own:
        raise BadInput(f"{asking.query.feature} fires on no token of the panel", hint="--by decoder can be answered")
    return near


def _comparable(asking: _Asking, spaces: Sequence[Space], why: Callable[[Space], str | None]) -> list[Space]:
    """Those of the dictionaries that can be compared. Raises BadInput for one that was named and cannot be."""
    able = []
    for space in spaces:
        reason = why(space)
        if reason is None:
            able.append(space)
        elif not asking.query.everywhere:
            raise BadInput(reason, hint="--everywhere asks every dictionary that can be compared")
    if not able:
        raise BadInput(f"nothing can be compared with {asking.query.feature}: {why(asking.own)}")
    return able


def _other_direction(own: Space, other: Space, side: Side) -> str | None:
    """Why the directions of two dictionaries cannot be compared; None where they can."""
    ours, theirs = own.place, other.place
    for space in (own, other):
        if not space.has_weights:
            return f"{space.place.name} was published without weights: it has no directions"
    if ours.fingerprint != theirs.fingerprint:
        return f"{theirs.name} is of another model ({theirs.model}) than {ours.name} ({ours.model})"
    width, other_width = (ours.d_out, theirs.d_out) if side == "decoder" else (ours.d_in, theirs.d_in)
    if width != other_width:
        return f"{theirs.name} has {side} directions of {other_width} numbers, and {ours.name} of {width}"
    return None


def _direction(asking: _Asking, side: Side) -> Floats:
    return np.asarray(asking.own.rows(side).take([asking.index])[0], np.float64)


def _rows(asking: _Asking, near: _Near, places: Sequence[int]) -> list[SimilarFeature]:
    """The rows of those places, every figure of them."""
    if not places:
        return []
    space, index = near.space, near.index[list(places)]
    decoder, encoder = _cosines(asking, space, "decoder", index), _cosines(asking, space, "encoder", index)
    together = _together(asking, near, index)
    with asking.store.reading() as session:
        labels = shown_labels(session, space.place.dictionary_id, index.tolist())
    return [
        SimilarFeature(
            dictionary=space.place.name,
            index=number,
            label=labels.get(number),
            flags=space.flags(number),
            cosine_decoder=decoder[at],
            cosine_encoder=encoder[at],
            correlation=together[number].correlation,
            jaccard=together[number].jaccard,
            n_together=together[number].n,
        )
        for at, number in enumerate(index.tolist())
    ]


def _cosines(asking: _Asking, space: Space, side: Side, index: Indices) -> list[float | None]:
    """With the feature's own direction; None where the two do not live in one space, or one of them is zero."""
    if _other_direction(asking.own, space, side) is not None or not (vector := _direction(asking, side)).any():
        return [None] * len(index)
    return space.scores(side, vector, index)


def _together(asking: _Asking, near: _Near, index: Indices) -> dict[int, _Together]:
    """What each of some features does together with the one; nothing is known where the panels cannot be compared."""
    own, found = asking.own.place, near.cofiring
    if found is None and why_not(asking.reader, own, near.space.place) is None:
        found = cofiring(asking.reader, own, asking.index, near.space.place, index.tolist())
    if found is None or not found.n_own:
        return dict.fromkeys(index.tolist(), _Together(None, None, None))
    figures = dict.fromkeys(index.tolist(), _Together(None, 0.0, 0))
    for number, n, jaccard, correlation in zip(
        found.feature.tolist(),
        found.n_together.tolist(),
        found.jaccard.tolist(),
        found.correlation.tolist(),
        strict=True,
    ):
        if number in figures:
            figures[number] = _Together(None if np.isnan(correlation) else correlation, jaccard, n)
    return figures


def _say_left_out(query: SimilarQuery, spaces: Sequence[Space], say: Say) -> None:
    if query.all_features:
        return
    n_left = sum(int(np.count_nonzero(~space.ranked)) for space in spaces)
    n_all = sum(space.place.n_features for space in spaces)
    if n_left:
        say(
            f"{n_left:,} of {n_all:,} features fired on fewer than {ENOUGH_FIRINGS} tokens and are left out; --all "
            "ranks them too"
        )
