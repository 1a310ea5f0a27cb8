"""Writing a run's segments: DuckDB files that are made once, from reducers that are full, and never altered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featuredb.capture.kept import EMPTY, KeptContexts
from featuredb.capture.panel import RECORD
from featuredb.capture.spool import ContextSpool
from featuredb.capture.state import FeatureReducers
from featuredb.store.layout import LOWEST_EXPONENT, RADIUS, SEGMENT_SCHEMA

TOP, SAMPLE = 0, 1
"""The kinds of example."""
SLICE = 4096
"""Features or contexts turned into rows at a time."""


@dataclass(frozen=True, slots=True)
class OutputTokens:
    """The tokens each feature's decoder row promotes and suppresses most; (n_features, n) each, strongest first."""

    promoted: NDArray[np.int32]
    promoted_values: NDArray[np.float32]
    suppressed: NDArray[np.int32]
    suppressed_values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Written:
    """How many rows a dictionary's segment has."""

    n_examples: int
    n_panel: int


def write_contexts(
    path: Path,
    spool: ContextSpool,
    kept: NDArray[np.int64],
    panel: NDArray[np.int64],
    token_texts: Sequence[str],
    meta: Mapping[str, str],
) -> None:
    """The contexts that some example or the panel speaks of, numbered from 0 in corpus order, and their vocabulary.

    kept: sorted places in the corpus; a context's number is its place in `kept`.
    """
    with _new_segment(path, meta, row_group=16_384) as connection:
        create = True
        documents: set[int] = set()
        for start in range(0, max(1, len(kept)), SLICE):
            rows = _context_rows(spool, kept[start : start + SLICE], start, panel)
            documents.update(rows["piece_documents"].combine_chunks().flatten().to_pylist())
            _store(connection, "context", rows, create=create)
            create = False
        numbers = np.array(sorted(documents), dtype=np.int64)
        names = pa.array(spool.document_names(numbers), pa.string())
        _store(connection, "document", pa.table({"document": pa.array(numbers.astype(np.int32)), "name": names}))
        ids = pa.array(np.arange(len(token_texts), dtype=np.int32))
        _store(connection, "token", pa.table({"token": ids, "text": pa.array(list(token_texts), pa.string())}))


def write_dictionary(
    path: Path,
    reducers: FeatureReducers,
    kept: NDArray[np.int64],
    panel: NDArray[np.int64],
    n_tokens: int,
    tokens: OutputTokens | None,
    meta: Mapping[str, str],
) -> Written:
    """One dictionary's features, examples and panel firings, all sorted by feature."""
    n_features = len(reducers.statistics.n_fires)
    n_examples = n_panel = 0
    with _new_segment(path, meta, row_group=122_880) as connection:
        for start in range(0, n_features, SLICE):
            part = slice(start, min(n_features, start + SLICE))
            _store(connection, "feature", _feature_rows(reducers, part, n_tokens, tokens), create=start == 0)
            examples = _example_rows(reducers, part, kept)
            _store(connection, "example", examples, create=start == 0)
            n_examples += len(examples)
        _store(connection, "panel", _panel_rows(np.empty(0, dtype=RECORD), kept))
        for records in reducers.panel.read(panel, n_features):
            _store(connection, "panel", _panel_rows(records, kept), create=False)
            n_panel += len(records)
    return Written(n_examples, n_panel)


def kept_contexts(all_reducers: Sequence[FeatureReducers], panel: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) sorted places in the corpus of every context that some dictionary's examples or the panel need."""
    kept = panel
    for reducers in all_reducers:
        for examples in (reducers.top, reducers.sample):
            kept = np.union1d(kept, examples.context[examples.key != EMPTY])
    return kept


@contextmanager
def _new_segment(path: Path, meta: Mapping[str, str], *, row_group: int) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose default schema is a new file, complete and closed when the block ends."""
    path.unlink(missing_ok=True)
    connection = duckdb.connect(config={"threads": 2, "memory_limit": "1GB", "temp_directory": str(path.parent)})
    try:
        quoted = str(path).replace("'", "''")
        connection.execute(f"attach '{quoted}' as segment (storage_version 'v2.0.0', row_group_size {row_group})")
        connection.execute("use segment")
        yield connection
        facts = {"schema_version": SEGMENT_SCHEMA, **meta}
        rows = pa.table(
            {"key": pa.array(list(facts), pa.string()), "value": pa.array(list(facts.values()), pa.string())}
        )
        _store(connection, "meta", rows)
        # Detaching would do it too, but would not say why it cannot.
        connection.execute("checkpoint segment")
        connection.execute("use memory")
        connection.execute("detach segment")
    finally:
        connection.close()


def _store(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table, *, create: bool = True) -> None:
    connection.register("arriving", rows)
    if create:
        connection.execute(f"create table {table} as from arriving")
    else:
        connection.execute(f"insert into {table} from arriving")
    connection.unregister("arriving")


def _context_rows(spool: ContextSpool, contexts: NDArray[np.int64], first: int, panel: NDArray[np.int64]) -> pa.Table:
    pieces = spool.pieces(contexts)

    def lists(column: str) -> pa.Array:
        return _list_array([piece[column].astype(np.int32) for piece in pieces], np.int32)

    return pa.table(
        {
            "context": pa.array(np.arange(first, first + len(contexts), dtype=np.int32)),
            "stream_index": pa.array(contexts.astype(np.int64)),
            "tokens": _list_array(spool.tokens(contexts) if len(contexts) else [], np.int32),
            "piece_starts": lists("start"),
            "piece_ends": lists("end"),
            "piece_documents": lists("document"),
            "piece_offsets": lists("offset"),
            "on_panel": pa.array(np.isin(contexts, panel)),
        }
    )


def _feature_rows(reducers: FeatureReducers, part: slice, n_tokens: int, tokens: OutputTokens | None) -> pa.Table:
    figures = reducers.statistics
    n = part.stop - part.start
    histogram = figures.histogram[part]
    columns = {
        "feature": pa.array(np.arange(part.start, part.stop, dtype=np.int32)),
        "n_fires": pa.array(figures.n_fires[part]),
        "n_contexts": pa.array(figures.n_contexts[part]),
        "density": pa.array(figures.n_fires[part] / max(1, n_tokens)),
        "max": pa.array(figures.maximum[part]),
        "mean": pa.array(figures.mean()[part]),
        "m2": pa.array(figures.m2()[part]),
        "histogram": _fixed_lists(histogram),
    }
    for name in ("promoted", "promoted_values", "suppressed", "suppressed_values"):
        dtype = np.float32 if name.endswith("values") else np.int32
        empty = np.empty((n, 0), dtype=dtype)
        columns[name] = _fixed_lists(empty if tokens is None else getattr(tokens, name)[part])
    return pa.table(columns)


def _example_rows(reducers: FeatureReducers, part: slice, kept: NDArray[np.int64]) -> pa.Table:
    """Examples of some features, sorted by feature, kind and rank."""
    tables = [_kind_rows(reducers.top, TOP, part, kept), _kind_rows(reducers.sample, SAMPLE, part, kept)]
    return pa.concat_tables(tables).sort_by([("feature", "ascending"), ("kind", "ascending"), ("rank", "ascending")])


def _kind_rows(examples: KeptContexts, kind: int, part: slice, kept: NDArray[np.int64]) -> pa.Table:
    feature, rank = np.nonzero(examples.key[part] != EMPTY)
    where = (feature + part.start, rank)
    position = examples.position[where]
    window = examples.window[where]
    fires = window != 0
    first = fires.argmax(axis=1) if window.size else np.empty(0, dtype=np.int64)
    last = window.shape[1] - fires[:, ::-1].argmax(axis=1) if window.size else first
    # Only the stretch from the first to the last firing is written: beyond it, inside RADIUS, the feature is silent.
    column = np.arange(window.shape[1])
    stretch = (column >= first[:, None]) & (column < last[:, None])
    return pa.table(
        {
            "feature": pa.array(where[0].astype(np.int32)),
            "kind": pa.array(np.full(len(rank), kind, dtype=np.uint8)),
            "rank": pa.array(rank.astype(np.uint16)),
            "context": pa.array(np.searchsorted(kept, examples.context[where]).astype(np.int32)),
            "position": pa.array(position.astype(np.uint16)),
            "activation": pa.array(examples.activation[where]),
            "window_start": pa.array((position - RADIUS + first).astype(np.uint16)),
            "window": _lists_of(window[stretch], last - first),
        }
    )


def _panel_rows(records: NDArray[np.void], kept: NDArray[np.int64]) -> pa.Table:
    return pa.table(
        {
            "feature": pa.array(records["feature"].astype(np.int32)),
            "context": pa.array(np.searchsorted(kept, records["context"]).astype(np.int32)),
            "position": pa.array(records["position"].astype(np.uint16)),
            "activation": pa.array(np.ascontiguousarray(records["activation"])),
        }
    )


def _list_array(items: Sequence[NDArray[np.generic]], dtype: type[np.generic]) -> pa.Array:
    flat = np.concatenate(items) if len(items) else np.empty(0, dtype=dtype)
    return _lists_of(flat.astype(dtype), np.array([len(item) for item in items], dtype=np.int64))


def _fixed_lists(matrix: NDArray[np.generic]) -> pa.Array:
    return _lists_of(matrix.ravel(), np.full(len(matrix), matrix.shape[1], dtype=np.int64))


def _lists_of(flat: NDArray[np.generic], lengths: NDArray[np.int64]) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat))


def bin_edges() -> str:
    """What the histogram's first bin starts at, for a segment's meta."""
    return f"2**{LOWEST_EXPONENT}"
