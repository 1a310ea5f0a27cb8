"""The parts of a feature's firings that have nothing in common, each with its share, examples and tokens.

Rule: from a request to records of what was found; whether that is a finding is the check's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.requests import AuditRequest, Floats32, Places
from featuredb.audit.spread import LEAST_PART, Labels, Space, Spread, parts, spread
from featuredb.predicates.expression import quoted
from featuredb.predicates.lift import A0, SIGNIFICANT, log_odds
from featuredb.search.scope import DENSE, ENOUGH_FIRINGS

if TYPE_CHECKING:
    from featuredb.store.passages import Passages

MOST = 64
"""Firings of a feature that are looked at."""

LEAST = 24
"""Firings, and contexts they lie in, of which it takes a third as many: with fewer a feature is not judged."""

ENOUGH_ON_PANEL = 48
"""Firings on the panel beside which examples need not be looked at: fewer contexts have to be run."""

BLOCK = 256
"""Features whose vectors are held at a time."""

N_RANDOM = 6_000
"""Tokens of the panel from which the space is taken; twice the width where that is more."""

N_TOKENS, N_EXAMPLES, NEAR = 4, 4, 8


@dataclass(frozen=True)
class Fell:
    """One feature's firings and how they fall apart."""

    feature: int
    at: Places
    """(n,) places of `everything.passages`."""
    spread: Spread
    part: Labels
    """(n,) the part each belongs to, the largest 0."""
    likeness: NDArray[np.float32]
    """(n,) how like the others each is: the mean cosine with them."""

    @property
    def n_meanings(self) -> int:
        return int(self.part.max(initial=0)) + 1


def fallen(request: AuditRequest) -> Iterator[Fell]:
    """What becomes of each feature that is asked for, fires often enough and is not dense.

    Raises BadInput where the model cannot be run.
    """
    space = None
    firings = request.everything
    # What fires on a tenth of all tokens says how far along a direction they lie, and has nothing to fall apart.
    judged = (firings.n_fires >= ENOUGH_FIRINGS) & (firings.density <= DENSE)
    features = [each for each in request.features if judged[each]]
    for first in range(0, len(features), BLOCK):
        chosen = {each: places_of(request, each) for each in features[first : first + BLOCK]}
        chosen = {each: at for each, at in chosen.items() if len(at) >= LEAST}
        if not chosen:
            continue
        space = space or space_of(request)
        units = space.units(request.states.at(np.concatenate(list(chosen.values()))))
        begin = 0
        for feature, at in chosen.items():
            yield fell(feature, at, units[begin : begin + len(at)], space)
            begin += len(at)


def space_of(request: AuditRequest) -> Space:
    """The space of the request's model, from tokens of the panel drawn by its seed."""
    tokens = request.panel.tokens
    random = np.random.default_rng((request.seed, 31))
    width = request.states.at(tokens[:1]).shape[1]
    drawn = random.permutation(tokens)[: max(N_RANDOM, 2 * width)]
    return Space.of(request.states.at(drawn))


def fell(feature: int, at: Places, units: Floats32, space: Space) -> Fell:
    """units: (n, d) the model's vectors at n firings, in the space."""
    likeness = (units @ units.sum(axis=0) - 1) / max(1, len(units) - 1)
    return Fell(feature, at, spread(units, space.anything), parts(units), likeness)


def places_of(request: AuditRequest, feature: int) -> Places:
    """MOST of a feature's firings at most, ascending: on the panel, from as many contexts as there are, and where these
    are few, from its sample of all contexts beside it. None where they lie in too few contexts.
    """
    passages = request.everything.passages
    random = np.random.default_rng((request.seed, feature))
    at = request.panel.places(feature)
    if len(at) < ENOUGH_ON_PANEL:
        examples = request.everything.examples(feature, feature + 1)
        at = np.unique(np.concatenate([at, examples.at[examples.kind == 1]]))
    at = random.permutation(at)
    context = _contexts(passages, at)
    order = np.argsort(context, kind="stable")
    # Every context gives one firing before any gives a second.
    _, begin, count = np.unique(context[order], return_index=True, return_counts=True)
    turn = np.empty(len(at), np.int64)
    turn[order] = np.arange(len(at)) - np.repeat(begin, count)
    if len(begin) < LEAST // 3:
        return np.zeros(0, np.int64)
    return np.sort(at[np.argsort(turn, kind="stable")[:MOST]])


def outliers(fell: Fell, share: float) -> Labels:
    """(n,) 1 for that share of the firings that are least like the others, and at least LEAST_PART of them; else 0."""
    n = max(LEAST_PART, round(share * len(fell.at)))
    part = np.zeros(len(fell.at), np.int64)
    part[np.argsort(fell.likeness, kind="stable")[:n]] = 1
    return part


class Teller:
    """Says of parts of a feature's firings what sets each apart."""

    def __init__(self, request: AuditRequest) -> None:
        self._passages = request.everything.passages
        self._vocabulary = len(self._passages.texts)
        self._panel = request.panel.tokens
        self._on_panel = np.bincount(self._passages.token[self._panel], minlength=self._vocabulary).astype(np.float64)

    def meanings(self, fell: Fell, part: Labels) -> list[dict[str, Any]]:
        """For each part, the largest first: its `share` of the firings, a `label` of its own and `examples`, contexts
        of the firings most like the others.
        """
        found = []
        for number in range(int(part.max(initial=0)) + 1):
            mine = np.flatnonzero(part == number)
            best = mine[np.argsort(-fell.likeness[mine], kind="stable")]
            examples = list(dict.fromkeys(_contexts(self._passages, fell.at[best]).tolist()))
            found.append(
                {
                    "share": len(mine) / len(part),
                    "label": self.label(fell.at[mine]),
                    "examples": examples[:N_EXAMPLES],
                }
            )
        return found

    def label(self, at: Places) -> str:
        """The tokens that stand out at some places; where none does, those near them."""
        tokens = self._lifted(at)
        if tokens:
            return quoted(tokens)
        piece = np.searchsorted(self._passages.start, at, side="right") - 1
        low = np.maximum(at - NEAR, self._passages.start[piece])
        high = np.minimum(at + NEAR + 1, self._passages.start[piece + 1])
        around = np.unique(np.concatenate([np.arange(a, b) for a, b in zip(low, high, strict=True)]))
        tokens = self._lifted(around)
        return f"near {quoted(tokens)}" if tokens else "no token stands out"

    def _lifted(self, at: Places) -> list[str]:
        count = np.bincount(self._passages.token[at], minlength=self._vocabulary).astype(np.float64)
        prior = A0 * (self._on_panel + 0.5) / (self._on_panel.sum() + 0.5 * self._vocabulary)
        odds = log_odds(count, np.maximum(self._on_panel - count, 0), prior)
        order = np.argsort(-odds, kind="stable")[:N_TOKENS]
        return [self._passages.texts[token] for token in order if odds[token] > SIGNIFICANT and count[token] > 1]


def _contexts(passages: Passages, at: Places) -> NDArray[np.int32]:
    piece = np.searchsorted(passages.start, at, side="right") - 1
    context: NDArray[np.int32] = passages.context[piece]
    return context
