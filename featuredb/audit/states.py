"""The model's vectors at the places of a dictionary's kept text: its contexts run again, as the ingest ran them.

Rule: places in, vectors out, each context run once as long as there is room to keep them; no statistics here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.requests import Floats32, Places
from featuredb.errors import BadInput, NotFound
from featuredb.hooknames import layer_of, same_tensor

if TYPE_CHECKING:
    import torch

    from featuredb.labels.evidence import Firings
    from featuredb.labels.workshop import Workshop
    from featuredb.store.passages import Passages

BATCH_TOKENS = 8_192
"""Tokens in a forward pass, padding among them."""

IN_MEMORY = 1 << 28
"""Kept vectors that take more bytes than this lie in a file that has no name and goes with the process."""

MOST_BYTES = 1 << 33
"""What that file may take; where all kept text is larger, what was worked out is let go when the room is used up."""


class ModelStates:
    """One dictionary's input vectors. They are kept in half precision, as shares of each one's largest number."""

    def __init__(self, workshop: Workshop, everything: Firings, *, most_bytes: int = MOST_BYTES) -> None:
        self._workshop = workshop
        self._passages = everything.passages
        self._most_bytes = most_bytes

    def at(self, places: Places) -> Floats32:
        """(len(places), d_in) at places of `everything.passages`, to one part in 2,000 of each vector's largest number.

        Raises BadInput where the model cannot be run.
        """
        found = np.empty((len(places), self._kept.width), np.float32)
        passages, kept = self._passages, self._kept
        piece = np.searchsorted(passages.start, places, side="right") - 1
        here = kept.has[piece]
        if here.any():
            found[here] = kept.take(piece[here], places[here])
        missing = np.flatnonzero(~here)
        for pieces, outputs in self._run(piece[missing], [self.hook]):
            kept.put(pieces, passages, outputs[self.hook])
            mine = missing[np.isin(piece[missing], pieces)]
            found[mine] = kept.take(piece[mine], places[mine])
        return found

    def layers(self, places: Places) -> Mapping[str, Floats32]:
        """The same at every residual hook up to the dictionary's own, by hook, the earliest first; the last one is the
        dictionary's own, whatever it reads. Nothing of it is kept: ask for all places at once.
        """
        found = {hook: np.empty((len(places), self._kept.width), np.float32) for hook in self.hooks}
        piece = np.searchsorted(self._passages.start, places, side="right") - 1
        for pieces, outputs in self._run(piece, self.hooks):
            mine = np.flatnonzero(np.isin(piece, pieces))
            row = _rows_of(pieces, self._passages)[piece[mine]] + places[mine]
            for hook, vectors in outputs.items():
                found[hook][mine] = vectors[row]
        return found

    @cached_property
    def hook(self) -> str:
        """Where the dictionary reads."""
        return self._workshop.hook

    @cached_property
    def hooks(self) -> list[str]:
        """The residual stream from its beginning to the dictionary's own hook."""
        names = ["layers.0.resid_pre", *(f"layers.{layer}.resid_post" for layer in range(layer_of(self.hook) or 0))]
        return [name for name in names if same_tensor(name) != same_tensor(self.hook)] + [self.hook]

    @cached_property
    def _kept(self) -> _Kept:
        try:
            model = self._workshop.model
        except NotFound as error:  # it was there when the dictionary was ingested
            raise BadInput(error.message, hint=error.hint) from error
        return _Kept(self._passages, model.hook_width(self.hook), self._most_bytes)

    def _run(self, pieces: Places, hooks: Sequence[str]) -> Iterator[tuple[Places, dict[str, Floats32]]]:
        """Runs the contexts of some pieces: all pieces of some of these contexts, ascending, and at each hook the
        vectors of their tokens, one piece after another.
        """
        passages = self._passages
        wanted = np.unique(passages.context[pieces])
        longest = np.zeros(len(wanted), np.int64)
        inside = np.flatnonzero(np.isin(passages.context, wanted))
        place = np.searchsorted(wanted, passages.context[inside])
        np.maximum.at(longest, place, passages.position[inside] + np.diff(passages.start)[inside])
        for chosen in _batches(longest):
            contexts = wanted[chosen]
            mine = inside[np.isin(place, chosen)]
            yield mine, self._forward(contexts, mine, hooks)

    def _forward(self, contexts: NDArray[np.int32], pieces: Places, hooks: Sequence[str]) -> dict[str, Floats32]:
        import torch

        from featuredb.model import is_out_of_memory

        passages, model = self._passages, self._workshop.model
        tokens = self._workshop.contexts(contexts.tolist())
        ids = np.full((len(contexts), max(map(len, tokens))), model.pad_id, np.int64)
        mask = np.zeros(ids.shape, np.bool_)
        for line, there, row in zip(ids, mask, tokens, strict=True):
            line[: len(row)] = row
            there[: len(row)] = True
        count = np.diff(passages.start)[pieces]
        first = np.searchsorted(contexts, passages.context[pieces]) * ids.shape[1] + passages.position[pieces]
        flat = torch.from_numpy(np.repeat(first - np.cumsum(count) + count, count) + np.arange(int(count.sum())))

        def run(low: int, high: int) -> dict[str, torch.Tensor]:
            try:
                return model.run(torch.from_numpy(ids[low:high]), torch.from_numpy(mask[low:high]), hooks)
            except RuntimeError as error:
                if not is_out_of_memory(error) or high - low < 2:
                    raise
            half = (low + high) // 2
            one, other = run(low, half), run(half, high)
            return {hook: torch.cat([one[hook], other[hook]]) for hook in hooks}

        outputs = run(0, len(ids))
        return {hook: x.flatten(0, 1)[flat.to(x.device)].float().cpu().numpy() for hook, x in outputs.items()}


class _Kept:
    """Vectors of whole pieces, as many as there is room for."""

    def __init__(self, passages: Passages, width: int, most_bytes: int) -> None:
        self.width = width
        self._start = passages.start
        self.has = np.zeros(len(passages.context), np.bool_)
        """(n pieces,) whether it is here."""
        self._shift = np.zeros(len(passages.context), np.int64)
        """What turns a place of the passages into a row here, for each piece."""
        longest = int(np.diff(passages.start).max(initial=0))
        self._n_rows = max(min(passages.n_tokens, most_bytes // (2 * width)), 2 * BATCH_TOKENS, 2 * longest)
        self._n_used = 0
        self._share = _array((self._n_rows, width))
        self._largest = np.zeros(self._n_rows, np.float32)

    def take(self, pieces: Places, places: Places) -> Floats32:
        """The vectors at some places, of which these are the pieces."""
        row = places + self._shift[pieces]
        return np.asarray(self._share[row].astype(np.float32) * self._largest[row][:, None], np.float32)

    def put(self, pieces: Places, passages: Passages, vectors: Floats32) -> None:
        """Keeps the vectors of some whole pieces; all others are let go where there is no room beside them."""
        if self._n_used + len(vectors) > self._n_rows:
            self.has[:] = False
            self._n_used = 0
        rows = slice(self._n_used, self._n_used + len(vectors))
        largest = np.abs(vectors).max(axis=1)
        self._largest[rows] = largest
        self._share[rows] = vectors / np.where(largest > 0, largest, 1)[:, None]
        self._shift[pieces] = _rows_of(pieces, passages)[pieces] + self._n_used
        self.has[pieces] = True
        self._n_used = rows.stop


def _array(shape: tuple[int, int]) -> NDArray[np.float16]:
    if 2 * shape[0] * shape[1] <= IN_MEMORY:
        return np.empty(shape, np.float16)
    import tempfile

    with tempfile.TemporaryFile(prefix="featuredb-") as file:
        return np.memmap(file, np.float16, "w+", shape=shape)  # the map holds the file open


def _rows_of(pieces: Places, passages: Passages) -> NDArray[np.int64]:
    """(n pieces of the passages,) what turns a place into its row among the tokens of these pieces."""
    count = np.diff(passages.start)[pieces]
    shift = np.zeros(len(passages.context), np.int64)
    shift[pieces] = np.cumsum(count) - count - passages.start[:-1][pieces]
    return shift


def _batches(longest: Places) -> Iterator[Places]:
    """Contexts of like length together, BATCH_TOKENS of them with the padding; ascending within a batch."""
    order = np.argsort(-longest, kind="stable")
    first = 0
    while first < len(order):
        # The first is the longest, so it says how wide the batch is.
        last = first + max(1, BATCH_TOKENS // int(longest[order[first]]))
        yield np.sort(order[first:last])
        first = last
