"""The typed answers about maps and trajectories, as those in `featuredb.records` are about everything else."""

from __future__ import annotations

from dataclasses import dataclass

from featuredb.records import OfFeature
from featuredb.rows import Record


@dataclass(frozen=True, kw_only=True)
class MapPoint(OfFeature):
    """Where a feature lies on its dictionary's map: near those whose decoder directions are near its own."""

    x: float
    y: float
    density: float
    """Share of the run's tokens on which it fires."""


@dataclass(frozen=True, kw_only=True)
class TrajectoryPoint(Record):
    """Where a text, or the texts on one side of a concept, stand in the residual stream after one layer."""

    path: str
    """The text, or the concept's name and the side."""
    model: str
    n_texts: int
    """Of how many texts this is the mean."""
    hook: str
    layer: int | None
    """None for `embed`, which comes before layer 0."""
    x: float
    y: float
    z: float | None
    """None where two components were asked for."""
    norm: float
    """Length of the vector itself; of several texts, the mean of theirs."""
    explained: tuple[float, ...]
    """Of all that differs between the points, the share along each component; the same for every point."""
