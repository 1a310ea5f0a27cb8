"""Features made from firings one chooses, put into a dictionary as if a run had captured them: the ground truth.

Rule: how firings become what a run keeps. Which firings, and what is wrong with them, is the business of who plants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.panel import Fired
from featuredb.audit.requests import AuditRequest, Directions, Floats32, Places
from featuredb.labels.evidence import Firings
from featuredb.labels.fit import window_firings
from featuredb.store.layout import RADIUS
from featuredb.store.passages import Examples, PanelFirings, Passages

N_TOP, N_SAMPLES = 24, 64
"""Contexts kept of a feature, as an ingest keeps them."""


@dataclass(frozen=True)
class Plant:
    """One made feature: all its firings on the panel, and those in some contexts beside it."""

    feature: int
    """Which it replaces, or the next past the last."""
    at: Places
    """(n,) ascending places of `everything.passages`. Contexts off the panel have to be a fair sample of those in which
    it fires."""
    activation: Floats32
    """(n,)"""
    density: float | None = None
    """P(fires); None takes the panel's."""


@dataclass(frozen=True)
class Known:
    """What a run knows of a feature's firings, in the form that a Plant is made of."""

    at: Places
    activation: Floats32
    on_panel: NDArray[np.bool_]
    context: NDArray[np.int32]
    """(n,) the context of each."""


def known_firings(firings: Firings, feature: int) -> Known:
    """A feature's firings on the panel, and in the windows of its uniform sample off the panel; ascending."""
    passages = firings.passages
    panel_at, panel_activation = firings.panel(feature, feature + 1).of(feature)
    _, at, activation = window_firings(firings.examples(feature, feature + 1), passages)
    places = np.concatenate([panel_at, at])
    values = np.concatenate([panel_activation, activation]).astype(np.float32)
    on_panel = np.arange(len(places)) < len(panel_at)
    places, first = np.unique(places, return_index=True)
    piece = np.searchsorted(passages.start, places, side="right") - 1
    return Known(places, values[first], on_panel[first], passages.context[piece])


def planted_request(
    request: AuditRequest,
    plants: Sequence[Plant],
    *,
    decoder: Mapping[int, NDArray[np.float32]] | None = None,
    encoder: Mapping[int, NDArray[np.float32]] | None = None,
    features: Sequence[int] | None = None,
) -> AuditRequest:
    """The request with those features put in, in all it is made of; labels stay as they are.

    decoder, encoder: rows of planted features, (d,) each. features: which to audit; None: those there were, and those
    planted.
    """
    numbers = {plant.feature for plant in plants}
    everything = Planted(request.everything, plants, request.everything.passages)
    return replace(
        request,
        features=sorted(numbers | set(request.features)) if features is None else sorted(features),
        everything=everything,
        audit=Planted(request.audit, plants, request.everything.passages),
        labeling=Planted(request.labeling, plants, request.everything.passages),
        panel=Fired.read(everything),
        directions=PlantedDirections(request.directions, dict(decoder or {}), dict(encoder or {}), everything),
    )


class Held:
    """Firings read whole into memory, to be asked many times. For dictionaries of some thousand features."""

    def __init__(self, firings: Firings) -> None:
        self.n_fires, self.density, self.largest = firings.n_fires, firings.density, firings.largest
        self.n_features = firings.n_features
        self.passages = firings.passages
        self._panel = firings.panel(0, firings.n_features)
        self._examples = firings.examples(0, firings.n_features)

    def panel(self, first: int, last: int) -> PanelFirings:
        found = self._panel
        low, high = np.searchsorted(found.feature, [first, last])
        return PanelFirings(found.feature[low:high], found.at[low:high], found.activation[low:high])

    def examples(self, first: int, last: int) -> Examples:
        low, high = np.searchsorted(self._examples.feature, [first, last])
        return _part(self._examples, int(low), int(high))


class Planted:
    """The firings of a dictionary with some features replaced by planted ones, or planted past the last."""

    def __init__(self, base: Firings, plants: Sequence[Plant], places: Passages) -> None:
        """places: what the plants' places are numbered in; `base` may be of a part of it."""
        self._base = base
        self.passages = base.passages
        self.n_features = max([base.n_features, *(plant.feature + 1 for plant in plants)])
        self._made = {plant.feature: _Made.of(plant, places, base.passages) for plant in plants}
        alive = base.density > 0
        n_tokens = float(np.median(base.n_fires[alive] / base.density[alive])) if alive.any() else 0.0
        self.density = self._with(base.density, {f: made.density for f, made in self._made.items()})
        self.n_fires = self._with(base.n_fires, {f: round(made.density * n_tokens) for f, made in self._made.items()})
        self.largest = self._with(base.largest, {f: made.largest for f, made in self._made.items()})

    def panel(self, first: int, last: int) -> PanelFirings:
        base = self._base.panel(min(first, self._base.n_features), min(last, self._base.n_features))
        made = {f: one for f, one in self._made.items() if first <= f < last}
        kept = ~np.isin(base.feature, list(made))
        feature = np.concatenate([base.feature[kept], *(np.full(len(one.at), f, np.int32) for f, one in made.items())])
        at = np.concatenate([base.at[kept], *(one.at for one in made.values())])
        activation = np.concatenate([base.activation[kept], *(one.activation for one in made.values())])
        order = np.lexsort((at, feature))
        return PanelFirings(feature[order], at[order], activation[order])

    def examples(self, first: int, last: int) -> Examples:
        base = self._base.examples(min(first, self._base.n_features), min(last, self._base.n_features))
        parts, done = [], 0
        for feature in sorted(f for f in self._made if first <= f < last):
            low, high = np.searchsorted(base.feature, [feature, feature + 1])
            parts += [_part(base, done, int(low)), self._made[feature].examples]
            done = int(high)
        parts.append(_part(base, done, len(base.feature)))
        return _joined(parts)

    def _with(self, base: NDArray[Any], made: Mapping[int, float]) -> NDArray[Any]:
        values = np.zeros(self.n_features, base.dtype)
        values[: len(base)] = base
        for feature, value in made.items():
            values[feature] = value
        return values


class PlantedDirections:
    """Directions with some rows replaced, or added past the last."""

    def __init__(
        self,
        base: Directions,
        decoder: dict[int, NDArray[np.float32]],
        encoder: dict[int, NDArray[np.float32]],
        firings: Firings,
    ) -> None:
        self._base, self._decoder, self._encoder = base, decoder, encoder
        self._n = firings.n_features

    def decoder(self, features: Sequence[int]) -> Floats32:
        return self._rows(features, self._decoder, self._base.decoder)

    def encoder(self, features: Sequence[int]) -> Floats32:
        return self._rows(features, self._encoder, self._base.encoder)

    def nearest(self, n: int) -> tuple[NDArray[np.int64], Floats32]:
        return self._nearest[0][:, :n], self._nearest[1][:, :n]

    @cached_property
    def _nearest(self) -> tuple[NDArray[np.int64], Floats32]:
        rows = self.decoder(range(self._n))
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        found, cosines = [], []
        for first in range(0, self._n, 1_024):
            near = rows[first : first + 1_024] @ rows.T
            near[np.arange(len(near)), first + np.arange(len(near))] = -np.inf
            order = np.argsort(-near, axis=1)[:, :64]
            found.append(order)
            cosines.append(np.take_along_axis(near, order, axis=1))
        return np.concatenate(found), np.concatenate(cosines)

    @staticmethod
    def _rows(features: Sequence[int], made: dict[int, NDArray[np.float32]], base: object) -> Floats32:
        assert callable(base)
        real = [feature for feature in features if feature not in made]
        known = dict(zip(real, base(real), strict=True)) if real else {}
        return np.stack([made[f] if f in made else known[f] for f in features]).astype(np.float32)


@dataclass(frozen=True)
class _Made:
    """What one half of the documents shows of a plant; places are that half's."""

    at: Places
    activation: Floats32
    """Its panel firings."""
    examples: Examples
    density: float
    largest: float

    @classmethod
    def of(cls, plant: Plant, places: Passages, here: Passages) -> _Made:
        piece = np.searchsorted(places.start, plant.at, side="right") - 1
        context = places.context[piece]
        position = (places.position[piece] + plant.at - places.start[piece]).astype(np.int32)
        panel = places.panel[piece]
        density = plant.density
        if density is None:
            density = float(panel.sum() / max(1, np.count_nonzero(places.on_panel)))
        kept = _kept(plant, context, panel)
        at = here.locate(context, position)
        chosen = panel & (at >= 0)
        return cls(
            at=at[chosen],
            activation=plant.activation[chosen].astype(np.float32),
            examples=_examples(plant.feature, kept, at, plant.activation.astype(np.float32), context, here),
            density=density,
            largest=float(plant.activation.max(initial=0.0)),
        )


def _kept(plant: Plant, context: NDArray[np.int32], panel: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """The contexts an ingest would keep: kind, rank, and which of the plant's firings is the strongest there."""
    order = np.lexsort((plant.at, -plant.activation, context))
    first = np.flatnonzero(np.append(True, context[order][1:] != context[order][:-1])) if len(order) else order
    peaks = order[first]
    strongest = peaks[np.argsort(-plant.activation[peaks], kind="stable")]
    found = [(0, rank, int(peak)) for rank, peak in enumerate(strongest[:N_TOP])]
    n_on, n_off = int(panel[peaks].sum()), int((~panel[peaks]).sum())
    # A sample has room for so many contexts; what those off the panel leave is of panel contexts.
    rate = np.clip((N_SAMPLES - n_off) / max(1, n_on), 0, 1)
    random = np.random.default_rng((plant.feature, len(plant.at)))
    fair = peaks[~panel[peaks] | (random.random(len(peaks)) < rate)]
    fair = np.sort(random.permutation(fair)[:N_SAMPLES])
    fair = fair[np.argsort(-plant.activation[fair], kind="stable")]
    return found + [(1, rank, int(peak)) for rank, peak in enumerate(fair)]


def _examples(
    feature: int,
    kept: Sequence[tuple[int, int, int]],
    at: Places,
    activation: Floats32,
    context: NDArray[np.int32],
    here: Passages,
) -> Examples:
    kept = [one for one in kept if at[one[2]] >= 0]
    peak = np.array([one[2] for one in kept], np.int64)
    middle = at[peak]
    piece = np.searchsorted(here.start, middle, side="right") - 1
    low = np.maximum(middle - RADIUS, here.start[piece])
    high = np.minimum(middle + RADIUS + 1, here.start[piece + 1])
    first = np.concatenate([[0], np.cumsum(high - low)]).astype(np.int64)
    shares = np.zeros(int(first[-1]), np.float32)
    for number in range(len(kept)):
        inside = (at >= low[number]) & (at < high[number]) & (context == context[peak[number]])
        steps = np.round(activation[inside] / activation[peak[number]] * 255) / 255
        shares[first[number] + at[inside] - low[number]] = np.clip(steps, 0, 1)
    return Examples(
        feature=np.full(len(kept), feature, np.int32),
        kind=np.array([one[0] for one in kept], np.uint8),
        rank=np.array([one[1] for one in kept], np.int32),
        at=middle,
        activation=activation[peak],
        low=low,
        high=high,
        shares=shares,
        first=first,
    )


def _part(examples: Examples, low: int, high: int) -> Examples:
    rows, first = slice(low, high), examples.first[low : high + 1]
    return Examples(
        feature=examples.feature[rows],
        kind=examples.kind[rows],
        rank=examples.rank[rows],
        at=examples.at[rows],
        activation=examples.activation[rows],
        low=examples.low[rows],
        high=examples.high[rows],
        shares=examples.shares[int(first[0]) : int(first[-1])],
        first=first - first[0],
    )


def _joined(parts: Sequence[Examples]) -> Examples:
    parts = [part for part in parts if len(part.feature)] or [parts[0]]
    begins = np.cumsum([0, *(part.first[-1] for part in parts)])
    return Examples(
        feature=np.concatenate([part.feature for part in parts]),
        kind=np.concatenate([part.kind for part in parts]),
        rank=np.concatenate([part.rank for part in parts]),
        at=np.concatenate([part.at for part in parts]),
        activation=np.concatenate([part.activation for part in parts]),
        low=np.concatenate([part.low for part in parts]),
        high=np.concatenate([part.high for part in parts]),
        shares=np.concatenate([part.shares for part in parts]),
        first=np.concatenate([[0], *(part.first[1:] + begin for part, begin in zip(parts, begins, strict=False))]),
    )
