"""Finding features by text: their labels by keyword and by meaning, their examples by what they say, in one answer.

Rule: this says what is asked of whom and puts the answer together; each way of searching lies in a file of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from featuredb.errors import BadInput, PluginFailed, StoreUnusable, nearest
from featuredb.labels.table import FAILED, shown_labels
from featuredb.plugins import Registry
from featuredb.progress import ProgressReport, silent
from featuredb.records import FoundFeature
from featuredb.search.example_text import ExampleHit, ExampleText, regex_query, words_query
from featuredb.search.filters import FeatureFilter, Figures, Scope, read_scope
from featuredb.search.fuse import Fused, Key, fuse
from featuredb.search.keyword import LabelHit, Query, excluded_labels, find_labels, parse_query
from featuredb.search.meaning import MeaningHit, MeaningSearch, Say
from featuredb.search.scope import ENOUGH_FIRINGS
from featuredb.store.catalog import LabelRow
from featuredb.store.segments import SegmentReader
from featuredb.store.store import Store

WAYS = ("label", "meaning", "example")
"""What can be searched: labels by keyword, labels by meaning, and the text of examples."""

DEPTH = 100
"""Features that each way puts forward at least, so that one found in two ways is known to be."""

MENTIONED = 0.05
"""A feature of whose examples a smaller share matches is about something else, and listed only where no label is."""


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What is looked for, and where. Raises BadInput for what cannot be."""

    text: str
    """Words, "phrases in quotes", prefix*, -excluded, OR; empty lists the features that the filter lets pass."""
    filter: FeatureFilter = field(default_factory=FeatureFilter)
    ways: tuple[str, ...] | None = None
    """Of WAYS; None: all that there is something for."""
    regex: bool = False
    """The text is a regular expression, looked for in examples."""
    embedder: str | None = None
    """NAME or NAME:SOURCE of the model that compares meanings; None: the packaged one."""
    limit: int = 20

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise BadInput(f"no answer has {self.limit} features", hint="ask for one or more")
        for way in self.ways or ():
            if way not in WAYS:
                hint = nearest(way, WAYS, otherwise=f"there are {', '.join(WAYS)}")
                raise BadInput(f"features are not searched by {way!r}", hint=hint)
        if self.regex and set(self.ways or ("example",)) != {"example"}:
            raise BadInput("a regular expression is looked for in examples alone", hint="leave out the other ways")
        if not self.text.strip() and (self.regex or self.ways or not self.filter.narrows):
            raise BadInput("the query is empty", hint="give some words, or a filter alone to list what it lets pass")

    @property
    def depth(self) -> int:
        return max(DEPTH, self.limit)


Hit = LabelHit | MeaningHit | ExampleHit


class Searcher:
    """Searches one store. What is loaded stays from one search to the next."""

    def __init__(self, store: Store, reader: SegmentReader, registry: Registry | None = None) -> None:
        self._store = store
        self._figures = Figures(reader)
        self._meaning = MeaningSearch(store, registry)
        self._examples = ExampleText(reader)

    def search(
        self, query: SearchQuery, progress: ProgressReport = silent, say: Say = lambda text: None
    ) -> list[FoundFeature]:
        """The features that a query finds, by reciprocal rank fusion over the ways of searching, at most its limit.

        Without any text, the features that its filter lets pass, those that fire most often first. progress: told of
        labels that are embedded first. say: told, in sentences, what a reader of the answer should know.
        Raises BadInput, NotFound for unknown dictionaries, and PluginFailed where meaning cannot be had that was asked
        for by name; where it was not, the other ways answer.
        """
        with self._store.reading() as session:
            scope = read_scope(session, self._figures, query.filter)
            if not query.text.strip():
                return self._listed(session, scope, query.limit)
            labelled = query.filter.labelled is not False and _has_labels(session, scope)
            hits: dict[str, Sequence[Hit]] = {}
            parsed = None if query.regex else parse_query(query.text)
            if parsed is not None and _asks(query, "label") and labelled:
                hits["label"] = _by_keyword(session, scope, parsed, query, say)
        if parsed is not None and _asks(query, "meaning") and labelled:
            hits["meaning"] = self._by_meaning(scope, parsed, query, progress, say)
        if _asks(query, "example"):
            text = regex_query(query.text) if parsed is None else words_query(parsed)
            found = self._examples.find(scope, text, query.depth) if text.patterns else []
            hits["example"] = _worth(found) if any(hits.values()) else found
        fused = fuse({way: {hit.key: hit.rank for hit in hits[way]} for way in WAYS if way in hits})[: query.limit]
        _remark(scope, fused, labelled, query, say)
        with self._store.reading() as session:
            return _rows(session, scope, fused, hits)

    def _by_meaning(
        self, scope: Scope, parsed: Query, query: SearchQuery, progress: ProgressReport, say: Say
    ) -> Sequence[Hit]:
        asked_for = "meaning" in (query.ways or ())
        if not any(character.isalnum() for character in parsed.words) and not asked_for:
            return []
        try:
            model = self._meaning.model(query.embedder)
            hits = self._meaning.find(model, parsed.words, scope, query.depth, progress, say)
        except (PluginFailed, StoreUnusable) as error:
            if asked_for or query.embedder is not None:
                raise
            say(f"labels were searched by keyword alone: {error.message}" + (f"; {error.hint}" if error.hint else ""))
            return []
        with self._store.reading() as session:
            unwanted = excluded_labels(session, parsed, [hit.label_id for hit in hits])
        return [hit for hit in hits if hit.label_id not in unwanted]

    def _listed(self, session: Session, scope: Scope, limit: int) -> list[FoundFeature]:
        """The features in scope, the densest first, those of unknown density last."""
        rows = []
        for each in scope.dictionaries:
            index = np.flatnonzero(each.allowed)
            density = np.nan_to_num(each.density[index], nan=-1.0)
            best = np.lexsort((index, -density))[:limit]
            rows += [(-float(density[place]), each.name, int(index[place])) for place in best]
        rows = sorted(rows)[:limit]
        texts = _shown(session, scope, [(name, index) for _, name, index in rows])
        return [
            FoundFeature(
                **_of_feature(scope, (name, index), texts),
                score=max(-order, 0.0),
                matched=(),
                text=texts.get((name, index)) or "",
                ranks={},
            )
            for order, name, index in rows
        ]


def _worth(hits: Sequence[ExampleHit]) -> Sequence[ExampleHit]:
    """Those that stand beside features found by their labels: every way's first counts alike where ranks are summed."""
    return [hit for hit in hits if hit.n_matching >= MENTIONED * hit.n_examples]


def _asks(query: SearchQuery, way: str) -> bool:
    return way in query.ways if query.ways else way == "example" or not query.regex


def _has_labels(session: Session, scope: Scope) -> bool:
    """Whether any feature of the scope's dictionaries has a label that can be shown."""
    owners = [each.dictionary_id for each in scope.dictionaries]
    found = select(LabelRow.id).where(LabelRow.dictionary_id.in_(owners), LabelRow.status != FAILED)
    return session.scalar(found.limit(1)) is not None


def _by_keyword(session: Session, scope: Scope, parsed: Query, query: SearchQuery, say: Say) -> Sequence[Hit]:
    if not any(term.searchable for term in parsed.terms):
        if "label" in (query.ways or ()):
            raise BadInput(f"{query.text!r} has no letters or digits to look for", hint="labels are searched by words")
        return []
    hits, remark = find_labels(session, scope, parsed, query.depth)
    if remark is not None:
        say(remark)
    return hits


def _remark(scope: Scope, fused: Sequence[Fused], labelled: bool, query: SearchQuery, say: Say) -> None:
    """Says what is not in an answer, and why."""
    by_label = bool({"label", "meaning"} & set(query.ways or WAYS)) and not query.regex
    if by_label and not labelled and query.filter.labelled is not False and (not fused or query.ways):
        say("no labels yet: `featuredb ingest labels` or `featuredb label add` gives some")
    if scope.n_left_out:
        say(
            f"{scope.n_left_out:,} features fired on fewer than {ENOUGH_FIRINGS} tokens and are left out; --all takes "
            "them in"
        )


def _rows(
    session: Session, scope: Scope, fused: Sequence[Fused], hits: Mapping[str, Sequence[Hit]]
) -> list[FoundFeature]:
    found = {way: {hit.key: hit for hit in of} for way, of in hits.items()}
    labels = _shown(session, scope, [one.key for one in fused])
    texts = _texts(
        session, [hit.label_id for one in fused for hit in _of(found, one) if not isinstance(hit, ExampleHit)]
    )
    rows = []
    for one in fused:
        more: dict[str, Any] = {}
        for hit in _of(found, one):
            if isinstance(hit, ExampleHit):
                more |= {
                    "n_matching": hit.n_matching,
                    "n_at_peak": hit.n_at_peak,
                    "n_examples": hit.n_examples,
                }
            elif isinstance(hit, MeaningHit):
                more["similarity"] = hit.similarity
        first = next(iter(_of(found, one)))
        text = first.text if isinstance(first, ExampleHit) else texts.get(first.label_id)
        if text is not None:  # the label was not removed meanwhile
            rows.append(
                FoundFeature(
                    **_of_feature(scope, one.key, labels),
                    score=one.score,
                    matched=tuple(one.ranks),
                    text=text,
                    ranks=one.ranks,
                    **more,
                )
            )
    return rows


def _of(found: Mapping[str, Mapping[Key, Hit]], one: Fused) -> Iterable[Hit]:
    """What each way found of a feature, the best first."""
    return (found[way][one.key] for way in one.ranks)


def _of_feature(scope: Scope, key: Key, labels: Mapping[Key, str]) -> dict[str, Any]:
    each = scope.named(key[0])
    density = float(each.density[key[1]])
    return {
        "dictionary": key[0],
        "index": key[1],
        "label": labels.get(key),
        "flags": each.flags(key[1]),
        "density": None if math.isnan(density) else density,
    }


def _shown(session: Session, scope: Scope, keys: Iterable[Key]) -> dict[Key, str]:
    by_name: dict[str, list[int]] = {}
    for name, index in keys:
        by_name.setdefault(name, []).append(index)
    return {
        (name, index): text
        for name, indices in by_name.items()
        for index, text in shown_labels(session, scope.named(name).dictionary_id, indices).items()
    }


def _texts(session: Session, label_ids: Sequence[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    for start in range(0, len(label_ids), 500):
        part = select(LabelRow.id, LabelRow.text).where(LabelRow.id.in_(label_ids[start : start + 500]))
        found |= {number: text for number, text in session.execute(part) if text is not None}
    return found
