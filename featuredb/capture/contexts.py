"""Cuts documents into contexts, remembering which token is whose. Token ids only: no tensors, no model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from featuredb.capture.request import PackingKind
from featuredb.corpus import Document
from featuredb.errors import BadInput

Ids = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
Encode = Callable[[str], Ids]


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of one document's tokens inside a context."""

    start: int
    """ids[start:end] are the document's tokens, from `offset` on."""
    end: int
    document: int
    """Number of the document in its corpus, from 0, counting those without a token."""
    name: str
    offset: int
    """Tokens of the document that earlier pieces hold."""


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """One row of tokens. The openers and separators between its pieces belong to no document."""

    index: int
    """Place in the stream, from 0."""
    ids: Ids
    """(T',) int32, T' at most the context length."""
    counted: Mask
    """(T',) False at special tokens, whether the packing put them there or the document's text did."""
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Packing:
    """How documents become rows; checked when made."""

    kind: PackingKind
    """`concat` joins documents into full rows, as dictionaries are trained; `document` opens a row for each."""
    context_length: int
    bos_id: int | None
    """Opens each row that does not begin with it anyway; None: nothing does."""
    separator_id: int | None
    """Put between documents of a row, unless the later one begins with it; None: nothing. `concat` only."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(PackingKind):
            raise BadInput(f"no packing {self.kind!r}", hint="concat or document")
        # A row of one token would hold the opener and nothing else, for ever.
        least = 1 if self.bos_id is None else 2
        if self.context_length < least:
            raise BadInput(f"context length {self.context_length} is too short", hint=f"at least {least}")


def pack(
    documents: Iterable[Document],
    encode: Encode,
    packing: Packing,
    special_ids: Collection[int],
    max_tokens: int | None = None,
) -> Iterator[Context]:
    """The contexts of a corpus, one row at a time; never more than a document and a row are held.

    encode: a text's token ids, (n,) int32, without special tokens of its own.
    special_ids: ids that never count; the packing's own are added to them.
    max_tokens: stop when exactly this many counted tokens were given, the last row cut after the last of them.
    Every document's tokens come once, in order: the pieces of a document put together are encode(text). `concat` gives
    the rows of sae_lens.tokenization_and_batching.concat_and_batch_sequences with begin_batch_token_id=bos_id and
    sequence_separator_token_id=separator_id, and after them the row that was not filled.
    Raises BadInput when max_tokens is below 1.
    """
    if max_tokens is not None and max_tokens < 1:
        raise BadInput(f"cannot take {max_tokens} tokens", hint="at least 1")
    contexts = _rows(documents, encode, packing, special_ids)
    return contexts if max_tokens is None else _limited(contexts, max_tokens)


class _Row:
    """The context being filled."""

    def __init__(self, packing: Packing) -> None:
        self._length = packing.context_length
        self._n_given = 0
        self._open()

    def _open(self) -> None:
        self.ids: Ids = np.empty(self._length, dtype=np.int32)
        self.counted: Mask = np.zeros(self._length, dtype=np.bool_)
        self.filled = 0
        self.pieces: list[Piece] = []

    @property
    def full(self) -> bool:
        return self.filled == self._length

    def put_special(self, token: int) -> None:
        self.ids[self.filled] = token
        self.filled += 1

    def put(self, tokens: Ids, counted: Mask, document: int, name: str, offset: int) -> int:
        """Takes what fits of a document from `offset` on; how many tokens that was."""
        taken = min(self._length - self.filled, len(tokens) - offset)
        if taken:
            end = self.filled + taken
            self.ids[self.filled : end] = tokens[offset : offset + taken]
            self.counted[self.filled : end] = counted[offset : offset + taken]
            self.pieces.append(Piece(self.filled, end, document, name, offset))
            self.filled = end
        return taken

    def close(self) -> Context:
        """The row as a context; the next one is open."""
        ids, counted = self.ids, self.counted
        if not self.full:
            ids, counted = ids[: self.filled].copy(), counted[: self.filled].copy()
        context = Context(self._n_given, ids, counted, tuple(self.pieces))
        self._n_given += 1
        self._open()
        return context


def _rows(
    documents: Iterable[Document], encode: Encode, packing: Packing, special_ids: Collection[int]
) -> Iterator[Context]:
    bos, separator = packing.bos_id, packing.separator_id
    never = {*special_ids, *(token for token in (bos, separator) if token is not None)}
    # By id, whether it counts; the last entry stands for every id beyond. np.isin makes short documents 5 times slower.
    counts = np.ones(max(never, default=-1) + 2, dtype=np.bool_)
    counts[list(never)] = False
    row = _Row(packing)
    for number, document in enumerate(documents):
        tokens = np.asarray(encode(document.text), dtype=np.int32)
        counted = counts.take(tokens, mode="clip")
        offset = 0
        while offset < len(tokens):
            opener = separator if row.filled else bos
            if opener is not None and tokens[offset] != opener:
                row.put_special(opener)
            offset += row.put(tokens, counted, number, document.name, offset)
            if row.full:
                yield row.close()
        if packing.kind == "document" and row.filled:
            yield row.close()
    if row.filled:
        yield row.close()


def _limited(contexts: Iterator[Context], max_tokens: int) -> Iterator[Context]:
    left = max_tokens
    for context in contexts:
        n_counted = int(np.count_nonzero(context.counted))
        if n_counted > left:
            yield _cut(context, int(np.flatnonzero(context.counted)[left - 1]) + 1)
            return
        yield context
        left -= n_counted
        if left == 0:
            return


def _cut(context: Context, end: int) -> Context:
    pieces = tuple(
        Piece(piece.start, min(piece.end, end), piece.document, piece.name, piece.offset)
        for piece in context.pieces
        if piece.start < end
    )
    return Context(context.index, context.ids[:end].copy(), context.counted[:end].copy(), pieces)
