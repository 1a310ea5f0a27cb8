"""Short texts where a feature fires and where it does not, for scorers that compare a label with text.

Rule: draws are by seed and feature alone, so that which other features are scored, and in what order, changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featuredb.labels.evidence import Firings
from featuredb.store.passages import PanelFirings

LEFT, RIGHT = 3, 1
"""Tokens before and after the one that is looked at. Of a small model's mean over a text, one token in ten is little:
with 6 and 3, right labels are told from swapped ones less well, and embedding takes nearly twice as long."""

POOL = 2_000
"""Places of the panel from which silent snippets are drawn."""

BLOCK = 256
"""Features whose part of a segment is read at once."""

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Snippets:
    """Of one feature: places it fires on, and places near which it is silent."""

    feature: int
    firing: Places
    """From a uniform sample of the contexts where it fires, evenly over its strengths."""
    silent: Places
    """Half of them at random, half where features like it fire, as far as there are any."""


class SnippetMaker:
    """Draws the snippets of features; what was drawn once is kept."""

    def __init__(self, evidence: Firings, n_firing: int, n_silent: int, seed: int) -> None:
        self._evidence = evidence
        self._n_firing, self._n_silent = n_firing, n_silent
        self._seed = seed
        passages = evidence.passages
        panel = np.flatnonzero(passages.on_panel)
        chosen = np.random.default_rng((seed, len(panel))).permutation(len(panel))[:POOL]
        self._pool = np.sort(panel[chosen])
        self._on_panel = passages.on_panel
        self._piece = passages.piece
        self._bounds = passages.start
        self._firing: dict[int, Places] = {}
        self._texts: dict[int, str] = {}
        """By place: most places are in the snippets of several features."""
        self._panel: tuple[int, PanelFirings] | None = None

    def text(self, place: int) -> str:
        """The snippet around a place, never past its piece; spaces at its ends are taken off."""
        return self.texts(np.array([place]))[0]

    def texts(self, places: Places) -> list[str]:
        """The snippets around some places."""
        passages, known = self._evidence.passages, self._texts
        for place, low, high in zip(places.tolist(), *map(np.ndarray.tolist, self._window(places)), strict=True):
            if place not in known:
                known[place] = passages.text(low, high).strip()
        return [known[place] for place in places.tolist()]

    def of(self, feature: int, neighbours: Sequence[int]) -> Snippets:
        """The snippets of a feature; without a firing place in this half of the documents there are none of those.

        neighbours: features like it, on whose firings it is to be silent. Asking in order of index reads least.
        """
        random = np.random.default_rng((self._seed, feature))
        fires_at, _ = self._panel_of(feature)
        like = [self.firing(other) for other in neighbours]
        near = np.unique(np.concatenate(like)) if like else np.zeros(0, np.int64)
        near = self._silent(near[self._on_panel[near]], fires_at)  # off the panel nobody knows where it is silent
        n_near = min(self._n_silent // 2, len(near))
        rest = random.permutation(self._silent(self._pool, fires_at))[: self._n_silent - n_near]
        silent = np.concatenate([random.permutation(near)[:n_near], rest]).astype(np.int64)
        return Snippets(feature, self.firing(feature), silent)

    def firing(self, feature: int) -> Places:
        """The places drawn from those where a feature fires."""
        if feature not in self._firing:
            first = feature - feature % BLOCK
            last = min(first + BLOCK, self._evidence.n_features)
            examples = self._evidence.examples(first, last)
            bounds = np.searchsorted(examples.feature, np.arange(first, last + 1))
            for index in range(first, last):
                part = slice(bounds[index - first], bounds[index - first + 1])
                # The strongest contexts are no fair sample: they stand in only where the sample is too small.
                order = np.lexsort((examples.rank[part], examples.kind[part] != 1))
                sampled = int((examples.kind[part] == 1).sum())
                taken = order[: max(sampled, self._n_firing)]
                self._firing[index] = _evenly(
                    examples.at[part][taken], examples.activation[part][taken], self._n_firing
                )
        return self._firing[feature]

    def _panel_of(self, feature: int) -> tuple[Places, NDArray[np.float32]]:
        first = feature - feature % BLOCK
        if self._panel is None or self._panel[0] != first:
            self._panel = (first, self._evidence.panel(first, min(first + BLOCK, self._evidence.n_features)))
        return self._panel[1].of(feature)

    def _silent(self, places: Places, fires_at: Places) -> Places:
        """Those places in whose snippet the feature fires nowhere. fires_at: sorted."""
        low, high = self._window(places)
        kept: Places = places[np.searchsorted(fires_at, low) == np.searchsorted(fires_at, high)]
        return kept

    def _window(self, places: Places) -> tuple[Places, Places]:
        piece = self._piece[places]
        low = np.maximum(places - LEFT, self._bounds[piece])
        high = np.minimum(places + RIGHT + 1, self._bounds[piece + 1])
        return low, high


def _evenly(places: Places, activations: NDArray[np.float32], n: int) -> Places:
    """n of the places, evenly spread over the order of their activations, each once."""
    order = places[np.argsort(activations, kind="stable")]
    if len(order) > n:
        order = order[np.round(np.linspace(0, len(order) - 1, n)).astype(np.int64)]
    return np.unique(order)
