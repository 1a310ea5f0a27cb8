"""The rows of a store's dictionary, and for every feature those whose decoder rows lie nearest.

Rule: vectors in, vectors and cosines out; nothing here knows what a feature does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.requests import Floats32
from featuredb.errors import BadInput, NotFound
from featuredb.store.mapped import Rows

if TYPE_CHECKING:
    from featuredb.labels.workshop import Workshop

AT_ONCE = 1 << 24
"""Cosines held at a time: 64 MB of them, whatever the number of features."""

LEAST = 16
"""Neighbours worked out at least, so that checks asking for different numbers share them."""


class StoredDirections:
    """One dictionary's decoder and encoder rows, read from the disk as they are asked for."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._nearest: tuple[NDArray[np.int64], Floats32] | None = None

    def decoder(self, features: Sequence[int]) -> Floats32:
        """(len(features), d_out) decoder rows, as long as they are; into its last hook where it writes to several.

        Raises BadInput where the store has no weights of this dictionary.
        """
        return self._decoder.take(_places(features))

    def encoder(self, features: Sequence[int]) -> Floats32:
        """(len(features), d_in) encoder rows; the decoder's where the dictionary has no encoder of its own.

        Raises BadInput where the store has no weights of this dictionary.
        """
        return self._encoder.take(_places(features))

    def nearest(self, n: int) -> tuple[NDArray[np.int64], Floats32]:
        """(n_features, n) the features whose decoder rows point most nearly the same way, nearest first, ties by
        index, with their cosines; -1 and 0 where there are none, as for a row of zeros.

        Exact. Kept, so that another call costs nothing unless it asks for more. Raises BadInput as above.
        """
        if self._nearest is None or self._nearest[0].shape[1] < n:
            self._nearest = nearest_rows(self._decoder, max(n, LEAST))
        found, cosine = self._nearest
        return found[:, :n], cosine[:, :n]

    @cached_property
    def _decoder(self) -> Rows:
        try:
            return self._workshop.decoder
        except NotFound as error:
            raise self._missing() from error

    @cached_property
    def _encoder(self) -> Rows:
        try:
            return Rows(self._decoder.path, "w_enc", columns=True)
        except NotFound:
            return self._decoder  # of matching pursuit, which encodes with its decoder

    def _missing(self) -> BadInput:
        return BadInput(
            f"the store has no weights of dictionary {self._workshop.name!r}",
            hint="run `featuredb check`, or ingest the dictionary again; checks of firings alone need none",
        )


def nearest_rows(rows: Rows, n: int) -> tuple[NDArray[np.int64], Floats32]:
    """(F, n) for every row the n others of largest cosine, largest first, ties by index, and the cosines.

    -1 and 0 where there are none; a row of zeros is near nothing. Never more than AT_ONCE cosines are held.
    """
    n_rows = len(rows)
    lengths = rows.lengths()
    scale = np.divide(1, lengths, out=np.zeros(n_rows, np.float32), where=lengths > 0)
    nearest = np.full((n_rows, n), -1, np.int64)
    cosines = np.zeros((n_rows, n), np.float32)
    step = max(1, AT_ONCE // max(1, n_rows))
    for first in range(0, n_rows, step):
        own = np.arange(first, min(first + step, n_rows))
        found = rows.products(rows.take(slice(first, int(own[-1]) + 1)) * scale[own, None])
        found *= scale
        found[:, lengths == 0] = -np.inf
        found[np.arange(len(own)), own] = -np.inf
        found[lengths[own] == 0] = -np.inf
        place, value = largest(found, min(n, n_rows))
        missing = ~np.isfinite(value)
        nearest[own, : place.shape[1]] = np.where(missing, -1, place)
        cosines[own, : place.shape[1]] = np.where(missing, 0, np.clip(value, -1, 1))
    return nearest, cosines


def _places(features: Sequence[int]) -> slice | list[int]:
    """A range as a slice, which is read in one go."""
    if isinstance(features, range) and features.step == 1:
        return slice(features.start, max(features.start, features.stop))
    return list(features)


def largest(values: Floats32, n: int) -> tuple[NDArray[np.int64], Floats32]:
    """(m, n) where the largest of some rows' values stand, and those, largest first, ties by place. values: (m, k)."""
    import torch

    value, place = torch.topk(torch.from_numpy(values), n, dim=1)
    at, top = place.numpy(), value.numpy()
    if not n:
        return at, top
    # Of equal values at the end, any are among the n largest: they are to be the first ones.
    cut = top[:, -1:]
    for row in np.flatnonzero((values == cut).sum(axis=1) > (top == cut).sum(axis=1)):
        n_above = int((top[row] > cut[row]).sum())
        at[row, top[row] == cut[row]] = np.flatnonzero(values[row] == cut[row])[: n - n_above]
    order = np.lexsort((at, -top), axis=1)
    return np.take_along_axis(at, order, 1), np.take_along_axis(top, order, 1)
