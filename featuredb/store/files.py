"""Files of a store: their digests, and the way they reach their final place. Paths and bytes, nothing of tables."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from featuredb.errors import BadInput, NotFound
from featuredb.store.engine import disk_errors
from featuredb.store.layout import Layout


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A finished file, as the catalog will answer for it."""

    path: str
    """Its final path below the store's root, with forward slashes."""
    n_bytes: int
    sha256: str
    role: str
    """What it is: contexts, segment, response, moments, weights, map, or an index of decoder, encoder or response."""
    dictionary: str | None = None
    """The dictionary it belongs to; None for what all of a run's dictionaries share."""


def describe_file(path: Path, final: str, role: str, *, dictionary: str | None = None) -> FileRecord:
    """The record of the file at `path`, which will lie at `final` below the root. Reads all of it."""
    return FileRecord(final, path.stat().st_size, sha256_of(path), role, dictionary)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    """Waits until a file's bytes, or a folder's names, are on the disk itself."""
    if path.is_dir() and os.name == "nt":
        return  # Windows has no way to sync a folder
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_out(out: Path, write: Callable[[Path], None], *, force: bool) -> None:
    """Writes a user's file: under another name beside it, then moved there, so that no half of it is ever seen.

    Raises BadInput where something is there already, unless it is a file and `force` is given, NotFound where there is
    no such folder.
    """
    if out.exists() and (not force or not out.is_file()):
        raise BadInput(f"{out} is there already", hint="give --force to replace it" if out.is_file() else "name a file")
    if not out.parent.is_dir():
        raise NotFound(f"no folder {out.parent}", hint="make it first")
    unfinished = out.with_name(f".{secrets.token_hex(6)}-{out.name}")
    try:
        write(unfinished)
        sync_file(unfinished)
        os.replace(unfinished, out)
    finally:
        unfinished.unlink(missing_ok=True)


def rename_into_place(unfinished: Path, final: Path) -> None:
    """Moves a finished file, or a folder of them, to its final path, so that a crash leaves either the old or the new.

    A folder that is there already gets the new one's files, each replacing its namesake: what an earlier attempt left
    is overwritten. Raises StoreUnusable when the disk is full or cannot be written.
    """
    with disk_errors(final):
        _rename(unfinished, final)


def _rename(unfinished: Path, final: Path) -> None:
    if unfinished.is_dir():
        final.mkdir(parents=True, exist_ok=True)
        for inside in sorted(unfinished.iterdir()):
            _rename(inside, final / inside.name)
        unfinished.rmdir()
    else:
        sync_file(unfinished)
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(unfinished, final)
    sync_file(final.parent)


def delete_file(layout: Layout, path: str) -> None:
    """Deletes a file below the root, and the folders that it leaves empty. One that is gone already is no error."""
    file = layout.root / path
    file.unlink(missing_ok=True)
    for folder in file.parents:
        if folder in (layout.runs, layout.dictionaries, layout.root):
            break
        with contextlib.suppress(OSError):  # another file lies there, or another process was quicker
            folder.rmdir()
