"""The contexts of an unfinished run, on disk: memory must not grow with the corpus; which are kept is known last."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from featuredb.capture.contexts import Context

PIECE = np.dtype([("context", "<u4"), ("start", "<u4"), ("end", "<u4"), ("document", "<u4"), ("offset", "<u4")])


class ContextSpool:
    """Three growing files: token rows of one width, the pieces of documents in them, and the documents' names."""

    def __init__(self, folder: Path, context_length: int) -> None:
        self._width = context_length + 1  # the row's length comes first
        self._files = (folder / "tokens.bin", folder / "pieces.bin", folder / "documents.jsonl")
        for path in self._files:
            path.touch()
        self._last_document = -1

    def add(self, contexts: Sequence[Context]) -> None:
        rows = np.full((len(contexts), self._width), -1, dtype="<i4")
        pieces, names = [], []
        for row, context in zip(rows, contexts, strict=True):
            row[0] = len(context.ids)
            row[1 : 1 + len(context.ids)] = context.ids
            for piece in context.pieces:
                pieces.append((context.index, piece.start, piece.end, piece.document, piece.offset))
                if piece.document > self._last_document:
                    self._last_document = piece.document
                    names.append(json.dumps([piece.document, piece.name]) + "\n")
        blocks = (rows.tobytes(), np.array(pieces, dtype=PIECE).tobytes(), "".join(names).encode())
        for path, block in zip(self._files, blocks, strict=True):
            with path.open("ab") as file:
                file.write(block)

    def sizes(self) -> list[int]:
        """What `truncate` needs to come back to this moment."""
        return [*(path.stat().st_size for path in self._files), self._last_document]

    def truncate(self, sizes: Sequence[int]) -> None:
        for path, size in zip(self._files, sizes[:3], strict=True):
            with path.open("ab") as file:
                file.truncate(size)
        self._last_document = sizes[3]

    def tokens(self, contexts: NDArray[np.int64]) -> list[NDArray[np.int32]]:
        """The token ids of some contexts, by their place in the corpus."""
        rows = np.memmap(self._files[0], dtype="<i4", mode="r").reshape(-1, self._width)[contexts]
        return [row[1 : 1 + row[0]] for row in rows]

    def pieces(self, contexts: NDArray[np.int64]) -> list[NDArray[np.void]]:
        """The pieces of some contexts, each in order."""
        if self._files[1].stat().st_size == 0:
            return [np.empty(0, dtype=PIECE) for _ in contexts]
        pieces = np.memmap(self._files[1], dtype=PIECE, mode="r")
        first = np.searchsorted(pieces["context"], contexts.astype(np.uint32), side="left")
        last = np.searchsorted(pieces["context"], contexts.astype(np.uint32), side="right")
        return [np.array(pieces[a:b]) for a, b in zip(first, last, strict=True)]

    def document_names(self, documents: NDArray[np.int64]) -> list[str]:
        """The names of some documents, in the order asked."""
        wanted = set(documents.tolist())
        names: dict[int, str] = {}
        with self._files[2].open(encoding="utf-8") as file:
            for line in file:
                document, name = json.loads(line)
                if document in wanted:
                    names[document] = name
        return [names[document] for document in documents.tolist()]
