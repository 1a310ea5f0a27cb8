"""Rows of a safetensors file, read through a memory map and never loaded whole. What the rows mean lies elsewhere."""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featuredb.errors import NotFound, StoreUnusable

Matrix = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float32]

CHUNK_BYTES = 1 << 26
"""Of float32: how much of all the rows is looked at at a time."""

CHECK = "run `featuredb check` on the store"
_TYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2"}


class Rows:
    """The rows of one tensor (F, d) in a safetensors file; of (F, n, d), as decoders are, each row's vector `output`.

    With `columns`, the columns of a tensor (d, F) in their place, as an encoder needs.
    Raises NotFound when the file or the tensor is not there, StoreUnusable when it cannot be what it says it is.
    """

    def __init__(self, path: Path, tensor: str, *, columns: bool = False, output: int = -1) -> None:
        header, start = _header(path)
        entry = header.get(tensor)
        if entry is None:
            known = sorted(set(header) - {"__metadata__"})
            raise NotFound(f"{path} has no tensor {tensor!r}", hint=f"it has {', '.join(known)}")
        try:
            shape = tuple(int(size) for size in entry["shape"])
            kind = np.dtype(_TYPES[entry["dtype"]])
            offset = start + int(entry["data_offsets"][0])
            size = int(np.prod(shape, dtype=np.int64))
            flat: np.ndarray[Any, Any] = (
                np.memmap(path, kind, "r", offset, (size,)) if size else np.zeros(0, kind)  # a map cannot be empty
            )
            array = flat.reshape(shape)
            array = array[:, output] if array.ndim == 3 else array
            if array.ndim != 2:
                raise ValueError(f"its shape is {list(shape)}")
        except (KeyError, IndexError, TypeError, ValueError, OverflowError, OSError) as error:
            raise StoreUnusable(f"{path}: tensor {tensor!r} cannot be read: {error}", hint=CHECK) from error
        # A plain array over the map: indexing a memmap costs more than reading a row does.
        self._array: np.ndarray[Any, Any] = np.asarray(array)
        self._columns = columns
        self._bfloat = entry["dtype"] == "BF16"
        self._key = (str(path), tensor, columns, output, *_version(path))
        self.path = path

    def __len__(self) -> int:
        return int(self._array.shape[1 if self._columns else 0])

    @property
    def width(self) -> int:
        return int(self._array.shape[0 if self._columns else 1])

    def take(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]] | slice) -> Matrix:
        """The rows of those indices, (n, width) float32, in the order given. Raises IndexError."""
        # Columns are gathered as columns, from row after row of the file, and only then turned.
        found = np.ascontiguousarray(self._array[:, indices].T if self._columns else self._array[indices])
        if self._bfloat:
            return (found.astype(np.uint32) << 16).view(np.float32)
        return found.astype(np.float32, copy=False)

    def chunks(self) -> Iterator[tuple[slice, Matrix]]:
        """All rows in order, some megabytes at a time: where they stand, and (n, width) float32."""
        for part in self._parts():
            yield part, self.take(part)

    def products(self, queries: Matrix) -> Matrix:
        """(n, F) float32 inner products of (n, width) queries with every row."""
        found = np.empty((len(queries), len(self)), np.float32)
        for part in self._parts():
            if self._array.dtype == np.float32:  # the product reads the map itself, and nothing is copied
                found[:, part] = queries @ (self._array[:, part] if self._columns else self._array[part].T)
            else:
                found[:, part] = queries @ self.take(part).T
        return found

    def lengths(self) -> Vector:
        """(F,) float32, each row's length; remembered until the file changes."""
        return _REMEMBERED.get(self._key, self._lengths)

    def _lengths(self) -> Vector:
        lengths = np.empty(len(self), np.float32)
        for part, rows in self.chunks():
            lengths[part] = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        return lengths

    def _parts(self) -> Iterator[slice]:
        step = max(1, CHUNK_BYTES // (4 * max(1, self.width)))
        for start in range(0, len(self), step):
            yield slice(start, min(start + step, len(self)))


class _Remembered:
    """Arrays by key, the last used ones, up to a number of bytes together."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._turn = threading.Lock()
        self._kept: OrderedDict[Hashable, Vector] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Vector]) -> Vector:
        with self._turn:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._turn:
            self._kept[key] = made
            while sum(each.nbytes for each in self._kept.values()) > self._most:
                self._kept.popitem(last=False)
        return made


_REMEMBERED = _Remembered(1 << 27)


def _version(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """A safetensors file's header, and where its data begins."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > os.fstat(file.fileno()).st_size:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
    except FileNotFoundError as error:
        raise NotFound(f"no vectors at {path}", hint=CHECK) from error
    except (ValueError, RecursionError) as error:
        raise StoreUnusable(f"{path} is no safetensors file: {error}", hint=CHECK) from error
    if not isinstance(header, dict):
        raise StoreUnusable(f"{path} is no safetensors file", hint=CHECK)
    return header, 8 + length
