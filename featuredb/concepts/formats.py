"""Reads the arrays of a file, whatever of five formats it is in. Nothing is known here of layers, hooks or concepts.

Rule: a file is data. Nothing in it runs, no size it claims is believed before it is checked, and whatever is wrong
with it leaves here as BadInput.
"""

from __future__ import annotations

import json
import math
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from featuredb.concepts.choices import READ_FORMATS
from featuredb.errors import BadInput, FeatureDBError, NotFound

MOST_NUMBERS = 1 << 28
"""In one array; a direction has thousands, a table of them millions."""
MOST_ARRAYS = 4096

Array = NDArray[Any]


@dataclass(frozen=True)
class Arrays:
    """What a file holds."""

    format: str
    by_name: Mapping[str, Array]
    """By their names in the file; by "" where there is one without a name. Each of one dimension or, alone, of two."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the file says of itself."""


def read_arrays(path: Path, format: str | None = None) -> Arrays:
    """The arrays of a file, in its own order, float32 or float64.

    format: one of READ_FORMATS; None goes by the file's ending. Raises NotFound, or BadInput saying what is wrong.
    """
    if not path.is_file():
        raise NotFound(f"no file at {path}")
    known = format or ENDINGS.get(path.suffix.lower())
    if known not in READERS:
        raise BadInput(
            f"{path} is of no format known here" if format is None else f"no format {format!r}",
            hint=f"give --format, one of {', '.join(READ_FORMATS)}",
        )
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty", hint="was the download finished?")
    found = READERS[known](path)
    if not found.by_name:
        raise BadInput(f"{path} holds no array")
    return found


@contextmanager
def refusing(path: Path, format: str) -> Iterator[None]:
    """Turns whatever a library says of a damaged file into BadInput, and keeps its warnings to itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except FeatureDBError:
        raise
    except PermissionError:
        raise
    except MemoryError as error:
        raise BadInput(f"{path} asks for more memory than there is", hint="is it whole?") from error
    except Exception as error:  # the bytes are a stranger's: a parser may stumble over them in any way
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BadInput(f"{path} is no whole {format} file: {lines[0][:200]}", hint="is the download whole?") from error


def check_shapes(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises BadInput for arrays that are no directions, before any is read: a file may be a whole model."""
    if len(shapes) > MOST_ARRAYS:
        raise BadInput(f"{path} holds {len(shapes):,} arrays", hint=f"at most {MOST_ARRAYS:,} are read")
    for name, shape in shapes.items():
        called = f"{path}: {name}" if name else str(path)
        if math.prod(shape) > MOST_NUMBERS:
            raise BadInput(f"{called} has shape {shape}", hint=f"at most {MOST_NUMBERS:,} numbers are read")
        # (1, d) is one direction, however it is wrapped.
        if len(shape) not in (1, 2) or (len(shapes) > 1 and len(shape) == 2 and shape[0] != 1):
            raise BadInput(f"{called} has shape {shape}", hint="a direction is one row of numbers")


def _read_npy(path: Path) -> Arrays:
    with refusing(path, "npy"), path.open("rb") as file:
        return Arrays("npy", {"": _npy(path, "", file, path.stat().st_size)})


def _read_npz(path: Path) -> Arrays:
    with refusing(path, "npz"), zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        shapes = {}
        for name, info in members.items():
            with archive.open(info) as member:
                shapes[name] = _npy_header(path, name, member, info.file_size)[0]
        check_shapes(path, shapes)
        arrays = {}
        for name, info in members.items():
            with archive.open(info) as member:
                arrays[name] = _npy(path, name, member, info.file_size)
        return Arrays("npz", arrays)


def _npy(path: Path, name: str, file: IO[bytes], n_bytes: int) -> Array:
    shape, fortran, dtype = _npy_header(path, name, file, n_bytes)
    check_shapes(path, {name: shape})
    flat = np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype=dtype)
    return flat.reshape(shape, order="F" if fortran else "C").astype(_kept(dtype))


def _npy_header(path: Path, name: str, file: IO[bytes], n_bytes: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and number type, once they agree with the bytes that follow."""
    before = file.tell()
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise BadInput(f"{path} is of npy version {version}", hint="numpy.save writes version 1")
    shape, fortran, dtype = cast(Any, read)(file)
    called = f"{path}: {name}" if name else str(path)
    if dtype.kind != "f":
        raise BadInput(f"{called} holds {dtype}, not fractions", hint="save it as float32")
    wanted, there = math.prod(shape) * dtype.itemsize, n_bytes - (file.tell() - before)
    if wanted != there:
        raise BadInput(f"{called} says it has {wanted:,} bytes and has {there:,}", hint="is the download whole?")
    return shape, fortran, dtype


def _read_safetensors(path: Path) -> Arrays:
    from safetensors import safe_open

    with refusing(path, "safetensors"), safe_open(path, framework="pt") as file:
        names = list(file.keys())
        check_shapes(path, {name: tuple(file.get_slice(name).get_shape()) for name in names})
        return Arrays("safetensors", {name: _from_torch(path, name, file.get_tensor(name)) for name in names})


def _read_pt(path: Path) -> Arrays:
    import pickle

    import torch

    with refusing(path, "PyTorch"):
        try:
            held = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise _pickled(path, str(error)) from error
        if isinstance(held, torch.Tensor):
            held = {"": held}
        elif isinstance(held, list | tuple) and held and all(isinstance(each, torch.Tensor) for each in held):
            held = {"": torch.stack(list(held))}
        if not isinstance(held, dict) or not all(isinstance(each, torch.Tensor) for each in held.values()):
            raise BadInput(
                f"{path} holds a {_kind(held)}", hint="save one tensor, or a dict of tensors named by hook or layer"
            )
        named = {str(name): each for name, each in held.items()}
        if len(named) < len(held):
            raise BadInput(f"{path} has the same name twice", hint="name each tensor by one hook or layer")
        check_shapes(path, {name: tuple(each.shape) for name, each in named.items()})
        return Arrays("pt", {name: _from_torch(path, name, each) for name, each in named.items()})


def _pickled(path: Path, said: str) -> BadInput:
    found = re.search(r"GLOBAL ([\w.]+)", said)
    if found is None:
        return BadInput(f"{path} is no PyTorch file, or not whole", hint="torch.save writes one that is read")
    return BadInput(
        f"{path} holds a pickled {found[1]}, and to load it would run code",
        hint="where it was made, save its directions alone: torch.save({layer: tensor, ...}, ...), or export gguf",
    )


def _kind(held: Any) -> str:
    if not isinstance(held, dict):
        return type(held).__name__
    other = next(name for name, value in held.items() if not hasattr(value, "is_floating_point"))
    return f"dict with {other!r} of {type(held[other]).__name__}"


def _from_torch(path: Path, name: str, tensor: Any) -> Array:
    import torch

    if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_quantized:
        called = f"{path}: {name}" if name else str(path)
        raise BadInput(f"{called} holds {str(tensor.dtype).removeprefix('torch.')}", hint="save it as float32")
    wide = tensor.detach() if tensor.dtype == torch.float64 else tensor.detach().float()
    array: Array = wide.numpy().copy()
    return array


def _read_gguf(path: Path) -> Arrays:
    from featuredb.concepts.control_vectors import read_control_vector

    with refusing(path, "gguf"):
        arrays, facts = read_control_vector(path)
        return Arrays("gguf", arrays, facts)


def _kept(dtype: np.dtype[Any]) -> type[np.floating[Any]]:
    """Half precision widens without loss; what is wider than float32 stays so until it is checked."""
    return np.float64 if dtype.itemsize > 4 else np.float32


READERS: dict[str, Callable[[Path], Arrays]] = {
    "npy": _read_npy,
    "npz": _read_npz,
    "safetensors": _read_safetensors,
    "pt": _read_pt,
    "gguf": _read_gguf,
}
ENDINGS = {f".{name}": name for name in READ_FORMATS} | {".pth": "pt", ".bin": "pt"}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a small JSON file. Raises BadInput."""
    try:
        held = json.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: {error}") from error
    if not isinstance(held, dict):
        raise BadInput(f"{path} holds no object")
    return held
