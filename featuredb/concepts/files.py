"""Files of vectors made into directions at hooks: what a name, a row and a number in them mean.

Rule: a layer is never guessed. What a format fixes is applied and said; what it leaves open must be given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featuredb.concepts.choices import BLOCK_INPUTS, BLOCKS, CONCEPTS, HIDDEN_STATES, ROWS_ARE
from featuredb.concepts.formats import Array, Arrays, read_arrays, read_json
from featuredb.concepts.vectors import one_vector
from featuredb.errors import BadInput
from featuredb.hooknames import canonical_hook, is_canonical, layer_of, same_tensor

_HOOK_OF: dict[str, Callable[[int], str]] = {
    BLOCKS: lambda n: f"layers.{n}.resid_post",
    BLOCK_INPUTS: lambda n: f"layers.{n}.resid_pre",
    HIDDEN_STATES: lambda n: f"layers.{n - 1}.resid_post" if n else "embed",
}
_MEANT = {
    BLOCKS: "what block {n} gives",
    BLOCK_INPUTS: "what enters block {n}",
    HIDDEN_STATES: "transformers' hidden state {n}, what block {n} - 1 gives",
}
_NUMBERED = re.compile(r"(?:(?:direction|layers?|blocks?|h)[._-]?)?(\d{1,6})")


@dataclass(frozen=True)
class FileVectors:
    """The directions of a file."""

    by_hook: dict[str, NDArray[np.float32]]
    """(width,) by canonical hook; by "" alone, where nothing says which."""
    format: str
    notes: tuple[str, ...] = ()
    """The conventions that were applied, and what was left out."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the file says of its model."""


def read_file(
    path: Path,
    *,
    hook: str | None = None,
    format: str | None = None,
    rows_are: str | None = None,
    row: int | None = None,
) -> FileVectors:
    """The directions of a file.

    hook: where a vector belongs whose file does not say; where it does, the file's word stands.
    rows_are: one of ROWS_ARE, for a file of rows: what row N, or the number in a name, is. A file of rows is refused
        without it; numbers in names are blocks.
    row: the one row that is wanted, of a file whose rows are concepts.
    Raises NotFound, or BadInput for whatever is no direction: zero, not finite, of a wrong shape or type, damaged.
    """
    if rows_are is not None and rows_are not in ROWS_ARE:
        raise BadInput(f"rows cannot be {rows_are!r}", hint=", ".join(ROWS_ARE))
    arrays = read_arrays(path, format)
    names = list(arrays.by_name)
    if row is not None and rows_are != CONCEPTS:
        raise BadInput(f"row {row} of {path} is asked for", hint=f"rows are numbered with --rows-are {CONCEPTS}")
    if len(names) == 1 and _hook_of_name(names[0], BLOCKS) is None:
        by_hook, notes = _of_one(path, arrays.by_name[names[0]], hook, rows_are, row)
    else:
        by_hook, notes = _of_named(path, arrays, rows_are)
    by_hook = dict(sorted(by_hook.items(), key=lambda pair: -1 if (layer := layer_of(pair[0])) is None else layer))
    widths = {len(vector): at for at, vector in by_hook.items()}
    if len(widths) > 1:
        told = " and ".join(f"{width:,} numbers at {at}" for width, at in sorted(widths.items())[:2])
        raise BadInput(f"{path} has {told}", hint="the directions of one model are equally wide")
    return FileVectors(by_hook, arrays.format, tuple(notes), arrays.facts)


def _of_one(
    path: Path, array: Array, hook: str | None, rows_are: str | None, row: int | None
) -> tuple[dict[str, NDArray[np.float32]], list[str]]:
    """A file of a single array, of one direction or of rows."""
    if array.ndim == 2 and len(array) == 1 and rows_are is None:
        array = array[0]
    if array.ndim == 2:
        if rows_are == CONCEPTS:
            vector, note = _one_row(path, array, row)
            return {hook or "": vector}, [note]
        if rows_are is None:
            raise BadInput(
                f"{path} has {len(array)} rows of {array.shape[1]}, and does not say what a row is",
                hint=f"give --rows-are: {', '.join(ROWS_ARE)}",
            )
        return _of_rows(path, array, rows_are)
    if rows_are is not None:
        raise BadInput(f"{path} is one row of {array.size:,} numbers", hint="leave --rows-are out")
    notes: list[str] = []
    if hook is None:
        hook, notes = _beside(path)
    return {hook: one_vector(array, str(path))}, notes


def _of_rows(path: Path, array: Array, rows_are: str) -> tuple[dict[str, NDArray[np.float32]], list[str]]:
    notes = [f"row N is read as {_MEANT[rows_are].format(n='N')}"]
    if rows_are == HIDDEN_STATES:
        last = len(array) - 1
        notes.append(f"row {last} is left out: transformers gives its last hidden state after the final norm")
        array = array[:-1]
    by_hook, zero = {}, []
    for number, values in enumerate(array):
        if not values.any():
            zero.append(number)
            continue
        by_hook[_HOOK_OF[rows_are](number)] = one_vector(values, f"{path}: row {number}")
    if zero:
        notes.append(f"rows that are zero are left out: {', '.join(map(str, zero))}")
    if not by_hook:
        raise BadInput(f"{path}: every row is zero", hint="a direction needs a length")
    return by_hook, notes


def _one_row(path: Path, array: Array, row: int | None) -> tuple[NDArray[np.float32], str]:
    if row is None:
        raise BadInput(f"{path} has {len(array):,} concepts", hint="say which with --row, counted from 0")
    if not 0 <= row < len(array):
        raise BadInput(f"{path} has no row {row}", hint=f"it has rows 0 to {len(array) - 1}")
    return one_vector(array[row], f"{path}: row {row}"), f"row {row} of {len(array):,} is taken"


def _of_named(path: Path, arrays: Arrays, rows_are: str | None) -> tuple[dict[str, NDArray[np.float32]], list[str]]:
    """A file of several arrays, or of one whose name says where it belongs."""
    numbers_are = rows_are or BLOCKS
    if numbers_are == CONCEPTS:
        raise BadInput(f"{path} has named arrays, not rows", hint="leave --rows-are out, or give a file of rows")
    by_hook: dict[str, NDArray[np.float32]] = {}
    owner: dict[str, str] = {}
    numbered = False
    for name, array in arrays.by_name.items():
        hook = _hook_of_name(name, numbers_are)
        if hook is None:
            raise BadInput(
                f"{path}: the name {name!r} says no hook",
                hint="name arrays by hook, layers.8.resid_post, or by layer, layer.8",
            )
        same = owner.setdefault(same_tensor(hook), name)
        if same != name:
            raise BadInput(f"{path}: {same!r} and {name!r} are both {hook}", hint="keep one of them")
        numbered = numbered or _NUMBERED.fullmatch(name) is not None
        by_hook[hook] = one_vector(array.reshape(-1) if len(array) == 1 else array, f"{path}: {name}")
    notes = [f"a number N in a name is read as {_MEANT[numbers_are].format(n='N')}"] if numbered else []
    return by_hook, notes


def _hook_of_name(name: str, numbers_are: str) -> str | None:
    """The hook that an array's name says, None where it says none."""
    number = _NUMBERED.fullmatch(name)
    if number:
        return _HOOK_OF.get(numbers_are, _HOOK_OF[BLOCKS])(int(number[1]))
    hook = canonical_hook(name)
    return hook if is_canonical(hook) else None


def _beside(path: Path) -> tuple[str, list[str]]:
    """The hook of a nameless vector, as refusal_direction says it in a file beside; "" where there is none."""
    metadata = path.with_name("direction_metadata.json")
    if path.stem != "direction" or not metadata.is_file():
        return "", []
    layer = _layer(read_json(metadata), metadata)
    return f"layers.{layer}.resid_pre", [f"layer {layer} of {metadata.name} is read as what enters block {layer}"]


def _layer(held: dict[str, Any], path: Path) -> int:
    layer = held.get("layer")
    if not isinstance(layer, int) or isinstance(layer, bool) or not 0 <= layer < 1_000_000:
        raise BadInput(f"{path} gives the layer as {layer!r}", hint="say where the vector belongs with --hook")
    return layer
