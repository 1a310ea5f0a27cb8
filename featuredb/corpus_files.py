"""The files a corpus source names: one file, a folder or a glob. Names only: nothing is opened here."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from featuredb.errors import BadInput, NotFound, nearest


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a corpus."""

    path: Path
    """Where it lies, as the user wrote the source; what errors name."""
    name: str
    """Its name inside the source, with slashes: the same on every machine, so documents are named by it."""


def source_files(source: str, suffixes: tuple[str, ...] = ()) -> list[SourceFile]:
    """The files of a source in order of name, at least one.

    source: a file (taken whatever its suffix), a folder (searched to the bottom for `suffixes`, hidden files and
    folders left out), or a glob (`**` goes down folders).
    suffixes: endings a folder's files must have; none means every file.
    Raises NotFound when there is no such file, or nothing fits; BadInput for an empty source.
    """
    if not source:
        raise BadInput("the corpus names no file", hint="write the path after the colon, as in text:notes.txt")
    path = Path(source).expanduser()
    if path.is_file():
        return [SourceFile(path, path.name)]
    if path.is_dir():
        found = [file for file in _in_folder(path) if not suffixes or file.name.lower().endswith(suffixes)]
        lack = f"folder {source!r} holds no {' or '.join(suffixes) or 'readable'} file"
    elif glob.has_magic(source):
        found = list(_matching(str(path)))
        lack = f"no file matches {source!r}"
    else:
        raise missing_path(source)
    if not found:
        raise NotFound(lack)
    return sorted(found, key=lambda file: file.name)


def missing_path(source: str) -> NotFound:
    """The error for a path that is not there, with the nearest names beside it."""
    path = Path(source).expanduser()
    if not path.parent.is_dir():
        return NotFound(f"no file or folder {source!r}", hint=f"there is no folder {str(path.parent)!r} either")
    siblings = sorted(other.name for other in path.parent.iterdir())
    return NotFound(f"no file or folder {source!r}", hint=nearest(path.name, siblings))


def _in_folder(folder: Path) -> Iterator[SourceFile]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file():
                yield SourceFile(path, path.relative_to(folder).as_posix())


def _matching(pattern: str) -> Iterator[SourceFile]:
    """The files of a glob, named from its last folder without a wildcard."""
    parts = Path(pattern).parts
    n_fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    base = Path(*parts[:n_fixed])
    for match in glob.iglob(pattern, recursive=True):
        path = Path(match)
        if path.is_file():
            yield SourceFile(path, path.relative_to(base).as_posix())
