"""Features by what their examples say: words, phrases and regular expressions in the text around each peak.

Rule: which examples match, and how surely a feature's do; how text is matched lies in `featuredb.search.matches`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featuredb.search.filters import Candidates, Scope
from featuredb.search.fuse import Key, tied_ranks
from featuredb.search.keyword import Query, Term
from featuredb.search.matches import (
    Mask,
    MatchedText,
    Numbers,
    Pattern,
    check_expression,
    is_word,
    match_kept_text,
    spans_in,
    token_bytes,
)
from featuredb.store.layout import RADIUS
from featuredb.store.segments import SegmentReader, SegmentRef

FEW = 0.2
"""Up to this share of a run's contexts, their examples are looked up; past it, all examples are read."""

SHOWN_AROUND = 40
"""Characters shown on either side of a match."""

SPAN = ("first", "last", "low", "high")

Z = 1.959964
"""Of a 95% interval."""


@dataclass(frozen=True, slots=True)
class TextQuery:
    """What an example's window must hold: every pattern of one alternative, and none of the excluded ones."""

    patterns: tuple[Pattern, ...]
    alternatives: tuple[tuple[int, ...], ...]
    """Places in `patterns`."""
    excluded: tuple[int, ...] = ()

    @property
    def wanted(self) -> list[int]:
        """The patterns of all alternatives."""
        return sorted({number for alternative in self.alternatives for number in alternative})


@dataclass(frozen=True, slots=True)
class ExampleHit:
    """A feature with examples that match."""

    key: Key
    rank: int
    n_matching: int
    """Contexts among its examples whose window matches."""
    n_at_peak: int
    """Those in which a match covers the token it fires on most."""
    n_examples: int
    """Contexts among its examples."""
    text: str
    """One of the matches, with what stands around it."""
    at_peak: bool
    """Whether that match covers the peak."""


def words_query(query: Query) -> TextQuery:
    """A query's terms as patterns: literal, whole words, in any case unless the term has capitals."""
    terms = list(dict.fromkeys([*query.terms, *query.excluded]))
    return TextQuery(
        tuple(_pattern(term) for term in terms),
        tuple(tuple(terms.index(term) for term in each) for each in query.alternatives),
        tuple(terms.index(term) for term in query.excluded),
    )


def regex_query(expression: str) -> TextQuery:
    """A query for one regular expression, in RE2's syntax. Raises BadInput for one that cannot be used."""
    check_expression(expression)
    return TextQuery((Pattern(expression),), ((0,),))


def _pattern(term: Term) -> Pattern:
    ignoring = "" if any(character.isupper() for character in term.text) else "(?i)"
    # Any white space stands for a space, since lines break where they like; RE2 escapes nothing but ASCII.
    parts = [re.sub(r"([!-/:-@[-^`{-~])", r"\\\1", part) for part in term.text.split()]
    return Pattern(ignoring + r"\s+".join(parts), is_word(term.text[0]), is_word(term.text[-1]) and not term.prefix)


def wilson_low(n_matching: NDArray[Any], n: NDArray[Any]) -> NDArray[np.float64]:
    """The lower end of the 95% interval of a share, n_matching of n. Source: Wilson (1927), JASA 22, 209."""
    n = np.maximum(np.asarray(n, np.float64), 1)
    share = np.asarray(n_matching, np.float64) / n
    spread = Z * np.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    low: NDArray[np.float64] = np.maximum((share + Z * Z / (2 * n) - spread) / (1 + Z * Z / n), 0)
    return low


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """The n features of one dictionary whose examples match best."""

    features: Candidates
    index: Numbers
    n_matching: Numbers
    n_at_peak: Numbers
    n_examples: Numbers
    score: NDArray[np.float64]
    """What they are sorted by, the largest first."""


class ExampleText:
    """Searches the examples of one store by what they say."""

    def __init__(self, reader: SegmentReader) -> None:
        self._reader = reader
        self._n_examples: dict[str, Numbers] = {}

    def find(self, scope: Scope, query: TextQuery, most: int) -> list[ExampleHit]:
        """The features whose examples match most surely, at most `most`; those of equal figures share a rank.

        They are sorted by the share of a feature's examples that match plus the share that match at the peak, of each
        the lower end of its 95% interval, so that one of one says less than 20 of 24: a word that stands in most texts
        stands near most peaks, and it is what fires at it that is asked for.
        """
        texts: dict[str, MatchedText] = {}
        found = []
        for each in scope.dictionaries:
            if each.allowed.any():
                if each.segment.contexts not in texts:
                    texts[each.segment.contexts] = match_kept_text(self._reader, each.segment, query.patterns)
                found.append(self._of(each, texts[each.segment.contexts], query, most))
        rows = [
            (-float(one.score[place]), (one.features.name, int(one.index[place])), one, place)
            for one in found
            for place in range(len(one.index))
        ]
        rows.sort(key=lambda row: row[:2])
        rows = rows[:most]
        shown = self._shown([(one.features, key[1]) for _, key, one, _ in rows], texts, query)
        ranks = tied_ranks([score for score, *_ in rows])
        return [
            ExampleHit(
                key,
                rank,
                int(one.n_matching[place]),
                int(one.n_at_peak[place]),
                int(one.n_examples[place]),
                *shown[key],
            )
            for (_, key, one, place), rank in zip(rows, ranks, strict=True)
        ]

    def _of(self, features: Candidates, text: MatchedText, query: TextQuery, most: int) -> _Found:
        """The features of one dictionary whose examples match best, at most `most`."""
        holds, at_peak = _tokens(text, query)
        contexts = text.contexts(holds)
        few = len(contexts) <= FEW * len(text.begins)
        places = self._reader.example_places(features.segment, contexts.tolist() if few else None)
        feature, context = places["feature"], places["context"]
        n_features = len(features.allowed)
        if not few and features.segment.path not in self._n_examples:
            self._n_examples[features.segment.path] = _contexts_of(feature, context, n_features)
        at = text.at(context, places["position"])
        chosen = np.flatnonzero(holds[at] & features.allowed[feature])
        feature, context, at = feature[chosen], context[chosen], at[chosen]
        n_matching = _contexts_of(feature, context, n_features)
        peak = at_peak[at]
        n_at_peak = _contexts_of(feature[peak], context[peak], n_features)
        there = np.flatnonzero(n_matching)
        n_examples = self._count(features.segment, there, n_features)
        score = wilson_low(n_matching[there], n_examples) + wilson_low(n_at_peak[there], n_examples)
        best = np.lexsort((there, -score))[:most]
        index = there[best]
        return _Found(features, index, n_matching[index], n_at_peak[index], n_examples[best], score[best])

    def _count(self, segment: SegmentRef, features: Numbers, n_features: int) -> Numbers:
        """How many contexts are examples of each of those features."""
        known = self._n_examples.get(segment.path)
        if known is not None:
            return known[features]
        counts = self._reader.example_counts(segment, features.tolist())
        spread = np.zeros(n_features, np.int64)
        spread[counts["feature"]] = counts["n"]
        return spread[features]

    def _shown(
        self, wanted: Sequence[tuple[Candidates, int]], texts: Mapping[str, MatchedText], query: TextQuery
    ) -> dict[Key, tuple[str, bool]]:
        """For each of some features, a match in its examples with what stands around it, and whether it is at the peak.

        The match is of its strongest example that has one at the peak, or that has one.
        """
        by_dictionary: dict[str, tuple[Candidates, list[int]]] = {}
        for features, index in wanted:
            by_dictionary.setdefault(features.name, (features, []))[1].append(index)
        shown = {}
        for name, (features, indices) in by_dictionary.items():
            text = texts[features.segment.contexts]
            holds, at_peak = _tokens(text, query)
            chosen: dict[int, tuple[bool, int, int]] = {}
            for row in self._reader.examples_of(features.segment, indices):
                at = int(text.begins[row["context"]]) + row["position"]
                # Strongest first, so that of examples alike the first one stays.
                if holds[at] and (row["feature"] not in chosen or at_peak[at] > chosen[row["feature"]][0]):
                    chosen[row["feature"]] = bool(at_peak[at]), row["context"], row["position"]
            contexts = self._reader.contexts(features.segment, [context for _, context, _ in chosen.values()])
            display = self._reader.tokens(features.segment)
            for index, (peak, context, position) in chosen.items():
                shown[name, index] = _around(contexts[context], display, query, position), peak
        return shown


def _tokens(text: MatchedText, query: TextQuery) -> tuple[Mask, Mask]:
    """For every token, whether an example with its peak there holds what is asked for, and whether at the peak."""
    holds = np.zeros(len(text.near[0]), np.bool_)
    for alternative in query.alternatives:
        holds |= np.logical_and.reduce([text.near[number] for number in alternative])
    for number in query.excluded:
        holds &= ~text.near[number]
    return holds, holds & np.logical_or.reduce([text.on[number] for number in query.wanted])


def _around(context: Mapping[str, Any], display: Sequence[str], query: TextQuery, position: int) -> str:
    """The match nearest an example's peak, with what stands around it in the example's window."""
    # The few tokens that are there stand for all, so that not every token of the model is turned into bytes.
    there = {token: place for place, token in enumerate(sorted(set(context["tokens"])))}
    renamed = {**context, "tokens": [there[token] for token in context["tokens"]]}
    spans = spans_in(renamed, [display[token] for token in there], [query.patterns[number] for number in query.wanted])
    _, first, last, low, high = min(
        (max(first - position, position - last, 0), first, last, low, high)
        for each in spans
        for first, last, low, high in zip(*(getattr(each, name).tolist() for name in SPAN), strict=True)
        if position - RADIUS <= first and last <= position + RADIUS and low <= position <= high
    )
    low, high = max(low, position - RADIUS), min(high, position + RADIUS)
    parts = [token_bytes(display[token]) for token in context["tokens"][low : high + 1]]
    before, inside, after = (
        b"".join(part).decode("utf-8", "backslashreplace")
        for part in (parts[: first - low], parts[first - low : last - low + 1], parts[last - low + 1 :])
    )
    before = before if len(before) <= SHOWN_AROUND else "…" + before[-SHOWN_AROUND:]
    return before + inside + (after if len(after) <= SHOWN_AROUND else after[:SHOWN_AROUND] + "…")


def _contexts_of(feature: NDArray[Any], context: NDArray[Any], n_features: int) -> Numbers:
    """(n_features,) how many contexts each feature has here; one that is there twice counts once."""
    pairs = (feature.astype(np.int64) << 32) | context
    pairs.sort()  # many times quicker than numpy's unique
    new = np.ones(len(pairs), np.bool_)
    new[1:] = pairs[1:] != pairs[:-1]
    return np.bincount(pairs[new] >> 32, minlength=n_features).astype(np.int64)
