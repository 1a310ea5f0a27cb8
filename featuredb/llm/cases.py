"""What a judge is shown of a feature: texts whose true answer is known, for detection and for fuzzing.

Rule: the same feature and seed give the same cases whatever the label, so that labels and baselines can be compared.
Source: Paulo et al. (2025), Automatically Interpreting Millions of Features in Large Language Models, arXiv:2410.13928.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from featuredb.labels.requests import ScoreRequest
from featuredb.llm.windows import AFTER, BEFORE, Panel, Window, by_quantile, firing, quiet, seeded, shown
from featuredb.store.passages import Examples, Places

NEIGHBOURS = 10
"""Features looked at for silent texts on which one of them fires."""

Group = Literal["firing", "random", "neighbours", "moved"]
"""Where a case is from: a text in which the feature fires; one drawn at random, or on which a neighbour fires, in which
it is silent; or one in which it fires, with marks on other tokens."""


@dataclass(frozen=True)
class Case:
    """One text, and whether a good label fits it."""

    text: str
    fits: bool
    group: Group
    context: int


@dataclass(frozen=True)
class Cases:
    """All of one feature's."""

    cases: list[Case]
    base_rate: float
    """The share of all texts of this length in which it fires, on the half's panel; its density at least."""

    def count(self, fits: bool) -> int:
        return sum(case.fits == fits for case in self.cases)


class CaseMaker:
    """Draws the cases of features of one request, n of either kind."""

    def __init__(self, request: ScoreRequest, n: int) -> None:
        self._request = request
        self._n = n
        self._passages = request.evidence.passages
        self._panel = Panel(self._passages)

    def detection(self, feature: int) -> Cases:
        """Texts in which it fires, over the range of its activations, and as many silent ones, half near, half random.

        Nothing is marked.
        """
        rng = self._rng("detection", feature)
        examples = self._request.evidence.examples(feature, feature + 1)
        chosen = [firing(self._passages, examples, number) for number in self._drawn(examples, feature, self._n, rng)]
        fires = self._fires(feature)
        near = self._near(feature, fires, len(chosen) // 2, rng, chosen)
        other = self._panel.silent(fires, len(chosen) - len(near), rng, taken=[*chosen, *near])
        cases = [self._case(window, "firing", marks=False) for window in chosen]
        cases += [self._case(window, "neighbours", marks=False) for window in near]
        cases += [self._case(window, "random", marks=False) for window in other]
        return Cases(cases, self._base_rate(feature, fires))

    def fuzzing(self, feature: int) -> Cases:
        """Texts with its own tokens marked, and as many with others: half of them where it fires too, half silent ones.

        Wrong marks are as many and as long as right ones. Where in a window its strongest token lies is drawn: were it
        always the same place, a mark there would give the answer away.
        """
        rng = self._rng("fuzzing", feature)
        examples = self._request.evidence.examples(feature, feature + 1)
        drawn = self._drawn(examples, feature, self._n + self._n // 2, rng)
        # Which of them keep their own marks is drawn too: by_quantile gives them in order of strength.
        shuffled = [drawn[place] for place in rng.permutation(len(drawn))]
        n_right = min(self._n, len(shuffled) - len(shuffled) // 3)
        right = [firing(self._passages, examples, number, _shift(rng)) for number in shuffled[:n_right]]
        fires = self._fires(feature)
        moved = [window for number in shuffled[n_right:] if (window := self._moved(examples, number, rng)) is not None][
            : n_right // 2
        ]
        silent = self._panel.silent(fires, n_right - len(moved), rng, taken=[*right, *moved])
        lengths = [_run_lengths(window) for window in right]
        wrong = [
            replace(window, marked=marked)
            for window in silent
            if (marked := self._marks(window, self._speaking(window), lengths[rng.integers(len(lengths))], rng))
        ]
        cases = [self._case(window, "firing", marks=True) for window in right]
        cases += [self._case(window, "moved", marks=True) for window in moved]
        cases += [self._case(window, "random", marks=True) for window in wrong]
        return Cases(cases, self._base_rate(feature, fires))

    def _rng(self, what: str, feature: int) -> np.random.Generator:
        return seeded(self._request.seed, what, feature)

    def _drawn(self, examples: Examples, feature: int, n: int, rng: np.random.Generator) -> list[int]:
        """Examples of the uniform sample, one from each n-th part by activation."""
        numbers = np.array(examples.of(feature), np.int64)
        return by_quantile(examples, numbers[examples.kind[numbers] == 1], n, rng)

    def _fires(self, feature: int) -> Places:
        return self._request.evidence.panel(feature, feature + 1).of(feature)[0]

    def _near(self, feature: int, fires: Places, n: int, rng: np.random.Generator, taken: list[Window]) -> list[Window]:
        """Texts on which a neighbour fires, from as many neighbours as there are before more from one."""
        found: list[Window] = []
        neighbours = self._request.workshop.neighbours(feature, NEIGHBOURS) if n else []
        for most in (max(1, n // 4), n):
            for neighbour in neighbours:
                wanted = min(most, n - len(found))
                if wanted < 1:
                    return found
                found += self._panel.silent(fires, wanted, rng, among=self._fires(neighbour), taken=[*taken, *found])
        return found

    def _moved(self, examples: Examples, number: int, rng: np.random.Generator) -> Window | None:
        """An example with marks on tokens on which the feature is silent; None where there are none to mark."""
        window = firing(self._passages, examples, number, _shift(rng))
        marked = self._marks(window, quiet(self._passages, examples, number, window), _run_lengths(window), rng)
        return replace(window, marked=marked) if marked else None

    def _speaking(self, window: Window) -> list[int]:
        texts, token = self._passages.texts, self._passages.token
        return [place for place in range(window.low, window.high) if texts[int(token[place])].strip()]

    @staticmethod
    def _marks(window: Window, allowed: list[int], lengths: list[int], rng: np.random.Generator) -> tuple[int, ...]:
        """Runs of those lengths on allowed places, drawn one after another, never touching; as many as find room."""
        free, marked = set(allowed), set[int]()
        for length in lengths:
            starts = [place for place in allowed if all(place + step in free for step in range(length))]
            if not starts:
                starts, length = [place for place in allowed if place in free], 1
            if not starts:
                break
            start = starts[rng.integers(len(starts))]
            marked.update(range(start, start + length))
            free -= set(range(start - 1, start + length + 1))
        return tuple(sorted(marked))

    def _case(self, window: Window, group: Group, *, marks: bool) -> Case:
        return Case(shown(self._passages, window, marks=marks), group == "firing", group, window.context)

    def _base_rate(self, feature: int, fires: Places) -> float:
        return max(self._panel.share_firing(fires), float(self._request.evidence.density[feature]))


def _shift(rng: np.random.Generator) -> int:
    return int(rng.integers(-AFTER, BEFORE + 1))


def _run_lengths(window: Window) -> list[int]:
    """How many tokens each marked run has, the longest first."""
    lengths: list[int] = []
    for number, place in enumerate(window.marked):
        if number and place == window.marked[number - 1] + 1:
            lengths[-1] += 1
        else:
            lengths.append(1)
    return sorted(lengths, reverse=True)
