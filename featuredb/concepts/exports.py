"""A concept's directions written to a file, every number as it is kept. The file appears whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featuredb.concepts.catalog import get_concept
from featuredb.concepts.choices import WRITTEN_FORMATS
from featuredb.concepts.vectors import at_hook, vectors_of
from featuredb.errors import BadInput, NotFound
from featuredb.hooknames import canonical_hook, same_tensor
from featuredb.store.files import write_out
from featuredb.store.store import Store

_AFTER_BLOCK = re.compile(r"layers\.(\d+)\.resid_pre")
ByHook = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    path: Path
    hooks: tuple[str, ...]
    skipped: tuple[str, ...]
    """Hooks that the format has no way to say."""


def export(
    store: Store,
    name: str,
    out: Path,
    *,
    format: str | None = None,
    hook: str | None = None,
    skip: bool = False,
    force: bool = False,
) -> Exported:
    """Writes a concept's directions to a file.

    format: gguf (as llama.cpp and repeng read control vectors: by block, from block 1), npy (one direction), npz or
        safetensors (by hook); None goes by the file's ending.
    hook: the only one that is written. skip: leave out hooks that gguf cannot say. force: replace a file.
    Raises NotFound, BadInput for what the format cannot hold and for a file that is there, PluginFailed without gguf.
    """
    kind = format or out.suffix.removeprefix(".").lower()
    if kind not in WRITTEN_FORMATS:
        raise BadInput(
            f"{str(out)!r} says no format" if format is None else f"no format {kind!r}", hint=", ".join(WRITTEN_FORMATS)
        )
    with store.reading() as session:
        row = get_concept(session, name)
        by_hook: dict[str, NDArray[np.float32]] = vectors_of(row)
        model_type = str(row.settings.get("model_type") or row.model_name or "unknown")
    if hook is not None:
        vector = at_hook(by_hook, canonical_hook(hook))
        if vector is None:
            raise NotFound(f"{name!r} has no direction at {hook}", hint=f"it has some at {', '.join(by_hook)}")
        by_hook = {canonical_hook(hook): vector}
    skipped: tuple[str, ...] = ()
    if kind == "gguf":
        by_layer, skipped = _by_layer(name, by_hook, skip=skip)
        by_hook = {own: vector for own, vector in by_hook.items() if own not in skipped}
    if kind == "npy" and len(by_hook) != 1:
        raise BadInput(
            f"{name!r} has directions at {len(by_hook)} hooks, and npy holds one",
            hint=f"give --hook, one of {', '.join(by_hook)}; npz and safetensors hold all",
        )
    writers: dict[str, Callable[[Path], None]] = {
        "gguf": lambda path: _write_gguf(path, by_layer, model_type),
        "npy": lambda path: _write_npy(path, next(iter(by_hook.values()))),
        "npz": lambda path: _write_npz(path, by_hook),
        "safetensors": lambda path: _write_safetensors(path, by_hook),
    }
    write_out(out, writers[kind], force=force)
    return Exported(out, tuple(by_hook), skipped)


def _by_layer(name: str, by_hook: ByHook, *, skip: bool) -> tuple[dict[int, NDArray[np.float32]], tuple[str, ...]]:
    """The directions by the block after which gguf has them added, and the hooks that are no such place."""
    by_layer, beyond = {}, []
    for hook, vector in by_hook.items():
        # What leaves block N enters block N + 1; llama.cpp refuses a direction for block 0.
        after = _AFTER_BLOCK.fullmatch(same_tensor(hook))
        if after and int(after[1]) >= 2:
            by_layer[int(after[1]) - 1] = vector
        else:
            beyond.append(hook)
    if beyond and not (skip and by_layer):
        raise BadInput(
            f"gguf has no place for {name!r} at {', '.join(beyond)}: it holds what blocks 1 and later give",
            hint="give --skip to leave that out, or take --format safetensors"
            if by_layer
            else "take --format safetensors",
        )
    return by_layer, tuple(beyond)


def _write_gguf(path: Path, by_layer: Mapping[int, NDArray[np.float32]], model_type: str) -> None:
    from featuredb.concepts.control_vectors import write_control_vector

    write_control_vector(path, by_layer, model_type)


def _write_npy(path: Path, vector: NDArray[np.float32]) -> None:
    with path.open("wb") as file:
        np.save(file, vector, allow_pickle=False)


def _write_npz(path: Path, by_hook: ByHook) -> None:
    # Through a handle, for numpy adds its ending to names without.
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **by_hook)


def _write_safetensors(path: Path, by_hook: ByHook) -> None:
    from safetensors.numpy import save_file

    save_file(dict(by_hook), path)
