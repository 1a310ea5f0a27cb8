"""The kept text of a run as arrays, and what fires on it: what labelers, scorers and checks compute with.

Rule: rows of segments in, arrays out; which documents may be read is decided by the caller's `admits`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featuredb.store.layout import RADIUS
from featuredb.store.segments import SegmentRef
from featuredb.store.sql import attach_segment
from featuredb.store.store import Store

if TYPE_CHECKING:
    import duckdb
    import pyarrow

Ints = NDArray[np.int32]
Places = NDArray[np.int64]

# Lists come as they lie, in the order of their rows: of what `unnest` makes of them no order is promised.
_CONTEXTS = """
    select context, on_panel, tokens, piece_starts, piece_ends, piece_documents, piece_offsets
    from text.context order by context
"""
_DOCUMENTS = "select document, name from text.document order by document"
_TEXTS = "select text from text.token order by token"
_PANEL = """
    select feature, context, position, activation from kept.panel
    where feature >= $first and feature < $last order by feature, context, position
"""
_EXAMPLES = """
    select feature, kind, rank, context, position, activation, window_start, "window"
    from kept.example where feature >= $first and feature < $last order by feature, kind, rank
"""


@dataclass(frozen=True)
class Passages:
    """Pieces of documents, one after another: N tokens in n pieces. Tokens of no document are not there."""

    token: Ints
    """(N,) ids."""
    start: Places
    """(n + 1,) where each piece begins in `token`, and where the last one ends."""
    context: Ints
    """(n,) the context a piece lies in."""
    position: Ints
    """(n,) the position in that context of its first token."""
    document: Ints
    """(n,) the document it is from."""
    offset: Ints
    """(n,) place of its first token among its document's tokens."""
    panel: NDArray[np.bool_]
    """(n,) whether its context is on the panel, where every firing is known."""
    names: dict[int, str]
    """Names of those documents."""
    texts: list[str]
    """Display text of every token id."""

    @property
    def n_tokens(self) -> int:
        return len(self.token)

    @property
    def on_panel(self) -> NDArray[np.bool_]:
        """(N,) whether each token is on the panel."""
        return np.repeat(self.panel, np.diff(self.start))

    @property
    def piece(self) -> Ints:
        """(N,) the piece of each token."""
        return np.repeat(np.arange(len(self.context), dtype=np.int32), np.diff(self.start))

    def locate(self, context: Ints, position: Ints) -> Places:
        """Where in `token` each place of a context lies; -1 for places that are not among these pieces."""
        key = (self.context.astype(np.int64) << 32) | self.position
        wanted = (context.astype(np.int64) << 32) | position
        piece = np.searchsorted(key, wanted, side="right") - 1
        inside = piece >= 0
        piece = np.maximum(piece, 0)
        if not len(key):
            return np.full(len(wanted), -1, np.int64)
        at = self.start[piece] + position - self.position[piece]
        inside &= (self.context[piece] == context) & (at < self.start[piece + 1])
        return np.where(inside, at, -1)

    def text(self, low: int, high: int) -> str:
        """The text of some tokens that lie in one piece."""
        return "".join(self.texts[token] for token in self.token[low:high].tolist())


@dataclass(frozen=True)
class PanelFirings:
    """Every firing of some features on the panel's tokens, by feature, then place."""

    feature: Ints
    at: Places
    """Index into `Passages.token`."""
    activation: NDArray[np.float32]

    def of(self, feature: int) -> tuple[Places, NDArray[np.float32]]:
        """One feature's places and activations."""
        low, high = np.searchsorted(self.feature, [feature, feature + 1])
        return self.at[low:high], self.activation[low:high]


@dataclass(frozen=True)
class Examples:
    """The kept examples of some features, by feature, kind and rank: m of them."""

    feature: Ints
    kind: NDArray[np.uint8]
    """0: one of the strongest contexts; 1: one of a uniform sample of the contexts where it fires."""
    rank: Ints
    at: Places
    """(m,) the peak's index into `Passages.token`."""
    activation: NDArray[np.float32]
    low: Places
    high: Places
    """(m,) the window: tokens low to high, never past the piece."""
    shares: NDArray[np.float32]
    """Activations on all windows, one after another, as stored: shares of the peak's, in steps of 1/255."""
    first: Places
    """(m + 1,) where each window's begin in `shares`."""

    def window(self, number: int) -> NDArray[np.float32]:
        """The activations on one example's window, of high - low tokens."""
        window: NDArray[np.float32] = self.shares[self.first[number] : self.first[number + 1]] * self.activation[number]
        return window

    def of(self, feature: int) -> range:
        """The numbers of one feature's examples."""
        low, high = np.searchsorted(self.feature, [feature, feature + 1])
        return range(int(low), int(high))


class PassageReader:
    """Reads one run's kept text, and one dictionary's firings on it, from the documents whose name is admitted."""

    def __init__(self, store: Store, segment: SegmentRef, admits: Callable[[str], bool]) -> None:
        import duckdb

        self._connection = duckdb.connect(
            config={"threads": 1, "autoload_known_extensions": "false", "autoinstall_known_extensions": "false"}
        )
        try:
            attach_segment(self._connection, store, segment.contexts, "text")
            attach_segment(self._connection, store, segment.path, "kept")
            self.passages = _read_passages(self._connection, admits)
        except BaseException:
            self._connection.close()
            raise

    def panel(self, first: int, last: int) -> PanelFirings:
        """The firings of features first to last (left out) on admitted panel tokens."""
        rows = self._numbers(_PANEL, {"first": first, "last": last})
        at = self.passages.locate(rows["context"], rows["position"].astype(np.int32))
        admitted = at >= 0
        return PanelFirings(rows["feature"][admitted], at[admitted], rows["activation"][admitted])

    def examples(self, first: int, last: int) -> Examples:
        """The kept examples of features first to last (left out) whose peak is in an admitted document."""
        table = _table(self._connection, _EXAMPLES, {"first": first, "last": last})
        rows = {name: table[name].to_numpy() for name in table.column_names if name != "window"}
        stored, length = _lists(table["window"])
        kept = stored.astype(np.float32) / np.float32(255)
        begins = np.concatenate([[0], np.cumsum(length)])
        at = self.passages.locate(rows["context"], rows["position"].astype(np.int32))
        chosen = np.flatnonzero(at >= 0)
        at = at[chosen]
        passages = self.passages
        piece = np.searchsorted(passages.start, at, side="right") - 1
        low = np.maximum(at - RADIUS, passages.start[piece])
        high = np.minimum(at + RADIUS + 1, passages.start[piece + 1])
        first_share = np.concatenate([[0], np.cumsum(high - low)])
        shares = np.zeros(int(first_share[-1]), np.float32)
        # A window as stored lies somewhere inside [low, high), for its silent ends are not written.
        shift = rows["window_start"][chosen].astype(np.int64) - rows["position"][chosen].astype(np.int64)
        count = length[chosen]
        within = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
        place = np.repeat(at + shift, count) + within
        owner = np.repeat(np.arange(len(chosen)), count)
        inside = (place >= low[owner]) & (place < high[owner])
        source = np.repeat(begins[chosen], count) + within
        shares[(first_share[owner] + place - low[owner])[inside]] = kept[source[inside]]
        return Examples(
            feature=rows["feature"][chosen],
            kind=rows["kind"][chosen],
            rank=rows["rank"][chosen].astype(np.int32),
            at=at,
            activation=rows["activation"][chosen],
            low=low,
            high=high,
            shares=shares,
            first=first_share,
        )

    def close(self) -> None:
        self._connection.close()

    def _numbers(self, statement: str, params: dict[str, int]) -> dict[str, NDArray[Any]]:
        return _numbers(self._connection, statement, params)


def _numbers(
    connection: duckdb.DuckDBPyConnection, statement: str, params: dict[str, int] | None = None
) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = connection.execute(statement, params).fetchnumpy()
    return columns


def _table(
    connection: duckdb.DuckDBPyConnection, statement: str, params: dict[str, int] | None = None
) -> pyarrow.Table:
    return connection.sql(statement, params=params).to_arrow_table()


def _lists(column: pyarrow.ChunkedArray) -> tuple[NDArray[Any], Places]:
    """All elements of a column of lists, one list after another, and each list's length."""
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    if not chunks:
        return np.zeros(0, np.int32), np.zeros(0, np.int64)
    values = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in chunks]
    lengths = [chunk.value_lengths().fill_null(0).to_numpy(zero_copy_only=False) for chunk in chunks]
    return np.concatenate(values), np.concatenate(lengths).astype(np.int64)


def _read_passages(connection: duckdb.DuckDBPyConnection, admits: Callable[[str], bool]) -> Passages:
    names = {int(number): str(name) for number, name in connection.execute(_DOCUMENTS).fetchall()}
    admitted = np.array(sorted(number for number, name in names.items() if admits(name)), np.int32)
    table = _table(connection, _CONTEXTS)
    contexts = table["context"].to_numpy()
    ids, lengths = _lists(table["tokens"])
    begins = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    pieces = _pieces(table, contexts)
    chosen = np.isin(pieces["document"], admitted)
    context = pieces["context"][chosen].astype(np.int32)
    position = pieces["position"][chosen].astype(np.int64)
    count = pieces["past"][chosen].astype(np.int64) - position
    start = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    source = begins[np.searchsorted(contexts, context)] + position
    within = np.arange(int(start[-1])) - np.repeat(start[:-1], count)
    return Passages(
        token=ids[np.repeat(source, count) + within].astype(np.int32),
        start=start,
        context=context,
        position=position.astype(np.int32),
        document=pieces["document"][chosen].astype(np.int32),
        offset=pieces["offset"][chosen].astype(np.int32),
        panel=pieces["on_panel"][chosen].astype(np.bool_),
        names={number: names[number] for number in admitted.tolist()},
        texts=[text for (text,) in connection.execute(_TEXTS).fetchall()],
    )


def _pieces(table: pyarrow.Table, contexts: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The pieces of all contexts, in order of context and position."""
    lists = {"position": "piece_starts", "past": "piece_ends", "document": "piece_documents", "offset": "piece_offsets"}
    pieces = {name: _lists(table[column])[0] for name, column in lists.items()}
    _, counts = _lists(table["piece_starts"])
    pieces["context"] = np.repeat(contexts, counts)
    pieces["on_panel"] = np.repeat(table["on_panel"].to_numpy(), counts)
    order = np.lexsort((pieces["position"], pieces["context"]))
    return {name: values[order] for name, values in pieces.items()}
