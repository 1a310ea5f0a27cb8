"""Short stretches of a half's text around a token: which tokens to show, which to mark, and where a feature is silent.

Rule: arrays and text; a prompt's wording lies elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from featuredb.llm.prompts import one_line
from featuredb.store.passages import Examples, Passages, Places

BEFORE, AFTER = 24, 8
"""Tokens shown on either side of a window's anchor. More before: that is what a causal model has read by then."""

MARKED = 0.3
"""Share of an example's largest activation from which a token is marked. Source: Paulo et al., arXiv:2410.13928."""


@dataclass(frozen=True)
class Window:
    """Tokens low to high (left out) of one piece, and the places among them that are marked."""

    low: int
    high: int
    context: int
    """The context's number in the run: what provenance keeps."""
    marked: tuple[int, ...] = ()
    strength: float = 0.0
    """The largest activation in it; 0 where the feature is silent."""

    @property
    def n_tokens(self) -> int:
        return self.high - self.low


def around(passages: Passages, at: int, shift: int = 0) -> Window:
    """The window of BEFORE and AFTER tokens about a place, no further than its piece.

    shift: tokens by which it lies further on, from -AFTER to BEFORE, so that the place is still in it.
    """
    piece = int(np.searchsorted(passages.start, at, side="right")) - 1
    low = max(at + shift - BEFORE, int(passages.start[piece]))
    high = min(at + shift + AFTER + 1, int(passages.start[piece + 1]))
    return Window(low, high, int(passages.context[piece]))


def firing(passages: Passages, examples: Examples, number: int, shift: int = 0) -> Window:
    """The window of an example, moved by `shift` tokens; marked where it fires at MARKED of its most."""
    at, strongest = int(examples.at[number]), float(examples.activation[number])
    window = around(passages, at, shift)
    # As shares of the strongest, which may be negative in a dictionary whose features are signed.
    shares = examples.shares[int(examples.first[number]) : int(examples.first[number + 1])]
    places = np.flatnonzero(shares >= MARKED) + int(examples.low[number])
    marked = tuple(int(place) for place in places if window.low <= place < window.high)
    return replace(window, marked=marked, strength=abs(strongest))


def quiet(passages: Passages, examples: Examples, number: int, window: Window) -> list[int]:
    """The places of an example's window on which it does not fire at all and that have something to show."""
    first = int(examples.low[number])
    activations = examples.window(number)
    return [
        place
        for place in range(window.low, window.high)
        if not activations[place - first] and passages.texts[int(passages.token[place])].strip()
    ]


def shown(passages: Passages, window: Window, *, marks: bool) -> str:
    """A window's text on one line, its marked tokens between << and >>, neighbouring ones together.

    The same signs in the text itself are spaced out, so that only marks look like marks.
    """
    if not marks:
        return one_line(passages.text(window.low, window.high))
    parts = []
    for low, high, is_marked in _runs(window):
        text = one_line(passages.text(low, high)).replace("<<", "< <").replace(">>", "> >")
        parts.append(f"<<{text}>>" if is_marked else text)
    return "".join(parts)


def _runs(window: Window) -> Iterator[tuple[int, int, bool]]:
    marked = set(window.marked)
    low = window.low
    for place in range(window.low + 1, window.high + 1):
        if place == window.high or (place in marked) != (low in marked):
            yield low, place, low in marked
            low = place


class Panel:
    """The panel of one half: where windows may be drawn on which a feature is known to be silent."""

    def __init__(self, passages: Passages) -> None:
        self._passages = passages
        self._places: Places = np.flatnonzero(passages.on_panel)

    def share_firing(self, fires: Places) -> float:
        """The share of all panel windows in which a feature fires that fires at those places."""
        if not len(self._places):
            return 0.0
        piece = np.searchsorted(self._passages.start, self._places, side="right") - 1
        low = np.maximum(self._places - BEFORE, self._passages.start[piece])
        high = np.minimum(self._places + AFTER + 1, self._passages.start[piece + 1])
        sorted_fires = np.sort(fires)
        return float(np.mean(np.searchsorted(sorted_fires, low) < np.searchsorted(sorted_fires, high)))

    def silent(
        self, fires: Places, n: int, rng: np.random.Generator, among: Places | None = None, taken: Sequence[Window] = ()
    ) -> list[Window]:
        """Up to n windows about places drawn from `among` (all of the panel) in which a feature is silent throughout.

        fires: every place of the panel where it fires. No two windows overlap, nor one with those of `taken`, and
        they are of different contexts as far as there are enough.
        """
        places = self._places if among is None else np.unique(among)
        sorted_fires = np.sort(fires)
        chosen: list[Window] = []
        spare: list[Window] = []
        contexts = {window.context for window in taken}
        for at in rng.permutation(len(places))[: 200 * max(n, 1)].tolist():
            if len(chosen) == n:
                break
            window = around(self._passages, int(places[at]))
            if not self._is_silent(window, sorted_fires) or not self._passages.text(window.low, window.high).strip():
                continue
            if window.context in contexts:
                spare.append(window)
                continue
            contexts.add(window.context)
            chosen.append(window)
        for window in spare:
            if len(chosen) == n:
                break
            if not any(window.low < other.high and other.low < window.high for other in (*chosen, *taken)):
                chosen.append(window)
        return chosen

    @staticmethod
    def _is_silent(window: Window, sorted_fires: Places) -> bool:
        low, high = np.searchsorted(sorted_fires, [window.low, window.high])
        return bool(low == high)


def by_quantile(examples: Examples, numbers: NDArray[np.int64], n: int, rng: np.random.Generator) -> list[int]:
    """Up to n of some examples, one from each n-th part of them by activation, drawn within the part."""
    order = numbers[np.lexsort((numbers, examples.activation[numbers]))]
    if len(order) <= n:
        return [int(number) for number in order]
    parts = np.array_split(order, n)
    return [int(part[rng.integers(len(part))]) for part in parts]


def seeded(seed: int, *what: int | str) -> np.random.Generator:
    """Draws that depend on a seed and on what they are for, and on nothing else."""
    digest = hashlib.blake2b(repr((seed, *what)).encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))
