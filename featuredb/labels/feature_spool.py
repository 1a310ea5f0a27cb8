"""Rows of many files put in order of feature, in little memory: publishers write them in every other order.

Rule: bytes in, the same bytes out; a row's meaning is not looked at.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from featuredb.errors import BadInput
from featuredb.store.engine import disk_errors

WIDTH = 128
"""Features that are put in order together."""

HELD = 32 * 2**20
"""Bytes kept in memory before they go to the disk."""

LARGEST = 2**30
"""Bytes of WIDTH features' rows, all of which are in memory at one time."""

_HEAD = struct.Struct("<IHIII")  # feature, kind, file, row, length
_BLOCK = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Spooled:
    """One row."""

    kind: int
    file: int
    """A number that the caller gave its file."""
    row: int
    body: bytes


class FeatureSpool:
    """Takes rows in any order and gives them back by feature. Its temporary folder goes when it does."""

    def __init__(self) -> None:
        self._held: dict[int, list[bytes]] = {}
        self._n_held = 0
        self._sizes: dict[int, int] = {}
        self._folder: Path | None = None
        self.n_features = 0
        """One more than the largest index seen."""

    def add(self, feature: int, kind: int, file: int, row: int, body: bytes) -> None:
        """Raises BadInput where a few features have so much that it cannot be held, StoreUnusable on a full disk."""
        bucket = feature // WIDTH
        size = _HEAD.size + len(body)
        self._sizes[bucket] = self._sizes.get(bucket, 0) + size
        if self._sizes[bucket] > LARGEST:
            low = bucket * WIDTH
            raise BadInput(f"features {low} to {low + WIDTH - 1} have more than {LARGEST >> 20} MB of rows")
        rows = self._held.setdefault(bucket, [])
        rows.append(_HEAD.pack(feature, kind, file, row, len(body)))
        rows.append(body)
        self._n_held += size
        self.n_features = max(self.n_features, feature + 1)
        if self._n_held > HELD:
            self._flush()

    def __iter__(self) -> Iterator[tuple[int, list[Spooled]]]:
        """Each feature that has rows, in order of index, with its rows by kind, file and row."""
        for bucket in sorted(self._sizes):
            by_feature: dict[int, list[Spooled]] = {}
            data = self._read(bucket)
            at = 0
            while at < len(data):
                feature, kind, file, row, length = _HEAD.unpack_from(data, at)
                at += _HEAD.size
                by_feature.setdefault(feature, []).append(Spooled(kind, file, row, data[at : at + length]))
                at += length
            del data
            for feature in sorted(by_feature):
                yield feature, sorted(by_feature.pop(feature), key=lambda one: (one.kind, one.file, one.row))

    def _flush(self) -> None:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="featuredb-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        with disk_errors(self._folder):
            for bucket, rows in self._held.items():
                block = zlib.compress(b"".join(rows), 1)
                with self._file(bucket).open("ab") as file:
                    file.write(_BLOCK.pack(len(block)) + block)
        self._held.clear()
        self._n_held = 0

    def _read(self, bucket: int) -> bytes:
        pieces = []
        if self._folder is not None and self._file(bucket).exists():
            with self._file(bucket).open("rb") as file:
                while head := file.read(_BLOCK.size):
                    pieces.append(zlib.decompress(file.read(_BLOCK.unpack(head)[0])))
        return b"".join([*pieces, *self._held.get(bucket, ())])

    def _file(self, bucket: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{bucket}.rows"
