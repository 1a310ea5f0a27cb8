"""Labels by meaning: the query's vector beside those of all labels, which are made as they are first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featuredb.errors import BadInput, NotFound, PluginFailed, StoreUnusable
from featuredb.labels.workshop import DEFAULT_EMBEDDER
from featuredb.plugins import Registry, guarded
from featuredb.progress import Progress, ProgressReport
from featuredb.search.filters import Mask, Scope
from featuredb.search.fuse import Key, tied_ranks
from featuredb.store.meanings import (
    LabelVectors,
    Stamp,
    VectorCopy,
    catalog_state,
    count_vectors,
    keep_vectors,
    read_vectors,
    texts_without,
)
from featuredb.store.store import Store

if TYPE_CHECKING:
    from featuredb.plugins import TextEmbedding

HELD = 20_000
"""Up to this many vectors are read into memory, which takes less than a second; past it, a copy on disk is searched."""

FLOORS = {"sentence-transformers.v1:all-MiniLM-L6-v2": 0.25}
"""By embedder, the cosine below which a label does not count as near; none where it was not measured.

Of all-MiniLM-L6-v2, on 89 published labels of a model's features: 99 in 100 cosines with 25 queries that none of them
is about lie below 0.21, and the largest with each of those queries has a median of 0.21. Of 25 queries that each mean
one of the labels in other words, 20 lie above 0.25 with it. Any two labels have a median of 0.14.
"""

BATCH = 1_024
"""Texts embedded between two commits; a second or two of work."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class MeaningHit:
    """A feature with a label near the query."""

    key: Key
    rank: int
    label_id: int
    similarity: float


class MeaningSearch:
    """Searches the labels of one store by meaning. Models and vectors stay from one search to the next."""

    def __init__(self, store: Store, registry: Registry | None = None) -> None:
        self._store = store
        self._registry = registry
        self._turn = threading.Lock()
        self._models: dict[str, TextEmbedding] = {}
        self._known: dict[str, _Current] = {}

    def model(self, spec: str | None) -> TextEmbedding:
        """The model of texts that `NAME[:SOURCE]` names, the default one for None.

        Raises PluginFailed where its extra is not installed, NotFound where there is no such model.
        """
        spec = spec or DEFAULT_EMBEDDER
        with self._turn:
            if spec not in self._models:
                name, _, source = spec.partition(":")
                plugin = (self._registry or Registry.installed()).embedder(name)
                self._models[spec] = guarded(plugin.name, lambda: plugin.load(source or None))
            return self._models[spec]

    def find(
        self, model: TextEmbedding, text: str, scope: Scope, most: int, progress: ProgressReport, say: Say
    ) -> list[MeaningHit]:
        """The features with a label near a text in meaning, one hit each by its nearest label; at most `most`.

        Labels that have no vector yet get one first, and keep it. Raises PluginFailed when the model fails.
        """
        if not text.strip():
            raise BadInput("the query has no words whose meaning could be looked for")
        with self._turn:
            current = self._current(model, scope, progress, say)
            if current is None:
                return []
            (query,) = embedded(model, [text])
            return _hits(current, scope, query, most, FLOORS.get(model.id, -1.0))

    def _current(self, model: TextEmbedding, scope: Scope, progress: ProgressReport, say: Say) -> _Current | None:
        """The vectors of all labels of the scope's dictionaries, and maybe of others; None where there are none."""
        wanted = frozenset(each.dictionary_id for each in scope.dictionaries)
        known = self._known.get(model.id)
        state = catalog_state(self._store.paths.catalog)
        if known is not None and wanted <= known.complete and state is not None and state == known.state:
            return known
        with self._store.reading() as session:
            stamp = Stamp.read(session)
        if known is not None and known.stamp == stamp and wanted <= known.complete:
            known.state = state
            return known
        copy = VectorCopy(self._store.paths.meaning, model.id, model.width)
        noted = copy.complete(sorted(wanted))
        if noted != stamp:
            _embed_missing(self._store, model, sorted(wanted), progress, say)
        with self._store.reading() as session:
            stamp = Stamp.read(session)
            n, last = count_vectors(session, model.id)
            if n == 0:
                return None
            if known is not None and (known.n, known.last) == (n, last):
                vectors = known.vectors
            elif n <= HELD:
                vectors = read_vectors(session, model.id, n, model.width)
            else:
                vectors = self._opened(copy, model, n, last, progress, say)
        if n > HELD and noted != stamp:
            _try_to_note(copy, n, last, stamp, wanted)
        complete = wanted | (known.complete if known is not None and known.stamp == stamp else frozenset())
        current = _Current(stamp, n, last, complete, vectors)
        self._known[model.id] = current
        return current

    def _opened(
        self, copy: VectorCopy, model: TextEmbedding, n: int, last: int, progress: ProgressReport, say: Say
    ) -> LabelVectors:
        """The copy of n vectors on disk, made where it is missing or bad; in memory where none can be written."""
        try:
            return copy.open(n, last)
        except (NotFound, StoreUnusable):
            say(f"preparing {n:,} labels to be searched by meaning")
        try:
            with self._store.reading() as session:
                copy.make(session, n, last, progress)
            return copy.open(n, last)
        except (StoreUnusable, OSError) as error:
            say(f"{error}; the labels' vectors are read into memory instead")
            with self._store.reading() as session:
                return read_vectors(session, model.id, n, model.width)


class _Current:
    """Vectors that belong to one state of the catalog."""

    def __init__(self, stamp: Stamp, n: int, last: int, complete: frozenset[int], vectors: LabelVectors) -> None:
        self.stamp, self.n, self.last, self.complete, self.vectors = stamp, n, last, complete, vectors
        self.state: tuple[int, ...] | None = None
        """What the catalog's files looked like before the stamp was last read."""
        self._kept: tuple[Scope, Mask] | None = None

    def kept(self, scope: Scope) -> Mask:
        """(n,) whether the feature of each row is in scope. Searches often follow one another with one filter."""
        if self._kept is None or not self._kept[0].same(scope):
            self._kept = (scope, scope.allows(self.vectors.dictionary, self.vectors.index))
        return self._kept[1]


def embedded(model: TextEmbedding, texts: Sequence[str]) -> NDArray[np.float32]:
    """(n, width) float32 vectors of the texts. Raises PluginFailed for a model that gives anything else."""
    found = np.asarray(guarded(model.id, lambda: model.embed(texts)), np.float32)
    if found.shape != (len(texts), model.width) or not np.isfinite(found).all():
        raise PluginFailed(f"{model.id} gave no {model.width} finite numbers for each of {len(texts)} texts")
    return found


def _embed_missing(
    store: Store, model: TextEmbedding, dictionaries: Sequence[int], progress: ProgressReport, say: Say
) -> None:
    """Gives every label of some dictionaries that has no vector one; what is done stays done when it is stopped."""
    with store.reading() as session:
        missing = texts_without(session, model.id, dictionaries)
    if not missing:
        return
    texts = list(missing)
    say(f"{sum(map(len, missing.values())):,} labels are searched by meaning for the first time: {len(texts):,} texts")
    progress(Progress("embed labels", 0, len(texts), "labels"))
    for start in range(0, len(texts), BATCH):
        part = texts[start : start + BATCH]
        vectors = embedded(model, part)
        with store.session() as session:
            owned = {number: vectors[place] for place, text in enumerate(part) for number in missing[text]}
            keep_vectors(session, model.id, owned)
        progress(Progress("embed labels", min(start + BATCH, len(texts)), len(texts), "labels"))


def _try_to_note(copy: VectorCopy, n: int, last: int, stamp: Stamp, dictionaries: frozenset[int]) -> None:
    try:
        copy.note_complete(n, last, stamp, sorted(dictionaries))
    except (OSError, StoreUnusable):
        return  # the next search finds out again what was found out here


def _hits(current: _Current, scope: Scope, query: NDArray[np.float32], most: int, floor: float) -> list[MeaningHit]:
    vectors, keep = current.vectors, current.kept(scope)
    if not keep.any() or not query.any():
        return []
    wanted = most
    while True:
        rows, cosines = vectors.nearest(query, wanted, keep)
        features = set(zip(vectors.dictionary[rows].tolist(), vectors.index[rows].tolist(), strict=True))
        if len(features) >= most or len(rows) < wanted:
            break
        wanted *= 4  # some features have several labels near
    best: dict[Key, tuple[float, int]] = {}
    for row, cosine in zip(rows.tolist(), cosines.tolist(), strict=True):
        key = (scope[int(vectors.dictionary[row])].name, int(vectors.index[row]))
        if cosine >= floor and key not in best:
            best[key] = (cosine, int(vectors.label[row]))
    ordered = sorted(best.items(), key=lambda item: (-item[1][0], item[0]))[:most]
    ranks = tied_ranks([cosine for _, (cosine, _) in ordered])
    return [
        MeaningHit(key, rank, label_id, cosine) for (key, (cosine, label_id)), rank in zip(ordered, ranks, strict=True)
    ]
