"""Which dictionaries a vector can be compared with, and where: hooks, widths and models put side by side.

Rule: nothing is scored here; what cannot be compared is refused or named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from featuredb.concepts.vectors import Kind, Vectors, at_hook
from featuredb.errors import BadInput
from featuredb.hooknames import layer_of
from featuredb.search.spaces import Floats, Place, Say, Space

MOST_NAMED = 8
"""Dictionaries that an error names for what they take."""


@dataclass(frozen=True, slots=True, eq=False)
class Meeting:
    """A dictionary, and the vectors that live where it reads and where it writes."""

    space: Space
    inward: Floats | None
    """(d_in,) at the hook it reads: to be compared with its encoder and its responses."""
    outward: Floats | None
    """(d_out,) at a hook it writes: to be compared with its decoder."""
    output: int
    """Which of its outputs that is."""
    hook: str
    """Where they meet."""
    kind: Kind = "unknown"
    """What the vectors are."""

    def read_out(self) -> Floats | None:
        """(d_in,) what reads the vector out where the dictionary reads; of a pattern, by the hook's moments."""
        moments = self.space.moments
        if self.inward is None or self.kind != "pattern" or moments is None:
            return self.inward
        return moments.read_out_of(self.inward)


@dataclass(slots=True)
class _Missed:
    """Dictionaries that were left out, by the reason."""

    other_model: list[Place] = field(default_factory=list)
    other_hook: list[Place] = field(default_factory=list)
    other_width: list[Place] = field(default_factory=list)
    no_weights: list[Place] = field(default_factory=list)


def meet(vectors: Vectors, spaces: Sequence[Space], every: Sequence[Place], *, named: bool, say: Say) -> list[Meeting]:
    """The dictionaries that the vectors can be compared with, in order.

    every: all dictionaries of the store, for what could be named. named: whether those of `spaces` were asked for by
    name, so that one that cannot be compared is an error and not left out.
    Raises BadInput where none can, saying what could be.
    """
    met, missed = [], _Missed()
    for space in spaces:
        meeting = _meeting(vectors, space, missed)
        if meeting is not None:
            met.append(meeting)
    if not met or (named and len(met) < len(spaces)):
        _refuse(vectors, missed, every, named)
    if missed.other_model:
        model = missed.other_model[0].model
        say(f"left out: {_names(missed.other_model)}, of another model ({model}) than {vectors.name}")
    if missed.no_weights:
        say(f"left out: {_names(missed.no_weights)}, published without weights")
    if "" in vectors.by_hook:
        width = len(vectors.by_hook[""])
        say(
            f"nothing says at which hook {vectors.name} was made: it is compared with every dictionary of {width} "
            "numbers; --hook says it"
        )
    return met


def _meeting(vectors: Vectors, space: Space, missed: _Missed) -> Meeting | None:
    place = space.place
    if vectors.fingerprint is not None and vectors.fingerprint != place.fingerprint:
        missed.other_model.append(place)
        return None
    if not space.has_weights:
        missed.no_weights.append(place)
        return None
    inward = at_hook(vectors.by_hook, place.hook)
    outward, output, hook = None, -1, place.hook
    if "" in vectors.by_hook:
        inward = vectors.by_hook[""]
        outward, output = inward, len(place.outputs) - 1
    else:
        for number, written in enumerate(place.outputs):
            if (vector := at_hook(vectors.by_hook, written)) is not None:
                outward, output = vector, number
                hook = written if inward is None else place.hook
                break
    if inward is None and outward is None:
        missed.other_hook.append(place)
        return None
    inward = inward if inward is not None and len(inward) == place.d_in else None
    outward = outward if outward is not None and len(outward) == place.d_out else None
    if inward is None and outward is None:
        missed.other_width.append(place)
        return None
    return Meeting(space, _double(inward), _double(outward), output, hook, vectors.kind)


def _double(vector: object) -> Floats | None:
    return None if vector is None else np.asarray(vector, np.float64)


def _refuse(vectors: Vectors, missed: _Missed, every: Sequence[Place], named: bool) -> None:
    name = vectors.name
    if missed.other_width:
        width = len(next(iter(vectors.by_hook.values())))
        fitting = [place for place in every if width in (place.d_in, place.d_out)]
        takes = "; ".join(f"{place.name} takes {place.d_in}" for place in (fitting or every)[:MOST_NAMED])
        raise BadInput(
            f"{name} has {width} numbers and cannot be compared with {_names(missed.other_width)}",
            hint=takes if fitting else f"no dictionary here does: {takes}",
        )
    if missed.other_hook:
        raise _no_meeting(vectors, missed.other_hook, named)
    if missed.other_model:
        place = missed.other_model[0]
        raise BadInput(
            f"{name} was made on {vectors.model or 'another model'}, and {_names(missed.other_model)} is of "
            f"{place.model}" + (", with other weights" if place.model == vectors.model else ""),
            hint=f"make the concept on {place.model}, or choose a dictionary of {vectors.model or 'its model'}",
        )
    raise BadInput(
        f"{_names(missed.no_weights)} was published without weights: it has no directions",
        hint="`featuredb ingest model` with the dictionary itself brings them",
    )


def _no_meeting(vectors: Vectors, missed: Sequence[Place], named: bool) -> BadInput:
    """The error for a vector at hooks that no dictionary reads or writes: the nearest that one does, and how on."""
    hooks = list(vectors.by_hook)
    at = layer_of(hooks[0])
    near = sorted(missed, key=lambda place: (_distance(at, layer_of(place.hook)), place.name))[:3]
    told = ", ".join(f"{place.name} at {place.hook}" for place in near)
    again = f"`featuredb concept add {vectors.name} ... --hook {near[0].hook} --replace` makes it there"
    reads = f"{_names(missed)} neither reads nor writes" if named else "no dictionary reads or writes"
    more = f" and {len(hooks) - 3} more" if len(hooks) > 3 else ""
    return BadInput(
        f"{reads} where {vectors.name} lives: {', '.join(hooks[:3])}{more}",
        hint=f"nearest: {told}; {again}" if vectors.texts else f"nearest: {told}",
    )


def _distance(one: int | None, other: int | None) -> int:
    return 10**6 if one is None or other is None else abs(one - other)


def _names(places: Sequence[Place]) -> str:
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return ", ".join(place.name for place in places[:3]) + more
