"""Duplicates, splits and holes planted in a dictionary, and how well checks find them.

Rule: what is done to a feature's firings and rows; how they get into a request is `planted`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.requests import AuditRequest, Floats32, Judged, Places
from featuredb.search.scope import DENSE
from featuredb.testing.truth.planted import Known, Plant, known_firings, planted_request

NOISE = 0.1
"""Length of what is added to the decoder row of a copy, as a share of the row's."""

COSINES = (0.4, 0.9)
"""Of the decoder rows of the parts of a split feature, drawn evenly."""

PARTS = (0.2, 0.8)
"""Share of the firings that one part may get."""

ENOUGH_FIRES, ENOUGH_ON_PANEL = 500, 120
"""Firings in the run and on the panel that a feature needs to be copied or split, so that its parts can be judged."""

HOLE = (0.05, 0.5)
"""Share of a feature's firings under its label that one kind of token has, so that a hole may be made there."""

HOLE_FIRES, LABEL_FIRES = 6, 25
"""Firings on that kind, and on all that the label holds of: on panel tokens of the audit half."""

CHILD = 0.5
"""A child fires on this share of the tokens of a hole at least."""

DRAWS = 50
"""Tries at a division of a feature that gives both parts enough."""


@dataclass(frozen=True)
class Hole:
    """A kind of token taken from a feature, and the feature that was given its direction."""

    feature: int
    token: int
    child: int


@dataclass
class Structure:
    """What was planted. Features are numbered as in the request that `into` gives."""

    duplicates: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: {"turns": [], "both": []})
    """Originals and copies: those that take turns, and those that fire together."""
    splits: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: {"token": [], "document": []})
    """Parts: by kind of token, and by document."""
    holes: list[Hole] = field(default_factory=list)
    plants: list[Plant] = field(default_factory=list)
    decoder: dict[int, Floats32] = field(default_factory=dict)
    encoder: dict[int, Floats32] = field(default_factory=dict)

    def into(self, request: AuditRequest) -> AuditRequest:
        """The request with all of it. A copy and a part have the label of what they were made of."""
        labels = dict(request.labels)
        for pairs in self.duplicates.values():
            labels |= {copy: replace(labels[f], feature=copy) for f, copy in pairs if f in labels}
        planted = planted_request(request, self.plants, decoder=self.decoder, encoder=self.encoder)
        return replace(planted, labels=labels)

    @property
    def touched(self) -> set[int]:
        """Every feature that is not as it was."""
        pairs = [pair for group in (self.duplicates, self.splits) for each in group.values() for pair in each]
        of_holes = [(hole.feature, hole.child) for hole in self.holes]
        return {feature for pair in [*pairs, *of_holes] for feature in pair}


def plant_structure(request: AuditRequest, seed: int, n: int, holds: Mapping[int, NDArray[np.bool_]]) -> Structure:
    """n duplicates (half of them take turns), n splits (half by token, half by document) and n holes, by the seed.

    holds: (N,) for labeled features where the label holds, over the audit half's passages; holes are made in these.
    Fewer are planted where the dictionary has too few features fit for it.
    """
    random = np.random.default_rng((seed, 4))
    made = Structure()
    firings = request.everything
    fit = (firings.n_fires >= ENOUGH_FIRES) & (request.panel.n_fires >= ENOUGH_ON_PANEL) & (firings.density < DENSE)
    numbers = iter(range(firings.n_features, firings.n_features + 2 * n))
    order = iter(random.permutation(np.flatnonzero(fit)).tolist())
    for place, feature in zip(range(n), order, strict=False):
        _duplicate(request, made, (feature, next(numbers)), ("turns", "both")[place % 2], random)
    kinds = ["token", "document"] * (n // 2)
    for feature in order:
        if not kinds:
            break
        if _split(request, made, (feature, firings.n_features + n + len(kinds) - 1), kinds[-1], random):
            kinds.pop()
    _holes(request, made, n, holds, random)
    return made


def _duplicate(
    request: AuditRequest, made: Structure, pair: tuple[int, int], kind: str, random: np.random.Generator
) -> None:
    feature, copy = pair
    known = known_firings(request.everything, feature)
    all_of_it = np.ones(len(known.at), np.bool_)
    first = random.random(len(known.at)) < 0.5
    masks = (all_of_it, all_of_it) if kind == "both" else (first, ~first)
    made.plants += _parts(request, known, pair, masks)
    row = request.directions.decoder([feature])[0]
    noise = random.standard_normal(len(row))
    noise *= NOISE * np.linalg.norm(row) / np.linalg.norm(noise)
    made.decoder[copy] = (row + noise).astype(np.float32)
    made.encoder[copy] = request.directions.encoder([feature])[0]
    made.duplicates[kind].append(pair)


def _split(
    request: AuditRequest, made: Structure, pair: tuple[int, int], kind: str, random: np.random.Generator
) -> bool:
    known = known_firings(request.everything, pair[0])
    passages = request.everything.passages
    piece = np.searchsorted(passages.start, known.at, side="right") - 1
    units = passages.token[known.at] if kind == "token" else passages.document[piece]
    first = _division(units, random)
    if first is None:
        return False
    made.plants += _parts(request, known, pair, (first, ~first))
    row = request.directions.decoder([pair[0]])[0]
    length = float(np.linalg.norm(row))
    along = row / length
    across = random.standard_normal(len(row))
    across -= across @ along * along
    across /= np.linalg.norm(across)
    cosine = random.uniform(*COSINES)
    near, far = np.sqrt((1 + cosine) / 2), np.sqrt((1 - cosine) / 2)
    encoder = request.directions.encoder([pair[0]])[0]
    for feature, sign in zip(pair, (1, -1), strict=True):
        made.decoder[feature] = (length * (near * along + sign * far * across)).astype(np.float32)
        made.encoder[feature] = encoder
    made.splits[kind].append(pair)
    return True


def _division(units: NDArray[np.int32], random: np.random.Generator) -> NDArray[np.bool_] | None:
    """(n,) a division of firings by what unit they are of, with PARTS of them on one side."""
    kinds, kind = np.unique(units, return_inverse=True)
    for _ in range(DRAWS):
        first = (random.random(len(kinds)) < 0.5)[kind]
        if PARTS[0] <= first.mean() <= PARTS[1]:
            return np.asarray(first, np.bool_)
    return None


def _parts(
    request: AuditRequest, known: Known, pair: tuple[int, int], masks: tuple[NDArray[np.bool_], ...]
) -> Iterator[Plant]:
    density = float(request.everything.density[pair[0]])
    for feature, mask in zip(pair, masks, strict=True):
        yield Plant(feature, known.at[mask], known.activation[mask], density * float(mask.mean()))


def _holes(
    request: AuditRequest,
    made: Structure,
    n: int,
    holds: Mapping[int, NDArray[np.bool_]],
    random: np.random.Generator,
) -> None:
    from featuredb.audit.absorption import columns_of

    panel, passages = request.panel, request.everything.passages
    token = passages.token[panel.tokens]
    columns = columns_of(panel, request.everything, request.audit)
    on_panel = np.flatnonzero(request.audit.passages.on_panel)
    used = made.touched
    enough = request.everything.n_fires >= ENOUGH_FIRES
    for feature in random.permutation([each for each in holds if enough[each]]).tolist():
        if len(made.holes) == n:
            break
        under = columns[holds[feature][on_panel]]
        kind = None if feature in used else _kind_for(panel.of(feature)[0], under, token, random)
        if kind is None:
            continue
        hit = np.flatnonzero((token == kind) & np.isin(np.arange(panel.n_tokens), panel.of(feature)[0]))
        child = _child(request, hit, token, kind, used | {feature})
        if child is None:
            continue
        known = known_firings(request.everything, feature)
        kept = passages.token[known.at] != kind
        density = float(request.everything.density[feature]) * float(kept.mean())
        made.plants.append(Plant(feature, known.at[kept], known.activation[kept], density))
        rows = request.directions.decoder([feature, child])
        brings, takes = (_sum_on(request, each, hit) for each in (feature, child))
        made.decoder[child] = (rows[1] + np.float32(brings / takes) * rows[0]).astype(np.float32)
        made.holes.append(Hole(feature, kind, child))
        used |= {feature, child}


def _kind_for(
    fires: NDArray[np.int32], under: Places, token: NDArray[np.int32], random: np.random.Generator
) -> int | None:
    """A kind of token on which a feature fires under its label, mostly, and on which it does not fire alone."""
    kinds, held = np.unique(token[under], return_counts=True)
    fired = token[under[np.isin(under, fires)]]
    count = np.bincount(np.searchsorted(kinds, fired), minlength=len(kinds))
    share = count / max(1, len(fired))
    fit = (count >= HOLE_FIRES) & (share >= HOLE[0]) & (share <= HOLE[1]) & (count >= held / 2)
    return int(random.choice(kinds[fit])) if fit.any() and len(fired) >= LABEL_FIRES else None


def _child(request: AuditRequest, hit: Places, token: NDArray[np.int32], kind: int, used: set[int]) -> int | None:
    """Of the features that mostly fire where another does on one kind of token, the one that fires least elsewhere."""
    start, features, _ = request.panel.by_token
    fires = np.concatenate([features[start[column] : start[column + 1]] for column in hit.tolist()])
    found, count = np.unique(fires, return_counts=True)
    sparse = request.everything.density[found] < DENSE
    able = [each for each in found[(count >= CHILD * len(hit)) & sparse].tolist() if each not in used]
    return max(able, key=lambda each: float((token[request.panel.of(each)[0]] == kind).mean()), default=None)


def _sum_on(request: AuditRequest, feature: int, columns: Places) -> float:
    column, activation = request.panel.of(feature)
    return float(activation[np.isin(column, columns)].sum())


def auroc(bad: Iterable[float], sound: Iterable[float]) -> float:
    """Chance that a score of the first kind is above one of the second, ties counting half; NaN where one is empty."""
    high, low = np.fromiter(bad, np.float64), np.sort(np.fromiter(sound, np.float64))
    if not len(high) or not len(low):
        return float("nan")
    below = np.searchsorted(low, high, side="left") + np.searchsorted(low, high, side="right")
    return float(below.mean() / 2 / len(low))


@dataclass(frozen=True)
class Found:
    """How well one check tells some planted features from those that were left alone."""

    auroc: float
    flagged: float
    """Share of the planted ones that are findings."""
    false: float
    """Share of those left alone that are findings."""
    named: float
    """Share of the planted ones whose evidence names the right partner."""


def found(judged: Iterable[Judged], partner: Mapping[int, int], touched: set[int]) -> Found:
    """What a check makes of planted features. partner: which other feature each planted one is to be read with.

    A planted feature that the check does not judge scores 0.
    """
    answers = {one.feature: one for one in judged}
    planted = [answers.get(feature) for feature in partner]
    rest = [one for feature, one in answers.items() if feature not in touched]
    right = [
        one is not None and other in one.evidence.get("others", ())
        for one, other in zip(planted, partner.values(), strict=True)
    ]
    return Found(
        auroc=auroc([one.score if one else 0.0 for one in planted], [one.score for one in rest]),
        flagged=_mean([one is not None and one.flagged for one in planted]),
        false=_mean([one.flagged for one in rest]),
        named=_mean(right),
    )


def _mean(values: list[bool]) -> float:
    return sum(values) / len(values) if values else float("nan")
