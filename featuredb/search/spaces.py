"""Where in a model a dictionary's directions live, and which of its features score highest with a vector there.

A feature has three directions. Its decoder row is what it writes at the dictionary's output hook, its encoder column
what it listens for at the input hook, and its response what goes with its activation there: the inner product of a
response with a read-out of standard deviation 1 is their correlation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from featuredb.errors import NotFound
from featuredb.hooknames import canonical_hook, same_tensor
from featuredb.progress import ProgressReport, silent
from featuredb.search.scope import chosen_dictionaries, figure_flags, well_sampled
from featuredb.store.catalog import DictionaryRow, RunRow, SegmentRow
from featuredb.store.indices import Indexed, decoder_index, encoder_index, encoder_rows, response_index, usable_index
from featuredb.store.moments import Moments, read_moments
from featuredb.store.segments import SegmentReader, SegmentRef
from featuredb.store.store import Store
from featuredb.store.vectors import Rows, best_scores, exact_scores, highest

if TYPE_CHECKING:
    from featuredb.store.index import CodedIndex

CORRECTED = 1_000
"""Features of highest correlation that are put in order by their share of what is to be had."""

Side = Literal["decoder", "encoder", "response"]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]
Say = Callable[[str], None]


def highest_shares(
    rows: Rows, moments: Moments, read_out: Floats, k: int, keep: Mask | None = None, index: CodedIndex | None = None
) -> tuple[Indices, Floats]:
    """The k features whose correlation with a read-out is the largest share of what any read-out has with them, and
    the shares; ties by index.

    A feature that is far from linear in the stream goes with no read-out very much, and is not to stand behind those
    that go with every one a little. Shares are worked out for the CORRECTED features of highest correlation, as far as
    an index can tell where there is one. read_out: (width,) of standard deviation 1.
    """
    seen = moments.of_read_outs(read_out[None])[0]
    most = max(k, CORRECTED)
    near, score = highest(
        rows, read_out, most, unit=False, keep=keep, index=index, seen=seen, candidates=8 * most if index else None
    )
    share = score / moments.reach(rows.take(near))
    order = np.lexsort((near, -share))[:k]
    return near[order], share[order]


def unheard(text: str) -> None:
    """Who does not want to know."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the catalog says of a dictionary and of its newest run."""

    name: str
    dictionary_id: int
    model: str
    fingerprint: str
    """Of the model."""
    hook: str
    """What it reads."""
    outputs: tuple[str, ...]
    """What it writes, one for each of its decoder's outputs."""
    n_features: int
    d_in: int
    d_out: int
    segment: SegmentRef | None
    """None where it has no run."""
    run_id: int | None
    corpus_id: int | None
    moments: str | None
    """The file of the input hook's moments, below the store's root; None where its run kept none."""
    special: tuple[int, ...] = ()
    """Ids of the tokens that its run put between documents; they never count."""

    def output_at(self, hook: str) -> int | None:
        """Which of its outputs is written at a hook; None where none is."""
        written = [same_tensor(output) for output in self.outputs]
        return written.index(same_tensor(hook)) if same_tensor(hook) in written else None


def read_places(
    session: Session, names: Sequence[str] | None = None, layers: Sequence[int] | None = None
) -> list[Place]:
    """The dictionaries of those names and layers, as `chosen_dictionaries` chooses them, with or without a run."""
    rows = chosen_dictionaries(session, names, layers)
    found = session.execute(
        select(SegmentRow, RunRow)
        .join(RunRow, SegmentRow.run_id == RunRow.id)
        .where(SegmentRow.dictionary_id.in_([row.id for row in rows]))
        .order_by(RunRow.id)  # the newest last, which is the one that stays
    )
    newest = {segment.dictionary_id: (segment, run) for segment, run in found}
    return [_place(row, *newest.get(row.id, (None, None))) for row in rows]


def _place(row: DictionaryRow, segment: SegmentRow | None, run: RunRow | None) -> Place:
    ref = None
    packing: dict[str, int | None] = {}
    if segment is not None and run is not None:
        packing = run.settings.get("packing") or {}
        ref = SegmentRef(row.name, run.key, segment.path, f"runs/{run.key}/contexts.duckdb", run.n_tokens)
    outputs = (row.hook,) if row.kind == "sae" else tuple(canonical_hook(hook) for hook in row.hooks_out)
    return Place(
        name=row.name,
        dictionary_id=row.id,
        model=row.model.name,
        fingerprint=row.model.fingerprint,
        hook=row.hook,
        outputs=outputs,
        n_features=row.n_features,
        d_in=row.d_in,
        d_out=row.d_out,
        segment=ref,
        run_id=None if run is None else run.id,
        corpus_id=None if run is None else run.corpus_id,
        moments=None if segment is None else segment.moments,
        special=tuple(token for name in ("bos_id", "separator_id") if (token := packing.get(name)) is not None),
    )


class Space:
    """The directions of one dictionary, and its features' figures."""

    def __init__(
        self, store: Store, reader: SegmentReader, place: Place, say: Say = unheard, report: ProgressReport = silent
    ) -> None:
        self.place = place
        self._store = store
        self._reader = reader
        self._say = say
        self._report = report

    @cached_property
    def has_weights(self) -> bool:
        """False for a dictionary that was published without them."""
        return self._store.paths.weights(self.place.name).is_file()

    @cached_property
    def n_fires(self) -> NDArray[np.int64] | None:
        """(F,) on how many tokens of the newest run each feature fires; None without a run."""
        return None if self._figures is None else np.ma.filled(self._figures["n_fires"], 0).astype(np.int64)

    @cached_property
    def density(self) -> Floats | None:
        """(F,) the share of the tokens that is; None without a run."""
        return None if self._figures is None else np.ma.filled(self._figures["density"], 0.0).astype(np.float64)

    @cached_property
    def surprise(self) -> Floats:
        """(F,) -log2 of the share of tokens on which each feature fires, one firing added; zeros without a run."""
        if self.n_fires is None or self.place.segment is None:
            return np.zeros(self.place.n_features)
        share = (self.n_fires + 1) / (self.place.segment.n_tokens + 1)
        surprise: Floats = -np.log2(np.minimum(share, 1.0))
        return surprise

    def flags(self, index: int) -> tuple[str, ...]:
        """What a feature's figures say against it."""
        if self.n_fires is None or self.density is None:
            return ()
        return figure_flags(int(self.n_fires[index]), float(self.density[index]))

    @cached_property
    def ranked(self) -> Mask:
        """(F,) the features that fired often enough to be ranked; all of them where there is no run to tell."""
        if self.n_fires is None:
            return np.ones(self.place.n_features, np.bool_)
        return well_sampled({"n_fires": self.n_fires})

    @cached_property
    def moments(self) -> Moments | None:
        """Of the input hook's vectors in the newest run; None where it kept none."""
        if self.place.moments is None or self._response is None:
            return None
        return read_moments(self._store.paths.root / self.place.moments)

    def highest(
        self, side: Side, vector: Floats, k: int, keep: Mask | None = None, output: int = -1
    ) -> tuple[Indices, Floats]:
        """The k features of `keep` (None: all) that score highest with a vector, and the scores; ties by index.

        The score is the cosine with the decoder or encoder; with the response see `highest_shares`.
        """
        index = self._index(side, output)
        if side == "response":
            read_out = self._read_out(vector)
            if read_out is None or self.moments is None:
                return np.zeros(0, np.int64), np.zeros(0)
            return highest_shares(self.rows(side), self.moments, read_out, k, keep, index)
        return highest(self.rows(side, output), vector, k, unit=True, keep=keep, index=index)

    def scores(self, side: Side, vector: Floats, indices: Indices, output: int = -1) -> list[float | None]:
        """The scores of some features; None where a feature has no such direction."""
        query: Floats | None = vector
        if side == "response":
            query = self._read_out(vector)
        if query is None:
            return [None] * len(indices)
        rows = self.rows(side, output)
        there: list[bool] = (np.abs(rows.take(indices)).max(axis=1, initial=0.0) > 0).tolist()
        found = np.clip(exact_scores(rows, indices, query, unit=side != "response"), -1.0, 1.0)
        return [float(score) if exists else None for score, exists in zip(found, there, strict=True)]

    def best(self, side: Side, vectors: Floats, output: int = -1) -> Floats:
        """(n,) what the best of the ranked features scores with each of (n, width) vectors; -inf without one."""
        rows = self.rows(side, output)
        if side == "response":
            spread = np.ones(len(vectors)) if self.moments is None else self.moments.spread(vectors)
            return best_scores(rows, vectors / spread[:, None], unit=False, keep=self.ranked)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return best_scores(rows, vectors / lengths, unit=True, keep=self.ranked)

    def rows(self, side: Side, output: int = -1) -> Rows:
        """The directions themselves, a row a feature. Raises NotFound where they are not there."""
        if side == "decoder":
            return Rows(self._store.paths.weights(self.place.name), "w_dec", output=output)
        if side == "encoder":
            return self._encoder
        if self._response is None:
            raise NotFound(f"{self.place.name} has no response directions", hint="`featuredb ingest model` finds them")
        return self._response

    @cached_property
    def _encoder(self) -> Rows:
        return encoder_rows(self._store.paths, self.place.name)

    @cached_property
    def _response(self) -> Rows | None:
        if self.place.segment is None:
            return None
        path = self._store.paths.response(self.place.segment.run, self.place.name)
        return Rows(path, "response") if path.is_file() else None

    @cached_property
    def _figures(self) -> dict[str, NDArray[np.generic]] | None:
        return None if self.place.segment is None else self._reader.figures(self.place.segment)

    def _read_out(self, vector: Floats) -> Floats | None:
        """The vector, scaled to a standard deviation of 1 over the run's tokens; None where nothing varies along it."""
        if self.moments is None:
            return None
        spread = float(self.moments.spread(vector[None])[0])
        loudest = float(self.moments.covariance.diagonal().max(initial=0.0)) ** 0.5
        return vector / spread if spread > 1e-9 * loudest * float(np.linalg.norm(vector)) else None

    def _index(self, side: Side, output: int) -> CodedIndex | None:
        paths, place = self._store.paths, self.place
        found: Indexed
        run_id = None
        if side == "decoder":
            if output not in (-1, len(place.outputs) - 1):
                return None  # the index is of the last output alone
            found = decoder_index(paths, place.name)
        elif side == "encoder":
            found = encoder_index(paths, place.name)
        elif place.segment is None or place.moments is None:
            return None
        else:
            run_id = place.run_id
            found = response_index(paths, place.segment.run, place.name, paths.root / place.moments)
        return usable_index(self._store, found, place.dictionary_id, run_id, self._say, self._report)
