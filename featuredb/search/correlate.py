"""The features that go with a vector or a concept, over one, many or all dictionaries that meet it.

One measure chooses and sorts the features; the other figures are worked out exactly for those that were chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featuredb.concepts.vectors import Vectors, read_vectors
from featuredb.errors import BadInput, FeatureDBError
from featuredb.labels.table import shown_labels
from featuredb.progress import ProgressReport, silent
from featuredb.records import CorrelatedFeature
from featuredb.search.baseline import Baseline, baseline, permuted_baseline
from featuredb.search.meeting import Meeting, meet
from featuredb.search.scope import ENOUGH_FIRINGS
from featuredb.search.spaces import Floats, Indices, Mask, Say, Side, Space, read_places, unheard
from featuredb.search.text_auroc import TextValues, Token, Told
from featuredb.store.segments import SegmentReader
from featuredb.store.store import Store

if TYPE_CHECKING:
    from featuredb.search.activate import Activator
    from featuredb.search.running import Loaded

Measure = Literal["correlation", "cosine", "encoder", "auroc"]
MEASURES: tuple[Measure, ...] = get_args(Measure)

DEFAULT_MEASURES: tuple[Measure, ...] = ("correlation", "cosine", "encoder")
"""What an answer is sorted by where nothing is asked for: the first that every dictionary of the answer has."""

MANY_TEXTS = 200
"""More texts than this take long enough to be worth a bar."""

_SIDES: dict[str, Side] = {"correlation": "response", "cosine": "decoder", "encoder": "encoder"}
_LACKING = {
    "correlation": "has no run that kept its hook's moments, or the vector is not where it reads",
    "cosine": "does not write where the vector is",
    "encoder": "does not read where the vector is",
    "auroc": "has no run",
}


@dataclass(frozen=True, eq=False)
class CorrelateQuery:
    """What is asked. Checked when made."""

    what: str | Path | ArrayLike
    """A concept's name, a file, or a row of numbers."""
    by: Measure | None = None
    """What the answer is sorted by; None: see DEFAULT_MEASURES."""
    dictionaries: Sequence[str] | None = None
    layers: Sequence[int] | None = None
    hook: str | None = None
    """Of several vectors the one that is wanted; where one belongs, whose file does not say."""
    limit: int = 20
    all_features: bool = False
    """Rank dead and under-sampled features too."""

    def __post_init__(self) -> None:
        if self.by is not None and self.by not in MEASURES:
            raise BadInput(f"cannot sort by {self.by!r}", hint=f"one of {', '.join(MEASURES)}")
        if self.limit < 1:
            raise BadInput(f"cannot list {self.limit} features", hint="at least 1")
        if self.dictionaries is not None and not self.dictionaries:
            raise BadInput("no dictionary is named", hint="name one, or leave the choice out for all")


class Opens(Protocol):
    """What gives a dictionary ready to be run, as an Activator does."""

    def open(self, name: str) -> Loaded: ...


@dataclass(frozen=True, slots=True)
class Later:
    """An activator that is made when a text has to be run, and torch imported then: a vector needs neither."""

    make: Callable[[], Activator]

    def open(self, name: str) -> Loaded:
        return self.make().open(name)


@dataclass(frozen=True, slots=True, eq=False)
class _Ranked:
    """The features of one dictionary that may be in the answer, the best first."""

    meeting: Meeting
    index: Indices
    score: Floats
    tie: Floats
    """Decides between equal scores, the larger first."""
    told: Told | None
    """Where the texts were run already, of these features."""
    chance: Baseline | None


@dataclass(frozen=True, slots=True, eq=False)
class _Asking:
    """One question while it is answered."""

    store: Store
    activator: Opens
    query: CorrelateQuery
    vectors: Vectors
    say: Say
    report: ProgressReport

    def keep(self, space: Space) -> Mask | None:
        return None if self.query.all_features else space.ranked

    def text_values(self, space: Space) -> TextValues | None:
        """What the concept's texts make of a dictionary's features; None for a vector without texts."""
        if self.vectors.texts is None or space.place.segment is None:
            return None
        loaded = self.activator.open(space.place.name)
        token = cast(Token, self.vectors.token or "last")
        texts = self.vectors.texts
        # A few are run before a bar could be read.
        report = self.report if len(texts.positive) + len(texts.negative) > MANY_TEXTS else silent
        return TextValues.of(loaded, texts, token, self.vectors.chat, report)


def correlate(
    store: Store,
    reader: SegmentReader,
    activator: Opens,
    query: CorrelateQuery,
    say: Say = unheard,
    report: ProgressReport = silent,
) -> list[CorrelatedFeature]:
    """The features that score highest with the vectors asked for, highest first; ties by dictionary and index.

    say: told, in sentences, what a reader of the answer should know: what was left out, and why.
    Raises NotFound for a concept, file or dictionary that is not there, BadInput where nothing can be compared.
    """
    vectors = read_vectors(store, query.what, query.hook)
    with store.reading() as session:
        places = read_places(session, query.dictionaries, query.layers)
        every = read_places(session)
    spaces = [Space(store, reader, place, say, report) for place in places]
    meetings = meet(vectors, spaces, every, named=query.dictionaries is not None, say=say)
    by, meetings = _measured(query, vectors, meetings, say)
    asking = _Asking(store, activator, query, vectors, say, report)
    ranked = [_ranked(asking, each, by) for each in meetings]
    _say_left_out(asking, meetings)
    chosen = sorted(
        (-score, -tie, each.meeting.space.place.name, index, number, place)
        for number, each in enumerate(ranked)
        for place, (score, tie, index) in enumerate(
            zip(each.score.tolist(), each.tie.tolist(), each.index.tolist(), strict=True)
        )
    )[: query.limit]
    rows: dict[tuple[int, int], CorrelatedFeature] = {}
    for number, each in enumerate(ranked):
        mine = [place for *_, owner, place in chosen if owner == number]
        rows |= {(number, place): row for place, row in zip(mine, _rows(asking, each, mine), strict=True)}
    return [rows[number, place] for *_, number, place in chosen]


def _measured(
    query: CorrelateQuery, vectors: Vectors, meetings: list[Meeting], say: Say
) -> tuple[Measure, list[Meeting]]:
    """What the answer is sorted by, and the dictionaries that have it."""
    if query.by == "auroc" and vectors.texts is None:
        raise BadInput(f"{vectors.name} has no texts to be told apart", hint="--by correlation needs none")
    possible = [each for each in DEFAULT_MEASURES if any(_has(meeting, each) for meeting in meetings)]
    common = [each for each in possible if all(_has(meeting, each) for meeting in meetings)]
    by = query.by or (*common, *possible)[0]
    able = [meeting for meeting in meetings if _has(meeting, by)]
    unable = [meeting.space.place.name for meeting in meetings if not _has(meeting, by)]
    names = ", ".join(unable[:3]) + (" ..." if len(unable) > 3 else "")
    if not able:
        raise BadInput(f"{names} {_LACKING[by]}", hint=f"--by {possible[0]} can be answered")
    if unable:
        say(f"left out: {names}, which {_LACKING[by]}")
    return by, able


def _has(meeting: Meeting, measure: Measure) -> bool:
    """Whether a dictionary's features can be sorted by a measure."""
    if measure == "cosine":
        return meeting.outward is not None
    if measure == "auroc":
        return meeting.space.place.segment is not None
    return meeting.inward is not None and (measure == "encoder" or meeting.space.moments is not None)


def _ranked(asking: _Asking, meeting: Meeting, by: Measure) -> _Ranked:
    return _by_auroc(asking, meeting) if by == "auroc" else _by_score(asking, meeting, by)


def _by_score(asking: _Asking, meeting: Meeting, by: Measure) -> _Ranked:
    side = _SIDES[by]
    vector = meeting.outward if side == "decoder" else meeting.inward if side == "encoder" else meeting.read_out()
    assert vector is not None  # it has the measure
    space = meeting.space
    index, score = space.highest(side, vector, asking.query.limit, asking.keep(space), meeting.output)
    if not len(index) and side == "response" and space.ranked.any():
        raise BadInput(
            f"nothing varies along {asking.vectors.name} at {meeting.hook}, so nothing goes with it",
            hint="--by cosine can be answered",
        )
    return _Ranked(
        meeting,
        index,
        score,
        np.zeros(len(index)),
        None,
        baseline(asking.store, space, side, meeting.output, meeting.kind),
    )


def _by_auroc(asking: _Asking, meeting: Meeting) -> _Ranked:
    """By how far each feature's AUROC lies above one half, times the surprise that it fires at all.

    A few dozen texts cannot show how often a feature fires elsewhere, so that by the AUROC alone the features that
    fire everywhere come first; the run knows how often each does. A feature that fires on no text has one half.
    """
    space = meeting.space
    values = asking.text_values(space)
    assert values is not None  # it has the measure
    firing, keep = values.firing(), asking.keep(space)
    if keep is not None:
        firing = firing[keep[firing]]
    told = values.told(firing)
    score = (told.value - 0.5) * space.surprise[firing]
    order = np.lexsort((firing, -told.difference, -score))[: asking.query.limit]
    chance = permuted_baseline(values.table(firing[space.ranked[firing]]), values.positive) if len(firing) else None
    of_these = Told(told.value[order], told.low[order], told.high[order], told.difference[order])
    return _Ranked(meeting, firing[order], score[order], of_these.difference, of_these, chance)


def _rows(asking: _Asking, ranked: _Ranked, places: Sequence[int]) -> Iterable[CorrelatedFeature]:
    """The rows of those places in a dictionary's ranking, every figure of them."""
    if not places:
        return []
    meeting, space = ranked.meeting, ranked.meeting.space
    place, index = space.place, ranked.index[list(places)]
    read = meeting.read_out() if space.moments is not None else None
    decoder, encoder, response = (
        _figures(meeting, "decoder", index, meeting.outward),
        _figures(meeting, "encoder", index, meeting.inward),
        _figures(meeting, "response", index, read),
    )
    told = _told(asking, space, index) if ranked.told is None else _take(ranked.told, places)
    with asking.store.reading() as session:
        labels = shown_labels(session, place.dictionary_id, index.tolist())
    return [
        CorrelatedFeature(
            dictionary=place.name,
            index=number,
            label=labels.get(number),
            flags=space.flags(number),
            cosine_decoder=decoder[at],
            cosine_encoder=encoder[at],
            correlation=response[at],
            auroc=None if told is None else float(told.value[at]),
            auroc_low=None if told is None else float(told.low[at]),
            auroc_high=None if told is None else float(told.high[at]),
            score=float(ranked.score[places[at]]),
            baseline=None if ranked.chance is None else ranked.chance.high,
            hook=meeting.hook,
            density=None if space.density is None else float(space.density[number]),
            n_fires=None if space.n_fires is None else int(space.n_fires[number]),
        )
        for at, number in enumerate(index.tolist())
    ]


def _figures(meeting: Meeting, side: Side, index: Indices, vector: Floats | None) -> list[float | None]:
    """The scores of a dictionary's features on one side; None where the vector does not live there."""
    if vector is None:
        return [None] * len(index)
    return meeting.space.scores(side, vector, index, meeting.output)


def _told(asking: _Asking, space: Space, index: Indices) -> Told | None:
    """How well some features tell the concept's texts apart; None without texts, or where they cannot be run now."""
    try:
        values = asking.text_values(space)
    except FeatureDBError as error:
        asking.say(f"no AUROC for {space.place.name}: {error.message}")
        return None
    return None if values is None else values.told(index)


def _take(told: Told, places: Sequence[int]) -> Told:
    which: NDArray[np.int64] = np.array(places)
    return Told(told.value[which], told.low[which], told.high[which], told.difference[which])


def _say_left_out(asking: _Asking, meetings: Sequence[Meeting]) -> None:
    if asking.query.all_features:
        return
    n_left = sum(int(np.count_nonzero(~meeting.space.ranked)) for meeting in meetings)
    n_all = sum(meeting.space.place.n_features for meeting in meetings)
    if n_left:
        asking.say(
            f"{n_left:,} of {n_all:,} features fired on fewer than {ENOUGH_FIRINGS} tokens and are left out; --all "
            "ranks them too"
        )
