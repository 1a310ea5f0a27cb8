"""The running Python's own documentation topics and standard-library sources: text that every machine has."""

from __future__ import annotations

import hashlib
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

from featuredb.corpus import CorpusOptions, Document
from featuredb.errors import NotFound

TEST_FOLDERS = {"test", "tests", "idle_test"}
NOT_THE_LIBRARY = {"site-packages", "dist-packages", "__pycache__"}


class PythonDocs:
    """`python-docs`: topics of `help()` and the standard library's .py files (`python-docs:tests` adds its tests).

    Documents come in a fixed hash order of their names, so that the first ones are a fair sample of all.
    """

    name = "python-docs.v1"
    suffixes: tuple[str, ...] = ()

    def documents(self, source: str, options: CorpusOptions) -> Iterator[Document]:
        if source not in ("", "tests"):
            raise NotFound(f"python-docs has no part {source!r}", hint="python-docs or python-docs:tests")
        from pydoc_data.topics import topics

        files = dict(_sources(with_tests=source == "tests"))
        for name in sorted([f"topics/{topic}" for topic in topics] + list(files), key=_hash):
            if name in files:
                text = _read_source(files[name])
                if text and text.strip():
                    yield Document(name, text)
            else:
                yield Document(name, topics[name.removeprefix("topics/")])


def _hash(name: str) -> bytes:
    # Personalised, so that it is independent of any other choice by hash of a name, such as held-out documents.
    return hashlib.blake2b(name.encode(), digest_size=8, person=b"python-docs").digest()


def _sources(*, with_tests: bool) -> Iterator[tuple[str, Path]]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in root.rglob("*.py"):
        relative = path.relative_to(root)
        folders = set(relative.parts[:-1])
        if not (folders & NOT_THE_LIBRARY or (not with_tests and folders & TEST_FOLDERS)):
            yield relative.as_posix(), path


def _read_source(path: Path) -> str | None:
    """The text of a source file by its own coding line; None for the library's deliberately broken files."""
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (SyntaxError, UnicodeDecodeError, OSError):
        return None
