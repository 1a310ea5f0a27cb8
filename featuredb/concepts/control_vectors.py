"""Control vectors as llama.cpp and repeng keep them: gguf files of architecture `controlvector`.

The gguf library trusts the counts and lengths a file claims; `_check` walks them first, so that a damaged file ends in
an error and not in an endless loop.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from featuredb.errors import BadInput, PluginFailed

ARCHITECTURE = "controlvector"
MAGIC = b"GGUF"
VERSIONS = (2, 3)
_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a scalar value, by the number of its type."""
_STRING, _ARRAY = 8, 9
_PLAIN = {0: 4, 1: 2, 28: 8}
"""Bytes of a number in tensors of type F32, F16 and F64."""
_BFLOAT16 = 30


def read_control_vector(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The `direction.N` tensors of a file by name, and what it says of its model.

    Raises BadInput for another architecture, other tensors, or a damaged file; PluginFailed without the gguf library.
    """
    gguf = _library()
    _check(path)
    reader = gguf.GGUFReader(path)
    arrays: dict[str, NDArray[Any]] = {}
    for tensor in reader.tensors:
        if not tensor.name.startswith("direction.") or len(tensor.shape) != 1:
            raise BadInput(
                f"{path}: tensor {tensor.name!r} of shape {tuple(tensor.shape.tolist())} is no direction",
                hint="a control vector has one-dimensional direction.1, direction.2, ...",
            )
        data = tensor.data
        if int(tensor.tensor_type) == _BFLOAT16:
            data = gguf.quants.dequantize(data, tensor.tensor_type)
        arrays[tensor.name] = np.array(data, dtype=np.float64 if data.itemsize > 4 else np.float32)
    hint = _text(reader, f"{ARCHITECTURE}.model_hint")
    return arrays, {} if hint is None else {"model_type": hint}


def write_control_vector(path: Path, directions: Mapping[int, NDArray[np.float32]], model_type: str) -> None:
    """Writes directions by layer, with the fields that repeng writes.

    directions: by N, the vector (width,) that is added to what block N gives; N from 1, for llama.cpp refuses 0.
    """
    gguf = _library()
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    try:
        writer.add_string(f"{ARCHITECTURE}.model_hint", model_type)
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(directions))
        for layer, vector in sorted(directions.items()):
            writer.add_tensor(f"direction.{layer}", np.ascontiguousarray(vector, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _library() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise PluginFailed("the gguf library is not installed", hint="pip install 'featuredb[gguf]'") from error
    return gguf


def _text(reader: Any, name: str) -> str | None:
    entry = reader.get_field(name)
    return None if entry is None else bytes(entry.parts[-1]).decode("utf-8", "replace")


def _check(path: Path) -> None:
    """Raises BadInput where a count, a length or an offset leads out of the file."""
    # Mapped, not read: a file given by mistake may be a whole model.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _walk(path, _Walk(path, data))


def _walk(path: Path, walk: _Walk) -> None:
    if walk.take(4) != MAGIC:
        raise BadInput(f"{path} is no gguf file", hint="give --format where the ending misleads")
    version = walk.number("<I")
    if version not in VERSIONS:
        raise BadInput(f"{path} is gguf of version {version}", hint="versions 2 and 3 are read, little-endian")
    n_tensors, n_fields = walk.count(), walk.count()
    alignment, architecture = 32, b""
    for _ in range(n_fields):
        name, kind = walk.text(), walk.number("<I")
        if name == b"general.alignment" and kind == 4:
            alignment = walk.number("<I")
        elif name == b"general.architecture" and kind == _STRING:
            architecture = walk.text()
        else:
            walk.skip_value(kind)
    if architecture != ARCHITECTURE.encode():
        called = architecture.decode("utf-8", "replace")
        raise BadInput(f"{path} is a gguf of architecture {called!r}", hint=f"control vectors are of {ARCHITECTURE!r}")
    shapes = [walk.tensor() for _ in range(n_tensors)]
    if alignment == 0:
        walk.fail()
    start = -(-walk.at // alignment) * alignment
    for n_bytes, offset in shapes:
        if start + offset + n_bytes > len(walk.data):
            walk.fail()


class _Walk:
    """A place in a file's bytes that never gets past their end."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.data = data
        self.at = 0

    def fail(self) -> NoReturn:
        raise BadInput(f"{self.path} is damaged, or not whole, at byte {self.at:,}", hint="was the download finished?")

    def take(self, n: int) -> bytes:
        if n > len(self.data) - self.at:
            self.fail()
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, form: str) -> int:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return int(value)

    def count(self) -> int:
        """How many of something follow; each takes at least a byte."""
        found = self.number("<Q")
        if found > len(self.data) - self.at:
            self.fail()
        return found

    def text(self) -> bytes:
        return self.take(self.count())

    def skip_value(self, kind: int, depth: int = 0) -> None:
        if kind in _SCALARS:
            self.take(_SCALARS[kind])
        elif kind == _STRING:
            self.text()
        elif kind == _ARRAY and depth < 4:
            inner, n = self.number("<I"), self.count()
            for _ in range(n):
                self.skip_value(inner, depth + 1)
        else:
            self.fail()

    def tensor(self) -> tuple[int, int]:
        """Bytes and offset of the tensor that is described here."""
        name, n_dims = self.text(), self.number("<I")
        if not 1 <= n_dims <= 4:
            self.fail()
        n = math.prod(self.number("<Q") for _ in range(n_dims))
        kind, offset = self.number("<I"), self.number("<Q")
        if kind not in _PLAIN and kind != _BFLOAT16:
            called = name.decode("utf-8", "replace")
            raise BadInput(
                f"{self.path}: tensor {called!r} is quantised or not of fractions",
                hint="control vectors are kept in F32, F16 or BF16",
            )
        return n * _PLAIN.get(kind, 2), offset
